"""Decompose the toys to convergence and write data/results/toys.csv: `make toys`, or
   python tools/toys.py --only 'tms_5-2*' --seeds 0 --seeds 1
A run resumes where it stopped; what the table has is left out."""
import argparse, fnmatch, json, shutil, time
from functools import partial
from pathlib import Path
import numpy as np, pandas as pd, torch
from spd_nb.ci import ScalarCI, SharedCI
from spd_nb.sigmoids import lower_leaky, lower_leaky_linear
from spd_nb.initialisation import aligned, gaussian
from spd_nb.core import seeded
from spd_nb.eval import alive, evaluate, mask_table, only_masks, spectrum, without_masks
from spd_nb.feature_space import feature_space
from spd_nb.ground_truth import columns, dense_error, identity_error, ml2r, mmcs, neuron_contributions, one_hots
from spd_nb.keys import Key
from spd_nb.losses import cosine, quarter_cosine
from spd_nb.adversary import PersistentPGD, shared
from spd_nb.masks import ci_masks, stochastic_masks
from spd_nb.measures import kl
from spd_nb.model import decompose, load, save
from spd_nb.objectives import Adversarial, faithful, sparse, spd_losses, stochastic
from spd_nb.toys import InductionHead, KeyValueMLP, ResidMLP, TMS, fit_toy
from spd_nb.train import fit

root = Path(__file__).resolve().parent.parent
RESULTS = root/'data'/'results'/'toys.csv'
# what the tutorials' figures need of every run, a few kB each
FIGURES = root/'data'/'results'/'toys'
# whole decompositions kept in data/toys, of seed 0
SHIPPED = ('tms_5-2', 'tms_5-2-id', 'tms_40-10', 'resid_1', 'induction')

def tms(n, d, identity, C, seeds, **kw):
    sites = ['linear1', *(['hidden'] if identity else []), 'linear2']
    return dict(seeds=seeds, target=lambda seed: TMS(n, d, identity, seed=seed),
        recipe=dict(steps=10_000, batch=1024 if n==5 else 2048, lr=5e-3),
        sites=dict.fromkeys(sites, C), tied={'linear2':'linear1'}, **dict(lr=1e-3, batch=1024)|kw)

def resid(layers, C, seeds, n=100, d_mlp=50, recipe_steps=1000, **kw):
    return dict(seeds=seeds, target=lambda seed: ResidMLP(n, 1000, d_mlp, layers, seed=seed),
        recipe=dict(steps=recipe_steps, batch=2048, lr=3e-3, cosine=True),
        sites={'*mlp_*':C}, tied={}, view=feature_space, **dict(batch=1024)|kw)

def induction_losses(toy):
    "Compared where the next token can be known; the adversary sees to it that small leftovers cannot add up"
    def predictable(out, ref, weight=None): return kl(toy.predictable(out), toy.predictable(ref))
    return dict(faithfulness=(1e3, faithful), sparsity=(1e-2, partial(sparse, p=(1.,.5))),
        stochastic=(1., partial(stochastic, measure=predictable, delta=True)),
        adversarial=(.5, Adversarial(PersistentPGD(steps=1, lr=.03, scope=shared), predictable)))

def memorising(C, seeds, **kw):
    return dict(seeds=seeds, target=lambda seed: KeyValueMLP(seed=seed), recipe=dict(steps=4000, batch=256, lr=3e-3,
        cosine=True), sites={'linear1':C, 'linear2':C}, tied={}, init=gaussian, warm=200, lower=lower_leaky, batch=64,
        merge={}, losses=lambda toy: spd_losses(1e-3, 1.), steps=15_000, lr=3e-3)|kw

def spd(sparsity, p): return lambda toy: spd_losses(sparsity, p)

small,large = dict(steps=40_000, losses=spd(3e-3, 1.)),dict(steps=20_000, losses=spd(1e-4, 2.))
# what the authors moved to after the SPD paper: Gaussian start, faithfulness warm-up, one-way sigmoid; and a higher
# learning rate, which it stands
later = dict(steps=8_000, batch=512, lr=5e-3, losses=spd(3e-3, 1.), init=gaussian, warm=200, lower=lower_leaky)
EXPERIMENTS = {
    'tms_5-2':     tms(5, 2, False, 20, range(5), **small),
    'tms_5-2-id':  tms(5, 2, True, 20, range(5), **small),
    'tms_40-10':    tms(40, 10, False, 100, range(3), **large),
    'tms_40-10-id': tms(40, 10, True, 100, range(3), **large),
    'tms_5-2_ste':  tms(5, 2, False, 20, range(1), lower=lower_leaky, **small),
    'tms_5-2_later':     tms(5, 2, False, 40, range(5), **later),
    'tms_5-2-id_later':  tms(5, 2, True, 40, range(5), **later),
    'tms_40-10_later':    tms(40, 10, False, 200, range(3), **later | dict(steps=12_000, losses=spd(1e-4, 2.))),
    'tms_40-10-id_later': tms(40, 10, True, 200, range(3), **later | dict(steps=12_000, losses=spd(1e-4, 2.))),
    'tms_40-10_later_C100':    tms(40, 10, False, 100, range(3), **later | dict(batch=1024, losses=spd(1e-4, 2.))),
    'tms_40-10-id_later_C100': tms(40, 10, True, 100, range(2), **later | dict(batch=1024, losses=spd(1e-4, 2.))),
    'tms_5-2-id_later_C20': tms(5, 2, True, 20, range(2), **later),
    'tms_5-2-id_later_C80': tms(5, 2, True, 80, range(2), **later),
    # off-column mass: other coefficients, and a last third with another one than the rest
    **{f'tms_5-2_later_b{b:.0e}': tms(5, 2, False, 40, range(5), **later|dict(losses=spd(b, 1.)))
        for b in (3e-4, 1e-3, 2e-3, 5e-3)},
    **{f'tms_5-2_later_then_{b:.0e}': tms(5, 2, False, 40, range(5), then=dict(steps=4_000, lr=2e-3,
        losses=spd(b, 1.)), **later) for b in (3e-4, 1e-3)},
    'resid_1': resid(1, 100, range(3), steps=30_000, lr=2e-3, losses=spd(1e-5, 2.)),
    'resid_1_C150': resid(1, 150, [2], steps=30_000, lr=2e-3, losses=spd(1e-5, 2.)),
    'resid_2': resid(2, 150, range(2), steps=25_000, lr=1e-3, losses=spd(1e-5, 2.)),
    'resid_3': resid(3, 150, range(1), n=102, d_mlp=51, recipe_steps=10_000, steps=15_000, batch=512, lr=1e-3,
        losses=spd(.5e-5, 2.)),
    'resid_3_long': resid(3, 150, range(1), n=102, d_mlp=51, recipe_steps=10_000, steps=25_000, lr=1e-3,
        losses=spd(.5e-5, 2.)),
    # importances from the whole of what a site reads, which a view makes as cheap as those from activations
    'resid_3_shared': resid(3, 200, range(1), n=102, d_mlp=51, recipe_steps=10_000, steps=25_000, lr=1e-3,
        ci=partial(SharedCI, hidden=128), losses=spd(.5e-5, 2.)),
    'induction': dict(seeds=range(2), target=lambda seed: InductionHead(seed=seed),
        recipe=dict(steps=600, batch=128, lr=1e-2, cosine=True), sites={'blocks.*':64}, tied={},
        ci=partial(SharedCI, hidden=64),
        init=gaussian, warm=200, lower=lower_leaky, steps=3_000, lr=2e-3, schedule=cosine, batch=16, merge={},
        losses=induction_losses),
    'memorising': memorising(64, range(2)),
    **{f'resid_1_b{b:.0e}': resid(1, 100, range(1), steps=10_000, batch=512, lr=2e-3, losses=spd(b, 2.))
        for b in (1e-6, 3e-6, 1e-5, 1e-4, 1e-3)},
    # the same with the sigmoid that does not go negative: does `mlp_out` still fall into pieces?
    **{f'resid_1_b{b:.0e}_ste': resid(1, 100, range(1), steps=10_000, batch=512, lr=2e-3, losses=spd(b, 2.),
        lower=lower_leaky) for b in (1e-4, 1e-3)},
    # and all that the authors changed later: start, warm-up and sigmoid
    'resid_1_b1e-04_later': resid(1, 100, range(1), steps=10_000, batch=512, lr=2e-3, losses=spd(1e-4, 2.),
        init=gaussian, warm=200, lower=lower_leaky),
    # and with a price that does not favour two halves over a whole
    'resid_1_b1e-04_p1': resid(1, 100, range(1), steps=10_000, batch=512, lr=2e-3, losses=spd(1e-4, 1.)),
}

def start(e, seed):
    "The trained target and its fresh decomposition"
    toy = e['target'](seed)
    loss = fit_toy(toy, seed=seed, **e['recipe'])[-1]
    return decompose(toy, e['sites'], e.get('ci', ScalarCI), tied=e['tied'], init=e.get('init', aligned),
        lower=e.get('lower', lower_leaky_linear), seed=seed),loss

@torch.no_grad()
def induction_evidence(dm, seed, often=.005, draws=5):
    """Accuracy and attention with and without the components that fire at `often` of all positions, chosen on other
    rows than these"""
    toy = dm.target
    fires = {s:(g>.1).float().mean((0,1)) for s,g in dm.ci(toy.batches(512, seed=seed+78)[0]).lower.items()}
    keys = [Key(s, c) for s,f in fires.items() for c in (f>=often).nonzero()[:,0].tolist()]
    rest = [Key(s, c) for s,C in dm.C.items() for c in range(C) if Key(s, c) not in set(keys)]
    x,gen = toy.batches(512, seed=seed+77)[0],torch.Generator().manual_seed(seed)
    ci = dm.ci(x).lower
    def layer(i): return [k for k in keys if k.site.startswith(f'blocks.{i}.')]
    some = [[rest[i] for i in torch.randperm(len(rest), generator=gen)[:len(keys)].tolist()] for _ in range(draws)]
    with seeded(seed): cases = dict(ci=[ci_masks(ci)], stochastic=[stochastic_masks(ci)], only=[only_masks(dm, keys)],
        without=[without_masks(dm, keys)], without_layer_0=[without_masks(dm, layer(0))],
        without_layer_1=[without_masks(dm, layer(1))], without_random_others=[without_masks(dm, k) for k in some],
        without_all_others=[without_masks(dm, rest)], unmasked=[only_masks(dm, keys+rest)])
    def tried(masks):
        got = []
        for m in masks:
            with dm.masked(m): got.append(dict(accuracy=toy.accuracy(x), **toy.scores(x)))
        return pd.DataFrame(got).mean()
    row = dict(target=pd.Series(dict(accuracy=toy.accuracy(x), **toy.scores(x)))) | {k:tried(m)
        for k,m in cases.items()}
    return dict(heads=len(keys), others=len(rest)) | {f'{what}/{k}':r[what]
        for what in ('accuracy','previous','induction') for k,r in row.items()}

@torch.no_grad()
def fact_evidence(dm, seed, draws=20):
    """Facts that have components of their own, and what is recalled without the components that fire on a fact and on
    no other; without as many of other facts, drawn at random, for comparison"""
    toy,facts = dm.target,torch.arange(dm.target.spec['n'])
    fires = {s:g>.1 for s,g in dm.ci(toy.keys).lower.items()}  # facts components
    own = {s:f&(f.sum(0)==1) for s,f in fires.items()}
    def recalled(keys):
        with dm.masked(without_masks(dm, keys)): return toy(toy.keys),toy.recalled(toy.keys)==facts
    ref,gen = toy(toy.keys),torch.Generator().manual_seed(seed)
    def of(i, where=own): return [Key(s, c) for s,f in where.items() for c in f[i].nonzero()[:,0].tolist()]
    rows = []
    for i in facts.tolist():
        keys,others = of(i),[k for j in facts.tolist() if j!=i for k in of(j)]
        rest = facts!=i
        def lost(keys):
            out,right = recalled(keys)
            change = (out-ref).norm(dim=1)
            return dict(kept=right[i].item(), others_kept=right[rest].float().mean().item(), change=change[i].item(),
                others_change=change[rest].mean().item(), others_most=change[rest].max().item())
        some = [[others[j] for j in torch.randperm(len(others), generator=gen)[:len(keys)].tolist()]
            for _ in range(draws)]
        rows.append(lost(keys) | {f'random_{k}':v for k,v in pd.DataFrame(map(lost, some)).mean().items()})
    return dict(recalled=(toy.recalled(toy.keys)==facts).sum().item(),
        **{f'own/{s}':int(f.any(1).sum()) for s,f in own.items()},
        own_both=int(torch.stack([f.any(1) for f in own.values()]).all(0).sum()),
        **{f'fires/{s}':int(f.any(0).sum()) for s,f in fires.items()},
        **{f'per_fact/{s}':f.sum(1).float().mean().item() for s,f in fires.items()},
        **{f'facts/{k}':v for k,v in pd.DataFrame(rows).astype(float).mean().items()})

def measured(dm, seed):
    "Every number of the table, for one decomposition"
    toy,spec = dm.target,dm.target.spec
    if isinstance(toy, InductionHead): return induction_evidence(dm, seed)
    if isinstance(toy, KeyValueMLP): return fact_evidence(dm, seed)
    ci = dm.ci(one_hots(spec['n'])).lower
    evals = evaluate(dm, toy.batches(4096, seed=seed+77), 4)
    living = alive(spectrum(evals))
    row = {f'alive/{s}':int(living.norm[s]) for s in dm.sites} | {f'fires/{s}':int((g>.1).any(0).sum())
        for s,g in ci.items()}
    if isinstance(toy, TMS):
        W,cs = toy.linear1.weight,dm.at('linear1')
        row |= dict(zip(('mmcs','mmcs_sd','ml2r','ml2r_sd'), (*mmcs(W, cs), *ml2r(W, cs)))) | dict(off=columns(W,
            cs).off.max())
        row |= dict(identity_error=max(identity_error(ci[s]) for s in ('linear1','linear2')))
        if 'hidden' in ci: row |= dict(dense_error=dense_error(ci['hidden'], spec['d']))
    else:
        n = neuron_contributions(dm)
        row |= dict(r=n.r, slope=n.slope,
            identity_error=max(identity_error(g) for s,g in ci.items() if s.endswith('mlp_in')))
    table = mask_table(evals)
    return row | {f'mse/{k}':table.mse[k] for k in ('unmasked','stochastic','ci','zero')}

def figures(dm, path):
    "Importances on one-hot probes as bytes, and for residual MLPs the neuron contributions"
    if isinstance(dm.target, InductionHead): return
    probes = dm.target.keys if isinstance(dm.target, KeyValueMLP) else one_hots(dm.target.spec['n'])
    arrays = {f'ci/{s}':(g.clamp(0, 1)*255).round().byte().numpy() for s,g in dm.ci(probes).lower.items()}
    if isinstance(dm.target, ResidMLP):
        n = neuron_contributions(dm)
        arrays |= dict(target=n.target.half().numpy(), parts=n.parts.half().numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)

def run(name, seed, out):
    "Train (or go on with, or open) one decomposition and measure it"
    e,path = EXPERIMENTS[name],out/f'{name}-{seed}'
    about = dict(experiment=name, seed=seed, steps=e['steps'], batch=e['batch'],
        sigmoid=e.get('lower', lower_leaky_linear).__name__)
    if not (path/'saved').exists():
        dm,loss = start(e, seed)
        clock = time.process_time()
        init = measured(dm, seed)
        fit(dm, dm.target.batches(e['batch'], seed=seed+1000, **e.get('merge', dict(merge=True))),
            e['losses'](dm.target), e['steps'], e['lr'], e.get('schedule', quarter_cosine), e.get('warm', 0),
            seed=seed, path=path, resume=True, every=500, save_every=2000, view=e.get('view'))
        if t := e.get('then'): fit(dm, dm.target.batches(e['batch'], seed=seed+2000, merge=True),
            t['losses'](dm.target), t['steps'], t['lr'], cosine, seed=seed, path=path/'then', resume=True, every=500,
            save_every=2000)
        dm.training_run |= dict(target_loss=loss, cpu_minutes=(time.process_time()-clock)/60,
            init={k:init[k] for k in ('mmcs','mmcs_sd','ml2r','ml2r_sd','off') if k in init})
        save(dm, path/'saved')
    dm = load(path/'saved')
    figures(dm, FIGURES/f'{name}-{seed}.npz')
    if name in SHIPPED and seed==0: shutil.copytree(path/'saved', root/'data'/'toys'/name, dirs_exist_ok=True)
    t = dm.training_run
    norms = dm.target.linear1.weight.norm(dim=0) if isinstance(dm.target, TMS) else None
    gate = {} if norms is None else dict(target_min_norm=norms.min().item(), target_max_norm=norms.max().item())
    tail = dm.history[-len(dm.history)//10:]
    return about | dict(C=max(dm.C.values()), target_loss=t["target_loss"], cpu_minutes=t["cpu_minutes"],
        loss=sum(r["total"] for r in tail)/len(tail)) | gate | measured(dm, seed) | {f'init/{k}':v
        for k,v in t['init'].items()}

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--only', default='*', help='experiments, as a glob')
    p.add_argument('--seeds', type=int, action='append', help='seeds; default: those of the table')
    p.add_argument('--out', type=Path, default=root/'runs'/'toys', help='where runs and their checkpoints are')
    p.add_argument('--finished', action='store_true', help='measure finished runs only')
    p.add_argument('--again', action='store_true', help='also run what the table has already')
    a = p.parse_args()
    torch.set_num_threads(1)
    for name,e in EXPERIMENTS.items():
        if not fnmatch.fnmatch(name, a.only): continue
        for seed in a.seeds or e['seeds']:
            saved = (a.out/f'{name}-{seed}'/'saved').exists()
            if a.finished and not saved: continue
            if (RESULTS.exists() and not (saved or a.again)
                    and ((t := pd.read_csv(RESULTS)).experiment.eq(name)&t.seed.eq(seed)&t.steps.eq(e['steps'])).any()):
                continue
            row = run(name, seed, a.out)
            print(json.dumps(row, indent=1), flush=True)
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            old = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=['experiment','seed'])
            rows = pd.concat([old[~((old.experiment==name)&(old.seed==seed))], pd.DataFrame([row])])
            rows['order'] = rows.experiment.map(list(EXPERIMENTS).index)
            rows.sort_values(['order','seed']).drop(columns='order').to_csv(RESULTS, index=False, float_format='%.6g')
