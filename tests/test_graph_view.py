"The graph view: what its front end prunes, whatever names and numbers it is given"
import json, shutil, subprocess
from pathlib import Path
import numpy as np, pandas as pd, pytest
from fastcore.test import test_eq as check_eq
from traitlets import TraitError
from spd_nb.graph_view import GraphView
from spd_nb.graphs import Graph, load_graph, node_name

ROOT = Path(__file__).parent.parent
PRUNES = """
import { prune } from './spd_nb/static/graph_math.js'
import { readFileSync } from 'node:fs'
const { g, shares } = JSON.parse(readFileSync(0, 'utf8'))
console.log(JSON.stringify(shares.map(([n, e]) => { const k = prune(g, n, e); return [k.nodes, k.edges] })))
"""

def random_graph(seed, P=5, sites=4, c=6, dense=.3):
    "Inputs, components and outputs with random edges from earlier to later sites and positions"
    rng = np.random.default_rng(seed)
    rows = [(f'/token:{t}', '/token', t, t, 'input', 0.) for t in range(P)]
    rows += [(f's{s}:{i}', f's{s}', i, t, 'component', 0.) for s in range(sites) for t in range(P) for i in range(c)]
    rows += [(f'/logit:{k}', '/logit', k, P-1, 'output', w) for k,w in enumerate((.6, .4))]
    rank = {s:i for i,s in enumerate(['/token', *(f's{i}' for i in range(sites)), '/logit'])}
    pairs = [(i, j) for i,a in enumerate(rows) for j,b in enumerate(rows)
        if rank[a[1]]<rank[b[1]] and a[3]<=b[3] and rng.random()<dense]
    nodes = pd.DataFrame([dict(key=k, site=s, c=i, kind=kind, position=t, token='x', label='', ci=1., act=1., weight=w,
        lost=abs(rng.normal()), rest=0., bias=0.) for k,s,i,t,kind,w in rows],
        index=[node_name(r[0], r[3]) for r in rows])
    src,dst = np.array(pairs).T
    about = dict(tokens=['x']*P, ids=None, importance=False, absolute=False)
    return Graph(nodes, src, dst, rng.normal(size=len(src)), about)

@pytest.mark.skipif(shutil.which('node') is None, reason='no node on PATH')
@pytest.mark.parametrize('seed', range(6))
def test_the_front_end_prunes_as_python_does(seed):
    g = random_graph(seed)
    shares = [(1., 1.), (.9, .98), (.8, .5), (.3, .9), (.05, 1.), (0., 0.)]
    data = json.dumps(dict(g=dict(GraphView(g).drawn), shares=shares))
    p = subprocess.run(['node','--input-type=module','--no-warnings','-e',PRUNES], input=data, cwd=ROOT,
        capture_output=True, text=True, timeout=60)
    assert p.returncode==0, p.stderr
    for (nodes,edges),(keep,on) in zip(shares, json.loads(p.stdout)):
        small,e = g.pruned(nodes, edges),g.edges
        check_eq([n for n,k in zip(g.nodes.index, keep) if k], small.nodes.index.tolist())
        check_eq([(a, b) for a,b,k in zip(e.source, e.target, on) if k],
            list(zip(small.edges.source, small.edges.target)))

def test_what_is_drawn_is_the_graph():
    "Nodes and edges by column, as the front end reads them"
    g = random_graph(0, P=3, sites=2, c=2)
    d,df = GraphView(g).drawn,g.nodes
    sites = ['/token','s0','s1','/logit']
    check_eq((d['tokens'], d['sites'], d['of']), (['x']*3, sites, [len(df), len(g.edges)]))
    n,e = d['nodes'],d['edges']
    check_eq([sites[i] for i in n['site']], df.site.tolist())
    check_eq([['input','component','output'][i] for i in n['kind']], df.kind.tolist())
    check_eq((n['name'], n['position'], n['text']), (df.index.tolist(), df.position.tolist(), df.label.tolist()))
    for k in ('ci','act','influence','weight','lost'): np.testing.assert_allclose(n[k], df[k], rtol=1e-3)
    check_eq([(df.index[s], df.index[t]) for s,t in zip(e['s'], e['t'])], list(zip(g.edges.source, g.edges.target)))
    np.testing.assert_allclose(e['w'], g.edges.weight, rtol=1e-6)

def test_traits_have_ranges_and_reach_the_front_end():
    view = GraphView(random_graph(0))
    ours = {'node','pinned','groups','places','node_share','edge_share','drawn','evidence','live','key'}
    assert ours<=set(view.keys)  # those that are sent
    check_eq((view.node, view.node_share, view.edge_share), ('', .8, .98))
    bad = [(k, v) for k in ('node_share','edge_share') for v in (-.1, 1.1)]
    bad += [('groups', {'a':['s1:2@3',1]}), ('groups', {1:['s1:2@3']}), *(('places', p) for p in (
        {'a':[.5]}, {'a':[.5,1.,2.]}, {'a':['x',1.]}, {1:[.5,1.]}))]
    for name,value in bad:
        with pytest.raises(TraitError): setattr(view, name, value)
    for name in ('node_share','edge_share'):
        for value in (0., 1.): setattr(view, name, value)

def test_a_node_that_is_not_the_most_influential_of_its_component_stays_picked():
    g = random_graph(0)
    view,of = GraphView(g),g.nodes[g.nodes.key=='s1:2'].influence
    view.pick_node(node=of.idxmin())
    check_eq((view.node, view.key), (of.idxmin(), 's1:2'))
    view.pick_node(node='/token:1@1')
    check_eq((view.node, view.key), ('/token:1@1', ''))
    view.pick(key='s1:2')
    check_eq(view.node, of.idxmax())

def test_a_graph_without_tokens_cannot_be_asked():
    "Nothing is run, and nothing breaks, where there is neither a model nor a harvest"
    view = GraphView(random_graph(0), pinned=['s1:2@3'])
    assert not view.live and not view.evidence
    assert view.snapshot_state()['said']==[] and 'details' not in view.snapshot_state()
    with pytest.raises(RuntimeError, match='this view has no harvest'): view.detail(key='s1:2')

def test_what_a_front_end_asks_is_checked():
    view,sent = GraphView(random_graph(0)),[]
    view.send = sent.append
    good = dict(pinned=['s1:2@3'], groups={}, places={'s1:2@3':[.5,40]}, node_share=.5, edge_share=1.)
    bad = [dict(pinned=['nothing@0']), dict(pinned='s1:2@3'), dict(places={'a':[float('nan'),1.]}),
        dict(places={'a':[1.]}), dict(node_share=1.5), dict(groups={'g':['s1:2@3'], 'h':['s1:2@3']}), dict(more=1)]
    for b in bad:
        view._handle_custom_msg(dict(id=1, ask='arrange', args=good|b), [])
        assert 'error' in sent[-1], b
        assert view.pinned==[] and view.groups=={} and view.places=={} and view.node_share==.8
    view._handle_custom_msg(dict(id=1, ask='arrange', args=good), [])
    assert sent[-1]['answer'] is None and view.pinned==['s1:2@3'] and view.node_share==.5

def test_a_saved_view_of_another_graph_is_refused_by_name(tmp_path):
    view = GraphView(random_graph(0), pinned=['s1:2@3'])
    g = load_graph(view.save(tmp_path/'g'))
    g.about['view']['pinned'] = ['elsewhere:1@0']
    with pytest.raises(LookupError, match="no node 'elsewhere:1@0'"): GraphView(g)
