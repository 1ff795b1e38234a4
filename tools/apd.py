"""Attribution-based decompositions of toys, and the three methods side by side: `make apd ARGS=tms`, or
   python tools/apd.py tms       (TMS 5-2 and 40-10 by APD, several seeds)
   python tools/apd.py sweep     (TMS 5-2 with other numbers of components in use)
   python tools/apd.py identity  (TMS 5-2 with a matrix in between that every feature goes through)
   python tools/apd.py resid     (a residual MLP of one layer, and what scrubbing does to it)
   python tools/apd.py methods   (APD, SPD and VPD on TMS 5-2: what each gets, and how soon)
Runs go on where they stopped; results go into data/results/apd*.csv, and the log says how to read them."""
import argparse, shutil, tempfile, time
from functools import partial
from pathlib import Path
import pandas as pd, torch
import spd_nb as spd
from spd_nb.adversary import PersistentPGD, shared
from spd_nb.apd import apd_losses, component_matrices, decompose_apd, scrub
from spd_nb.ci import SharedCI
from spd_nb.core import atomic
from spd_nb.ground_truth import columns, neuron_contributions
from spd_nb.initialisation import aligned
from spd_nb.losses import constant, cosine, quarter_cosine, warmed
from spd_nb.measures import mse
from spd_nb.model import decompose
from spd_nb.objectives import smooth_sparse, spd_losses, vpd_losses
from spd_nb.sigmoids import lower_leaky_linear
from spd_nb.toys import ResidMLP, TMS, fit_toy

root = Path(__file__).resolve().parent.parent
RESULTS,RUNS = root/'data'/'results',root/'runs'/'apd'

def write(name, rows, keys):
    "Put rows into a table of results, in place of those with the same keys"
    path,df = RESULTS/name,pd.DataFrame(rows)
    if path.exists(): df = pd.concat([pd.read_csv(path), df]).drop_duplicates(keys, keep='last', ignore_index=True)
    with atomic(path) as f: df.sort_values(keys).to_csv(f, float_format='%.5g', index=False)
    print(df.tail(len(rows)).to_string(index=False), flush=True)

# what the paper's table has, and its settings
TOYS = {
    'tms_5-2': dict(n=5, d=2, target=dict(steps=5000, batch=1024), components=5, k=.211, lr=.03, schedule=constant,
        losses=dict(minimality=1., simplicity=.7, p=1.)),
    'tms_40-10': dict(n=40, d=10, target=dict(steps=2000, batch=2048), components=50, k=1., lr=1e-3, schedule=cosine,
        losses=dict(minimality=10., simplicity=20., p=.9)),
    # their code's settings differ from their text's: as many components in use as features are active
    'tms_40-10_config': dict(n=40, d=10, target=dict(steps=2000, batch=2048), components=50, k=2., lr=1e-3,
        schedule=cosine, losses=dict(minimality=10., simplicity=15., p=.9)),
    # as many as get through the ReLU
    'tms_40-10_through': dict(n=40, d=10, target=dict(steps=2000, batch=2048), components=50, k=1.41, lr=1e-3,
        schedule=cosine, losses=dict(minimality=10., simplicity=15., p=.9))}

def tms(name, seed, steps=20_000, batch=2048, tag='', **other):
    "Train (or go on with, or open) an APD of a TMS model"
    e = TOYS[name]|other
    path = RUNS/f'{name}{tag}-{seed}'
    if not (path/'saved').exists():
        toy = TMS(e['n'], e['d'], identity=e.get('identity', False), seed=seed)
        fit_toy(toy, lr=5e-3, seed=seed, **e['target'])
        sites = ['linear*', 'hidden'] if e.get('identity') else 'linear*'
        dm = decompose_apd(toy, sites, e['components'], e['k'], tied={'linear2':'linear1'}, seed=seed,
            of_components=e.get('of_components', False))
        clock = time.process_time()
        spd.fit(dm, toy.batches(batch, seed=seed+1000), apd_losses(**e['losses']), steps, e['lr'],
            partial(warmed, share=.05, then=e['schedule']), seed=seed, path=path, resume=True, every=500,
            save_every=2000)
        dm.training_run |= dict(cpu_minutes=(time.process_time()-clock)/60)
        spd.save(dm, path/'saved')
    return spd.load(path/'saved')

def figures(dm, seed, on=2048):
    "What a decomposition of a TMS model found"
    toy,cs,n = dm.target,dm.at('linear1'),dm.ci_fn.n
    found,W = columns(toy.linear1.weight, cs, n=n),toy.linear1.weight
    x = toy.batches(on, seed=seed+77)[0]
    gates = dm.ci_fn.gates(dm, x)
    sizes = component_matrices(dm)['linear1'].flatten(1).norm(dim=1)
    rank = torch.linalg.svdvals(component_matrices(dm)['linear1']).detach()
    errors = scrub(dm, toy.batches(on, seed=seed+78), 4).mean()
    tail = pd.DataFrame(dm.history).tail(5).mean()
    return dict(mmcs=found.cos.mean(), mmcs_sd=found.cos.std(), ml2r=found.ratio.mean(), ml2r_sd=found.ratio.std(),
        off=found.off.max(), distinct=found.c.nunique(), alive=int((sizes>.1*sizes.max()).sum()),
        second_singular=(rank[:,1]/rank[:,0])[sizes>.1*sizes.max()].max().item(),
        active=gates.sum(1).mean().item(), features_on=(x>0).sum(1).float().mean().item(),
        equal=(gates.sum(1)==(x>0).sum(1)).float().mean().item(),
        least_weight=W.norm(dim=0).min().item(), faithfulness=tail.faithfulness, minimality=tail.minimality,
        simplicity=tail.simplicity, **{f'mse_{k}':v for k,v in errors.items()},
        cpu_minutes=dm.training_run['cpu_minutes'])

def all_tms():
    of_components()
    for name,seeds in (('tms_5-2', range(3)), ('tms_40-10', range(1)), ('tms_40-10_through', range(2)),
            ('tms_40-10_config', range(2))):
        for seed in seeds:
            dm = tms(name, seed)
            write('apd.csv', [dict(toy=name, seed=seed)|figures(dm, seed)], ['toy','seed'])
            if (name,seed)==('tms_5-2',0):
                shutil.copytree(RUNS/f'{name}-0'/'saved', root/'data'/'toys'/'apd_5-2', dirs_exist_ok=True)

def of_components():
    "TMS 5-2 with attributions of the components' own run, as the paper has it there"
    for seed in range(3):
        dm = tms('tms_5-2', seed, tag='_own', of_components=True)
        write('apd.csv', [dict(toy='tms_5-2_own', seed=seed)|figures(dm, seed)], ['toy','seed'])

def sweep():
    "Other numbers of components in use; .25 is the average number of active features"
    for k,seeds in {.05:1, .1:1, .211:3, .25:3, .4:1, .8:1}.items():
        for seed in range(seeds):
            dm = tms('tms_5-2', seed, **({} if k==.211 else dict(tag=f'_k{k:g}', k=k)))
            write('apd_k.csv', [dict(k=k, seed=seed)|figures(dm, seed)], ['k','seed'])

def identity():
    "A matrix that every feature goes through: five components, or two more and as many more in use"
    for n,k in ((5,.211), (7,.65)):
        dm = tms('tms_5-2', 0, tag=f'_id{n}', components=n, k=k, identity=True)
        sizes = component_matrices(dm)['hidden'].flatten(1).norm(dim=1)
        write('apd_identity.csv', [dict(components=n, k=k)|figures(dm, 0)|dict(hidden_sizes=' '.join(f'{s:.2f}'
            for s in sizes))], ['components'])

# a residual MLP

def narrowed(toy):
    "The same function in a residual stream as wide as there are features: what lies outside of their span does nothing"
    small = ResidMLP(toy.spec['n'], toy.spec['n'], toy.spec['d_mlp'], seed=toy.spec['seed'])
    values,Q = torch.linalg.eigh(toy.W_E.double()@toy.W_E.double().T)
    root_of = Q@values.sqrt().diag()@Q.T  # its products are those of the embeddings
    basis = torch.linalg.solve(root_of, toy.W_E.double())  # n d, orthonormal rows
    with torch.no_grad():
        small.W_E.copy_(root_of)
        small.layers[0].mlp_in.weight.copy_(toy.layers[0].mlp_in.weight.double()@basis.T)
        small.layers[0].mlp_out.weight.copy_(basis@toy.layers[0].mlp_out.weight.double())
    x = toy.batches(256, seed=5)[0]
    assert (small(x)-toy(x)).abs().max()<1e-5, "the narrow model computes something else"
    return small.eval().requires_grad_(False)

def resid(seed=0, steps=10_000, batch=256, n=130, k=1.28):
    "Train (or go on with, or open) an APD of a residual MLP of one layer and 1,000 dimensions, and scrub it"
    path = RUNS/f'resid_1-{seed}'
    toy = ResidMLP(100, 1000, 50, 1, seed=seed)
    if not (path/'saved').exists():
        fit_toy(toy, 1000, 2048, lr=3e-3, cosine=True, seed=seed)
        dm = decompose_apd(narrowed(toy), '*mlp_*', n, k, seed=seed)
        # faithfulness and simplicity are divided by the number of weights, of which there are ten times fewer
        losses = apd_losses(1., 10./10, .9, 1/10, acts=1., acts_of='*mlp_in')
        clock = time.process_time()
        spd.fit(dm, toy.batches(batch, seed=seed+1000), losses, steps, 1e-3, partial(warmed, share=.01, then=cosine),
            seed=seed, path=path, resume=True, every=250, save_every=500)
        dm.training_run |= dict(cpu_minutes=(time.process_time()-clock)/60)
        spd.save(dm, path/'saved')
    dm = spd.load(path/'saved')
    toy,found = dm.target,neuron_contributions(dm, n)
    batches = toy.batches(256, seed=seed+78)
    errors = scrub(dm, batches, 16)
    x = torch.cat([batches[i] for i in range(16)])
    with torch.no_grad():
        out,gates = toy(x),torch.cat([dm.ci_fn.gates(dm, batches[i]) for i in range(16)])
        half = x+torch.relu(x)*(torch.arange(100)<50)  # one neuron per feature for half of the features, and no others
        errors['half_of_the_features'] = (half-out).square().mean(1).tolist()
        errors['no_components'] = (x@toy.W_E@toy.W_E.T-out).square().mean(1).tolist()
    ranks = torch.linalg.svdvals(component_matrices(dm)['layers.0.mlp_in']).detach()
    used = ranks[:,0]>.1*ranks[:,0].max()
    tail = pd.DataFrame(dm.history).tail(5).mean()
    on = (x!=0).sum(1)
    write('apd_resid.csv', [dict(seed=seed, steps=steps, batch=batch, r=found.r, slope=found.slope,
        alive=int(used.sum()), effective_rank=(ranks.square().sum(1)/ranks[:,0].square())[used].mean().item(),
        distinct=found.c[0].unique().numel(), active=gates.sum(1).mean().item(),
        features_on=on.float().mean().item(), equal=(gates.sum(1)==on).float().mean().item(),
        faithfulness=tail.faithfulness, minimality=tail.minimality, activations=tail.activations,
        **{f'mse_{name}':v for name,v in errors.mean().items()}, cpu_minutes=dm.training_run['cpu_minutes'])],
        ['seed','steps'])
    edges = torch.logspace(-7, -1, 49).tolist()
    counts = {name:pd.cut(errors[name].clip(edges[0]*1.01, edges[-1]*.99), edges).value_counts(sort=False).tolist()
        for name in ('top_k','scrubbed','anti_scrubbed','half_of_the_features')}
    write('apd_resid_scrub.csv', pd.DataFrame(dict(seed=seed, steps=steps, low=edges[:-1], high=edges[1:], **counts)),
        ['seed','steps','low'])

# the three methods on one toy

def _settings(method, toy, seed):
    "A fresh decomposition, its batches, and how it is trained, by method; steps for about the same CPU time"
    if method=='APD':
        e = TOYS['tms_5-2']
        dm = decompose_apd(toy, 'linear*', 5, e['k'], tied={'linear2':'linear1'}, seed=seed)
        return dm,toy.batches(2048, seed=seed+1000),dict(losses=apd_losses(**e['losses']), lr=e['lr'],
            schedule=partial(warmed, share=.05)),5
    # with the papers' 20 components, either method merges two features for one of three seeds
    if method=='SPD':
        dm = decompose(toy, {'linear*':40}, tied={'linear2':'linear1'}, init=aligned, lower=lower_leaky_linear,
            seed=seed)
        return dm,toy.batches(1024, seed=seed+1000, merge=True),dict(losses=spd_losses(3e-3, 1.), lr=1e-3,
            schedule=quarter_cosine),None
    dm = decompose(toy, {'linear*':40}, partial(SharedCI, hidden=50), tied={'linear2':'linear1'}, seed=seed)
    foe = PersistentPGD(2, .01, scope=shared, schedule=partial(warmed, share=.025))
    losses = vpd_losses(faith=1., measure=mse, adversary=foe) | dict(sparsity=(8e-4, partial(smooth_sparse, beta=.5)))
    return dm,toy.batches(1024, seed=seed+1000, merge=True),dict(losses=losses, lr=1e-3,
        schedule=partial(cosine, floor=.1), warm=200),None

STEPS = dict(APD=30_000, SPD=22_000, VPD=14_000)  # about 150 CPU seconds each

def course(method, seed):
    "What a method has found after every thousandth step of a run, with the CPU time so far"
    toy = TMS(5, 2, seed=seed)
    fit_toy(toy, 5000, lr=5e-3, seed=seed)
    dm,batches,how,n = _settings(method, toy, seed)
    start,spent = time.process_time(),0.
    def found(dm):
        nonlocal start,spent
        spent += time.process_time()-start  # the looking itself does not count
        cs = dm.at('linear1')
        # among all components, as the papers look for them, and among those still alive
        f,live = columns(toy.linear1.weight, cs, n=n),columns(toy.linear1.weight, cs, above=.1, n=n)
        sizes = (cs.V.T[:,:,None]*cs.U[:,None,:]).unflatten(0, (n or cs.C, -1)).sum(1).flatten(1).norm(dim=1)
        row = dict(cpu_seconds=spent, mmcs=f.cos.mean(), ml2r=f.ratio.mean(), live_mmcs=live.cos.mean(),
            least_cos=live.cos.min(), live_ml2r=live.ratio.mean(), off=live.off.max(),
            alive=int((sizes>.1*sizes.max()).sum()), distinct=live.c.nunique())
        start = time.process_time()
        return row
    run = spd.fit(dm, batches, steps=STEPS[method], seed=seed, path=tempfile.mkdtemp(), progress=False, every=1000,
        evaluate=found, evaluate_every=1000, **how)
    path = RUNS/f'{method.lower()}_5-2-{seed}'/'saved'
    spd.save(dm, path)
    if seed==0 and method!='APD':  # APD's ships with the paper's number of steps
        shutil.copytree(path, root/'data'/'toys'/f'{method.lower()}_5-2', dirs_exist_ok=True)
    kept = ('step','cpu_seconds','mmcs','ml2r','live_mmcs','least_cos','live_ml2r','off','alive','distinct',
        'faithfulness','l0')
    return [dict(method=method, seed=seed)|{k:r[k] for k in kept} for r in run.history]

def methods():
    path = RESULTS/'apd_methods.csv'
    for seed in range(3):
        for method,steps in STEPS.items():
            done = pd.read_csv(path) if path.exists() else pd.DataFrame(dict(method=[], seed=[], step=[]))
            if not ((done.method==method)&(done.seed==seed)&(done.step==steps-1)).any():
                write('apd_methods.csv', course(method, seed), ['method','seed','step'])

if __name__=='__main__':
    jobs = dict(tms=all_tms, sweep=sweep, identity=identity, resid=resid, methods=methods)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('job', choices=jobs, nargs='+')
    torch.set_num_threads(1)
    for job in p.parse_args().job: jobs[job]()
