"""Measure attribution graphs, dataset attributions and circuits: `make circuits ARGS=edges`, or
   python tools/circuits.py edges      (all edges of 20 prompts against one backward pass for each target)
   python tools/circuits.py removal    (edges against the effect of removing their source, on 50 prompts)
   python tools/circuits.py induction  (which components feed which in the induction toy, on 100 prompts)
   python tools/circuits.py circuits   (circuits of 30 story prompts over 6 roles; resumes where it stopped)
   python tools/circuits.py speed      (seconds and tokens per second, one thread)
Results go into data/results/circuits*.csv; the log says how to read them."""
import argparse, random, time
from pathlib import Path
import numpy as np, pandas as pd, torch
from scipy.stats import spearmanr
import spd_nb as spd
from spd_nb.attribution import graph
from spd_nb.circuits import circuit, on_nodes, outcome
from spd_nb.core import atomic
from spd_nb.flows import flow, unembedding
from spd_nb.graphs import node_name
from spd_nb.hooks import cached
from spd_nb.keys import Key
from spd_nb.masks import Mask
from spd_nb.stories import stories, story_rows, vocabulary
from spd_nb.traces import INPUT, OUTPUT, input_site, reaches, traced

root = Path(__file__).resolve().parent.parent
RESULTS = root/'data'/'results'
IDS = {t:i for i,t in enumerate(vocabulary())}

def write(name, df):
    with atomic(RESULTS/name) as f: df.to_csv(f, float_format='%.4g', index=False)
    print(df.to_string(index=False))

# edges by their definition

def defined_edges(dm, x, g):
    "All edges of a graph, with one backward pass for each target"
    read_by = input_site(dm.target, x)
    t,reach,found = traced(dm, x, read_by),reaches(dm, x, read_by),{}
    sources = g.nodes[g.nodes.kind!='output']
    where = [(n.Index, INPUT if n.kind=='input' else n.site, n.position, n.c, n.ci) for n in sources.itertuples()]
    for n in g.nodes[g.nodes.kind!='input'].itertuples():
        site = OUTPUT if n.kind=='output' else n.site
        grads = dict(zip(t.sources, torch.autograd.grad(t.targets[site][0,n.position,n.c],
            list(t.sources.values()), retain_graph=True, materialize_grads=True)))
        whole = {s:(grads[s]*a.detach())[0] for s,a in t.sources.items()}
        for name,s,at,c,ci in where:
            if s not in reach[site] or at!=n.position and not reach[site][s]: continue
            w = whole[s][at].sum().item() if s==INPUT else whole[s][at,c].item()*ci
            if w: found[name,n.Index] = w
    return found

def edges(n=20, seq=16):
    dm,rows = spd.load('story'),[]
    for i,row in enumerate(next(iter(stories(n, seq, seed=21)))):
        g = graph(dm, row)
        got,want = g.edges.set_index(['source','target']).weight.to_dict(),defined_edges(dm, row[None], g)
        keys = [*(set(got)|set(want))]
        a,b = (np.array([d.get(k, 0.) for k in keys]) for d in (got, want))
        rows.append(dict(prompt=i, nodes=len(g), edges=len(keys), largest=abs(b).max(), off=abs(a-b).max(),
            relative=abs(a-b).max()/abs(b).max()))
    write('circuits_edges.csv', pd.DataFrame(rows))

# removal

def removal(n=50, seq=20, sources=24):
    "What removing a component at a position does to the activation of later ones, beside the edge between them"
    dm,rng,pairs = spd.load('story'),random.Random(0),[]
    order = {s:i for i,s in enumerate(dm.sites)}
    for i,row in enumerate(next(iter(stories(n, seq, seed=22)))):
        g = graph(dm, row, importance=False)
        inner = g.nodes[g.nodes.kind=='component']
        chosen = inner.loc[rng.sample(list(inner.index), min(sources, len(inner)))]
        masks = {s:torch.ones(len(chosen), seq, C) for s,C in dm.C.items()}
        for r,m in enumerate(chosen.itertuples()): masks[m.site][r,m.position,m.c] = 0
        x = row[None].expand(len(chosen), -1)
        with torch.no_grad(), dm.masked({s:Mask(m, torch.ones(len(chosen), seq)) for s,m in masks.items()}), \
                cached(dm.target, dm.sites) as inputs:
            dm(x)
            after = dm.acts(inputs=dict(inputs))
        weight = g.edges.set_index(['source','target']).weight
        for r,m in enumerate(chosen.itertuples()):
            if m.Index not in weight.index: continue
            for target,w in weight[m.Index].items():
                t = inner.loc[target] if target in inner.index else None
                if t is None: continue
                change = t.act-after[t.site][r,t.position,t.c].item()
                pairs.append((i, order[t.site]-order[m.site], w, change))
    df = pd.DataFrame(pairs, columns=['prompt','distance','weight','change'])
    layer = df.distance.map(lambda d: 'next site' if d<=1 else 'same layer' if d<7 else 'next layer')
    def shuffled(c): return c.sample(frac=1, random_state=0).to_numpy()
    mixed = df.assign(change=df.groupby('prompt').change.transform(shuffled))
    def row(name, which):
        a,b = df[which],mixed[which]
        return dict(distance=name, pairs=len(a), rank_correlation=spearmanr(a.weight, a.change)[0],
            shuffled=spearmanr(b.weight, b.change)[0], same_sign=(np.sign(a.weight)==np.sign(a.change)).mean(),
            ratio=(a.change.abs()/a.weight.abs()).median())
    rows = [row(k, layer==k) for k in ('next site','same layer','next layer')]
    write('circuits_removal.csv', pd.DataFrame([*rows, row('all', layer!='')]))

# induction

def induction_toys():
    "The decomposition that ships, and one of another seed, which is trained if need be (three minutes)"
    from toys import run
    runs = root/'runs'/'toys'
    if not (runs/'induction-1'/'saved').exists(): run('induction', 1, runs)
    return spd.load('induction'),spd.load(runs/'induction-1'/'saved')

def induction(n=100):
    """Of the keys that feed the induction component: are they fed by the first layer, which heard it from the position
    before? Once for any of the ten strongest keys, and once for that at the first mention, where attention is"""
    found = {f'seed {i}':pd.DataFrame([previous_tokens(dm, row) for row in next(iter(dm.target.batches(n, seed=31)))])
        for i,dm in enumerate(induction_toys())}
    table = pd.DataFrame({k:df.mean() for k,df in found.items()})
    write('circuits_induction.csv', table.rename_axis('what').reset_index())

def previous_tokens(dm, row):
    start = len(row)-dm.target.spec['half']
    at = start+4
    first = int((row[:start]==row[at]).nonzero()[0])+1  # what followed the current token's first mention
    g = graph(dm, row, row[at+1:at+2].tolist(), positions=at)
    e = g.edges.assign(site=lambda d: d.source.map(g.nodes.site), at=lambda d: d.source.map(g.nodes.position),
        size=lambda d: d.weight.abs())
    inner = g.nodes[(g.nodes.site=='blocks.1.o')&(g.nodes.position==at)]
    into = e[e.target==inner.influence.idxmax()].nlargest(20, 'size')
    every = e[(e.target==inner.influence.idxmax())&(e.site=='blocks.1.k')]
    keys,chance = every.nlargest(10, 'size'),every.sample(min(10, len(every)), random_state=0)
    def from_previous(key, position):
        fed = e[e.target==key].nlargest(5, 'size')
        for o in fed[fed.site=='blocks.0.o'].source:
            values = e[(e.target==o)&(e.site=='blocks.0.v')].nlargest(1, 'size')
            if len(values) and values['at'].iloc[0]==position-1: return True
        return False
    mention = keys[keys['at']==first]
    some = e[e.target==inner.influence.idxmax()].sample(20, random_state=0)
    def fed(k): return any(map(from_previous, k.source, k['at']))
    return {'a key among the 20 largest edges':(into.site=='blocks.1.k').any(),
        'a key among 20 random edges':(some.site=='blocks.1.k').any(),
        'one of the 10 strongest keys is fed from the previous token':fed(keys),
        'one of 10 random keys is fed from the previous token':fed(chance),
        'the key at the first mention is among 10 random ones':(chance['at']==first).any(),
        'the key at the first mention is among the 10 strongest':len(mention)>0,
        'that key is fed from the previous token':any(map(from_previous, mention.source, mention['at']))}

# circuits

ROLES = dict(quote='quote_open', he='pron_m', name='name', emoticon='emo_eyes', moral='moral', nature='nature')

def prompts(dm, each=5, longest=20):
    """Prompts whose next token has a role, and that the model says with some confidence; the first that are found

    Which animal or plant comes next is open in these stories: none gets more than .08
    """
    least = dict.fromkeys(ROLES, .2)|dict(nature=.05)
    found,rows = {r:[] for r in ROLES},story_rows(400, 64, seed=41)
    for row in rows:
        for t in range(6, len(row)):
            role = next((k for k,v in ROLES.items() if v==row[t].role), None)
            if role is None or len(found[role])>=each: continue
            start = max(0, t-longest)
            ids = torch.tensor([IDS[w.text] for w in row[start:t]])
            p = dm.clean(ids[None]).out[0,-1].softmax(-1)[IDS[row[t].text]].item()
            if p>=least[role] and all(x[3]!=row for x in found[role]):
                found[role].append((ids, IDS[row[t].text], p, row))
    return found

def circuits(steps=400, lr=.03, sparsity=.02):
    dm = spd.load('story')
    path = RESULTS/'circuits.csv'
    done = pd.read_csv(path).to_dict('records') if path.exists() else []
    for role,found in prompts(dm).items():
        for i,(ids,wanted,p,_) in enumerate(found):
            if any(r['role']==role and r['prompt']==i for r in done): continue
            clock = time.perf_counter()
            made = [circuit(dm, ids, wanted, sparsity=sparsity, steps=steps, lr=lr, seed=s, progress=False)
                for s in (range(3) if i==0 else range(1))]
            taken = (time.perf_counter()-clock)/len(made)
            c,q = made[0],made[0].q
            sets = [set(m.nodes.index) for m in made]
            overlap = [len(a&b)/len(a|b) for k,a in enumerate(sets) for b in sets[k+1:]]
            alive = [node_name(Key(s, k), t) for s,a in q.alive.items() for t,k in a[0].nonzero().tolist()]
            rng = random.Random(0)
            chance = [outcome(q, on_nodes(q, rng.sample(alive, min(len(alive), len(c)))), 160, k).p for k in range(3)]
            top = graph(dm, ids, wanted).top(len(c))
            ci_only = circuit(dm, ids, wanted, sparsity=sparsity, steps=steps, lr=lr, adversary=None, progress=False)
            said = c.outcomes(('removed','random',20,160,320), seeds=3).p
            whole = {s:(g>0).float() for s,g in c.ci.items()}
            done.append(dict(
                role=role, prompt=i, text=''.join(q.prompt.names[-6:]), says=q.says, model=p, alive=len(alive),
                nodes=len(c), removed=said['removed'], random=said['random'], pgd_20=said[20], pgd_160=said[160],
                pgd_320=said[320], share=said[160]/p, set_160=outcome(q, whole, 160).p,
                everything_160=outcome(q, c.ci, 160, everything=True).p, random_nodes_160=max(chance),
                top_160=outcome(q, on_nodes(q, top), 160).p, ci_only_nodes=len(ci_only),
                ci_only_160=outcome(q, ci_only.ci, 160).p, overlap=np.mean(overlap) if overlap else np.nan,
                seconds=taken))
            write('circuits.csv', pd.DataFrame(done))

def sizes(steps=400, lr=.03):
    "Size against what survives: the first prompt of each role, from little to much pressure to be small"
    dm = spd.load('story')
    path = RESULTS/'circuits_sizes.csv'
    done = pd.read_csv(path).to_dict('records') if path.exists() else []
    for role,found in prompts(dm, 1).items():
        ids,wanted,p,_ = found[0]
        for sparsity in (.005,.02,.1,.3,1.,3.):
            for name,adversary in (('attacked', 4), ('rest removed', None)):
                if any((r['role'], r['sparsity'], r['learned'])==(role, sparsity, name) for r in done): continue
                c = circuit(dm, ids, wanted, sparsity=sparsity, adversary=adversary, steps=steps, lr=lr, progress=False)
                said = {rest:outcome(c.q, c.ci, rest).p/p for rest in ('removed','random',160)}
                done.append(dict(role=role, learned=name, sparsity=sparsity, nodes=len(c), removed=said['removed'],
                    random=said['random'], pgd_160=said[160]))
                write('circuits_sizes.csv', pd.DataFrame(done))

# speed

def speed():
    torch.set_num_threads(1)
    dm,rows = spd.load('story'),[]
    def timed(name, f, repeats=3, per=1.):
        f()
        taken = []
        for _ in range(repeats):
            clock = time.perf_counter()
            f()
            taken.append(time.perf_counter()-clock)
        rows.append(dict(what=name, seconds=np.median(taken), per_second=per/np.median(taken)))
    row = next(iter(stories(1, 32, seed=51)))[0]
    timed('graph of 32 tokens, story model', lambda: graph(dm, row))
    timed('graph of 32 tokens, paths end at deltas', lambda: graph(dm, row, through_delta=False))
    toks = next(iter(stories(16, 64, seed=52)))
    read_by = input_site(dm.target, toks)
    reach,head = reaches(dm, toks[:1], read_by),unembedding(dm, toks)
    timed('flow of the story model, tokens', lambda: flow(dm, toks, reach, read_by, head), per=toks.numel())
    timed('flow without absolute values, tokens', lambda: flow(dm, toks, reach, read_by, head, False), per=toks.numel())
    timed('50 steps of a circuit, 12 tokens', lambda: circuit(dm, row[:12], steps=50, progress=False), 2, 50)
    write('circuits_speed.csv', pd.DataFrame(rows))

if __name__=='__main__':
    jobs = dict(edges=edges, removal=removal, induction=induction, circuits=circuits, sizes=sizes, speed=speed)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('job', choices=jobs, nargs='+')
    for job in p.parse_args().job: jobs[job]()
