"""`make demo`: take a toy model apart in under a minute, open the language model's decomposition that ships, find the
component that predicts a token, take it out, rewrite another, explain one prompt, and write demo.html"""
import tempfile, time
from pathlib import Path
import torch
from spd_nb.attribution import graph
from spd_nb.browser import ComponentBrowser
from spd_nb.circuits import circuit
from spd_nb.initialisation import gaussian
from spd_nb.diff import EditDiff
from spd_nb.edit import ablated, u_replaced
from spd_nb.eval import alive, evaluate, mask_table, mean_over, report, spectrum
from spd_nb.graph_view import GraphView
from spd_nb.ground_truth import identity_error, ml2r, mmcs, one_hots
from spd_nb.harvest import Harvest
from spd_nb.interventions import next_tokens, patched
from spd_nb.keys import Key
from spd_nb.learn import write_token
from spd_nb.lens import PromptLens
from spd_nb.grids import grid
from spd_nb.losses import quarter_cosine
from spd_nb.measures import kl
from spd_nb.model import decompose, load
from spd_nb.objectives import spd_losses
from spd_nb.pickers import HeatmapPicker, ParetoPicker
from spd_nb.places import Places
from spd_nb.plots import lines, points
from spd_nb.component_plots import vectors2d
from spd_nb.scoring import held_out, shortlist
from spd_nb.stories import stories, story_rows, vocabulary
from spd_nb.toys import TMS, fit_toy
from spd_nb.tradeoff import generations, measure
from spd_nb.sweeps import sweep_edits
from spd_nb.train import fit
from spd_nb.pages import write_page

root = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)
began = time.time()

print('1/6  training the target: five features squeezed through two dimensions')
toy = TMS(5, 2, seed=0)
fit_toy(toy, 4000)

print('2/6  taking it apart into rank-one components')
dm = decompose(toy, {'linear*':20}, tied={'linear2':'linear1'}, init=gaussian)
with tempfile.TemporaryDirectory() as tmp:
    run = fit(dm, toy.batches(512, merge=True), spd_losses(), steps=3000, lr=5e-3, schedule=quarter_cosine, warm=200,
        path=tmp)
W,cs,ci = toy.linear1.weight,dm.at('linear1'),dm.ci(one_hots(5)).lower
trust = report(dm, toy.batches(4096, seed=1))
with torch.no_grad(): big = [c for c in range(cs.C) if cs.V[:,c].norm()*cs.U[c].norm()>.1]
facts = [f'{len(big)} of {cs.C} components are alive; the toy has 5 mechanisms',
         f'Identity error {identity_error(ci["linear1"])}: each feature has '
         f'{"one component of its own" if not identity_error(ci["linear1"]) else "not one component of its own"}',
         'MMCS {:.4f}, ML2R {:.4f}'.format(mmcs(W, cs)[0], ml2r(W, cs)[0])]
print(*('     '+f for f in facts), sep='\n')
print(trust)

print('3/6  opening a shipped decomposition: a language model that tells stories')
opened = time.time()
lm = load(root/'data'/'story')
evals = evaluate(lm, stories(16, 128, seed=77, held_out=True), 3)
masks,living = mask_table(evals, kl),alive(spectrum(evals))
needed = {s:mean_over(lambda o: (o.ci.lower[s]>0).float().sum(-1).mean(), evals).item() for s in lm.sites}
told = [f'Opened and measured in {time.time()-opened:.1f} s: {sum(needed.values()):.1f} of {sum(lm.C.values()):,} components at a time; with only those the next-token distribution is {masks.kl["rounded"]:.3f} nats from the model\'s (with none of them, {masks.kl["zero"]:.1f})']  # noqa: E501
row = story_rows(1, 110, seed=19, held_out=True)[0]
ids = {t:i for i,t in enumerate(vocabulary())}
toks = torch.tensor([[ids[t.text] for t in row]])
h,opened = Harvest(root/'data'/'story'/'harvest', lm),time.time()
some = held_out(h, stories(8, 128, seed=501, held_out=True), 4)
found = shortlist(h, ' "', some, n=8, progress=False)
confused = shortlist(h, ' "', some, side='input', n=8, progress=False)
key = Key.parse(found.index[0])
told.append(
    f'Which component opens quotations? Of the 8 that predict the mark best, {key} takes away '
    f'{-found.change.iloc[0]:.0%} of it when taken out; of the 8 that fire on the mark, the best takes away '
    f'{-confused.change.iloc[0]:.0%} (found and measured in {time.time()-opened:.1f} s)')

def places(n, seed, role):
    "Fresh stories, with the places before tokens of a role"
    rows = story_rows(n, 128, seed=seed)
    return Places(torch.tensor([[ids[t.text] for t in r] for r in rows]),
        torch.tensor([[t.role==role for t in r[1:]]+[False] for r in rows]))

gone = ablated(lm, [key])
quiet = measure(lm, gone, places(32, 33, 'quote_open'), [ids[' "']], places(32, 34, 'quote_open'))
told.append(
    f'On other stories, without {key}, the probability of an opening quote where one comes changes by '
    f'{quiet["change"]:.0%}, the perplexity of other tokens by {quiet["ppl_elsewhere"]:.1%}')
print(*('     '+t for t in told), sep='\n')

print('4/6  why did it say that? a graph, and a circuit that an adversary has attacked')
letter = 'Ida went to the farm. She got a letter: "See you at the'
g = graph(lm, letter, ' farm')
kept = circuit(lm, letter, ' farm', steps=60, lr=.1, progress=False)
held = kept.outcomes(('removed',160), seeds=1).p
carriers = [n for n in kept.nodes.index if '.0.self_attn.v_proj' in n and n.endswith('@5')]
swamp = letter.replace('farm', 'swamp')
there = graph(lm, swamp).nodes.query("site=='model.layers.0.self_attn.v_proj' and position==5").index
moved = next_tokens(lm, letter, dict(patched=lambda: patched(lm, {*carriers, *there}, swamp)), [' farm', ' swamp'])
why = [f'After “{letter}”, {sum(g.nodes.kind=="component")} nodes took part in saying “farm”. A circuit of {len(kept)} '
       f'keeps it: P is {held["the model"]:.3f} in the model, and {held[160]:.3f} if an adversary sets all others',
       'The values of layer 0 at the token “farm” carry the place: with the activations they have after “swamp”, the '
       f'model says “swamp” with probability {moved.patched[" swamp"]:.2f} (before: {moved.model[" swamp"]:.4f})']
print(*('     '+t for t in why), sep='\n')

print('5/6  rewriting a component: eyes of emoticons, and a mouth that is nearly never there')
eyes,edited = Key('model.layers.1.mlp.down_proj', 130),[]
on,elsewhere,seen = places(32, 35, 'emo_mouth'),places(32, 36, 'emo_mouth'),places(16, 37, 'emo_mouth').toks
def surprised(scale): return u_replaced(lm, *eyes, write_token(lm, eyes, 'o', scale, seen))
curve = sweep_edits(surprised, grid(scale=[.5,.75,1.,1.2,1.5,2.,3.]),
    lambda e: measure(lm, e, on, [ids['o']], elsewhere, resamples=1), progress=False)
scale = curve.scale[curve.p_after>.92].iloc[0]
fresh = measure(lm, surprised(scale), places(32, 38, 'emo_mouth'), [ids['o']], places(32, 39, 'emo_mouth'))
edited.append(
    f'{eyes} fires on the eyes of emoticons; written with strength {scale:g} along the direction of o, on other '
    f'stories it makes o the mouth with probability {fresh["p_after"]:.2f} instead of {fresh["p_before"]:.2f}, at '
    f'{fresh["near_kl"]:.4f} nats nearby and {fresh["elsewhere_kl"]:.4f} elsewhere')
letter = generations(lm, surprised(scale), ['Ida went to the farm. She got a letter: "See you at the'], n=6,
    samples=0).table.iloc[0]
edited.append(f'“{letter.prompt}” goes on with “{letter.before}” before and “{letter.after}” after')
print(*('     '+t for t in edited), sep='\n')

print('6/6  writing the page')
browser = ComponentBrowser(h, token=' "', key=str(key))
why_view = GraphView(g, h, pinned=[n for n in kept.nodes.index if n in g.nodes.index],
    groups={'carry the place':[n for n in carriers if n in g.nodes.index]})
lens = PromptLens(h, prompt='Ida went to the farm. She got a letter: "See you at the')
diff = EditDiff(lm, gone,
    ['Ida went to the farm. She got a letter:', 'Tom went to the river. There he met Mia. She asked'], n=24,
    measured=quiet)
picked = ParetoPicker(curve.assign(scale=curve.scale.map(str)), 'elsewhere_kl', 'p_after', text='scale',
    y_better='high', log_x=True, title='Stronger and stronger', x_title='KL elsewhere (nats per token)',
    y_title='P(o) at emoticon eyes')
effects = points(dict(key=[*found.index, *confused.index], change=[*found.change, *confused.change],
    elsewhere=[*found.elsewhere, *confused.elsewhere],
    chosen=['by what it predicts']*len(found)+['by what it fires on']*len(confused)),
    'elsewhere', 'change', group='chosen', text='key', title='Taking one component out',
    x_title='cost elsewhere (nats per token)', y_title='change of P(opening quote)')
with torch.no_grad():
    columns = vectors2d(W, (cs.V[:,big], cs.U[big]),
        title='Columns of the weight, and what each living component writes')
out = write_page(root/'demo.html', {
    '': 'The weight matrices of two trained models, split into rank-one components: each reads one direction and writes another, and for every input it is known which of them are needed. `make demo` has just made this page; it needs neither Python nor a network.',  # noqa: E501
    'A language model of stories, taken apart': [*told,
        'Every component that fires is in this table. Search for a token that is '
        'predicted or read, open a row, follow what fires with it; “says” shades '
        'the token after the one it fires on.', browser.snapshot(examples=4)],
    'What a text needs': ['Below each token is the number of components that it needs (importance above 0.1): some 15 on average, more where a story branches. Point at one to see which, site by site, and what the model expects next; click one for more.', lens.snapshot(most=4, examples=3)],  # noqa: E501
    'Why did it say that?': [*why, 'Squares are components, at their token and in their layer; those of the circuit are pinned. Point at one to see what feeds it and what it feeds. Below is the circuit alone, and what the model says without it, and with nothing else.', why_view.snapshot(most=20, examples=2)],  # noqa: E501
    'One component taken out': [f'The model without {key}: tokens are shaded by how far the next token is moved. Pick one to see from what to what.', diff, effects],  # noqa: E501
    'Another rewritten': [*edited, picked],
    'A toy taken apart just now': [*facts, columns, HeatmapPicker(ci['linear1'], x_title='component',
        y_title='feature', z_title='importance', zmin=0., zmax=1., title='Importances: each feature alone'),
        lines(run.frame(), 'step', ['faithfulness','stochastic','layerwise'], log_y=True, title='The run',
        y_title='loss'), 'Whether to believe it:', trust],
}, 'spd_nb: two models taken apart')
print(f'done in {time.time()-began:.0f} s; open {out} ({out.stat().st_size/1e6:.1f} MB, needs no network)')
