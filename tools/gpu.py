"""`make gpu`: is everything the same on a GPU as on a CPU, how fast is it there, and how much memory does it take?
In under 8 minutes, without network:
python tools/gpu.py                           all checks on the GPU; exits 1 if one fails
python tools/gpu.py --device cpu              the same checks at their smallest, to see that they run
python tools/gpu.py --only gradients,plan     some of them
python tools/gpu.py --log data/results/gpu.md writes a dated section below what the file holds"""
import argparse, copy, math, os, sys, tempfile, time, traceback
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS repeats itself to the last bit
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import torch
from torch import Tensor
from spd_nb.browser import ComponentBrowser
from spd_nb.ci import GlobalCI, ScalarCI, SharedCI, TransformerCI, VectorCI, private_gates
from spd_nb.compute import peak_memory
from spd_nb.core import provenance, seeded
from spd_nb.places import before, says
from spd_nb.edit import ablated, scaled, u_replaced, v_replaced
from spd_nb.export import baked
from spd_nb.learn import fit_u
from spd_nb.feature_space import feature_space
from spd_nb.harvest import Harvest
from spd_nb.count import count
from spd_nb.lens import PromptLens
from spd_nb.lms import StoryLM
from spd_nb.lora import lora, project
from spd_nb.losses import cosine
from spd_nb.measures import kl, mse
from spd_nb.adversary import PersistentPGD
from spd_nb.masks import ci_masks, one_site, stochastic_masks
from spd_nb.model import decompose, load, save
from spd_nb.stats import Stats
from spd_nb.stories import stories
from spd_nb.studio import EditStudio
from spd_nb.toys import TMS, ResidMLP
from spd_nb.tradeoff import measure
from spd_nb.objectives import Adversarial, faithful, recon, smooth_sparse, sparse, spd_losses, stochastic, vpd_losses
from spd_nb.learner import Learner
from spd_nb.train import fit
from spd_nb.planning import plan

class Row(NamedTuple):
    "One line of the table"
    what:str
    value:str
    good:bool|None=None # `None` for a number that is only reported

class At(NamedTuple):
    "Where checks run, and how large"
    device:torch.device
    small:bool
    def story(self): return load(ROOT/'data'/'story').to(self.device)
    def wait(self): torch.get_device_module(self.device).synchronize()

def close(a, b): # Tensors, numbers, or anything of them
    "Largest difference, relative to the largest value; infinite where the two are not alike"
    if isinstance(a, dict):
        return max((close(a[k], b[k]) for k in a), default=0.) if isinstance(b,
            dict) and a.keys()==b.keys() else math.inf
    if isinstance(a, (list,tuple)):
        return max((close(x, y) for x,y in zip(a, b)), default=0.) if len(a)==len(b) else math.inf
    if isinstance(a, Tensor):
        a,b = a.detach().cpu().double(),b.detach().cpu().double()
        if a.shape!=b.shape or not torch.equal(a.isfinite(), b.isfinite()): return math.inf
        a,b = a[a.isfinite()],b[b.isfinite()]
        return ((a-b).abs().max()/a.abs().max().clamp(min=1e-12)).item() if a.numel() else 0.
    if isinstance(a, float) or isinstance(b, float): return abs(a-b)/max(abs(a), 1.) if a==a or b==b else 0.
    return 0. if a==b else math.inf

def same(what, a, b, most=1e-4):
    "A row that says how far two results are apart"
    off = close(a, b)
    return Row(what, f'off by {off:.1e} of {most:.0e}', off<=most)

def overlap(what, a, b, least, most=1e-3):
    "As `same`, for two dictionaries that may lack what is below `least`"
    off = max((abs(a.get(k, 0.)-b.get(k, 0.)) for k in a|b if max(a.get(k, 0.), b.get(k, 0.))>least), default=math.inf)
    return Row(what, f'off by {off:.1e} of {most:.0e}', off<=most)

def flat(grads): return torch.cat([g.detach().cpu().double().flatten() for g in grads])
def alike(a, b): return torch.cosine_similarity(flat(a), flat(b), dim=0).item()
def along(what, a, b): # for what Adam made, which turns the smallest gradients' signs into whole steps
    c = alike(a.values(), b.values())
    return Row(what, f'cosine {c:.6f}', c>.999)

def spread(like): # a source that is the same on every device, where random numbers are not
    return (torch.arange(1, like.numel()+1, dtype=torch.float64)*.6180339887498949%1).view(like.shape).to(like)

def parts(masks): # a route that is the same on every device
    first = next(iter(masks.values())).mask
    return {s:((torch.arange(first.shape[:-1].numel(), device=first.device)+i)%3>0).view(first.shape[:-1])
        for i,s in enumerate(masks)}

def layered(step):
    masks = stochastic_masks(step.ci.lower, spread)
    return sum(recon(step, masks, one_site(s), kl) for s in masks)/len(masks)

def adversary(dm, x):
    "A loss whose sources begin with the same numbers on every device"
    a = PersistentPGD()
    a.masks({s:g.detach() for s,g in dm.ci(x.to(dm.device)).lower.items()})
    a.load_state_dict({k:spread(v) if k.startswith('sources/') else v for k,v in a.state_dict().items()})
    return Adversarial(a)

def losses(dm, x):
    "Every loss, with the same randomness on every device"
    return dict(faithfulness=faithful, sparse=partial(sparse, p=.9, beta=.5),
        smooth_sparse=partial(smooth_sparse, gamma=.2, beta=.5), layerwise=layered, adversarial=adversary(dm, x),
        **{f'stochastic {m.__name__}':partial(stochastic, measure=m, route=parts, delta=True, source=spread)
        for m in (mse, kl)})

def gradient(dm, x, loss, precision='float32'):
    "A loss on a batch, and its gradient"
    learner = Learner(dm, [x], {'it':(1.,loss)}, 10, 1e-3, cosine, precision=precision)
    value = learner.compute()[0]['it']
    return value.item(),torch.autograd.grad(value, dm.trainable_parameters(), materialize_grads=True)

def gradients(at):
    "Every loss and its gradient, against float64 on the CPU"
    with seeded(0): dm = decompose(StoryLM(32, 64), {'*attn.*_proj':24, '*mlp.*_proj':40}, partial(SharedCI, hidden=16))
    x = stories(4, 32, seed=3)[0]
    there = copy.deepcopy(dm).to(at.device)
    exact = copy.deepcopy(dm).double()
    for name,loss in losses(exact, x).items():
        value,grads = gradient(exact, x, loss)
        for precision,most in (('float32',1e-4), ('bf16',.05)):
            v,g = gradient(there, x, losses(there, x)[name], precision)
            c = alike(g, grads)
            yield Row(f'{name}, {precision}', f'value off by {abs(v-value)/abs(value):.1e}, gradient cosine {c:.6f}',
                abs(v-value)<=most*abs(value) and c>=(.9999 if precision=='float32' else .99))

def pieces(at):
    "KL, private gates, importance functions, masked runs"
    n = 300 if at.small else 4000
    with seeded(1):
        out = torch.randn(n, 1001)*3
        ref = torch.randn(n, 1001)*3
        w = torch.rand(n)
        h = torch.randn(n, 70)
        gates = [torch.randn(9, 70) for _ in range(3)]+[torch.randn(70)]
    def both(f, *args):
        def on(device):
            xs = [a.to(device).requires_grad_() for a in args]
            y = f(*xs)
            return [y, *torch.autograd.grad((y*spread(y)).sum(), xs)]
        return on('cpu'),on(at.device)
    yield same('KL and its gradient', *both(lambda o: kl(o, ref.to(o), w.to(o)), out))
    yield same('private gates and their gradients', *both(private_gates, h, *gates))
    x = stories(4, 32, seed=3)[0]
    for make in (ScalarCI, VectorCI, SharedCI, GlobalCI, partial(TransformerCI, d=32)):
        with seeded(0): dm = decompose(StoryLM(32, 64), {'*mlp.*_proj':40}, make)
        there = copy.deepcopy(dm).to(at.device)
        yield same(f'importances of {type(dm.ci_fn).__name__} and their gradients',
            *(list(gradient(d, x, partial(sparse, p=1.))) for d in (dm, there)), 1e-3)
    here,there = load(ROOT/'data'/'story'),at.story()
    def masked(dm, **kw):
        with torch.no_grad(), dm.masked(stochastic_masks(dm.ci(x.to(dm.device)).lower, spread), **kw):
            return dm(x.to(dm.device))
    yield same('the target alone', here.clean(x).out, there.clean(x.to(at.device)).out)
    for name,kw in dict(everywhere={}, routed=dict(route=parts)).items():
        yield same(f'masked {name}, with deltas', masked(here, **kw), masked(there, **kw))

def counts(at):
    "A harvest: whole numbers are the same, whatever counts them"
    dm,there,x = load(ROOT/'data'/'story'),at.story(),stories(8, 64, seed=9)[0]
    with torch.no_grad():
        clean = dm.clean(x)
        acts,ci,p = dm.acts(inputs=clean.inputs),dm.ci(clean=clean).lower,clean.out.softmax(-1)
    scale = torch.cat([dm.at(s).U.detach().norm(dim=1) for s in dm.sites])
    def counted(device):
        stats = Stats(dm.C, p.shape[-1], device=device)
        stats.update(0, x.to(device), *({s:t.to(device) for s,t in of.items()} for of in (ci, acts)), p.to(device),
            scale.to(device))
        return {k:v.cpu() for k,v in stats.sums.items()},stats.examples.arrays
    (a,drawn),(b,drawn_there) = counted('cpu'),counted(at.device)
    whole = [k for k,v in a.items() if not v.is_floating_point()]
    wrong = [k for k in whole if not torch.equal(a[k], b[k])]+[k for k in ('ticket','toks','batch','at')
        if (drawn[k]!=drawn_there[k]).any()]
    yield Row('whole numbers and examples of the same importances',
        f"{len(whole)} tables, different: {', '.join(wrong) or 'none'}", not wrong)
    yield same('sums of the same importances', *({k:v[k] for k in v if k not in whole} for v in (a, b)), 1e-5)
    n = 2 if at.small else 8
    with tempfile.TemporaryDirectory() as tmp:
        here,got = (count(d, stories(8, 64, seed=9), f'{tmp}/{d.device.type}', n=n, keep=False, progress=False)
            for d in (dm, there))
    off = (here.sums['count']-got.sums['count'].cpu()).abs().sum().item()/here.sums['count'].sum().item()
    yield Row('firings that rounding decides', f'{off:.1e} of {int(here.sums["count"].sum()):,}', off<2e-4)

def edits(at):
    "Edits, gated and placed, LoRA, fitted vectors, measurements"
    both,x = (load(ROOT/'data'/'story'), at.story()),stories(8, 64, seed=4)[0]
    site,key = 'model.layers.1.mlp.down_proj','model.layers.1.mlp.down_proj:80'
    d_out,d_in = both[0].at(site).d_out,both[0].at(site).d_in
    u,v = spread(torch.empty(d_out))-.5,spread(torch.empty(d_in))-.5
    somewhere = x%3==0
    made = {'u_replaced':lambda dm,**kw: u_replaced(dm, site, 80, u, **kw), 'v_replaced':lambda dm,
        **kw: v_replaced(dm, site, 80, v, **kw), 'ablated':lambda dm,**kw: ablated(dm, [key, f'{site}:130'], **kw),
        'scaled':lambda dm,**kw: scaled(dm, {key:-2.}, **kw)}
    def run(dm, make, **kw):
        with torch.no_grad(), make(dm, **kw): return dm(x.to(dm.device))
    for name,make in made.items():
        for how,kw in {'':{}, ', gated':dict(ci_threshold=.1), ', at places':dict(positions=somewhere)}.items():
            yield same(name+how, *(run(dm, make, **kw) for dm in both))
    yield same('baked', *(baked(dm, made['ablated'](dm))(x.to(dm.device)).logits for dm in both))
    steps,token = (4,3) if at.small else (40,3)
    def places(dm): return before(dm, token, x.to(dm.device))
    if not places(both[0]).at.any(): token = int(x[0,5])
    learned = [lora(dm, site, places(dm), says(token), steps=steps, progress=False) for dm in both]
    yield along(f'LoRA after {steps} steps', *(e.deltas() for e in learned))
    yield same('what it is in components', *(dict(project(dm, e.deltas()).unexplained) for dm,e in zip(both, learned)),
        1e-2)
    yield along(f'a write vector after {steps} steps',
        *(fit_u(dm, key, places(dm), says(token), steps=steps, progress=False).deltas() for dm in both))
    yield same('measure',
        *(measure(dm, made['ablated'](dm), places(dm), [token], places(dm), resamples=50).table.value.to_dict()
        for dm in both), 1e-3)

def views(at):
    "What browser, lens and studio answer"
    text,key = 'Ida went to the farm. She got a letter:','model.layers.1.mlp.down_proj:80'
    both = [load(ROOT/'data'/'story'), at.story()]
    hs = [Harvest(ROOT/'data'/'story'/'harvest', dm) for dm in both]
    change = dict(key=key, factor=0., token='', strength=1.)
    yield same('browser', *(ComponentBrowser(h).detail(key) for h in hs), 1e-3)
    writes = [dict(ComponentBrowser(h).lens(key)['writes']) for h in hs]
    yield overlap('directions', *writes, max(writes[0].values())/2)
    read = [PromptLens(h).read(text) for dm,h in zip(both, hs)]
    yield overlap('lens, importances',
        *({(t,*a[:2]):a[2] for t,row in enumerate(r['active']) for a in row} for r in read), .3)
    yield overlap('lens, next tokens', *({(t,w):p for t,row in enumerate(r['next']) for w,p in row} for r in read), .05)
    for gate in (False,True):
        shown = [EditStudio(h).preview(text, [change], gate) for dm,h in zip(both, hs)]
        yield same('studio, KL'+', gated'*gate, *(s['kl'] for s in shown), 1e-3)
        yield overlap('studio, next tokens'+', gated'*gate, *({t:q for t,_,q in s['next']} for s in shown), .05)
    yield same('studio writes', *(EditStudio(h).write_on(text, [change], False, 8) for dm,h in zip(both, hs)))

def halves(at):
    "Targets in half precision: a run stays finite and comes near the weights, a harvest counts"
    for dtype in (torch.bfloat16, torch.float16)+(torch.float64,)*(at.device.type!='mps'):
        with seeded(0): model = StoryLM(32, 64).to(at.device, dtype)
        dm = decompose(model, {'*mlp.*_proj':80}, partial(SharedCI, hidden=16)).to(at.device)
        batches = stories(4, 32, seed=3)
        with tempfile.TemporaryDirectory() as tmp:
            run = fit(dm, batches, vpd_losses(), steps=10 if at.small else 60, every=1, lr=5e-3, path=tmp,
                progress=False)
            stats = count(dm, batches, f'{tmp}/counts', n=2, keep=False, progress=False)
        first,last = (run.history[i]['faithfulness'] for i in (0,-1))
        finite = all(math.isfinite(v) for r in run.history for v in r.values()) and all(v.isfinite().all()
            for v in stats.sums.values() if v.is_floating_point())
        yield Row(f'a target in {str(dtype)[6:]}', f'faithfulness {first:.1e} to {last:.1e}, {stats.n} tokens counted',
            finite and last<first)

def compiled(at):
    "`compile=True` computes the same"
    if at.small:
        yield Row('compile=True', 'left out: compiling takes a minute')
        return
    runs = []
    for compile in (False,True):
        with seeded(0): dm = decompose(StoryLM(32, 64), {'*mlp.*_proj':40}, partial(SharedCI, hidden=16)).to(at.device)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as tmp:
            runs.append(fit(dm, stories(4, 32, seed=3), vpd_losses(), steps=5, every=1, path=tmp, progress=False,
                compile=compile).history)
        took = time.perf_counter()-began
    yield same(f'compile=True ({took:.0f} s)', *runs, 1e-2)

def resumed(at):
    "A run that was stopped goes on to the same numbers, in float32 and bf16"
    def run(path, precision, **kw):
        with seeded(0): dm = decompose(StoryLM(32, 64), {'*mlp.*_proj':40}, partial(SharedCI, hidden=16)).to(at.device)
        return dm,fit(dm, stories(4, 32, seed=3), vpd_losses(), steps=12, every=1, path=path, precision=precision,
            progress=False, **kw)
    for precision in ('float32','bf16'):
        with tempfile.TemporaryDirectory() as tmp:
            whole,a = run(f'{tmp}/whole', precision)
            run(f'{tmp}/cut', precision, callbacks=[lambda l: l.stop() if l.step==5 else None])
            again,b = run(f'{tmp}/cut', precision, resume=True)
        equal = a.history==b.history and all(torch.equal(p, q)
            for p,q in zip(whole.trainable_parameters(), again.trainable_parameters()))
        yield Row(f'resumed, {precision}', 'equal number for number' if equal
            else f'off by {close(list(whole.trainable_parameters()), list(again.trainable_parameters())):.1e}', equal)

def moved(at):
    "Models, saves and checkpoints move between devices"
    x = stories(4, 32, seed=3)[0]
    with seeded(0): dm = decompose(StoryLM(32, 64), {'*mlp.*_proj':40}, partial(SharedCI, hidden=16))
    def run(dm, path, **kw):
        return fit(dm, stories(4, 32, seed=3), vpd_losses(), every=1, path=path, progress=False, **kw)
    def out(dm):
        with torch.no_grad(), dm.masked(ci_masks(dm.ci(x.to(dm.device)).lower)): return dm(x.to(dm.device))
    start = out(dm)
    yield same('to the device', start, out(dm.to(at.device)))
    yield same('and back', start, out(dm.cpu()), 0.)
    with tempfile.TemporaryDirectory() as tmp:
        there = copy.deepcopy(dm).to(at.device)
        run(there, f'{tmp}/run', steps=8, callbacks=[lambda l: l.stop() if l.step==4 else None])
        save(there, f'{tmp}/saved')
        opened = load(f'{tmp}/saved')
        yield same('saved there, opened on the CPU', out(there), out(opened))
        yield Row('opened where it says', str(opened.device), opened.device.type=='cpu')
        step = run(copy.deepcopy(dm), f'{tmp}/run', steps=8, resume=True).step
        yield Row('stopped there, resumed on the CPU', f'step {step} of 8', step==8)

def large(at, ci=SharedCI):
    "A language model to measure on, with batches and losses"
    from transformers import ArceeConfig, ArceeForCausalLM
    d,layers,C,B,S = (32,1,24,2,32) if at.small else (512,6,512,16,256)
    with seeded(0):
        model = ArceeForCausalLM(ArceeConfig(vocab_size=4019, hidden_size=d, intermediate_size=4*d,
            num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=4, hidden_act='gelu',
            max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0)).eval().to(at.device)
        dm = decompose(model, {'*self_attn.*_proj':C, '*mlp.*_proj':C}, partial(ci, hidden=d))
        return dm,[torch.randint(4019, (B,S)) for _ in range(4)],vpd_losses(adversary=PersistentPGD(steps=1))

def timed(at, f, n):
    "Median seconds of a call, after two that are not counted, and the peak in MB"
    if at.device.type in ('cuda','xpu'): torch.get_device_module(at.device).reset_peak_memory_stats(at.device)
    took = []
    for _ in range(n+2):
        at.wait()
        began = time.perf_counter()
        f()
        at.wait()
        took.append(time.perf_counter()-began)
    return sorted(took[2:])[n//2],peak_memory(at.device)

def planned(at):
    "`plan` says what a run then takes"
    dm,batches,losses_ = large(at)
    for options in ({}, dict(precision='bf16'), dict(recompute=True)):
        p = plan(dm, batches, losses_, **options)
        if at.device.type in ('cuda','xpu'): torch.get_device_module(at.device).reset_peak_memory_stats(at.device)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as tmp:
            fit(dm, batches, losses_, steps=8, path=tmp, progress=False, **options)
        took,peak = (time.perf_counter()-began)/8,peak_memory(at.device)
        # the peak of a process is that of everything before, too
        honest = None if at.device.type not in ('cuda','xpu') else .8<p.memory/peak<1.25
        yield Row(f"plan {', '.join(options) or 'as it is'}",
            f'{p.seconds*1e3:.0f} ms and {p.memory:.0f} MB planned, {took*1e3:.0f} ms and {peak:.0f} MB taken', honest)

def speed(at):
    "Steps and harvests: time and peak memory"
    n = 2 if at.small else 10
    for name,toy,C,view in (('TMS 40-10',TMS(40, 10),200,None), ('residual MLP',ResidMLP(),100,feature_space)):
        toy.eval().requires_grad_(False)
        dm = decompose(toy, 'linear*' if view is None else '*mlp_*', C=C, tied={'linear2':'linear1'} if view is None
            else {}).to(at.device)
        seconds,mb = timed(at, Learner(dm, toy.batches(256 if at.small else 4096, merge=True), spd_losses(), 1000,
            1e-3, cosine, view=view).train_step, n)
        yield Row(f'SPD step, {name}', f'{seconds*1e3:.1f} ms, {mb:.0f} MB')
    for name in ('float32','medium','bf16'):
        dm,batches,losses_ = large(at)
        seconds,mb = timed(at, Learner(dm, batches, losses_, 1000, 1e-3, cosine, precision=name).train_step, n)
        yield Row(f'VPD step, {name}', f'{seconds*1e3:.0f} ms for {batches[0].numel():,} tokens ({batches[0].numel()/seconds:,.0f} a second), {sum(dm.C.values()):,} components, {mb:.0f} MB')  # noqa: E501
    dm,texts = at.story(),stories(4, 32) if at.small else stories(32, 128)
    batches = [texts[i] for i in range(n)]
    with tempfile.TemporaryDirectory() as tmp:
        began,total = time.perf_counter(),n*batches[0].numel()
        if at.device.type in ('cuda','xpu'): torch.get_device_module(at.device).reset_peak_memory_stats(at.device)
        count(dm, batches, f'{tmp}/counts', keep=False, progress=False)
        at.wait()
        yield Row('harvest of the story model',
            f'{total/(time.perf_counter()-began):,.0f} tokens a second, {peak_memory(at.device):.0f} MB')

CHECKS = [gradients, pieces, counts, edits, views, halves, resumed, moved, planned, speed, compiled]

def checked(check, at):
    "The rows of a check; what it raises is one of them"
    rows = []
    try:
        for r in check(at): rows.append(r)
    except Exception as e:
        traceback.print_exc()
        rows.append(Row(f'{check.__name__} went no further', f'{type(e).__name__}: {str(e)[:200]}', False))
    return rows

def lines(rows):
    "A table in Markdown"
    mark = {True:'pass', False:'**FAIL**', None:''}
    cells = [(r.what, r.value.replace('|', '\\|').replace('\n', ' '), mark[r.good]) for r in rows]
    return ['| check | result | verdict |','|---|---|---|',*(f'| {" | ".join(c)} |' for c in cells)]

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--device', help='cuda, mps, xpu or cpu; the accelerator of this machine, when not given')
    ap.add_argument('--only', default='', help=f"some of: {', '.join(c.__name__ for c in CHECKS)}")
    ap.add_argument('--seconds', type=float, default=460., help='no check begins later than this')
    ap.add_argument('--log', type=Path, help='a Markdown file that a dated section is added to')
    a = ap.parse_args()
    if not a.device and not torch.accelerator.is_available():
        sys.exit('no GPU here; `--device cpu` runs the same checks at their smallest')
    device = torch.device(a.device or torch.accelerator.current_accelerator())
    at,chosen = At(device, device.type=='cpu'),[c for c in CHECKS if not a.only or c.__name__ in a.only.split(',')]
    if not chosen: ap.error(f"--only {a.only}: there are {', '.join(c.__name__ for c in CHECKS)}")
    name = torch.get_device_module(device).get_device_name() if device.type in ('cuda','xpu') else device.type
    began,rows = time.perf_counter(),[]
    for check in chosen:
        t = time.perf_counter()
        got = checked(check,
            at) if t-began<a.seconds else [Row(check.__name__, f'not begun: {a.seconds:.0f} s were over', False)]
        print(f'{check.__name__}: {check.__doc__} ({time.perf_counter()-t:.0f} s)',
            *(f'  {"FAIL " if r.good is False else ""}{r.what}: {r.value}' for r in got), sep='\n', flush=True)
        rows += got
    failed,made = sum(r.good is False for r in rows),provenance()
    said = f"{len(rows)} results on {name}, {failed} failed, in {time.perf_counter()-began:.0f} s"
    print('', *lines(rows), '', said, sep='\n')
    if a.log:
        old = a.log.read_text(encoding='utf-8').rstrip()+'\n\n' if a.log.exists() else '# On a GPU\n\nWritten by `make gpu`.\n\n'  # noqa: E501
        head = (
            f"## {datetime.now(timezone.utc):%Y-%m-%d}, {name}\n\ntorch {made['torch']}, Python {made['python']}, "
            f"commit {made['commit']}: {said}.\n")
        a.log.write_text(old+'\n'.join([head, *lines(rows)])+'\n', encoding='utf-8')
    sys.exit(failed>0)

if __name__=='__main__': main()
