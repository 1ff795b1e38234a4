"""Train the story model, decompose it and a model from elsewhere, and measure what came of it:
`make story ARGS=target`, or
   python tools/story.py target                     (the language model, into runs/story/target)
   python tools/story.py run 'sparsity_*' converged (decompositions, into runs/story; each resumes where it stopped)
   python tools/story.py ship converged             (one of them into data/story, with its target and trust report)
   python tools/story.py evidence                   (harvest and labels of what ships, into data/story/harvest)
What a run amounts to goes into data/results/story*.csv. `run stories260K` needs that model and its texts in ../shared."""  # noqa: E501
import argparse, fnmatch, json, shutil, time
from collections.abc import Callable
from functools import partial
from pathlib import Path
import pandas as pd, torch
from safetensors.torch import load_file, save_file
from spd_nb.autointerp import label_evidence
from spd_nb.ci import TransformerCI
from spd_nb.core import atomic
from spd_nb.data import tokens
from spd_nb.keys import Key
from spd_nb.eval import (
    alive, evaluate, mask_table, mean_over, pgd_ladder, report, single_ablations, spectrum, without_masks)
from spd_nb.ground_truth import auc
from spd_nb.harvest import harvest
from spd_nb.lms import StoryLM, by_role, fit_lm, load_lm
from spd_nb.losses import cosine
from spd_nb.adversary import PersistentPGD, shared
from spd_nb.measures import kl, l0
from spd_nb.model import decompose, load, save
from spd_nb.objectives import Adversarial, vpd_losses
from spd_nb.scoring import ablation_effect, questions, score, held_out
from spd_nb.stories import stories, story_rows, vocabulary
from spd_nb.train import fit

root = Path(__file__).resolve().parent.parent
OUT,RESULTS,SHIPPED = root/'runs'/'story',root/'data'/'results',root/'data'/'story'
STORIES260K,CORPORA = root.parent/'shared'/'targets'/'stories260K',root.parent/'shared'/'corpora'
IDS = {t:i for i,t in enumerate(vocabulary())}

def put(name, key, row):
    "Put a row into a table of results, in place of an earlier one"
    path = RESULTS/name
    old = pd.read_csv(path, dtype={key:str}) if path.exists() else pd.DataFrame(columns=[key])
    with atomic(path) as f:
        pd.concat([old[old[key]!=row[key]], pd.DataFrame([row])]).sort_values(key).to_csv(f, index=False,
            float_format='%.6g')

# targets and their texts

def target(steps=24_000):
    "The trained story model; its cross-entropy per role beside the world's entropy"
    model,path = StoryLM(d=64, d_mlp=256, seed=0),OUT/'target'/'model.safetensors'
    if path.exists(): model.load_state_dict(load_file(path))
    else:
        clock = time.process_time()
        losses = pd.Series(fit_lm(model, stories(16, 128, seed=1), steps))
        if len(losses)<steps: raise SystemExit('stopped; a target trained halfway is not kept')
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as f: save_file({k:v.clone().contiguous() for k,v in model.state_dict().items()}, f)
        known = by_role(model, story_rows(256, 128, seed=99))
        known.to_csv(RESULTS/'story_target_roles.csv', float_format='%.5g')
        curve = losses.groupby(losses.index//100).mean()
        pd.DataFrame(dict(step=curve.index*100+50, loss=curve)).to_csv(RESULTS/'story_target_history.csv', index=False,
            float_format='%.5g')
        print(known.round(4).to_string(), f'{(time.process_time()-clock)/60:.1f} CPU minutes', sep='\n')
    return model.eval().requires_grad_(False)

def told(batch, seed, held_out=False): return stories(batch, 128, seed, held_out)

def of_stories260K(batch, seed, held_out=False):
    return tokens(CORPORA/f"stories260K-{'eval' if held_out else 'train'}.parquet", batch//2, 256, seed=seed)

# runs

SITES = {'*self_attn.*_proj':80, '*mlp.*_proj':160}

def vpd(sparsity=2e-3, steps=6000, lr=4e-3, batch=4, beta=.5, p=(2.,.4), stoch=.5, adv=.5, faith=1e4, inner=1,
    adv_lr=.05, seed=0,
    ci=partial(TransformerCI, d=128, blocks=2), target=target, sites=SITES, texts=told, losses:Callable=lambda l: l):
    "What a run needs; `losses` may exchange some"
    return dict(target=target, sites=sites, ci=ci, texts=texts, steps=steps, lr=lr, batch=batch, sparsity=sparsity,
        seed=seed, losses=lambda: losses(vpd_losses(sparsity, beta, p, stoch, adv, faith,
            adversary=PersistentPGD(inner, adv_lr))))

RUNS = {f'sparsity_{s:.0e}':vpd(s) for s in (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)}
RUNS['converged'] = vpd(2e-3, steps=20_000)
RUNS |= {f'seed_{s}':vpd(2e-3, steps=20_000, seed=s) for s in (1, 2, 3)}  # `converged` again, from other random numbers
RUNS['steady'] = vpd(2.2e-3, steps=24_000, inner=0,
    losses=lambda l: l|dict(shared_adversarial=(.25, Adversarial(PersistentPGD(0, .05, scope=shared), kl))))
foreign = partial(vpd, lr=2e-3, target=lambda: load_lm(STORIES260K).model, texts=of_stories260K,
    sites={f'*{s}_proj':C for C,names in {80:('q','o','gate','up','down'), 40:('k','v')}.items() for s in names})
RUNS |= {'stories260K':foreign(2e-4, steps=2000), 'stories260K_long':foreign(3e-4, steps=12_000)}

def run(name, out):
    "Train (or go on with, or open) one decomposition and measure it"
    e,path = RUNS[name],out/name
    if not (path/'saved').exists():
        dm = decompose(e['target'](), e['sites'], e['ci'], seed=e['seed'])
        clock = time.process_time()
        fit(dm, e['texts'](e['batch'], 1000+e['seed']), e['losses'](), e['steps'], e['lr'], partial(cosine, floor=.1),
            warm=400, warm_lr=1e-2, warm_decay=.1, clip=1., path=path, resume=True, every=100, save_every=500,
            seed=e['seed'])
        if dm.training_run['stopped_at']<e['steps']:
            raise SystemExit(f'{name} stopped; the same call goes on, and nothing is measured before the end')
        dm.training_run |= dict(cpu_minutes=(time.process_time()-clock)/60)
        report(dm, e['texts'](8, 76, True), kl, n=8)
        save(dm, path/'saved')
    dm = load(path/'saved')
    row = dict(experiment=name, steps=e['steps'], batch=e['batch'], sparsity=e['sparsity'],
        cpu_minutes=dm.training_run['cpu_minutes'], verdict=dm.report['verdict'])
    row |= measured(dm, e['texts'](8, 77, True))
    if e['target'] is target:
        best = carried(dm)
        best.to_csv(path/'roles.csv', index=False, float_format='%.4g')
        clear = best.groupby('role')[['auc','untrained']].max()>=.95
        row |= dict(roles=int(clear.auc.sum()), roles_untrained=int(clear.untrained.sum()), of_roles=len(clear))
    put('story.csv', 'experiment', row)
    print(json.dumps(row, indent=1), flush=True)
    if e['target'] is target:
        sharp = sharpness(dm)
        sharp.to_csv(path/'sharpness.csv', index=False, float_format='%.4g')
        print(sharp.round(3).to_string(), flush=True)

# measures, all on held-out text

@torch.no_grad()
def measured(dm, batches, ladder=(20,40,80,160,320)):
    "KL and cross-entropy under six maskings, L0, living components, the adversary's ladder"
    evals = evaluate(dm, batches, 12)
    table,living = mask_table(evals, kl, ce=True),alive(spectrum(evals))
    count = [mean_over(lambda o: torch.tensor(sum(l0(o.ci.lower, t).values())), evals).item() for t in (0.,.1)]
    row = {f'kl/{k}':v for k,v in table.kl.items()} | {f'ce/{k}':v for k,v in table.ce_difference.items()}
    row |= {'l0':count[0], 'l0/.1':count[1], 'alive':int(living.mean_ci.sum()), 'fires':int(living.fires.sum()),
        'C':int(living.C.sum())}
    with torch.enable_grad(): row |= {f'pgd/{n}':v for n,v in pgd_ladder(evals[0], kl, ladder).items()}
    return row

def ids_of(rows): return torch.tensor([[IDS[t.text] for t in r] for r in rows])

@torch.no_grad()
def carried(dm, rows=96):
    """For each role, as what a component fires on or as what follows: the best component's AUC, and the best of an
    untrained decomposition"""
    rows = story_rows(rows, 128, seed=78, held_out=True)
    fresh = decompose(dm.target, dm.C, partial(type(dm.ci_fn), **{k:v for k,v in dm.ci_fn.spec.items() if k!='kind'}),
        seed=1)
    scores = {name:torch.cat([g[:,:-1].flatten(0,1) for g in d.ci(ids_of(rows)).lower.values()], 1)
        for name,d in dict(trained=dm, untrained=fresh).items()}
    keys = [str(Key(s, c)) for s,C in dm.C.items() for c in range(C)]
    best = []
    for side,cut in (('fires on',slice(0,-1)), ('before',slice(1,None))):
        names = [t.role for r in rows for t in r[cut]]
        seen = [r for r,n in pd.Series(names).value_counts().items() if n>=20]
        labels = torch.tensor([[n==r for r in seen] for n in names])
        trained,untrained = (auc(s, labels) for s in scores.values())
        best += [dict(role=r, side=side, auc=trained[:,j].max().item(), key=keys[int(trained[:,j].argmax())],
            untrained=untrained[:,j].max().item()) for j,r in enumerate(seen)]
    return pd.DataFrame(best)

ROLES = (
    'pron_m pron_f poss_m poss_f obj_m obj_f quote_open quote_close qmark emark emo_eyes emo_mouth nature '
    'moral sayverb colon_msg colon_time hour minute name place thing glad family_m child_m stretch').split()

def chances(dm, seed, rows=24):
    """A function for `single_ablations`: the mean probability of a role's words where they come, and the
    cross-entropy (nats) elsewhere"""
    rows = story_rows(rows, 128, seed=seed, held_out=True)
    toks = ids_of(rows)
    at = {r:torch.tensor([[t.role==r for t in row[1:]] for row in rows]).flatten() for r in ROLES}
    said = {r:sorted({IDS[t.text] for row in rows for t in row if t.role==r}) for r in ROLES}
    def measure():
        logp = dm(toks)[:,:-1].log_softmax(-1).flatten(0,1)
        nll = -logp.gather(-1, toks[:,1:].reshape(-1,1))[:,0]
        return {f'P {r}':logp[at[r]][:,said[r]].exp().sum(-1).mean()
            for r in ROLES} | {f'elsewhere {r}':nll[~at[r]].mean() for r in ROLES}
    return measure

@torch.no_grad()
def sharpness(dm, weight=4., controls=100):
    """What is left of each role's probability without the 1, 3 and 6 components that matter most to it, and without
    random living components of like frequency. Components are ranked on some held-out stories by the relative change
    plus `weight` times the nats it costs elsewhere, and judged on others."""
    effect,judge = single_ablations(dm, chances(dm, 601), progress=False),chances(dm, 602)
    rate = spectrum(evaluate(dm, told(8, 79, True), 8)).set_index('key').rate
    random = single_ablations(dm, judge, rate[rate>0].sample(controls, random_state=0).index, progress=False)
    base,rows = judge(),[]
    for r in ROLES:
        P,elsewhere = base[f'P {r}'].item(),base[f'elsewhere {r}'].item()
        keys = (effect[f'P {r}']/P+weight*effect[f'elsewhere {r}'].clip(lower=0)).nsmallest(6).index
        row = dict(role=r, P=P, keys=' '.join(keys), rate=rate[keys[0]])
        for n in (1,3,6):
            with dm.masked(without_masks(dm, keys[:n])): now = judge()
            row |= {f'change_{n}':now[f'P {r}'].item()/P-1, f'elsewhere_{n}':now[f'elsewhere {r}'].item()-elsewhere}
        like = random[rate[random.index].between(rate[keys[0]]/3, rate[keys[0]]*3)&(random.index!=keys[0])]
        rows.append(row|dict(random=like[f'P {r}'].mean()/P, random_elsewhere=like[f'elsewhere {r}'].mean(),
            randoms=len(like)))
    return pd.DataFrame(rows)

# labels of what ships, against what the generator knows

@torch.no_grad()
def graded_labels(h, labels, rows=160, least=30):
    """Do labels name the role of what a component fires on (`input`) and of what comes next (`output`)? For components
    that fire `least` times in fresh stories: the commonest role there and its share, the role that the label's tokens
    have elsewhere (mean over tokens), and for the output the same from the input label's tokens."""
    told,others = story_rows(rows, 128, seed=4321),story_rows(400, 128, seed=99)
    names = sorted({t.role for r in told+others for t in r})
    role = torch.tensor([[names.index(t.role) for t in r] for r in told])
    has = torch.zeros(len(IDS), len(names))
    for r in others:
        for t in r: has[IDS[t.text],names.index(t.role)] += 1
    has /= has.sum(1, keepdim=True).clamp(min=1)
    on = torch.cat([torch.cat([g[:,:-1].flatten(0,1) for g in h.dm.ci(x).lower.values()], 1)>h.manifest['threshold']
        for x in ids_of(told).split(16)])
    found = []
    for key,l in labels.iterrows():
        here = on[:,h.at(key)]
        if here.sum()<least: continue
        said = {side:has[l[f'{side}_tokens']].mean(0) if l[f'{side}_tokens'] else torch.zeros(len(names))
            for side in ('input','output')}
        for side,true in (('input',role[:,:-1]), ('output',role[:,1:])):
            share = torch.bincount(true.flatten()[here], minlength=len(names))/here.sum()
            r = int(share.argmax())
            found.append(dict(key=key, side=side, n=int(here.sum()), role=names[r], share=share[r].item(),
                said=names[int(said[side].argmax())], said_input=names[int(said['input'].argmax())]))
    return pd.DataFrame(found)

def judged(h, labels, n=50):
    "What a random `n` components that write to the residual stream cause, and how well their labels score"
    w = held_out(h, told(8, 88), 6)
    fired = w.on.sum((0,1))
    can = [k for k in labels.index if k.split(':')[0].endswith(('o_proj','down_proj')) and fired[h.at(k)]>=20]
    rows = []
    for k in pd.Series(can).sample(n, random_state=0):
        l = labels.loc[k].to_dict()
        rows.append(dict(key=k, input_label=l['input_label'], output_label=l['output_label'],
            **ablation_effect(h, w, k, l)._asdict(),
            share_input=ablation_effect(h, w, k, l|dict(output_tokens=l['input_tokens'])).share,
            **{kind:score(questions(h, w, k, l, kind, n=20)).score for kind in ('detection','fuzzing','intruder')}))
    return pd.DataFrame(rows)

def evidence():
    "Harvest what ships, label it, and grade the labels"
    h = harvest(load(SHIPPED), told(16, 2024), SHIPPED/'harvest', n=100, examples=24, window=16)
    labels = label_evidence(h)
    graded_labels(h, labels).to_csv(RESULTS/'story_labels.csv', index=False, float_format='%.4g')
    judged(h, labels).to_csv(RESULTS/'story_label_scores.csv', index=False, float_format='%.4g')

def ship(name, out):
    "Copy a saved decomposition to where `data/` keeps it"
    for f in (out/name/'saved').iterdir(): shutil.copy(f, SHIPPED/f.name)
    for f in ('roles.csv','sharpness.csv'): shutil.copy(out/name/f, RESULTS/f'story_{f}')

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=['target','run','ship','evidence'])
    p.add_argument('names', nargs='*', help=f"globs; runs are {', '.join(RUNS)}")
    p.add_argument('--out', type=Path, default=OUT, help='where runs and their checkpoints are')
    a = p.parse_args()
    torch.set_num_threads(1)
    if a.what in ('target','evidence'): globals()[a.what]()
    for name in RUNS:
        if not any(fnmatch.fnmatch(name, n) for n in a.names): continue
        if a.what=='ship': ship(name, a.out)
        elif name.startswith('stories260K') and not STORIES260K.exists():
            print(f'{name}: skipped, {STORIES260K} is not there')
        else: run(name, a.out)
