"Everything that differentiates works where its caller has turned gradients off"
import pytest, torch
import spd_nb as spd
from spd_nb.attention import attentions
from spd_nb.attribution import graph
from spd_nb.attributions import attributions
from spd_nb.circuits import circuit, on_nodes, outcome, question
from spd_nb.harvest import Harvest
from spd_nb.heads import head_norms, head_scores, ov_pairs, qk_on, qk_pairs
from spd_nb.interventions import kept
from spd_nb.lms import StoryLM, fit_lm
from spd_nb.stories import stories
from spd_nb.toys import TMS, fit_toy

QUERY,TEXT = 'model.layers.0.self_attn.q_proj','She said,'

def _kept(dm):
    with kept(dm, TEXT, f'{QUERY}:3', rest=2): return dm

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    dm = spd.load('story')
    toy = TMS(5, 2).eval()
    small = spd.decompose(toy, {'linear*':20}, tied={'linear2':'linear1'})
    h = Harvest('data/story/harvest', dm)
    q,text = question(dm, TEXT),stories(1, 8)
    lm,rows,untrained = StoryLM(),[text[0]]*2,[TMS(5, 2), TMS(5, 2)]
    return dict(
        graph=lambda: graph(dm, TEXT), circuit=lambda: circuit(dm, TEXT, steps=2, progress=False),
        outcome=lambda: outcome(q, on_nodes(q, f'{QUERY}:3'), 2), kept=lambda: _kept(dm),
        attributions=lambda: attributions(dm, text, tmp_path_factory.mktemp('a')/'a', n=1, progress=False),
        qk_on=lambda: qk_on(dm, TEXT, 0, 0), qk_pairs=lambda: qk_pairs(dm, h.components, 0, top=3),
        ov_pairs=lambda: ov_pairs(dm, h.components, 0, top=3), norms=lambda: head_norms(dm, QUERY),
        scores=lambda: head_scores(dm, half=4, rows=1), attentions=lambda: attentions(dm),
        lens=lambda: h.lens(f'{QUERY}:3'), fit=lambda: spd.fit(small, toy.batches(32), steps=2, progress=False),
        plan=lambda: spd.plan(small, toy.batches(32), steps=2), report=lambda: spd.report(small, toy.batches(32), n=1),
        fit_toy=lambda: fit_toy(untrained.pop(), 2), fit_lm=lambda: fit_lm(lm, rows, 2))

NAMES = ['graph','circuit','outcome','kept','attributions','qk_on','qk_pairs','ov_pairs','norms','scores','attentions',
    'lens','fit','plan','report','fit_toy','fit_lm']

@pytest.mark.parametrize('off', (torch.no_grad, torch.inference_mode))
@pytest.mark.parametrize('name', NAMES)
def test_gradients_may_be_off(made, name, off):
    with off(): made[name]()

def test_what_is_read_by_a_component_does_not_depend_on_the_callers_mode(made):
    whole = made['lens']()
    with torch.inference_mode(): off = made['lens']()
    assert whole.reads.equals(off.reads) and whole.writes.equals(off.writes)
