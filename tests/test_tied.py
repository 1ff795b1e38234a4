"""Tied components stepped twice, against the authors' arithmetic written out: two parameters on one storage, gates,
stochastic and layerwise masks, AdamW"""
from functools import partial
import pytest, torch
import torch.nn.functional as F
from torch import nn
from spd_nb.ci import ScalarCI
from spd_nb.initialisation import aligned
from spd_nb.learner import Learner
from spd_nb.losses import quarter_cosine
from spd_nb.model import decompose
from spd_nb.objectives import spd_losses
from spd_nb.sigmoids import lower_leaky_linear
from spd_nb.toys import TMS, fit_toy

C,HIDDEN,STEPS,LR = 8,4,60,2e-3

class Doubles:
    "Batches in double precision"
    def __init__(self, batches): self.batches = batches
    def __getitem__(self, i): return self.batches[i].double()

def fresh(seed, **kw):
    toy = TMS(5, 2, seed=seed)
    fit_toy(toy, 200, seed=seed)
    return decompose(toy, {'linear*':C}, partial(ScalarCI, hidden=HIDDEN), tied={'linear2':'linear1'}, init=aligned,
        lower=lower_leaky_linear, seed=seed, **kw).double()

def lower(x): return torch.where(x>0, x.clamp(max=1), .01*x)
def upper(x): return torch.where(x<1, x.clamp(min=0), 1+.01*(x-1))

class ByHand:
    "The authors' loop for a TMS, with its own parameters"
    def __init__(self, dm):
        toy = dm.target
        self.W,self.b = toy.linear1.weight.detach().clone(),toy.linear2.bias.detach().clone()
        cs = dm.at('linear1')
        self.V1,self.U1 = (nn.Parameter(p.detach().clone()) for p in (cs.V, cs.U))
        self.V2,self.U2 = nn.Parameter(self.U1.data.T),nn.Parameter(self.V1.data.T)  # the same memory
        self.gates = {s:[nn.Parameter(p.detach().clone()) for p in (m.w1, m.b1, m.w2, m.b2)]
            for s,m in dm.ci_fn.sites.items()}
        params = [self.V1, self.U1, self.V2, self.U2, *(p for g in self.gates.values() for p in g)]
        self.opt = torch.optim.AdamW(params, lr=LR, weight_decay=0., foreach=False)

    def gate(self, a, site):
        w1,b1,w2,b2 = self.gates[site]
        return (F.gelu(a[...,None,:]*w1+b1)*w2).sum(-2)+b2

    def model(self, x, m1=None, m2=None):
        h = x@self.W.T if m1 is None else (x@self.V1*m1)@self.U1
        y = h@self.W if m2 is None else (h@self.V2*m2)@self.U2
        return F.relu(y+self.b)

    def step(self, x, t):
        out,h = self.model(x),x@self.W.T
        pre = self.gate(x@self.V1, 'linear1'),self.gate(h@self.V2, 'linear2')
        g = [lower(p) for p in pre]
        def drawn(): return [q+(1-q)*torch.rand_like(q) for q in g]
        def error(*masks): return (self.model(x, *masks)-out).square().mean()
        deltas = self.W-(self.V1@self.U1).T,self.W.T-(self.V2@self.U2).T
        faith = sum(d.square().sum() for d in deltas)/20
        stoch = error(*drawn())
        m1,m2 = drawn()
        layer = (error(m1, None)+error(None, m2))/2
        sparse = sum(upper(p).mean(0).sum() for p in pre)
        total = faith+stoch+layer+3e-3*sparse
        self.opt.zero_grad()
        total.backward()
        self.opt.param_groups[0]['lr'] = LR*quarter_cosine(t)
        self.opt.step()
        return [v.item() for v in (faith, stoch, layer, sparse, total)]

@pytest.mark.parametrize('seed', range(3))
def test_steps_of_twice_tied_components_are_the_authors(seed):
    dm = fresh(seed, twice=True)
    by_hand,batches = ByHand(dm),Doubles(dm.target.batches(64, seed=seed))
    run = Learner(dm, batches, spd_losses(), STEPS, LR, quarter_cosine)
    torch.manual_seed(seed)
    ours = []
    for _ in range(STEPS):
        values,_ = run.train_step()
        ours.append([values[k].item() for k in ('faithfulness','stochastic','layerwise','sparsity','total')])
    torch.manual_seed(seed)
    theirs = [by_hand.step(batches[i], i/(STEPS-1)) for i in range(STEPS)]
    ours,theirs = (torch.tensor(rows, dtype=torch.float64) for rows in (ours, theirs))
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    assert torch.allclose(dm.at('linear1').V.detach(), by_hand.V1.detach(), rtol=1e-9, atol=1e-12)
    once = fresh(seed)
    run = Learner(once, batches, spd_losses(), STEPS, LR, quarter_cosine)
    torch.manual_seed(seed)
    for _ in range(STEPS): values,_ = run.train_step()
    assert abs(values['total'].item()-ours[-1,-1].item())>1e-4  # stepping once is another course
