"`ci`: gradients against finite differences, rows without text, and sites listed in another order"
import pytest, torch
from fastcore.test import test_close as assert_close
from torch import nn
from spd_nb.ci import GlobalCI, TransformerCI, private_gates
from spd_nb.components import SiteDict
from spd_nb.core import seeded
from spd_nb.initialisation import components_like

@pytest.mark.parametrize('view', [lambda h: h.transpose(0,1), lambda h: h.view(6,2,5).movedim(0,-1), lambda h: h[0]],
    ids=['batch axes','components','no sequence'])
def test_private_gates_pass_gradcheck_whatever_the_memory_order(view):
    with seeded(0):
        h = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
        params = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((4,6), (4,6), (4,6), (6,))]
    assert torch.autograd.gradcheck(lambda h,*ps: private_gates(view(h), *ps, floats=72), (h, *params))

@pytest.fixture
def two():
    "Two sites, what they read and their activations"
    with seeded(0):
        up,emb = nn.Linear(4, 3).requires_grad_(False),nn.Embedding(7, 8).requires_grad_(False)
        sites = SiteDict({'mlp.up':components_like(up, 6), 'emb':components_like(emb, 2)})
        x,toks = torch.randn(2, 5, 4),torch.randint(7, (2,5))
    return sites,{'mlp.up':x, 'emb':emb.weight[toks]},{'mlp.up':sites['mlp.up'].acts(x), 'emb':sites['emb'].acts(toks)}

def test_a_row_without_text_sees_itself(two):
    sites,reads,acts = two
    f = TransformerCI(sites, d=16, blocks=2, heads=2)
    whole = f(reads, acts)
    for s,a in f(reads, acts, torch.tensor([[True]*5, [False]*5])).items(): assert_close(a, whole[s], 1e-4)

def test_the_order_in_which_sites_are_listed_changes_nothing(two):
    sites,reads,acts = two
    f,other = GlobalCI(sites, hidden=9),GlobalCI(SiteDict({s:sites[s] for s in ('emb','mlp.up')}), hidden=9)
    assert sites.keys()!=['emb','mlp.up']
    other.load_state_dict(f.state_dict())
    for s,a in f(reads, acts).items(): assert torch.equal(other(reads, acts)[s], a)
