"""Clusters: the merges of the authors' code, and more components than 16 bits can number"""
import json
from pathlib import Path
import numpy as np
import pytest
from safetensors.numpy import load_file
from spd_nb.clusters import Merges, cluster, load_merges, read_history
from spd_nb.keys import Key
from spd_nb.mechanisms import Mechanism, Mechanisms
from spd_nb.memberships import Memberships

THEIRS = Path(__file__).resolve().parent.parent.parent/'shared'/'targets'/'goodfire'/'clustering'

@pytest.mark.skipif(not THEIRS.exists(), reason="the authors' clustering is not beside the checkout")
def test_the_authors_history_step_by_step():
    "Each merge of the authors' code is among the cheapest pairs and costs what it says; a single cheapest one is ours"
    run,said = THEIRS/'runs'/'c-0f000021',json.loads((THEIRS/'expected.json').read_text(encoding='utf-8'))
    on = load_file(THEIRS/'activation_mask.safetensors')['active']
    labels = read_labels(run)
    m = Memberships(labels, on)
    theirs = read_history(run/'history.zip', m, 1.)
    assert (len(theirs), len(theirs.at(step=len(theirs))))==(93, 3)
    bits = theirs.bits()*len(on)
    for step,cut in said['cuts'].items():
        t = int(step)
        assert bits[t+1]==pytest.approx(cut['mdl_loss'], abs=1e-2)
        assert (bits[t+1]-bits[t])/len(on)==pytest.approx(cut['pair_cost'], abs=1e-5)
        several = [[str(k) for k in g] for g in theirs.at(step=t+1).several()]
        if t==0: assert sorted(map(sorted, several))==sorted(map(sorted, cut['groups']))
    alone = 0
    for t in range(len(theirs)):
        costs = costs_of(m, theirs.at(step=t))
        values = np.array(list(costs.values()))
        within = values<=values.min()+1e-3*(values.max()-values.min())
        merged = merged_pair(theirs.at(step=t), theirs.at(step=t+1))
        assert costs[merged]<=values[within].max()+1e-9
        if within.sum()==1:
            alone += 1
            assert merged==min(costs, key=costs.__getitem__)
    assert alone>70

def read_labels(run):
    import zipfile
    with zipfile.ZipFile(run/'history.zip') as z: return z.read('labels.txt').decode().split()

def costs_of(m, groups):
    "The cost of merging each pair, from the definition, all pairs at once"
    on = np.stack([m.on(g) for g in groups], 1).astype(float)
    s,r,k = on.sum(0),np.array([len(g) for g in groups]),len(groups)
    union = s[:,None]+s-on.T@on
    before = np.log2(k)+r
    rest = (s.sum()-s[:,None]-s)*(np.log2(k-1)-np.log2(k)) if k>1 else 0
    cost = rest+union*(np.log2(max(k-1, 1))+r[:,None]+r)-(s*before)[:,None]-s*before
    return {frozenset([i,j]):cost[i,j] for i in range(k) for j in range(i)}

def merged_pair(before, after):
    "The numbers of two groups that are one afterwards"
    new = next(g for g in after if set(g.keys) not in [set(h.keys) for h in before])
    return frozenset(i for i,g in enumerate(before) if set(g.keys)<=set(new.keys))

def test_more_components_than_16_bits_can_number(tmp_path):
    "A history of 70,000 components keeps its groups, in memory and on disk"
    k,n = 70_000,64
    keys = [f'a:{i}' for i in range(k)]
    pairs = [[0,k-1]]+[[k+t,k-2-t] for t in range(k-2)]  # one group takes up all others, from the last to the first
    keys,active = [Key.parse(x) for x in keys],np.minimum(np.arange(2, k+1), n)
    h = Merges(keys, np.ones(k, int), n, np.array(pairs), active, 1.)
    h.save(tmp_path/'merges')
    again = load_merges(tmp_path/'merges')
    groups = again.at(step=68_000)
    assert (len(groups), len(groups[0]))==(2_000, 68_001)
    assert [k.c for k in groups[0]]==[0, *range(2_000, 70_000)]
    assert np.isfinite(again.bits()).all() and np.array_equal(again.bits(), h.bits())

def test_many_components_that_seldom_meet():
    "Rare components cost no matrix of all pairs: 1,500 planted pairs are found"
    k = 3_000
    gen = np.random.default_rng(0)
    on = np.zeros((4*k//2,k), bool)
    at = gen.permutation(len(on)).reshape(k//2, 4)
    for i,rows in enumerate(at): on[rows[:,None],[2*i,2*i+1]] = True
    h = cluster(Memberships([f'a:{i}' for i in range(k)], on), 1., down_to=k-300, progress=False)
    assert {g.keys[0].c//2==g.keys[1].c//2 for g in h.at(step=300).several()}=={True}

def test_a_mechanism_is_no_matter_of_order():
    "Equal mechanisms are one in a set, and a grouping of groups is the same from either form"
    a,b = Mechanism(['a:0','b:1']),Mechanism([('b',1),'a:0'], 'named')
    assert len({a,b})==1
    assert Mechanisms([a]).of('b:1')==b

def test_everything_that_takes_keys_takes_a_mechanism():
    "A mechanism does what the list of its keys does"
    import torch
    import spd_nb as spd
    from spd_nb.attribution import graph
    from spd_nb.browser import ComponentBrowser
    from spd_nb.circuits import on_nodes, question
    from spd_nb.compare import match
    from spd_nb.eval import only_masks, single_ablations, without_masks
    from spd_nb.interventions import kept, next_tokens, patched, removed
    from spd_nb.sweeps import density_matched, dose_response
    dm,text = spd.load('story'),'Ida went to the farm. She said'
    h,g = spd.Harvest('story/harvest', dm),graph(dm, text)
    some = list(dict.fromkeys(g.nodes.key[g.nodes.kind=='component']))[::60]
    m,q = Mechanism(some),question(dm, text)
    def outputs(f):
        with torch.no_grad(), f(): return dm(q.x)
    def masked(masks): return lambda: dm.masked(masks)
    def judge(e): return dict(p=float(dm(q.x)[0,-1].softmax(-1).max()))
    def same(a, b):
        if torch.is_tensor(a): return torch.equal(a, b)
        return a.equals(b) if hasattr(a, 'equals') else a==b
    asked = dict(ablated=lambda k: outputs(lambda: spd.ablated(dm, k)), only=lambda k: outputs(lambda: spd.only(dm, k)),
        removed=lambda k: outputs(lambda: removed(dm, k)), kept=lambda k: outputs(lambda: kept(dm, text, k)),
        patched=lambda k: outputs(lambda: patched(dm, graph(dm, text).between(k), text.replace('farm', 'beach'))),
        next_tokens=lambda k: next_tokens(dm, text, {'without':lambda: spd.ablated(dm, k)}),
        only_masks=lambda k: outputs(masked(only_masks(dm, k))),
        without=lambda k: outputs(masked(without_masks(dm, k))),
        single=lambda k: single_ablations(dm, lambda: judge(None), k, progress=False),
        on_nodes=lambda k: sum(int(x.sum()) for x in on_nodes(q, k).values()), between=lambda k: g.between(k).nodes,
        match=lambda k: match(dm, dm, keys=k).frame, controls=lambda k: density_matched(k, h.components.density, 3),
        lenses=lambda k: [l.writes.index[:3].tolist() for _,l in h.lenses(k)],
        browser=lambda k: [*ComponentBrowser(h).snapshot_state(keys=k, deep=False)['details']],
        dose=lambda k: dose_response(dm, k, judge, n=(1,2)))
    for name,f in asked.items(): assert same(f(m), f(some)), name
    assert not same(asked['ablated'](m), asked['ablated'](some[:1]))
