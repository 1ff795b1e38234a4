"LoRAs and projections on the edges: what a component must be to explain a change, and what is refused"
import pytest, torch
from torch import nn
from spd_nb.edit import ablated
from spd_nb.keys import SiteError
from spd_nb.lora import lora, project
from spd_nb.model import decompose, load
from spd_nb.places import Places, says
from spd_nb.stories import story_rows, vocabulary

DOWN = 'model.layers.1.mlp.down_proj'
IDS = {t:i for i,t in enumerate(vocabulary())}

@pytest.fixture(scope='module')
def dm(): return load('story')

@pytest.fixture(scope='module')
def e(dm):
    "A LoRA of five steps"
    rows = story_rows(4, 128, seed=33)
    mouths = torch.tensor([[t.role=='emo_mouth' for t in r[1:]]+[False] for r in rows])
    return lora(dm, DOWN, Places(torch.tensor([[IDS[t.text] for t in r] for r in rows]), mouths), says(IDS['o']),
        seed=1, steps=5, lr=5e-3, progress=False)

@pytest.fixture
def hand(): return by_hand([[1.,0],[0,1]])

def by_hand(V):
    "A layer with one output and these read directions, all of which write 1"
    V = torch.tensor(V)
    dm = decompose(nn.Sequential(nn.Linear(V.shape[0], 1)).eval(), '0', C=V.shape[1])
    dm.at('0').V.data,dm.at('0').U.data = V,torch.ones(V.shape[1], 1)
    return dm

def of(dm, change, **how): return project(dm, {'0':torch.tensor([change])}, **how)

def test_what_is_learned_needs_no_gradient(e):
    assert not e.patches[DOWN].reads.requires_grad and not e.patches[DOWN].writes.requires_grad

def test_the_seed_is_recorded(e): assert e.about[0]['seed']==1

def test_as_many_components_are_used_as_asked_for(hand): assert sorted(of(hand, [0.,4], n=2).table.index)==['0:0','0:1']

def test_the_length_of_a_component_does_not_matter():
    long = by_hand([[10.,0],[0,1]])
    assert of(long, [3.,4], n=1).table.index.tolist()==['0:1']
    assert of(long, [3.,4]).table.alone['0:0']==pytest.approx(9/25, abs=1e-6)

def test_amounts_are_fitted_anew_for_each_component_added():
    four = by_hand([[2.,2,2,0],[0,0,2,2],[1,1,1,-1]])
    assert of(four, [0.,-2,-1], n=3).unexplained['0']==pytest.approx(0., abs=1e-6)

def test_a_dead_component_explains_nothing():
    dead = of(by_hand([[0.,0],[0,1]]), [3.,4], n=2)
    assert dead.table.loc['0:0'].tolist()==pytest.approx([0.]*4+[1.], abs=1e-6)
    assert dead.unexplained['0']==pytest.approx(9/25, abs=1e-6)

def test_a_component_is_used_once_and_the_largest_share_is_first(dm, e):
    table = project(dm, e, n=20).table
    assert table.index.is_unique and len(table)==20 and table.share.is_monotonic_decreasing

def test_shares_of_directions_are_squares_of_the_change_along_them(dm, e):
    D,cs,found = e.deltas()[DOWN],dm.at(DOWN),project(dm, e).table
    v,u = cs.V[:,130].detach(),cs.U[130].detach()
    assert found.reads[f'{DOWN}:130']==pytest.approx(((D@v).norm()/v.norm()/D.norm()).item()**2, abs=1e-5)
    assert found.writes[f'{DOWN}:130']==pytest.approx(((u@D).norm()/u.norm()/D.norm()).item()**2, abs=1e-5)

def test_only_changes_of_decomposed_weights_are_projected(dm, hand):
    with pytest.raises(ValueError, match=r'has shape \(2, 1\), its weight \(1, 2\)'):
        project(hand, {'0':torch.ones(2,1)})
    with pytest.raises(ValueError, match='no change of weights'):
        project(dm, ablated(dm, f'{DOWN}:130', ci_threshold=.1))
    with pytest.raises(SiteError, match="'1' is not decomposed"): project(hand, {'1':torch.ones(1,2)})
    assert of(hand, [0.,0.]).table.empty
