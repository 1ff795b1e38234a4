"Gradients in float32 and under bfloat16 autocast point where those in float64 do"
import copy
from functools import partial
from pathlib import Path
import pytest, torch
from spd_nb.ci import GlobalCI, ScalarCI, SharedCI, TransformerCI, VectorCI
from spd_nb.initialisation import aligned
from spd_nb.core import seeded
from spd_nb.losses import constant
from spd_nb.masks import ci_masks, everywhere, one_site, sourced_masks, stochastic_masks, subset
from spd_nb.measures import kl, mse
from spd_nb.model import decompose, load
from spd_nb.objectives import faithful, recon, smooth_sparse, sparse, spd_losses, stochastic
from spd_nb.stories import stories
from spd_nb.toys import ResidMLP, TMS, fit_toy
from spd_nb.learner import Learner
from spd_nb.train import fit

STORY = Path(__file__).parent.parent/'data'/'story'
LM = {s:9 for s in ('model.embed_tokens','model.layers.0.self_attn.q_proj','model.layers.1.mlp.down_proj')}

def drawn(seed):
    "A source whose numbers do not depend on the type they are wanted in"
    gen = torch.Generator().manual_seed(seed)
    return lambda like: torch.rand(like.shape, generator=gen).to(like)

def layerwise(step, measure):
    masks = stochastic_masks(step.ci.lower, drawn(1), delta=False)
    return sum(recon(step, masks, one_site(s), measure) for s in masks)

def adversarial(step, measure):
    source = drawn(5)
    return recon(step, sourced_masks(step.ci.lower,
        {s:source(torch.zeros(*g.shape[:-1], g.shape[-1]+1).to(g)) for s,g in step.ci.lower.items()}), everywhere,
        measure)

def losses(measure):
    "Those that look at weights and importances, and those that run the model"
    exact = dict(faithful=faithful, sparse=partial(sparse, p=2.), annealed=partial(sparse, p=.4),
        frequency=partial(sparse, p=1., beta=.5), smooth=partial(smooth_sparse, gamma=.3, beta=.5),
        narrow=partial(smooth_sparse, gamma=.01))
    ran = dict(stochastic=lambda s: stochastic(s, measure, source=drawn(1)),
        routed=lambda s: stochastic(s, measure, subset, delta=True, source=drawn(1)),
        layerwise=partial(layerwise, measure=measure),
        adversarial=partial(adversarial, measure=measure),
        important=lambda s: recon(s, ci_masks(s.ci.lower), everywhere, measure))
    return exact,ran

def gradient(dm, batch, loss, precision='float32'):
    learner = Learner(dm, [batch], dict(it=(1., loss)), 1, 0., constant, precision=precision)
    with seeded(7): learner.train_step()
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten().double()
        for p in dm.trainable_parameters()])

def cosines(dm, batch, loss):
    "With the gradient in float64, of those in float32 and under autocast"
    exact = gradient(copy.deepcopy(dm).double(), batch.double() if batch.is_floating_point() else batch, loss)
    return [torch.cosine_similarity(gradient(dm, batch, loss, p), exact, dim=0).item()
        for p in ('float32','bf16')]

def tms(path, ci=ScalarCI, steps=0):
    toy = TMS(5, 2, seed=0)
    fit_toy(toy, 1000)
    dm = decompose(toy, {'linear*':20}, ci, tied={'linear2':'linear1'}, init=aligned)
    if steps:
        fit(dm, toy.batches(256, merge=True), spd_losses(), steps=steps, lr=5e-3, warm=200, path=path, progress=False)
    return dm,toy.batches(512, seed=4)[0],mse

def resid_mlp(path, steps=0):
    toy = ResidMLP(n=20, d=64, d_mlp=10, seed=0)
    fit_toy(toy, 500)
    dm = decompose(toy, '*mlp_*', C=20)
    if steps:
        fit(dm, toy.batches(256), spd_losses(sparsity=1e-4, p=2.), steps=steps, lr=3e-3, warm=200, path=path,
            progress=False)
    return dm,toy.batches(512, seed=4)[0],mse

def story(path, ci=None):
    dm = load(STORY)
    return decompose(dm.target, LM, ci, seed=1) if ci else dm,stories(2, 48, seed=1)[0],kl

STATES = {'TMS':tms, 'TMS, VectorCI':partial(tms, ci=VectorCI), 'TMS, SharedCI':partial(tms, ci=SharedCI),
    'TMS, GlobalCI':partial(tms, ci=GlobalCI), 'TMS, trained':partial(tms, steps=500),
    'residual MLP':resid_mlp, 'residual MLP, trained':partial(resid_mlp, steps=200), 'story model, trained':story,
    'story model, ScalarCI':partial(story, ci=ScalarCI), 'story model, TransformerCI':partial(story, ci=TransformerCI)}

@pytest.mark.parametrize('state', STATES)
def test_gradients(state, tmp_path):
    """TMS is trained briefly: at a minimum the gradient is a small difference of large ones, where rounding only the
    components to bfloat16 turns the gradient in float64 by as much"""
    dm,batch,measure = STATES[state](tmp_path/'run')
    exact,ran = losses(measure)
    for name,loss in (exact|ran).items():
        single,half = cosines(dm, batch, loss)
        # the annealed one pulls hardest on importances of 1e-6
        assert single>(.998 if name=='annealed' else .9999), name
        assert half>(.998 if name in exact else .99), name

@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_targets_of_any_type(dtype, tmp_path):
    """What is learnt is as precise as for a target in float32, and comes out the same; what the model returns has
    the target's type"""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Linear(8, 5)).bfloat16().eval()
    batch = torch.rand(32, 6).bfloat16()
    def learned(t):
        dm = decompose(copy.deepcopy(model).to(t), '*', partial(SharedCI, hidden=7), C=9)
        run = fit(dm, [batch.to(t)], spd_losses(), steps=60, lr=1e-2, warm=100, path=tmp_path/str(t), progress=False)
        with dm.masked(stochastic_masks(dm.ci(batch.to(t)).lower)): assert dm(batch.to(t)).dtype==t
        assert {p.dtype for p in dm.components.parameters()}=={torch.promote_types(t, torch.float32)} and {p.dtype
            for p in dm.ci_fn.parameters()}=={torch.float32}
        return run.history[-1]
    want,got = learned(torch.float32),learned(dtype)
    for name in want: assert got[name]==pytest.approx(want[name], rel=.05, abs=3e-5), name
