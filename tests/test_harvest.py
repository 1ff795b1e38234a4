"""Harvests on the edges: shallow and large tables, damage, what stays beside an extended one, and what a view may
rely on"""
import copy, json, os, re
import numpy as np, pandas as pd, pytest, torch
from spd_nb.count import count
from spd_nb.harvest import Component, Harvest, write
from spd_nb.model import load
from spd_nb.stories import stories, vocabulary
from spd_nb.tables import Example, Tables, _keep_late_files, _keep_other_files, write_tables

@pytest.fixture(scope='module')
def dm(): return load('story')

@pytest.fixture(scope='module')
def stats(dm, tmp_path_factory):
    return count(dm, stories(8, 64, seed=5), tmp_path_factory.mktemp('counts')/'counts', n=6, examples=20,
        progress=False)

@pytest.fixture(scope='module')
def h(dm, stats, tmp_path_factory): return write(stats, dm, tmp_path_factory.mktemp('harvest')/'h')

@pytest.fixture(scope='module')
def key(h): return h.by_token(' "').index[0]

@pytest.fixture(scope='module')
def on(dm):
    with torch.no_grad(): by_batch = [dm.ci(stories(8, 64, seed=5)[i]).lower.values() for i in range(6)]
    return torch.cat([torch.cat(list(ci), -1).flatten(0,1)>.1 for ci in by_batch])

def with_manifest(h, folder, **wrong):
    "A copy of a harvest with another manifest"
    folder.mkdir()
    for f in h.path.iterdir(): (folder/f.name).write_bytes(f.read_bytes())
    (folder/'manifest.json').write_text(json.dumps(h.manifest|wrong), encoding='utf-8')
    return folder

def test_at_most_twice_top_tokens_are_listed(dm, stats, tmp_path):
    table = Tables(write_tables(stats, dm, tmp_path/'top2', top=2))._read('tokens').to_pandas()
    assert table.groupby(['key','side'], observed=True).size().max()<=4

def test_large_sums_are_written_exactly(dm, stats, tmp_path):
    large = copy.deepcopy(stats)
    large.high['mass'] = torch.full_like(large.sums['mass'], 2.**20)  # as after a very long text
    large.sums['fired_histogram'] += 2**31
    t = Tables(write_tables(large, dm, tmp_path/'large'))
    assert t._totals.mass.tolist()==large.total('mass').tolist()
    assert sum(t._read('components')['fired_histogram'][5].as_py())==large.sums['fired_histogram'][5].sum().item()

@pytest.mark.parametrize('wrong,says',
    [(dict(schema_version=3), 'schema version 3'), (dict(complete=False), 'not complete')])
def test_a_later_version_and_half_a_harvest_are_refused(h, tmp_path, wrong, says):
    with pytest.raises(ValueError, match=says): Harvest(with_manifest(h, tmp_path/'wrong', **wrong))

def test_another_tokenizer_is_refused(h, dm, tmp_path):
    other = type('Other', (), dict(get_vocab=lambda self: {'a':0}))()
    with pytest.raises(ValueError, match='another tokenizer;'): Harvest(h.path, tokenizer=other)
    with pytest.raises(ValueError, match="than this model's"):
        Harvest(with_manifest(h, tmp_path/'odd', tokenizer='x'), dm).tokenizer

def test_shares_are_written_as_one_harvest(h, dm, stats):
    with pytest.raises(ValueError, match='exists already'): write(stats, dm, h.path)
    assert h.components.firings.tolist()==stats.sums['count'].tolist()

def test_limits_of_a_search_by_token(h, stats):
    ids = {t:i for i,t in enumerate(vocabulary())}
    rare = h.by_token(' he', max_density=.01)
    assert len(rare) and (rare.density<=.01).all() and not len(h.by_token(' he', least=1e9))
    t = h.by_token(' "', 'input')
    np.testing.assert_allclose(t.recall*stats.sums['tokens'][ids[' "']].item(), t.firings, atol=1e-3)
    np.testing.assert_allclose(t.precision*h.components.firings[t.index], t.firings, atol=1e-3)

def test_components_that_fire_together(h, on):
    busy = h.components.firings.sort_values().index[-40]
    df = h.correlated(busy)
    assert busy in h.correlated(df.index[0]).index and df.pmi.is_monotonic_decreasing
    assert (h.correlated(busy, max_density=.01).density<=.01).all()
    a = on[:,h.at(busy)]
    want = [np.log(len(on)*(a&on[:,h.at(k)]).sum().item()/(a.sum().item()*on[:,h.at(k)].sum().item()))
        for k in df.index]
    np.testing.assert_allclose(df.pmi, want, atol=1e-5)

def test_pmi_of_large_counts_is_a_number():
    shipped = Harvest('story/harvest')
    assert not shipped.correlated(shipped.components.index[shipped.components.firings.argmax()],
        max_density=1.).pmi.isna().any()

def test_density_limits_a_search_by_text_and_by_places(h):
    places = [('Tom saw the river. He ran home.', -1), ('Anna was glad. She wrote a note: "I miss you.', -1)]
    assert (h.by_text('She said', max_density=.01).density<=.01).all()
    assert (h.by_examples(places, max_density=.01).density<=.01).all()

def test_the_token_is_outlined_and_shaded_where_it_fires_and_one_later(h, key):
    place = Example([1,2], ['a','b'], np.array([.5,0.]), np.array([1.,0.]), 0)
    shown = h.component(key)._replace(examples=[place])._repr_html_()
    assert [('outline' in x, x[:4]!='0.00') for x in re.findall(r'178,([^"]*)"', shown)]==[(True,True),(False,False),
        (False,False),(True,True)]

def test_columns_hide_no_method_of_a_table(h, key):
    c = h.component(key)
    assert isinstance(c, Component)
    for df in (h.components, h.tokens(key), c.input, h.by_token(' "'), h.correlated(key), h.activations(key),
            h._totals):
        assert not [x for x in df.columns if hasattr(pd.DataFrame, x)]

def test_files_beside_a_harvest_stay_with_the_extended_one(tmp_path):
    old,new = tmp_path/'old',tmp_path/'new'
    for folder in (old, new): folder.mkdir()
    (old/'labels.jsonl').write_text('a', encoding='utf-8')
    (old/'notes').mkdir()
    _keep_other_files(old, new, set())
    # another process, before the new folder replaces the old one
    with open(old/'labels.jsonl', 'a', encoding='utf-8') as f: f.write('b')
    assert (new/'labels.jsonl').read_text(encoding='utf-8')=='ab' and (new/'notes').is_dir()

def test_what_is_written_beside_a_harvest_while_it_is_replaced_stays(tmp_path):
    old,new = tmp_path/'old',tmp_path/'new'
    for d in (old, new): d.mkdir()
    def put(d, name, text): (d/name).write_text(text, encoding='utf-8')
    put(old, 'stability.parquet', 'first')
    put(old, 'manifest.json', 'old')
    put(new, 'manifest.json', 'new')
    _keep_other_files(old, new, {'manifest.json'})
    (old/'stability.parquet').unlink()  # it is replaced, not changed
    put(old, 'stability.parquet', 'second')
    os.utime(new/'stability.parquet', (1, 1))
    put(old, 'labels.jsonl', 'early\n')
    put(new, 'labels.jsonl', 'late\n')
    put(old, 'notes.txt', 'mine')
    _keep_late_files(old, new, {'manifest.json'})
    found = {f.name:f.read_text(encoding='utf-8') for f in new.iterdir()}
    assert found=={'manifest.json':'new', 'stability.parquet':'second', 'labels.jsonl':'late\nearly\n',
        'notes.txt':'mine'}

def test_completion_sees_every_method():
    "Editors look at classes, and none of a harvest's methods is added later"
    methods = (
        'activations at by_examples by_label by_text by_token component components contexts correlated examples '
        'keys lens needed_dm run sites texts token_ids tokenizer tokens tops')
    where = {n:next(c for c in Harvest.__mro__ if n in vars(c)) for n in methods.split()}
    def function(o): return getattr(o, 'fget', None) or getattr(o, 'func', None) or o
    assert all(function(vars(c)[n]).__qualname__==f'{c.__name__}.{n}' for n,c in where.items())

def test_no_training_is_imported():
    import subprocess, sys
    code = (
        "import sys, spd_nb.harvest; print([m for m in sys.modules if m in "
        "('spd_nb.train','spd_nb.eval','spd_nb.losses')])")
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()=='[]'
