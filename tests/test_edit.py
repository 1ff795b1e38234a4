"Edits on the edges: which positions are taken, what a gate compares, what a certificate records, and what is refused"
import pytest, torch
from torch import nn
from spd_nb.edit import Edit, Patch, ablated, only, scaled, u_replaced, v_replaced
from spd_nb.model import decompose, load
from spd_nb.stories import story_rows, vocabulary
from spd_nb.toys import TMS

DOWN = 'model.layers.1.mlp.down_proj'
QUOTE,EYES = f'{DOWN}:80',f'{DOWN}:130'

@pytest.fixture(scope='module')
def dm(): return load('story')

@pytest.fixture(scope='module')
def toks():
    ids = {t:i for i,t in enumerate(vocabulary())}
    return torch.tensor([[ids[t.text] for t in r] for r in story_rows(3, 128, seed=33)])

@pytest.fixture(scope='module')
def clean(dm, toks): return run(dm, toks)

@pytest.fixture(scope='module')
def firing(dm, toks): return fires(dm, toks, 80)

@pytest.fixture
def tiny(): return decompose(TMS(5, 2, seed=0).eval(), {'linear1':4, 'linear2':3}, seed=1)

def fires(dm, toks, c, above=.1): return dm.ci(toks).lower[DOWN][...,c]>above

def run(dm, toks, *edits):
    "Logits under some edits, the first one outermost"
    if not edits:
        with torch.no_grad(): return dm(toks)
    with edits[0]: return run(dm, toks, *edits[1:])

def close(a, b, tol): torch.testing.assert_close(a, b, rtol=0, atol=tol)

@pytest.mark.parametrize('replaced,vector', [(u_replaced, lambda cs: cs.U[1]), (v_replaced, lambda cs: cs.V[:,1])])
def test_a_certificate_compares_the_new_vector_with_the_old(tiny, replaced, vector):
    old = vector(tiny.at('linear1')).detach()
    about, = replaced(tiny, 'linear1', 1, -2*old).about
    assert [about[k]
        for k in ('norm','norm_before','cosine')]==pytest.approx([2*old.norm().item(), old.norm().item(), -1.],
        abs=1e-5)

def test_gradients_reach_the_new_vector_only(tiny):
    v,cs = torch.ones(5, requires_grad=True),tiny.at('linear1')
    with v_replaced(tiny, 'linear1', 1, v): tiny(torch.rand(6, 5)).sum().backward()
    assert v.grad.any() and cs.U.grad is None and cs.V.grad is None

def test_a_component_of_no_importance_is_left_alone_by_the_lowest_gate(dm, toks, clean):
    never = ~fires(dm, toks, 80, 0.)
    assert torch.equal(run(dm, toks, ablated(dm, QUOTE, ci_threshold=0.))[never], clean[never])

def test_each_component_has_a_gate_of_its_own(dm, toks, firing):
    apart = run(dm, toks, ablated(dm, EYES, positions=fires(dm, toks, 130)), ablated(dm, QUOTE, positions=firing))
    close(run(dm, toks, ablated(dm, [EYES, QUOTE], ci_threshold=.1)), apart, 1e-5)

def test_the_gate_is_that_of_the_unedited_target(dm, toks, firing):
    other = ablated(dm, [f'model.layers.0.mlp.down_proj:{c}' for c in range(40)])
    close(run(dm, toks, other, ablated(dm, QUOTE, ci_threshold=.1)),
        run(dm, toks, other, ablated(dm, QUOTE, positions=firing)), 1e-5)

def test_a_gate_and_positions_hold_together(dm, toks, firing):
    early = ablated(dm, QUOTE, positions=firing&(torch.arange(128)<60))
    close(run(dm, toks, ablated(dm, QUOTE, ci_threshold=.1, positions=slice(0, 60))), run(dm, toks, early), 1e-5)

def test_positions_are_kept_by_every_edit(dm):
    assert ablated(dm, QUOTE, positions=[0,1]).positions==[0,1]
    for e in (u_replaced(dm, DOWN, 80, torch.zeros(64), positions=[3]),
        v_replaced(dm, DOWN, 80, torch.zeros(256), positions=[3]),
              scaled(dm, {QUOTE:2.}, positions=[3]), only(dm, QUOTE, positions=[3])): assert e.positions==[3]

@pytest.mark.parametrize('shape,by_row', [((128,),False), ((1,128),False), ((2,128),True)])
def test_positions_with_several_rows_differ_by_row(dm, shape, by_row):
    assert ablated(dm, QUOTE, positions=torch.ones(shape, dtype=torch.bool)).by_row==by_row

@pytest.mark.parametrize('positions', [slice(3,6), [3,4,5], torch.tensor([3,4,5]), range(3,6), torch.arange(128)//3==1,
    (torch.arange(128)//3==1).numpy()],
    ids=['slice','list','tensor','range','mask','numpy'])
def test_positions_may_be_written_in_several_ways(dm, toks, positions):
    at_three = ablated(dm, [QUOTE, f'{DOWN}:3'], positions=torch.isin(torch.arange(128), torch.tensor([3,4,5])))
    assert torch.equal(run(dm, toks[:1], ablated(dm, [QUOTE, f'{DOWN}:3'], positions=positions)),
        run(dm, toks[:1], at_three))

@pytest.mark.parametrize('wrong',
    [torch.ones(2,3), torch.ones(4, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64)],
    ids=['float','zeros and ones','table'])
def test_positions_of_another_kind_are_refused(dm, wrong):
    with pytest.raises(TypeError, match='`positions`'): ablated(dm, QUOTE, positions=wrong)

def test_positions_that_are_not_there_are_refused(dm, toks):
    with pytest.raises(ValueError, match='no position 128 in sequences of 128 tokens'):
        run(dm, toks[:1], ablated(dm, QUOTE, positions=[128]))
    with pytest.raises(ValueError,
            match=r'`positions` has shape \(3,\), which does not broadcast to the batch, \(1, 128\)'):
        run(dm, toks[:1], ablated(dm, QUOTE, positions=torch.ones(3, dtype=torch.bool)))
    assert not dm.edits

@pytest.mark.parametrize('where', [dict(positions=[3]), dict(ci_threshold=.1)], ids=['positions','importance'])
def test_a_local_edit_generates_without_a_cache_only(dm, toks, where):
    with ablated(dm, QUOTE, **where):
        with pytest.raises(RuntimeError, match='use_cache=False'): dm.target.generate(toks[:1,:8], max_new_tokens=2)
        dm.target.generate(toks[:1,:8], max_new_tokens=2, use_cache=False)

def test_a_gate_needs_the_whole_model(dm, toks):
    with ablated(dm, QUOTE, ci_threshold=.1):
        dm(toks[:1])
        with pytest.raises(RuntimeError, match='needs the whole ArceeForCausalLM'): dm.target.model(toks[:1])

def test_a_change_that_is_not_of_components_has_no_gate(tiny):
    patch = Patch(torch.ones(5, 3), torch.ones(3, 2), (None,)*3)
    with pytest.raises(ValueError, match='only an edit of components can be gated by their importance'):
        Edit(tiny, {'linear1':patch}, [], ci_threshold=.1)

def test_a_local_edit_says_so_and_is_not_added(tiny):
    e = ablated(tiny, 'linear1:1', ci_threshold=.1, positions=[0])
    assert repr(e)=='Edit(ablated linear1:1, where the importance is above 0.1, at some positions)'
    for a,b in ((e,ablated(tiny, 'linear1:3')), (ablated(tiny, 'linear1:3'),e)):
        with pytest.raises(ValueError, match='open one block inside the other'): a+b

def test_a_change_relative_to_a_weight_of_zeros_has_no_size():
    plain = nn.Sequential(nn.Linear(3, 4)).eval()
    nn.init.zeros_(plain[0].weight)
    size = ablated(decompose(plain, '0', C=5), '0:1').sizes()['0']
    assert size['norm']>0 and size['of_weight']!=size['of_weight']
