"The table of components: filters, order and limits, and a page that finds the same as Python"
import json, shutil, subprocess
from importlib.resources import files
import numpy as np, pytest
from hostile import STORY
from messages import caller
from spd_nb.browser import ComponentBrowser
from spd_nb.harvest import Harvest
from spd_nb.model import load

@pytest.fixture(scope='module')
def browser(): return ComponentBrowser(Harvest(STORY/'harvest', load(STORY)), token=' "')

@pytest.fixture
def ask(browser): return caller(browser)

def frequent(h): return h.components.query('firings>0').sort_values('density', ascending=False, kind='stable').index
def keys(answer): return [r['key'] for r in answer['rows']]

def test_rows_hold_the_numbers_of_the_harvest(browser, ask):
    answer,want = ask('rows', start=100, n=60),frequent(browser.h)[100:160]
    for c in ('density','mean_ci','firings'):
        np.testing.assert_allclose([x[c] for x in answer['rows']], browser.h.components.loc[want, c], rtol=1e-4)
    assert browser.token==' "'  # whoever only looks leaves the filters as they are
    assert len(json.dumps(answer))<200_000

def test_filters(browser, ask):
    h = browser.h
    assert {k.rpartition(':')[0] for k in keys(ask('rows', start=0, n=200, site=h.dm.sites[2]))}=={h.dm.sites[2]}
    assert ask('rows', start=0, n=1, label='^$',
        alive=False)['total']==1280-780+len(h.labels.frame().query('input_label=="" or output_label==""'))
    assert set(keys(ask('rows', start=0, n=200, label='asked')))==set(h.labels.find('asked').index[:200])
    assert ask('rows', start=0, n=200, label='ASKED')==ask('rows', start=0, n=200, label='asked')

def test_order_of_keys_is_that_of_the_harvest(browser, ask):
    h = browser.h
    assert keys(ask('rows', start=0, n=3, sort='key', down=True))[0]==[k for k in h.keys
        if h.components.firings[k]>0][-1]
    assert keys(ask('rows', start=0, n=3, sort='key', down=False, alive=False))[0]==next(iter(h.keys))

@pytest.mark.parametrize('args,why', [(dict(n=1, label='('), 'no regular expression'),
    (dict(n=1, token='zyzzyva'), 'no token of this vocabulary'), (dict(n=201), 'less than or equal to 200')])
def test_impossible_filters_are_refused(args, why, ask): assert why in ask('rows', start=0, **args)

# A page finds what Python finds

@pytest.fixture
def node(tmp_path):
    "Evaluates an expression of `filterRows`, `pagesBetween` and `data` in the front end"
    if shutil.which('node') is None: pytest.skip('no node on PATH')
    def run(code, data):
        (tmp_path/'d.json').write_text(json.dumps(data), encoding='utf-8')
        front = (files('spd_nb')/'static'/'browser.js').as_uri()
        (tmp_path/'m.mjs').write_text(f"import {{ readFileSync }} from 'node:fs'\nimport {{ filterRows, pagesBetween }} from '{front}'\nconst data = JSON.parse(readFileSync('{(tmp_path/'d.json').as_posix()}'))\nconsole.log(JSON.stringify({code}))", encoding='utf-8')  # noqa: E501
        out = subprocess.run(['node','--experimental-default-type=module',tmp_path/'m.mjs'], stdout=subprocess.PIPE,
            text=True, check=True)
        return json.loads(out.stdout)
    return run

@pytest.fixture(scope='module')
def sample(browser):
    "Some components, and the table that a page has of them"
    some = sorted(frequent(browser.h)[::60], key=browser.h.at)
    return some,browser.snapshot_state(keys=some, examples=0)['table']

@pytest.mark.parametrize('query', [dict(sort='density'), dict(sort='mean_ci', down=False),
    dict(site=3, sort='density'), dict(label='asked|said', sort='key', down=False),
    dict(sort='output_label', label='e')], ids=repr)
def test_a_page_filters_and_sorts_as_python(query, browser, ask, node, sample):
    some,table = sample
    if 'site' in query: query = query|dict(site=browser.h.dm.sites[query['site']])
    by_python = [k for start in range(0, 800, 200) for k in keys(ask('rows', start=start, n=200, **query)) if k in some]
    assert [table['key'][i] for i in node(f'filterRows(data, {json.dumps(query)}).rows', table)]==by_python

@pytest.fixture(scope='module')
def of_tokens(browser):
    h = browser.h
    return browser.snapshot_state(keys=list(h.by_token('she').index)[:40]+list(h.by_token(' "').index)[:40],
        examples=0, deep=False)['table']

@pytest.mark.parametrize('query',
    [dict(token=' "', sort='pmi'), dict(token='she', sort='precision'), dict(token=':', side='input', sort='pmi')],
    ids=repr)
def test_a_page_finds_tokens_as_python(query, ask, node, of_tokens):
    table = of_tokens
    # among the twelve
    listed = {k for k,tokens in zip(table['key'], table[query.get('side', 'output')])
        if any(t[0].strip()==query['token'].strip() for t in tokens)}
    by_python = {r['key']:r for r in ask('rows', start=0, n=200, **query)['rows'] if r['key'] in listed}
    by_page = node(
        '(f => f.rows.map(i => [data.key[i], f.hits.get(i).pmi, f.hits.get(i).precision]))(filterRows(data, '
        f'{json.dumps(query)}))', table)
    assert {k for k,*_ in by_page}==set(by_python)
    for k,pmi,precision in by_page:
        assert abs(precision-by_python[k]['precision'])<2e-3 and abs(pmi-by_python[k]['pmi'])<.3, (k, pmi, precision,
            by_python[k])

def test_pages_of_rows(node):
    assert node('[pagesBetween(0, 59), pagesBetween(59, 60), pagesBetween(130, 250)]', 0)==[[0],[0,1],[2,3,4]]
