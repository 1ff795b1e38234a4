"""Measure clusters and stability: `make mechanisms ARGS=toys`, or
   python tools/mechanisms.py speed      (seconds for each merge)
   python tools/mechanisms.py toys       (toys whose mechanisms are known; those that do not ship need runs/toys)
   python tools/mechanisms.py story      (groups of the story model for five alphas, and what they carry)
   python tools/mechanisms.py finetune   (the story model trained on a changed world: which components hold the change)
   python tools/mechanisms.py stability  (which components seeds 1 to 3 find, of those in runs/story)
Results go into data/results/mechanisms*.csv; the log says how to read them."""
import argparse, copy, time
from pathlib import Path
import numpy as np, pandas as pd, torch
import spd_nb as spd
from spd_nb.clusters import cluster
from spd_nb.core import atomic
from spd_nb.ground_truth import one_hots
from spd_nb.keys import Key
from spd_nb.mechanisms import Mechanism, Mechanisms, adjusted_rand, quality, shuffled
from spd_nb.memberships import Memberships, memberships
from spd_nb.model import decompose, load
from spd_nb.eval import without_masks
from spd_nb.compare import effect, firing, match, weight_change, weights
from spd_nb.lms import fit_lm
from spd_nb.measures import next_token_ce
from spd_nb.stories import stories, story_rows
from spd_nb.sweeps import density_matched
from story import IDS, ROLES, RUNS, chances

root = Path(__file__).resolve().parent.parent
RESULTS = root/'data'/'results'
ALPHAS = (.1, .3, 1., 3., 10.)

def write(name, df):
    with atomic(RESULTS/name) as f: df.to_csv(f, float_format='%.4g', index=False)
    print(df.to_string(index=False))

# time and memory

def blocks(k, n, p, members=4, noise=.1, seed=0):
    "Planted groups that fire with a probability, a few at a time so that the table fits into memory"
    gen = np.random.default_rng(seed)
    cause = gen.random((n, -(-k//members)), dtype=np.float32)<p
    on = np.repeat(cause, members, 1)[:,:k]
    on ^= gen.random(on.shape, dtype=np.float32)<p*noise
    return Memberships([f'a:{i}' for i in range(k)], on)

def speed():
    rows = []
    for k,n,p in ((1280, 20_000, .05), (2000, 20_000, .01), (2000, 20_000, .1)):
        m,clock = blocks(k, n, p),time.perf_counter()
        h = cluster(m, progress=False)
        whole,clock = time.perf_counter()-clock,time.perf_counter()
        cluster(m, down_to=k-1, progress=False)
        start = time.perf_counter()-clock
        rows.append(dict(components=k, positions=n, density=p, merges=len(h), seconds=whole,
            ms_per_merge=1e3*(whole-start)/(k-2)))
    write('mechanisms_speed.csv', pd.DataFrame(rows))

# toys with known mechanisms

def known(dm, n):
    "The input feature of each component that one feature alone makes fire, and the components of more than one"
    ci = dm.ci(one_hots(n)).lower
    on = {Key(s, c):np.flatnonzero(g[:,c]>.1) for s,g in ci.items() for c in range(g.shape[1]) if (g[:,c]>.1).any()}
    return {k:int(f[0]) for k,f in on.items() if len(f)==1},[k for k,f in on.items() if len(f)>1]

def toy_rows(name, dm, n, batches, threshold, seeds=20):
    rows,(feature,common) = [],known(dm, n)
    m = memberships(dm, batches, 8, threshold=threshold, least=1e-4, progress=False)
    found = [k for k in m.keys if k in feature or k in common]
    m = Memberships(found, m.bits[:,[m.at(k) for k in found]])
    own = [k for k in found if k in feature]
    truth = Mechanisms([[k for k in own if feature[k]==f] for f in sorted(set(feature[k] for k in own))])
    for alpha in ALPHAS:
        h = cluster(m, alpha, progress=False)
        for cut,groups in (('zero', h.zero()), ('known number', h.at(k=len(truth)+bool(len(found)-len(own))))):
            by_chance = [adjusted_rand(shuffled(groups, seed=s).among(own), truth) for s in range(seeds)]
            mixed = sum(any(k in feature for k in groups.of(c)) for c in found if c in common)
            of_own = groups.among(own)
            rows.append(dict(toy=name, threshold=threshold, alpha=alpha, cut=cut, components=len(own),
                common=len(found)-len(own), mixed=mixed, known=len(truth), groups=len(groups),
                known_across=len(truth.several(sites=2)), across=len(of_own.several(sites=2)),
                rand=adjusted_rand(of_own, truth), shuffled=np.mean(by_chance), largest_shuffled=max(by_chance)))
    return rows

def toys():
    rows = []
    for name,n,batch in (('tms_5-2', 5, 2048), ('tms_5-2-id', 5, 2048), ('tms_40-10', 40, 2048), ('resid_1', 100, 2048),
            ('resid_2', 100, 2048), ('resid_3', 102, 2048)):
        shipped,run = root/'data'/'toys'/name,root/'runs'/'toys'/f'{name}-0'/'saved'
        if not (folder := shipped if shipped.exists() else run).exists():
            print(f'{name}: left out, {run} is not there')
            continue
        dm = load(folder)
        for threshold in (.01, .1):  # the authors' for toys, and that of everything here
            rows += toy_rows(name, dm, n, dm.target.batches(batch, seed=5), threshold)
    write('mechanisms_toys.csv', pd.DataFrame(rows))

# the story model

def story_members(dm, seed=91, batches=125):
    return memberships(dm, stories(16, 128, seed=seed), batches, per_row=10, progress=False)

def effects(dm, measure, sets):
    "What measures give without each of some sets of components, less what they give with them"
    base,rows = measure(),[]
    for keys in sets:
        with dm.masked(without_masks(dm, [str(k) for k in keys])): now = measure()
        rows.append({k:(now[k]-base[k]).item() for k in base})
    return pd.DataFrame(rows),{k:v.item() for k,v in base.items()}

@torch.no_grad()
def story(weight=4., draws=10):
    dm = spd.load('story')
    m,rows,groups = story_members(dm),[],{}
    for alpha in ALPHAS:
        g = groups[alpha] = cluster(m, alpha, progress=False).zero()
        for name,x in (('found', g), ('shuffled', shuffled(g, m))):
            rows.append(dict(alpha=alpha, what=name)|quality(x, m).to_dict())
    write('mechanisms_story.csv', pd.DataFrame(rows))
    # chosen on some held-out stories, judged on others
    several = [(alpha, x) for alpha in ALPHAS[1:] for x in groups[alpha] if 1<len(x)<=12]
    components = [[k] for k in m.keys]
    choose,judge = chances(dm, 601),chances(dm, 602)
    (by_group,base),(by_one,_) = effects(dm, choose, [x for _,x in several]),effects(dm, choose, components)
    found = []
    for r in ROLES:
        def score(df): return df[f'P {r}']/base[f'P {r}']+weight*df[f'elsewhere {r}'].clip(lower=0)
        g,c = int(score(by_group).idxmin()),int(score(by_one).idxmin())
        alpha,x = several[g]
        random = density_matched(x, m.density, draws)
        best = [components[i][0] for i in score(by_one).nsmallest(len(x)).index]  # as many, each by its own effect
        e,b = effects(dm, judge, [x, components[c], best, *random])
        e['change'],e['cost'] = e[f'P {r}']/b[f'P {r}'],e[f'elsewhere {r}']
        found.append(dict(role=r, P=b[f'P {r}'], alpha=alpha, size=len(x), sites=len(x.sites), density=m.on(x).mean(),
            change=e.change[0], cost=e.cost[0], component=str(components[c][0]), change_component=e.change[1],
            cost_component=e.cost[1], change_best=e.change[2], cost_best=e.cost[2], change_random=e.change[3:].mean(),
            cost_random=e.cost[3:].mean(), largest_random=e.change[3:].min(), keys=' '.join(map(str, x))))
        print(found[-1], flush=True)
    write('mechanisms_roles.csv', pd.DataFrame(found))

# a changed world

def changed(role, text):
    "Stories in which every word of a role is another word"
    def batch(i):
        rows = story_rows(16, 128, seed=40_000+i)
        return torch.tensor([[IDS[text if t.role==role else t.text] for t in r] for r in rows])
    return batch

# a role, and the word that takes the place of all of its words
CHANGES = {'emo_mouth':'o', 'pron_m':' she', 'quote_open':'.', 'nature':' letter', 'sayverb':' saw'}

class Batches:
    def __init__(self, make): self.make = make
    def __getitem__(self, i): return self.make(i)

def tuned(target, make, how, steps):
    "A copy of a model, trained on some batches, and the mean loss of the last ones"
    model = copy.deepcopy(target)
    if how=='AdamW':
        losses = fit_lm(model, Batches(make), steps, lr=1e-4, weight_decay=0., progress=False)
    else:
        opt,losses = torch.optim.SGD(model.requires_grad_(True).parameters(), lr=.03, momentum=.9),[]
        for i in range(steps):
            toks = make(i)
            loss = next_token_ce(model(toks, use_cache=False).logits, toks)
            opt.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
            opt.step()
            losses.append(loss.item())
        model.requires_grad_(False)
    return model,losses[0],np.mean(losses[-20:])

def finetune(steps=200, draws=200):
    "Fine-tune the story model on a world with one other rule, and see which components hold the change"
    roles,rows,dm = pd.read_csv(RESULTS/'mechanisms_roles.csv').set_index('role'),[],spd.load('story')
    m = story_members(dm, batches=40)
    for how in ('SGD','AdamW'):
        same = tuned(dm.target, changed('', ''), how, steps)[0]  # on the same stories as they are, for as long
        for role,text in CHANGES.items():
            now,first,last = tuned(dm.target, changed(role, text), how, steps)
            change = weight_change(dm, now, before=same)
            of,best = Mechanism(roles.loc[role,'keys'].split()),roles.loc[role,'component']
            def held(keys): return change.of_all[[str(k) for k in keys]].sum()
            by_chance = [held(keys) for keys in density_matched(of, m.density, draws)]
            rank = {k:i+1 for i,k in enumerate(change.index)}
            rows.append(dict(how=how, role=role, becomes=text, loss_first=first, loss_last=last, size=len(of),
                held=held(of), held_random=np.mean(by_chance), largest_random=max(by_chance),
                ranks=' '.join(str(r) for r in sorted(rank[str(k)] for k in of)), component=best,
                rank_component=rank[best], first=change.index[0], held_first=change.of_all.iloc[0],
                random_rank_one=change.random.mean(), held_top_10=change.of_all.iloc[:10].sum()))
            print(rows[-1], flush=True)
    write('mechanisms_finetune.csv', pd.DataFrame(rows))

# other seeds

def add(name, df, keys):
    "Put rows into a table of results, in place of those with the same keys"
    path,csv = RESULTS/name,name.endswith('.csv')
    old = (pd.read_csv if csv else pd.read_parquet)(path) if path.exists() else pd.DataFrame(columns=df.columns)
    both = pd.concat([old, df]).drop_duplicates(keys, keep='last', ignore_index=True)
    if csv: write(name, both)
    else:
        with atomic(path) as f: both.to_parquet(f)
    return both

def likenesses():
    return dict(weights=weights, firing=firing(stories(8, 128, seed=81, held_out=True), 16),
        effect=effect(stories(8, 128, seed=82, held_out=True), 2))

@torch.no_grad()
def stability():
    """Which components of the shipped decomposition other seeds find, by three likenesses, and what carries each role
    there; of the runs that are here, beside what is known of others"""
    dm,e = spd.load('story'),RUNS['converged']
    runs = {p.parent.name:load(p) for p in sorted((root/'runs'/'story').glob('seed_*/saved'))}
    everyone = runs|dict(untrained=decompose(dm.target, e['sites'], e['ci'], seed=9))
    keys,rows,found = [str(k) for k in story_members(dm).keys],[],[]
    for name,by in likenesses().items():
        for run,other in everyone.items():
            m = match(dm, other, by, keys)
            f = m.frame
            rows.append(dict(by=name, other=run, components=len(m), mean=f.similarity.mean(), share_9=m.share(.9),
                share_5=m.share(.5), mixed=f.mixed.mean(), mixed_9=(f.mixed>=.9).mean(), mixed_5=(f.mixed>=.5).mean()))
            print(rows[-1], flush=True)
            if run in runs: found.append(f.assign(by=name, other=run).reset_index().drop(columns='best'))
    add('mechanisms_stability.csv', pd.DataFrame(rows), ['by','other'])
    each = add('mechanisms_stability.parquet', pd.concat(found), ['key','by','other'])
    keep(each)
    roles = pd.concat([of_roles(run, other, each) for run,other in runs.items()])
    add('mechanisms_stability_roles.csv', roles, ['role','other'])

def keep(each, by='firing'):
    "Put the stability of components, as known from a table of all matches, beside the harvest that ships"
    found = each[(each.by==by)&each.similarity.notna()].groupby('key', sort=False)
    table = pd.DataFrame(dict(stability=found.similarity.mean(), worst=found.similarity.min(),
        found=found.similarity.agg(lambda x: (x>=.9).mean()), mixed=found.mixed.mean(), runs=found.size(), by=by))
    spd.Harvest(root/'data'/'story'/'harvest').keep_stability(table)

def of_roles(name, run, each, weight=4.):
    "What the partner of each role's component does in another run, and what the best component there does"
    carriers = pd.read_csv(RESULTS/'mechanisms_roles.csv').set_index('role').component
    every = [[Key(s, c)] for s,C in run.C.items() for c in range(C)]
    keys = [str(k) for k, in every]
    (chosen,base),(judged,there) = (effects(run, chances(run, seed), every) for seed in (601, 602))
    of = each[each.other==name].set_index(['by','key'])
    rows = []
    for r in ROLES:
        own = carriers[r]
        change = judged[f'P {r}']/there[f'P {r}']
        i = int((chosen[f'P {r}']/base[f'P {r}']+weight*chosen[f'elsewhere {r}'].clip(lower=0)).idxmin())
        known = {b:of.loc[(b, own)] for b in of.index.levels[0] if (b, own) in of.index}
        j = keys.index(known['effect'].partner) if 'effect' in known else None
        rows.append(dict(role=r, other=name, component=own, **{b:k.similarity for b,k in known.items()},
            partner='' if j is None else keys[j], change_partner=np.nan if j is None else change[j],
            best=keys[i], change_best=change[i], cost_best=judged[f'elsewhere {r}'][i]))
    return pd.DataFrame(rows)

if __name__=='__main__':
    jobs = dict(speed=speed, toys=toys, story=story, finetune=finetune, stability=stability)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('job', choices=jobs, nargs='+')
    torch.set_num_threads(1)
    for job in p.parse_args().job: jobs[job]()
