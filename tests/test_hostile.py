"Data are never markup or code: names of tokens, labels, sites and losses that try to be either come out as text"
import json, re
import pytest
import torch
from hostile import LABELS, LIMITS, QUOTE, STORY, TEXTS, Read, copied, figures, opened, tables, tame, views
from spd_nb.core import visible
from spd_nb.model import load
from spd_nb.widgets import View, page

VIEWS = 'browser lens studio monitor heat pareto diff'.split()
TABLES = 'harvest component other directions edit decomposed report labelled measured run projection plan generations'.split()
FIGURES = 'tokens changes front bars matrix'.split()

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "All that shows names, with hostile names and with tame ones"
    torch.set_num_threads(1)
    dm,out = load(STORY),[]
    for texts,labels in ((TEXTS,LABELS),(tame(TEXTS),tame(LABELS))):
        path = tmp_path_factory.mktemp('hostile')/labels[1]
        h = opened(copied(path, texts, labels), dm)
        out.append(dict(views=views(h, dm, labels), tables=tables(h, dm, labels), figures=figures(labels)))
    return out

def same(bad, good):
    "Whether HTML has no element, attribute, script or style beyond those of other HTML; formulas come apart in spans"
    bad,good = Read(bad),Read(good)
    def one(b, g):
        assert set(b.elements)<=set(g.elements)|{('span',())}
        assert not [a for _,attrs in b.elements for a in attrs if a.startswith('on')]
        assert [*map(hash, b.code)]==[*map(hash, g.code)]  # short, where they differ
        assert len(b.frames)==len(g.frames)
        for pair in zip(b.frames, g.frames): one(*pair)
    one(bad, good)
    return bad

def seen(read): return read.texts+[t for f in read.frames for t in seen(f)]

@pytest.mark.parametrize('name', TABLES)
def test_tables_are_text(name, made):
    bad,good = (m['tables'][name]._repr_html_() for m in made)
    read = same(bad, good)
    assert not [t for t in read.texts if re.search(r'[$\\]', t) and len(t)>1], 'a notebook would typeset a formula'
    assert all(t.replace('\n', '')==visible(t.replace('\n', '')) for t in read.texts)

def test_tables_show_the_names(made):
    for name in ('edit','report','run','projection','plan','generations','measured'):
        text = ''.join(Read(made[0]['tables'][name]._repr_html_()).texts)
        assert not [t for t in LABELS if t not in ('\udc80','\n') and visible(t) not in text], name

@pytest.mark.parametrize('name', VIEWS)
def test_views_are_text(name, made, tmp_path):
    bad,good = (m['views'][name] for m in made)
    for how in (lambda v: v._repr_html_(), lambda v: v.plain(), lambda v: v.to_html(tmp_path/'view.html', **LIMITS.get(name, {})).read_text()):
        read = same(how(bad), how(good))
        assert all(t.replace('\n', '')==visible(t.replace('\n', '')) for t in seen(read))

def unseen(x):
    "Texts with what no one can see, in what a front end is sent"
    if isinstance(x, dict): return [*unseen(list(x)), *unseen(list(x.values()))]
    if isinstance(x, list): return [t for v in x for t in unseen(v)]
    return [x] if isinstance(x, str) and x!=visible(x) else []

@pytest.mark.parametrize('name', VIEWS)
def test_views_send_what_can_be_seen(name, made):
    state = made[0]['views'][name].recorded(**LIMITS.get(name, {}))
    assert json.loads(json.dumps(state, allow_nan=False).encode())==state
    assert not unseen({k:v for k,v in state.items() if k!='line'})  # the studio's Python, in lines

def test_answers_can_be_seen(made, monkeypatch):
    v,said = made[0]['views'],[]
    monkeypatch.setattr(View, 'send', lambda self, m: said.append(m))
    def asked(view, what, **args):
        v[view]._reply(dict(id='1', ask=what, args=args))
        assert 'answer' in said[-1], said[-1]
        return json.loads(json.dumps(said[-1]['answer'], allow_nan=False))
    def ask(*a, **args):
        assert not unseen(answer := asked(*a, **args))
        return answer
    total = ask('browser', 'rows', start=0, n=200)['total']
    assert total>600
    for t in TEXTS:
        if t and visible(t): ask('browser', 'rows', start=0, n=200, token=visible(t))
    keys = [r['key'] for r in ask('browser', 'rows', start=0, n=200)['rows']]
    labels = [d[k] for d in (ask('browser', 'detail', key=k) for k in keys) for k in ('input_label','output_label','label_from')]
    assert {visible(t.replace('\udc80', '\ufffd')) for t in LABELS}<=set(labels)
    for what in ('lens','neighbours'): ask('lens', what, key=QUOTE)
    ask('browser', 'examples', key=QUOTE, start=0)
    ask('studio', 'write_on', n=5)
    assert not unseen(asked('studio', 'code').splitlines())
    for t in TEXTS[:8]: ask('studio', 'find', token=t)

@pytest.mark.parametrize('name', FIGURES)
def test_figures_are_text(name, made):
    "What plotly would take for markup, a formula or a template is escaped, and nothing unseen is left"
    fig = made[0]['figures'][name]
    def apart(l): return l.rstrip('\u200b') if isinstance(l, str) else l  # what keeps equal labels apart
    figure = json.loads(fig.to_json())
    for t in figure['data']: t.update({k:list(map(apart, t[k])) for k in 'xy' if isinstance(t.get(k), list)})
    assert not unseen(figure)
    text = json.dumps(figure, ensure_ascii=False)
    assert not re.search(r'<(?!br>|extra>|/extra>)', text) and not re.search(r'\$', text)
    assert 'pwned' in text

def test_a_page_holds_them_all(made):
    def whole(m, title): return page({title:[v.still(**LIMITS.get(n, {})) for n,v in m['views'].items()], LABELS[1]:[*m['tables'].values(), *m['figures'].values(), LABELS[2]]}, title)
    same(whole(made[0], LABELS[0]), whole(made[1], 'tame'))
