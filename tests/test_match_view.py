"The match view: its front end lists pairs as Python does, and both hold the same while a reader picks and filters"
import json, re, shutil, subprocess, sys
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from messages import caller
from traitlets import TraitError
from spd_nb.compare import Match, match
from spd_nb.harvest import Harvest
from spd_nb.keys import SiteError
from spd_nb.match_view import MatchView
from spd_nb.model import decompose, load

ROOT = Path(__file__).parent.parent
QUOTE = 'model.layers.1.mlp.down_proj:80'
LISTS = """
import { keyOf, listed, reaching, searched } from './spd_nb/static/match_view.js'
import { readFileSync } from 'node:fs'
const { components: d, ways } = JSON.parse(readFileSync(0, 'utf8')), hay = searched(d)
console.log(JSON.stringify(ways.map(w => [listed(d, hay, w).map(i => keyOf(d, i)), reaching(d.similarity, w.least)])))
"""

def random_match(seed, sizes=(7,30,1), fewer=True):
    "A match with ties, negative numbers and, at the first site, fewer partners than components"
    gen,rows,similar = np.random.default_rng(seed),[],{}
    for j,n in enumerate(sizes):
        s,m = f's.{j}',n-2 if fewer and not j else n+3
        x = similar[s] = gen.integers(-2, 11, (n, m))/10
        partner = [*gen.permutation(m)[:n], *[-1]*max(0, n-m)]
        for c,p in enumerate(partner):
            own = x[c,p] if p>=0 else np.nan
            rows.append((f'{s}:{c}', f'{s}:{p}' if p>=0 else '', own, x[c].max(), own if p<0 else gen.random()))
    frame = pd.DataFrame(rows, columns=['key','partner','similarity','best','mixed']).set_index('key')
    return Match(frame, similar)

@pytest.fixture(scope='module')
def story():
    torch.set_num_threads(1)
    dm = load(ROOT/'data'/'story')
    h = Harvest(ROOT/'data'/'story'/'harvest', dm)
    gen = torch.Generator().manual_seed(0)
    other = decompose(dm.target, dm.C, seed=1)
    with torch.no_grad():
        for s in dm.sites:
            for w,own in zip((other.at(s).V, other.at(s).U), (dm.at(s).V, dm.at(s).U)):
                w.copy_(own+torch.randn(own.shape, generator=gen)*own.square().mean().sqrt()*.4)
    m = match(dm, other)
    return MatchView(Match(m.frame, m.similar), h, h)  # the harvest stands in for one of the other run

def ways(sites, labels):
    "Orders and filters to try"
    for sort in ('similarity','site','density'):
        for site in ('',*sites[:2]):
            for search in ('',*labels,'S.1','2'): yield dict(sort=sort, site=site, search=search, least=.6)

def compare_lists(view, some):
    p = subprocess.run(['node','--input-type=module','--no-warnings','-e',LISTS],
        input=json.dumps(dict(components=view.components, ways=some)), cwd=ROOT, capture_output=True, text=True,
        timeout=60)
    assert p.returncode==0, p.stderr
    for w,(keys,strong) in zip(some, json.loads(p.stdout), strict=True):
        view.arrange(**w)
        assert keys==view.pairs.index.tolist(), w
        assert strong==(view.match.frame.similarity>=.6).sum()

node = pytest.mark.skipif(shutil.which('node') is None, reason='no node on PATH')

@node
@pytest.mark.parametrize('seed', range(3))
def test_the_front_end_lists_as_python_does(seed):
    view = MatchView(random_match(seed))
    compare_lists(view, [w for w in ways(view.components['sites'], ()) if w['sort']!='density'])

@node
def test_the_front_end_lists_by_density_and_label_as_python_does(story):
    labels = [l[:12].upper() for l in dict.fromkeys(story.components['label']) if l][:3]
    assert len(labels)==3
    compare_lists(story, [*ways(story.components['sites'], labels)])
    story.arrange(least=.9, sort='similarity', site='', search='')

def test_what_the_front_end_asks(story):
    view = MatchView(random_match(0))
    ask = caller(view)
    assert ask('arrange', least=1, sort='site', site='s.1', search=' x ') is None
    assert (view.least, view.sort, view.site, view.search)==(1., 'site', 's.1', ' x ')
    good = dict(least=.5, sort='site', site='', search='')
    for bad,why in ((dict(least=1.5), 'less than or equal to 1'), (dict(least='1'), 'valid number'),
            (dict(sort='name'), "'similarity', 'site' or 'density'"), (dict(sort='density'), 'needs densities'),
            (dict(site='s.7'), "no component of 's.7' was matched"), (dict(search=None), 'valid string')):
        assert why in ask('arrange', **good|bad) and view.site=='s.1'
    assert 'no harvest of the other run' in ask('of_partner', what='detail', key='s.1:0')
    assert 'not among the 38 components' in ask('pick', key='s.1:99')
    own = caller(story)
    assert own('of_partner', what='detail', key=QUOTE)==own('detail', key=QUOTE)
    assert 'no component' in own('of_partner', what='lens', key=QUOTE.replace('80', '999'))
    assert "'detail', 'examples'" in own('of_partner', what='pick', key=QUOTE)

def test_numbers_of_numpy_are_taken_and_others_refused():
    view = MatchView(random_match(1))
    view.least = np.float64(.25)
    assert view.least==.25 and json.dumps(view.snapshot_state(), allow_nan=False)
    for name,bad in (('least','1'), ('least',None), ('least',-.01), ('sort',None), ('search',1), ('partner','s.0:1')):
        with pytest.raises((ValueError,TraitError)): setattr(view, name, bad)
    with pytest.raises(SiteError): view.key = 's.9:0'
    assert (view.least, view.sort, view.search, view.key, view.partner)==(.25, 'similarity', '', '', '')

def test_every_component_has_a_pair_and_partners_are_followed():
    view = MatchView(random_match(2))
    for key,row in view.match.frame.iterrows():
        assert view.show(key).partner==row.partner
        x = view.match.similar[key.rpartition(':')[0]]
        if row.partner: assert view.pair.back==x[:,int(row.partner.rsplit(':', 1)[1])].max()
        else: assert np.isnan(view.pair.back)
    other = MatchView(view.match).follow(view)
    other.key = 's.1:3'
    assert (view.key, view.partner)==('s.1:3', other.partner) and view.partner

def test_one_pair_and_components_of_which_few_were_matched(tmp_path):
    one = MatchView(random_match(0, (1,), fewer=False), least=0.)
    assert len(one.pairs)==1 and '1 of 1 components' in one.plain_html()
    assert one.to_html(tmp_path/'one.html').stat().st_size>1000

# In a browser

@pytest.fixture(scope='module')
def browser():
    pytest.importorskip('playwright', reason='no playwright; `make test` installs it')
    if shutil.which('chromium') is None: pytest.skip('no chromium on PATH; on Debian: apt-get install chromium')
    sys.path.insert(0, str(ROOT/'tools'))
    from lab_test import FLAGS
    from playwright.sync_api import expect, sync_playwright
    expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong
    with sync_playwright() as pw:
        b = pw.chromium.launch(executable_path=shutil.which('chromium'), headless=True, args=FLAGS)
        yield b
        b.close()

def opened(browser, view, path, width=1100, **limits):
    "The view as a page, and what the page complains of"
    from lab_test import watched
    page = browser.new_page(viewport=dict(width=width, height=1200))
    outside,noise = watched(page, None)
    page.goto(view.to_html(path, **limits).as_uri())
    page.wait_for_selector('.spd-match-row[role=option]')
    return page,page.locator('.spd-match'),lambda: (outside, noise)

@pytest.mark.browser
def test_a_page_is_read_by_keys(browser, story, tmp_path):
    "Arrows move through all pairs, also those that are not drawn yet; Escape lets go; evidence stands side by side"
    from playwright.sync_api import expect
    page,part,complaints = opened(browser, story, tmp_path/'view.html', pairs=2, examples=1)
    keys,rows = story.pairs.index,part.locator('.spd-match-row[role=option]')
    picked = part.locator('.spd-match-row[aria-selected=true]')
    assert rows.count()<40  # of 1,280
    part.locator('.spd-match-list').focus()
    for press,at in (('ArrowDown', 0), ('ArrowDown', 1), ('ArrowUp', 0), ('End', -1), ('ArrowUp', -2), ('PageUp', -12),
            ('Home', 0)):
        page.keyboard.press(press)
        expect(picked).to_have_attribute('data-key', keys[at])
        expect(picked).to_be_in_viewport()
        ident = picked.get_attribute('id')
        expect(part.locator('.spd-match-list')).to_have_attribute('aria-activedescendant', ident)
    for i in (1,2): expect(part.locator(f'.spd-match-side:nth-child({i}) .spd-key')).to_be_visible()
    left,right = (part.locator(f'.spd-match-side:nth-child({i})').bounding_box() for i in (1,2))
    assert left['y']==right['y'] and left['x']+left['width']<=right['x']
    expect(part.locator('.spd-match-side:nth-child(2) .spd-key')).to_have_text(story.match.frame.partner[keys[0]])
    expect(part.locator('.spd-match-fact')).to_have_count(4)
    page.keyboard.press('Escape')
    expect(picked).to_have_count(0)
    expect(part.locator('.spd-match-pair')).to_have_text(
        'Pick a pair to see its numbers and the evidence about its components.')
    for i in (1,2): expect(part.locator(f'.spd-match-side:nth-child({i})')).to_be_hidden()
    assert not any(complaints()), complaints()
    page.close()

@pytest.mark.browser
def test_a_component_without_labels_shows_none(browser, story, tmp_path):
    key = next(k for k in story.h.components.index if k not in story.h.labels.frame().index)
    page,part,complaints = opened(browser, story.show(key), tmp_path/'view.html', pairs=1, examples=1)
    story.key = ''
    page.wait_for_selector('.spd-match-side:nth-child(2) .spd-key')
    for side in part.locator('.spd-match-side').all():
        assert 'null' not in side.inner_text()
    assert not any(complaints()), complaints()
    page.close()

@pytest.mark.browser
def test_a_page_is_filtered(browser, story, tmp_path):
    from playwright.sync_api import expect
    page,part,complaints = opened(browser, story, tmp_path/'view.html', pairs=1, examples=1)
    f,said = story.match.frame,part.locator('.spd-match-said')
    expect(said).to_contain_text(story._said().split(' have')[0])
    page.locator('.spd-least').focus()
    page.keyboard.press('Home')
    expect(said).to_contain_text('1,280 of 1,280 components have a partner of 0.00 or more')
    expect(part.locator('.spd-match-weak')).to_have_count(0)
    page.keyboard.press('End')
    expect(said).to_contain_text('0 of 1,280 components have a partner of 1.00 or more (0 after mixing)')
    assert part.locator('.spd-match-weak').count()==part.locator('.spd-match-row[role=option]').count()>0
    site = 'model.layers.1.mlp.down_proj'
    part.locator(f'[data-site="{site}"]').click()
    expect(said).to_contain_text('0 of 160 components of this site')
    expect(part.locator(f'[data-site="{site}"]')).to_have_attribute('aria-pressed', 'true')
    part.get_by_role('searchbox').fill(QUOTE)
    expect(part.locator('.spd-match-row[role=option]')).to_have_count(
        sum(QUOTE in (k, p) for k,p in f.partner.items()))
    part.locator(f'[data-key="{QUOTE}"]').click()
    expect(part.locator('.spd-match-two')).to_contain_text(QUOTE)
    part.get_by_role('searchbox').fill('no such thing')
    expect(part.locator('.spd-match-list')).to_contain_text('No pair passes these filters.')
    expect(part.locator('.spd-match-out')).to_have_text('The filters leave this pair out of the list.')
    part.get_by_role('searchbox').fill('')
    part.locator('[data-site=""]').click()
    part.get_by_role('combobox').select_option('site')
    page.locator('.spd-match-list').evaluate('e => { e.scrollTop = 0 }')
    expect(part.locator('.spd-match-heading').first).to_have_text('model.layers.0.self_attn.q_proj')
    assert not any(complaints()), complaints()
    page.close()

@pytest.mark.browser
def test_a_compromise_leads_to_the_other_pair(browser, tmp_path):
    "The component that would have been more similar can be picked from the pair that did not get it"
    from playwright.sync_api import expect
    frame = pd.DataFrame(dict(partner=['a:1','a:0','',''], similarity=[.6,.95,0,np.nan], best=[.8,.95,.4,np.nan],
        mixed=[.3,.92,0,np.nan]), index=['a:0','a:1','a:2','a:3'])
    view = MatchView(Match(frame, dict(a=np.array([[.8,.6],[.95,.1],[.4,.3],[0.,0.]]))), names=('<b>one</b>', 'two'))
    page,part,complaints = opened(browser, view.show('a:0'), tmp_path/'view.html')
    expect(part.locator('.spd-match-facts')).to_contain_text(
        'the most similar component of two to the first: a:0 (partner of a:1)')
    part.locator('.spd-match-jump').first.click()
    expect(part.locator('.spd-match-row[aria-selected=true]')).to_have_attribute('data-key', 'a:1')
    expect(part.locator('.spd-match-facts')).to_contain_text('no component of <b>one</b> is more similar to the second')
    part.locator('[data-key="a:2"]').click()
    expect(part.locator('.spd-match-facts')).to_contain_text('no partner: nothing is left that is like it in two')
    part.locator('[data-key="a:3"]').click()
    expect(part.locator('.spd-match-facts')).to_have_text(re.compile('^–the first cannot be compared'))
    expect(part.locator('.spd-match-said')).to_contain_text('1 of 3 components have a partner of 0.90 or more')
    assert not any(complaints()), complaints()
    page.close()

@pytest.mark.browser
@pytest.mark.parametrize('scheme', ['light','dark'])
def test_a_phone_stacks_the_two_runs(browser, story, tmp_path, scheme):
    page,part,complaints = opened(browser, story.show(QUOTE), tmp_path/'view.html', 360, pairs=1, examples=1)
    story.key = ''
    page.emulate_media(color_scheme=scheme)
    page.wait_for_selector('.spd-match-side:nth-child(2) .spd-key')
    assert page.evaluate('document.documentElement.scrollWidth')==360
    a,b = (part.locator(f'.spd-match-side:nth-child({i})').bounding_box() for i in (1,2))
    assert b['y']>=a['y']+a['height'] and b['width']>300
    row = part.locator('.spd-match-row[aria-selected=true]')
    ends = [e.bounding_box() for e in row.locator('.spd-match-end').all()]
    assert ends[1]['y']>=ends[0]['y']+ends[0]['height']-1 and ends[0]['x']==ends[1]['x']
    assert not any(complaints()), complaints()
    page.close()

QUICK = """async n => {
    const list = document.querySelector('.spd-match-list'), slider = document.querySelector('.spd-least'), times = { click: [], slider: [], scroll: [] }
    const timed = (name, f) => { const t = performance.now(); f(); document.body.offsetHeight; times[name].push(performance.now() - t) }
    for (let i = 0; i < n; i++) {
        timed('scroll', () => { list.scrollTop = 137 * i; list.dispatchEvent(new Event('scroll')) })
        timed('slider', () => { slider.value = i / n; slider.dispatchEvent(new Event('input')) })
        const rows = list.querySelectorAll('[role=option]')
        timed('click', () => rows[i % rows.length].click())
        await new Promise(r => setTimeout(r, 20))
    }
    return Object.fromEntries(Object.entries(times).map(([k, v]) => [k, Math.min(...v)]))
}"""  # noqa: E501

@pytest.mark.browser
def test_many_components_stay_quick(browser, story, tmp_path):
    "The quickest of some tries, as the machine may be busy: milliseconds until the page is laid out again"
    page,part,_ = opened(browser, story, tmp_path/'view.html', pairs=1, examples=1)
    took = page.evaluate(QUICK, 24)
    assert took['click']<50 and took['scroll']<50 and took['slider']<100, took
    page.close()
