"Evidence for components as the browser gets it, and what cannot be picked"
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest
from hostile import QUOTE, STORY
from messages import caller
from spd_nb.display import visible
from spd_nb.evidence import Evidence, _examples
from spd_nb.tables import Example
from spd_nb.harvest import Harvest
from spd_nb.keys import Key
from spd_nb.model import load

@pytest.fixture(scope='module')
def h(): return Harvest(STORY/'harvest', load(STORY))

def test_details_are_those_of_the_harvest(h):
    d,c = caller(Evidence(h))('detail', key=QUOTE),h.component(QUOTE)
    for side in ('input','output'):
        df = h.tokens(QUOTE, side).head(12)
        assert [t for t,*_ in d[side]]==[visible(t) for t in df.text[df.precision>=.005]]
    np.testing.assert_allclose(d['examples'][0]['ci'], c.examples[0].ci, atol=.006)
    assert sum(b['fired'] for b in d['bins'])==d['firings']
    assert (d['kept'], d['label_from'])==(h.manifest['examples'], 'evidence')
    assert all(d['bins'][i]['sampled']+d['bins'][i]['fired']>0 for i in (0,-1))  # no empty bins outside

def test_lens_and_neighbours_are_those_of_the_harvest(h):
    ask = caller(Evidence(h))
    assert [t for t,_ in ask('lens', key=QUOTE)['lowers']]==[visible(t) for t in h.lens(QUOTE).writes.index[::-1][:6]]
    assert [(o['key'],o['p_given_this']) for o in ask('neighbours', key=QUOTE)]==[(k,float(f'{p:.5g}'))
        for k,p in h.correlated(QUOTE).p_given_this.head(12).items()]

def test_of_a_characters_tokens_the_largest_counts():
    e = Example([1,2,3], ['','猫','b'], np.array([.2,0,.1]), np.array([-3.,1,-2]), 1)
    odd = SimpleNamespace(examples=lambda key, n: [e])
    assert _examples(odd, 'a.b:0', 0, 1)==[dict(t=['猫','b'], ci=[.2,.1], act=[-3.,-2.], at=0)]

def test_one_label_of_each_component(h, monkeypatch):
    "That of its output, or else that of its input"
    df = pd.DataFrame(dict(input_label=['reads a','reads\nb'], output_label=['says c','']), index=['a.b:0','a.b:1'])
    monkeypatch.setattr(type(h.labels), 'frame', lambda self: df)
    assert Evidence(h).labels_by_key()=={'a.b:0':'says c', 'a.b:1':visible('reads\nb')}

def test_keys_are_checked(h):
    view = Evidence(h)
    ask = caller(view)
    assert 'at most 400 characters' in ask('pick', key='x'*401)
    assert 'no component' in ask('detail', key='<script>alert(1)</script>:1')
    view.key = Key.parse(QUOTE)
    assert view.key==QUOTE

def test_every_view_is_shown_at_a_component_in_the_same_way():
    "No view of components has a `show`, `follow` or `pick` of its own, which others would call in vain"
    import inspect
    from spd_nb import browser, cluster_picker, graph_view, lens, match_view, qk_view, studio
    views = (browser.ComponentBrowser, lens.PromptLens, studio.EditStudio, graph_view.GraphView, qk_view.QKView,
        cluster_picker.ClusterPicker, match_view.MatchView)
    for view in views:
        assert issubclass(view, Evidence)
        for name in ('show','follow','pick'):
            assert inspect.signature(getattr(view, name))==inspect.signature(getattr(Evidence, name)), (view, name)
