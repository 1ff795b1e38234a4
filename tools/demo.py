"""`make demo`: take a toy model apart in under a minute, open a converged decomposition that ships, and write demo.html"""
import tempfile, time
from html import escape
from pathlib import Path
import torch
from spd_nb.components import gaussian
from spd_nb.eval import identity_error, ml2r, mmcs, neuron_contributions, one_hots, report
from spd_nb.losses import quarter_cosine
from spd_nb.model import decompose, load
from spd_nb.plots import contributions, importances, lines, norms, vectors2d
from spd_nb.toys import TMS, fit_toy
from spd_nb.train import fit, spd_losses

root = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)
began = time.time()

print('1/3  training the target: five features squeezed through two dimensions')
toy = TMS(5, 2, seed=0)
fit_toy(toy, 4000)

print('2/3  taking it apart into rank-one components')
dm = decompose(toy, {'linear*':20}, tied={'linear2':'linear1'}, init=gaussian)
with tempfile.TemporaryDirectory() as tmp:
    run = fit(dm, toy.batches(512, merge=True), spd_losses(), steps=6000, lr=5e-3, schedule=quarter_cosine, warm=200, path=tmp)
W,cs,ci = toy.linear1.weight,dm.at('linear1'),dm.ci(one_hots(5)).lower
trust = report(dm, toy.batches(4096, seed=1))
with torch.no_grad(): big = [c for c in range(cs.C) if cs.V[:,c].norm()*cs.U[c].norm()>.1]
facts = [f'{len(big)} of {cs.C} components are alive; the toy has 5 mechanisms',
         f'identity error {identity_error(ci["linear1"])}: each feature has {"one component of its own" if not identity_error(ci["linear1"]) else "not one component of its own"}',
         'MMCS {:.4f}, ML2R {:.4f}'.format(mmcs(W, cs)[0], ml2r(W, cs)[0])]
print(*('     '+f for f in facts), sep='\n')
print(trust)

print('3/3  opening a shipped decomposition: a residual MLP with 100 features in 50 neurons')
resid = load(root/'data'/'toys'/'resid_1')
n = neuron_contributions(resid)
probes = resid.ci(one_hots(100)).lower
print(f'     neuron contributions: r = {n.r:.4f}, slope = {n.slope:.3f}')

with torch.no_grad():
    parts = [
        ('The toy taken apart just now', ''.join(f'<li>{escape(f)}</li>' for f in facts)),
        (None, lines(run.frame(), 'step', ['faithfulness','stochastic','layerwise'], log_y=True, title='The run', y_title='loss')),
        (None, vectors2d(W, (cs.V[:,big], cs.U[big]), title='Columns of the weight, and what each living component writes')),
        (None, importances(ci)),
        (None, norms({s:d['norm'] for s,d in trust.tables['spectrum'].groupby('site')})),
        ('Whether to believe it', trust._repr_html_()),
        ('A residual MLP, shipped converged', ''),
        (None, contributions(n.target, n.parts)),
        (None, importances(probes)),
    ]
html,first = [],True
for title,part in parts:
    if title: html.append(f'<h2>{escape(title)}</h2>')
    if isinstance(part, str): html.append(f'<ul>{part}</ul>' if part.startswith('<li>') else part)
    else:
        html.append(part.to_html(full_html=False, include_plotlyjs=first))
        first = False
out = root/'demo.html'
out.write_text('<!doctype html><meta charset="utf-8"><title>spd_nb demo</title><style>body{font-family:sans-serif;max-width:1000px;margin:2em auto}td,th{padding:.2em .8em}</style><h1>spd_nb: a toy model taken apart</h1>'+'\n'.join(html))
print(f'done in {time.time()-began:.0f} s; open {out}')
