"""Graphs and attributions against the numbers of the authors' code"""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goodfire import expected, fixture_or_skip, opened, site_of
from safetensors.torch import load_file
from torch import nn
import spd_nb as spd
from spd_nb import flows
from spd_nb.attribution import graph
from spd_nb.attributions import FlowSums
from spd_nb.circuits import _Learned, _train_step, outcome, question
from spd_nb.core import seeded
from spd_nb.flows import flow, unembedding
from spd_nb.stories import stories
from spd_nb.traces import INPUT, OUTPUT, input_site, reaches, traced

def _node(name, ids):
    "Their `layer:position:c` as a node of ours"
    layer,at,c = name.split(':')
    return f"{site_of(layer)}:{ids[int(at)] if layer=='embed' else c}@{at}"

def test_the_graph_of_a_prompt_equals_theirs():
    theirs,dm = expected('prompt_graph/standard.json'),opened()
    ids = theirs['tokens']
    names = [_node(n, ids) for n in theirs['nodes']]
    asked = torch.zeros(len(ids), 97, dtype=torch.bool)
    for n in theirs['nodes']:
        layer,at,c = n.split(':')
        if layer=='output': asked[int(at),int(c)] = True
    g = graph(dm, ids, asked, importance=False, tokens=64)
    ours = g.nodes
    alive = [n for n in names if not n.startswith('/token')]
    assert set(alive)==set(ours.index[ours.kind!='input'])
    components = [(n, ci, act) for n,ci,act in zip(names, theirs['node_ci'], theirs['node_act'])
        if ours.kind[n]=='component']
    np.testing.assert_allclose(ours.ci[[n for n,*_ in components]], [c for _,c,_ in components], atol=1e-5)
    np.testing.assert_allclose(ours.act[[n for n,*_ in components]], [a for *_,a in components], atol=1e-5)
    edges = g.edges.set_index(['source','target']).weight
    want = {(names[i], names[j]):w for i,j,w,_ in theirs['edges_src_tgt_val_cross']}
    assert set(edges.index)==set(want)
    off = np.array([edges[k]-w for k,w in want.items()])
    assert np.linalg.norm(off)<=1e-5*np.linalg.norm(list(want.values())) and abs(off).max()<1e-5
    crosses = {(names[i], names[j]) for i,j,_,cross in theirs['edges_src_tgt_val_cross'] if cross}
    crossing = g.edges[g.edges.cross_position]
    apart = {k for k in crosses if k[0].partition('@')[2]!=k[1].partition('@')[2]}
    assert set(zip(crossing.source, crossing.target))==apart

def _decomposed(model, C, seed=0):
    with seeded(seed): return spd.decompose(model.eval(), C, seed=seed).double()

def _edge_table(g, source, target):
    "Edges between two sites as (position, c) pairs to weight"
    e = g.edges
    at = g.nodes[['site','position','c']]
    s,t = at.loc[e.source].reset_index(drop=True),at.loc[e.target].reset_index(drop=True)
    mine = (s.site==source)&(t.site==target)
    return {(i,c,j,k):w for i,c,j,k,w in zip(s.position[mine], s.c[mine], t.position[mine], t.c[mine], e.weight[mine])}

class Head(nn.Module):
    "One attention head without positions"
    def __init__(self):
        super().__init__()
        self.q,self.k,self.v = (nn.Linear(4, 3, bias=False) for _ in range(3))
        self.o = nn.Linear(3, 5, bias=False)
    def forward(self, x):
        scores = self.q(x)@self.k(x).mT/3**.5
        P = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
        return self.o(P@self.v(x))

def test_edges_of_an_attention_head_by_hand():
    dm = _decomposed(Head(), dict(q=5, k=6, v=7, o=8))
    x = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    g = graph(dm, x, importance=False)
    q,k,v = (dm.target.get_submodule(s)(x)[0] for s in 'qkv')
    P = (q@k.T/3**.5).masked_fill(torch.ones(4, 4, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
    z,acts = P@v,{s:a[0] for s,a in dm.acts(x).items()}
    cs,V = dm.components,dm.at('o').V
    for (i,c,t,e),w in (got := _edge_table(g, 'v', 'o')).items():
        np.testing.assert_allclose(w, (acts['v'][i,c]*P[t,i]*(cs['v'].U[c]@V[:,e])).item(), atol=1e-6)
    assert got and all(i<=t for i,_,t,_ in got) and any(i<t for i,_,t,_ in got)
    for (i,c,t,e),w in (got := _edge_table(g, 'k', 'o')).items():
        by_hand = acts['k'][i,c]*P[t,i]*(q[t]@cs['k'].U[c])/3**.5*((v[i]-z[t])@V[:,e])
        np.testing.assert_allclose(w, by_hand.item(), atol=1e-6)
    assert got
    for (i,c,t,e),w in (got := _edge_table(g, 'q', 'o')).items():
        assert i==t
        by_hand = acts['q'][i,c]*sum(P[t,j]*(cs['q'].U[c]@k[j])/3**.5*((v[j]-z[t])@V[:,e]) for j in range(4))
        np.testing.assert_allclose(w, by_hand.item(), atol=1e-6)
    assert got

class Normed(nn.Module):
    "A gated MLP after a norm"
    def __init__(self):
        super().__init__()
        self.first,self.norm = nn.Linear(4, 6),nn.RMSNorm(6, 1e-6)
        self.gate,self.up,self.down = nn.Linear(6, 7),nn.Linear(6, 7),nn.Linear(7, 3)
        nn.init.uniform_(self.norm.weight, .5, 2)
    def forward(self, x):
        h = self.norm(self.first(x))
        return self.down(F.silu(self.gate(h))*self.up(h))

def test_edges_through_a_norm_and_a_gate_by_hand():
    dm = _decomposed(Normed(), dict(first=5, gate=6, up=7, down=8))
    x = torch.randn(1, 4, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    g,cs,m = graph(dm, x, importance=False),dm.components,dm.target
    acts = {s:a[0] for s,a in dm.acts(x).items()}
    r = m.first(x)[0]
    size = (r.square().mean()+1e-6).sqrt()
    for (_,c,_,e),w in (got := _edge_table(g, 'first', 'up')).items():
        u,v = cs['first'].U[c],cs['up'].V[:,e]*m.norm.weight
        np.testing.assert_allclose(w, (acts['first'][c]*(u@v/size-(u@r)*(r@v)/(6*size**3))).item(), atol=1e-6)
    assert got
    h = m.norm(m.first(x))[0]
    gate,up,V = m.gate(h),m.up(h),cs['down'].V
    s = gate.sigmoid()
    for (_,c,_,e),w in (got := _edge_table(g, 'gate', 'down')).items():
        slope = s*(1+gate*(1-s))
        np.testing.assert_allclose(w, (acts['gate'][c]*(cs['gate'].U[c]*slope*up)@V[:,e]).item(), atol=1e-6)
    assert got
    for (_,c,_,e),w in (got := _edge_table(g, 'up', 'down')).items():
        np.testing.assert_allclose(w, (acts['up'][c]*(cs['up'].U[c]*F.silu(gate))@V[:,e]).item(), atol=1e-6)
    assert got
    assert not _edge_table(g, 'first', 'down')  # no way around the components between

def one_backward_per_target(dm, x, g):
    "All edges of a graph by their definition"
    t = traced(dm, x, input_site(dm.target, x))
    reach = reaches(dm, x, input_site(dm.target, x))
    nodes,sources = g.nodes,list(t.sources)
    found = {}
    for target in nodes[nodes.kind!='input'].itertuples():
        site = OUTPUT if target.kind=='output' else target.site
        a = t.targets[site][0,target.position,target.c]
        grads = dict(zip(sources, torch.autograd.grad(a, list(t.sources.values()), retain_graph=True,
            materialize_grads=True)))
        for source in nodes[nodes.kind!='output'].itertuples():
            s = INPUT if source.kind=='input' else source.site
            if s not in reach[site] or source.position!=target.position and not reach[site][s]: continue
            w = grads[s][0,source.position]*t.sources[s].detach()[0,source.position]
            w = w.sum().item() if s==INPUT else w[source.c].item()*source.ci
            if w: found[source.Index,target.Index] = w
    return found

@pytest.mark.parametrize('through_delta', [True, False])
def test_the_fast_path_equals_one_backward_per_target(through_delta, monkeypatch):
    dm = spd.load('story')
    toks = next(iter(stories(batch=2, seq=12, seed=5)))
    if not through_delta:  # the definition with paths that end at deltas
        whole = globals()['traced']
        monkeypatch.setitem(globals(), 'traced', lambda *a: whole(*a, through_delta=False))
    for row in toks:
        g = graph(dm, row, positions=[-1,4], through_delta=through_delta, tokens=100)
        want = one_backward_per_target(dm, row[None], g)
        got = g.edges.set_index(['source','target']).weight.to_dict()
        keys = set(want)|set(got)
        a,b = (np.array([d.get(k, 0.) for k in keys]) for d in (want, got))
        assert len(keys)>500 and abs(a-b).max()<=1e-5*abs(a).max()

def test_models_of_numbers_with_and_without_positions():
    class Mixer(nn.Module):
        "Mixes positions by a matrix, as MLP-Mixer does"
        def __init__(self):
            super().__init__()
            self.a,self.b = nn.Linear(4, 4),nn.Linear(4, 2)
            self.mix = nn.Parameter(torch.randn(5, 5))
        def forward(self, x): return self.b(torch.tanh(self.mix@self.a(x)))
    torch.manual_seed(0)
    g = graph(_decomposed(Mixer(), dict(a=3, b=4)), torch.randn(1, 5, 4).double(), target=0)
    assert g.edges.cross_position.any() and '/output:0@4' in g.nodes.index
    assert set(g.nodes[g.nodes.kind=='input'].key)=={'/input:0'}
    toy = spd.load('resid_1')
    x = torch.zeros(1, 100)
    x[0,7] = .8
    n = graph(toy, x).nodes
    assert n[n.kind=='input'].key.tolist()==['/input:7'] and n[n.kind=='output'].act.idxmax()=='/output:7@0'

def test_numbers_that_are_not_finite_are_refused():
    dm = _decomposed(Normed(), dict(first=5, down=8))
    with pytest.raises(ValueError, match='importances are not finite'):
        graph(dm, torch.full((1, 4), torch.nan, dtype=torch.double))
    class Steep(nn.Module):
        "A square root at 0, where its slope is no number"
        def __init__(self):
            super().__init__()
            self.a,self.b = nn.Linear(4, 3),nn.Linear(3, 2)
        def forward(self, x): return self.b((self.a(x)*0).sqrt())
    with pytest.raises(ValueError, match='contributions are not finite'):
        graph(_decomposed(Steep(), dict(a=3, b=3)), torch.randn(1, 4, dtype=torch.double), target=0)

@pytest.mark.parametrize('name', ['induction'])
def test_previous_token_components_feed_induction_components_through_keys(name):
    dm = spd.load(name)
    x = next(iter(dm.target.batches(4, seed=11)))
    start = x.shape[1]-dm.target.spec['half']
    hits = 0
    for row in x:
        g = graph(dm, row, positions=[start+3])
        e = g.edges
        site = g.nodes.site
        via = e[(e.source.map(site)=='blocks.0.o')&(e.target.map(site)=='blocks.1.k')]
        into_o = e[e.target.map(site)=='blocks.1.o']
        top = into_o.loc[into_o.weight.abs().nlargest(20).index]
        keys = set(top.source[top.source.map(site)=='blocks.1.k'])
        hits += bool(set(via.target)&keys)
    assert hits==4

def _their_flows():
    "Our sums over the text of their harvest, and what they stored"
    dm = opened()
    rows = load_file(fixture_or_skip('harvest/batches.safetensors'))['tokens'].long()
    theirs = torch.load(fixture_or_skip('dataset_attributions/s-0f000001/da-20260319_120000/dataset_attributions.pt'),
        weights_only=True)
    reach,sums = reaches(dm, rows[0][:1], 'wte'),FlowSums({})
    for i,x in enumerate(rows): sums.add(i, flow(dm, x, reach, 'wte'))
    return dm,sums,theirs

def _assert_close(got, want, size):
    "Equal to 1e-4 of the largest, where they have a value: they leave out components that never fire"
    alive = want.abs().sum(1)>0
    np.testing.assert_allclose(got[alive], want[alive], atol=1e-4*max(want.abs().max().item(), size))

def test_dataset_attributions_equal_theirs():
    dm,sums,theirs = _their_flows()
    signed,absolute,ci,square = (sums.sums(k) for k in ('signed','absolute','ci','square'))
    assert sums.n==theirs['n_tokens_processed']
    for target,of in theirs['regular_attr'].items():
        t = site_of(target)
        assert {s for x,s in signed if x==t}-{INPUT}=={site_of(s) for s in of}
        np.testing.assert_allclose(square[t,], theirs['component_act_sq_sum'][target], rtol=1e-4)
        for source,want in of.items():
            s = site_of(source)
            _assert_close((signed[t,s]@dm.at(t).V.detach().double()).T, want, 0)
            _assert_close(absolute[t,s].T, theirs['regular_attr_abs'][target][source], 0)
    for target,want in theirs['embed_attr'].items():
        t = site_of(target)
        size = 1. if target[0]=='0' else 0.  # a norm right after the embedding makes their sums nearly 0
        _assert_close((signed[t,INPUT]@dm.at(t).V.detach().double()).T, want, size)
        _assert_close(absolute[t,INPUT].T, theirs['embed_attr_abs'][target], size)
    for source,want in theirs['unembed_attr'].items():
        _assert_close(signed[OUTPUT,site_of(source)].T, theirs['w_unembed'].T@want, 0)
    np.testing.assert_allclose(signed[OUTPUT,INPUT].T, theirs['w_unembed'].T@theirs['embed_unembed_attr'], atol=1e-3)
    for s,want in theirs['ci_sum'].items(): np.testing.assert_allclose(ci[site_of(s),], want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ci[INPUT,], theirs['embed_token_count'])
    np.testing.assert_allclose(square[OUTPUT,], theirs['logit_sq_sum'], rtol=1e-4)

def test_paths_without_a_closed_form_give_the_same_sums(monkeypatch):
    dm = spd.load('story')
    toks = next(iter(stories(batch=2, seq=10, seed=3)))
    read_by = input_site(dm.target, toks)
    reach,head = reaches(dm, toks[:1], read_by),unembedding(dm, toks)
    fast = flow(dm, toks, reach, read_by, head)
    slowly,called = flows._slowly,[]
    def counted(*a, **kw):
        called.append(a[2])
        return slowly(*a, **kw)
    monkeypatch.setattr(flows, '_slowly', counted)
    flow(dm, toks, reach, read_by, head)
    assert not called  # every path at one position of this model has a closed form
    monkeypatch.setattr(flows, '_residual', lambda *a: {})
    monkeypatch.setattr(flows, '_diagonal', lambda *a: {})
    slow = flow(dm, toks, reach, read_by, head)
    assert called
    for a,b in zip(fast[:2], slow[:2]):
        assert a.keys()==b.keys()
        for k in a: torch.testing.assert_close(a[k], b[k], rtol=1e-4, atol=1e-6+1e-4*a[k].abs().max().item())

def test_a_circuit_learned_without_an_attack_equals_theirs():
    """Twenty steps on one prompt: importances before the sigmoid, how many are left, and what the model then says

    They average the size over positions, where ours is the sum
    """
    theirs,dm = expected('prompt_graph/optimized_ce_ci.json'),opened()
    config,ids = theirs['config'],theirs['tokens']
    q = question(dm, ids, config['loss']['label_token'], config['loss']['position'])
    learned = _Learned(q, config['lr'])
    sparsity,p = config['imp_min']['coeff']/len(ids),config['imp_min']['pnorm']
    for _ in range(config['steps']): _train_step(learned, torch.Generator(), sparsity, p, None, False)
    on = [f'{s}:{c}@{t}' for s,alive in q.alive.items() for t,c in alive[0].nonzero().tolist()]
    ours,metrics = dict(zip(on, learned.pre.tolist())),theirs['metrics']
    want = {_node(k, ids):v for k,v in theirs['pre_sigmoid_of_initially_alive'].items()}
    assert set(ours)==set(want)
    np.testing.assert_allclose([ours[k] for k in want], list(want.values()), atol=1e-4)
    assert learned.nodes()==metrics['l0_total']*len(ids)
    said = outcome(q, {s:g.detach() for s,g in learned.ci().items()})
    assert abs(said.p-metrics['ci_masked_label_prob'])<1e-5
