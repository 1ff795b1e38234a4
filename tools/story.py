"""Train the story model and decompose it: `make story ARGS=target`, or
   python tools/story.py target                        (the language model, into data/story)
   python tools/story.py run 'sparsity_2e-03' ...      (decompositions, into runs/story; each resumes where it stopped)
What a run amounts to goes into data/results/story.csv."""
import argparse, fnmatch, json, time
from functools import partial
from pathlib import Path
import pandas as pd, torch
from safetensors.torch import load_file, save_file
from spd_nb.ci import SharedCI, TransformerCI
from spd_nb.core import Key, seeded
from spd_nb.eval import alive, auc, l0, mask_table, mean_over, pgd_ladder, spectrum, steps_of, without
from spd_nb.lms import StoryLM, by_role, fit_lm, linear_sites
from spd_nb.losses import cosine, kl
from spd_nb.masks import PersistentPGD
from spd_nb.model import decompose, load, save
from spd_nb.stories import stories, story_rows, vocabulary
from spd_nb.train import fit, vpd_losses

root = Path(__file__).resolve().parent.parent
TARGET = root/'runs'/'story'/'target'
RESULTS = root/'data'/'results'/'story.csv'
SITES = {'*self_attn.*_proj':80, '*mlp.*_proj':160}

def vpd(sparsity=2e-3, steps=10_000, lr=2e-3, batch=8, seq=128, hidden=128, beta=.5, p=(2.,.4), stoch=.5, adv=.5, faith=1e4, inner=1, adv_lr=.05, sites=SITES, ci=SharedCI):
    return dict(sites=sites, ci=partial(ci, hidden=hidden), steps=steps, lr=lr, batch=batch, seq=seq, sparsity=sparsity,
        losses=lambda: vpd_losses(sparsity, beta, p, stoch, adv, faith, adversary=PersistentPGD(inner, adv_lr)))

RUNS = {f'sparsity_{s:.0e}':vpd(s) for s in (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)}
RUNS |= {f'short_{s:.0e}':vpd(s, steps=4000) for s in (1e-3, 2e-3, 4e-3)}

def target():
    "The trained story model; its cross-entropy per role beside the world's entropy"
    model = StoryLM(d=64, d_mlp=256, seed=0)
    if (TARGET/'model.safetensors').exists(): model.load_state_dict(load_file(TARGET/'model.safetensors'))
    else:
        clock = time.process_time()
        losses = fit_lm(model, stories(16, 128, seed=1), steps=12_000)
        TARGET.mkdir(parents=True, exist_ok=True)
        save_file({k:v.contiguous() for k,v in model.state_dict().items() if k!='lm_head.weight'} | {'lm_head.weight':model.lm_head.weight.clone()}, TARGET/'model.safetensors')
        pd.DataFrame(dict(step=range(len(losses)), loss=losses)).to_parquet(TARGET/'history.parquet')
        known = by_role(model, story_rows(128, 128, seed=99))
        known.to_csv(TARGET/'roles.csv', float_format='%.5g')
        print(known.round(4).to_string(), f'{(time.process_time()-clock)/60:.1f} CPU minutes', sep='\n')
    return model.eval().requires_grad_(False)

def roles_of(rows): return [[t.role for t in r] for r in rows]

@torch.no_grad()
def measured(dm, rows=96):
    "Every number of the table, on held-out stories"
    batches = stories(16, 128, seed=77, held_out=True)
    steps = steps_of(dm, batches, 6)
    table = mask_table(steps, kl, ce=True)
    spec = spectrum(steps)
    living = alive(spec)
    count = mean_over(lambda o: torch.tensor([sum(l0(o.ci.lower, 0.).values()), sum(l0(o.ci.lower).values())]), steps)
    row = {f'kl/{k}':v for k,v in table.kl.items()} | {f'ce/{k}':v for k,v in table.ce_difference.items()}
    row |= {'l0':count[0].item(), 'l0/.1':count[1].item(), 'alive':int(living.mean_ci.sum()), 'fires':int(living.fires.sum()), 'C':int(living.C.sum())}
    with torch.enable_grad(): row |= {f'pgd/{n}':v for n,v in pgd_ladder(steps[0], kl, (20,40,80,160,320)).items()}
    told = story_rows(rows, 128, seed=78, held_out=True)
    ids = {t:i for i,t in enumerate(vocabulary())}
    ci = dm.ci(torch.tensor([[ids[t.text] for t in r] for r in told])).lower
    flat = torch.cat([g[:,:-1].flatten(0,1) for g in ci.values()], 1)
    keys = [str(Key(s, c)) for s,g in ci.items() for c in range(g.shape[-1])]
    best = []
    for side,cut in (('fires on',slice(0,-1)),('before',slice(1,None))):
        names = [r for row in roles_of(told) for r in row[cut]]
        seen = [r for r,n in pd.Series(names).value_counts().items() if n>=20]
        a = auc(flat, torch.tensor([[n==r for r in seen] for n in names]))
        best += [dict(role=r, side=side, auc=a[:,j].max().item(), key=keys[int(a[:,j].argmax())]) for j,r in enumerate(seen)]
    best = pd.DataFrame(best)
    carried = best.groupby('role').auc.max()
    return row | {'roles':int((carried>=.95).sum()), 'of_roles':len(carried)},best

def run(name, out):
    "Train (or go on with, or open) one decomposition and measure it"
    e,path = RUNS[name],out/name
    if not (path/'saved').exists():
        dm = decompose(target(), e['sites'], e['ci'])
        clock = time.process_time()
        fit(dm, stories(e['batch'], e['seq'], seed=1000), e['losses'](), e['steps'], e['lr'], partial(cosine, floor=.1), 400, clip=1., path=path, resume=True, every=100, save_every=500)
        dm.training_run |= dict(cpu_minutes=(time.process_time()-clock)/60)
        save(dm, path/'saved')
    dm = load(path/'saved')
    row,best = measured(dm)
    best.to_csv(path/'roles.csv', index=False, float_format='%.4g')
    print(json.dumps(row, indent=1), best.sort_values('auc', ascending=False).to_string(), sep='\n', flush=True)
    return dict(experiment=name, steps=e['steps'], sparsity=e['sparsity'], cpu_minutes=dm.training_run['cpu_minutes']) | row

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=['target','run'])
    p.add_argument('names', nargs='*', help='runs, as globs')
    p.add_argument('--out', type=Path, default=root/'runs'/'story', help='where runs and their checkpoints are')
    a = p.parse_args()
    torch.set_num_threads(1)
    if a.what=='target': target()
    for name in RUNS:
        if a.what=='target' or not any(fnmatch.fnmatch(name, n) for n in a.names): continue
        row = run(name, a.out)
        old = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=['experiment'])
        pd.concat([old[old.experiment!=name], pd.DataFrame([row])]).to_csv(RESULTS, index=False, float_format='%.6g')
