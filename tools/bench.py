"""`make bench`: CPU seconds per training step, harvests, edits and searches, peak memory and import time, one thread,
medians; each case in a process of its own"""
import json, shutil, statistics, subprocess, sys, time

CASES = {  # name: toy, its arguments, C, batch
    'TMS 5-2':         ('TMS', dict(n=5, d=2), 20, 4096),
    'TMS 40-10':       ('TMS', dict(n=40, d=10), 200, 4096),
    'residual MLP 1':  ('ResidMLP', dict(), 100, 2048),
    'TMS 40-10, half of C':     ('TMS', dict(n=40, d=10), 100, 4096),
    'TMS 40-10, half of batch': ('TMS', dict(n=40, d=10), 200, 2048),
}
TARGETS = {'TMS 5-2':(.022, 297), 'TMS 40-10':(.40, 548), 'residual MLP 1':(.13, 403)}  # CPU seconds per step, MB

def case(name, steps):
    "Median CPU seconds per step and peak MB of this process"
    import torch
    torch.set_num_threads(1)
    from spd_nb import toys
    from spd_nb.initialisation import aligned
    from spd_nb.compute import peak_memory
    from spd_nb.feature_space import feature_space
    from spd_nb.losses import quarter_cosine
    from spd_nb.model import decompose
    from spd_nb.objectives import spd_losses
    from spd_nb.learner import Learner
    kind,args,C,batch = CASES[name]
    toy = getattr(toys, kind)(**args).eval()
    dm = decompose(toy, ['linear1','linear2'] if kind=='TMS' else '*mlp_*', C=C, tied={'linear2':'linear1'}
        if kind=='TMS' else {}, init=aligned)
    learner = Learner(dm, toy.batches(batch, merge=True), spd_losses(), 1000, 1e-3, quarter_cosine, view=feature_space
        if kind=='ResidMLP' else None)
    for _ in range(3): learner.train_step()
    times = []
    for _ in range(steps):
        t = time.process_time()
        learner.train_step()
        times.append(time.process_time()-t)
    return dict(seconds=statistics.median(times), mb=peak_memory())

# model, width, C (attention of the story model: half), B, S
VPD = {'VPD, story model':('story', 64, 160, 8, 128), 'VPD, d_model 128':('llm', 128, 256, 8, 128)}
VPD_TARGET = {'VPD, d_model 128':(.75, 900)}

def language_model(name, make=None):
    "A decomposed language model, batches for it, and losses"
    import torch
    from functools import partial
    torch.set_num_threads(1)
    from spd_nb.ci import SharedCI
    from spd_nb.lms import StoryLM
    from spd_nb.adversary import PersistentPGD
    from spd_nb.model import decompose
    from spd_nb.objectives import vpd_losses
    kind,d,C,B,S = VPD[name]
    if kind=='story': model = StoryLM(d, 4*d)
    else:
        from transformers import ArceeConfig, ArceeForCausalLM
        model = ArceeForCausalLM(ArceeConfig(vocab_size=4019, hidden_size=d, intermediate_size=4*d,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, hidden_act='gelu',
            max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0)).eval()
    dm = decompose(model, {'*self_attn.*_proj':C//2 if kind=='story' else C, '*mlp.*_proj':C},
        make or partial(SharedCI, hidden=d))
    return dm,[torch.randint(model.config.vocab_size, (B,S))
        for _ in range(4)],vpd_losses(adversary=PersistentPGD(steps=1))

def planned(name, steps):
    "What `plan` predicts, and what `fit` then takes: wall seconds per step and peak MB"
    import tempfile
    from spd_nb.compute import peak_memory
    from spd_nb.planning import plan
    from spd_nb.train import fit
    dm,batches,losses = language_model(name)
    p = plan(dm, batches, losses, steps)
    with tempfile.TemporaryDirectory() as tmp:
        t = time.perf_counter()
        fit(dm, batches, losses, steps, path=tmp, save_every=steps//2, progress=False)
        took = (time.perf_counter()-t)/steps
    return dict(planned=p.seconds, took=took, planned_mb=p.memory, mb=peak_memory())

def swept(runs, steps):
    "Wall seconds of so many runs of TMS 5-2, one after the other in this process and by two workers"
    import os, tempfile
    os.environ['OMP_NUM_THREADS'] = '1'
    import torch
    from functools import partial
    from pathlib import Path
    from spd_nb.grids import grid
    from spd_nb.sweep import sweep
    torch.set_num_threads(1)
    took = {}
    with tempfile.TemporaryDirectory() as tmp:
        for workers in (1,2):
            t = time.perf_counter()
            df = sweep(partial(toy_run, steps=steps), grid(seed=range(int(runs))), Path(tmp)/str(workers), workers,
                progress=False).frame()
            took[workers] = time.perf_counter()-t
            assert set(df.state)=={'finished'}
    return took

def toy_run(seed, steps):
    "Arguments of `fit` for TMS 5-2"
    from spd_nb.model import decompose
    from spd_nb.objectives import spd_losses
    from spd_nb.toys import TMS
    toy = TMS(5, 2).eval()
    dm = decompose(toy, {'linear*':20}, tied={'linear2':'linear1'}, seed=seed)
    return dict(dm=dm, batches=toy.batches(1024), losses=spd_losses(), steps=steps, seed=seed)

def vpd(name, steps):
    "Median CPU seconds per step and of each of its phases, peak MB, and floating-point operations per step"
    from torch.utils.flop_counter import FlopCounterMode
    from spd_nb.compute import peak_memory
    from spd_nb.losses import cosine
    from spd_nb.learner import Learner
    dm,batches,losses = language_model(name)
    learner = Learner(dm, batches, losses, 1000, 2e-3, cosine)
    for _ in range(3): learner.train_step()
    clock,spent = time.process_time,{}
    def timed(phase, f, *args):
        t = clock()
        out = f(*args)
        spent.setdefault(phase, []).append(clock()-t)
        return out
    for _ in range(steps): timed('step', learner.train_step)
    mb = peak_memory()
    for i in range(steps):
        timed('target forward', dm.clean, batches[i%4])
        now = timed('target forward and importances', learner.observe)
        values = {k:timed(k, f, now) for k,(_,f) in learner.losses.items()}
        learner.opt.zero_grad()
        timed('backward', sum(c*values[k] for k,(c,_) in learner.losses.items()).backward)
        timed('optimiser', learner.opt.step)
    with FlopCounterMode(display=False) as flops: learner.train_step()
    phases = {k:statistics.median(v) for k,v in spent.items()}
    phases['importances'] = phases.pop('target forward and importances')-phases['target forward']
    return dict(seconds=phases.pop('step'), phases=phases, flops=flops.get_total_flops(), mb=mb)

HARVEST = (1_180, 2_800, 650)  # of the public implementation, on this model: tokens per CPU second, peak MB, MB on disk

def harvested(ci, rows):
    """Harvest 51k tokens of a model with 2,560 components, some 87 of them at a time, beside its forward and
    importances alone"""
    import tempfile
    from functools import partial
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    from transformers import ArceeConfig, ArceeForCausalLM
    from spd_nb.ci import TransformerCI
    from spd_nb.compute import peak_memory
    from spd_nb.count import count
    from spd_nb.harvest import write
    from spd_nb.model import decompose
    from spd_nb.stories import story_tokenizer
    torch.manual_seed(0)
    vocab,S = 4019,128
    model = ArceeForCausalLM(ArceeConfig(vocab_size=vocab, hidden_size=128, intermediate_size=512, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, hidden_act='gelu', max_position_embeddings=256,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=0)).eval()
    dm = decompose(model, {'*self_attn.*_proj':160, '*mlp.*_proj':320}, partial(TransformerCI, d=int(ci)))
    batches = [torch.randint(vocab, (rows, S)) for _ in range(51_200//(rows*S))]
    with torch.no_grad():  # importances of an uneven crowd: rates between 0 and 17 %
        rate,bar,sd = torch.rand(2560)**4,[],[]
        for s in dm.ci_fn.names:  # site by site, so that the peak below is the harvest's
            pre = torch.cat([dm.pre(c := dm.clean(b), dm.acts(inputs=c.inputs))[s].flatten(0,1)
                for b in batches[:8192//(rows*S)]])
            bar += [p.quantile(1-r) for p,r in zip(pre.T, (rate*87/rate.sum())[len(bar):])]
            sd += pre.std(0)
        bar,sd = torch.stack(bar),torch.stack(sd)
        dm.ci_fn.out.weight.mul_((2/sd)[:,None])
        dm.ci_fn.out.bias.sub_(bar).mul_(2/sd).add_(.1)
        def without_hooks():
            t = time.process_time()
            dm.ci(batches[1])
            return time.process_time()-t
        bare = statistics.median(without_hooks() for _ in range(9))/(rows*S)
        l0 = sum((g>.1).float().sum(-1).mean() for g in dm.ci(batches[1]).lower.values()).item()
    class Timed(list):  # the time between batches, when they are asked for
        def __getitem__(self, i):
            asked.append(time.process_time())
            return super().__getitem__(i)
    with tempfile.TemporaryDirectory() as tmp:
        asked,t = [],time.process_time()
        stats = count(dm, Timed(batches), Path(tmp)/'counts', examples=183, save_every=1e9, keep=False, progress=False)
        t2 = time.process_time()
        later = [b-a for a,b in zip(asked, asked[1:])][len(batches)//2:]
        h = write(stats, dm, Path(tmp)/'h', story_tokenizer())
        t3 = time.process_time()
        disk = sum(f.stat().st_size for f in h.path.iterdir())/1e6
        n = h._footer.num_rows if h.examples(next(iter(h.keys))) else 0
    return dict(bare=1/bare, rate=51_200/(t2-t), steady=rows*S/statistics.median(later), save=t3-t2, l0=l0, disk=disk,
        examples=n, mb=peak_memory())

def edited(name, n):
    """CPU seconds of a forward pass under each kind of edit, of that of the target in the same round (medians); of a
    step of LoRA and of one measurement"""
    import torch
    from contextlib import nullcontext
    from spd_nb.edit import ablated, only, u_replaced
    from spd_nb.eval import without_masks
    from spd_nb.lora import lora
    from spd_nb.places import Places, says
    from spd_nb.tradeoff import measure
    dm,batches,_ = language_model(name)
    x,site = batches[0],dm.sites[-1]
    keys = [f'{s}:{c}' for s in dm.sites for c in range(3)]
    edits = {'one write vector':u_replaced(dm, site, 1, torch.randn(dm.at(site).d_out)),
        f'{len(keys)} components at {len(dm.sites)} sites':ablated(dm, keys),
        'the same, gated':ablated(dm, keys, ci_threshold=.1),
        'all but those':only(dm, keys), 'masks instead':None}
    clock,spent = time.process_time,{k:[] for k in ('target',*edits)}
    with torch.no_grad():
        for i in range(n+2):
            for k in spent:
                with nullcontext() if k=='target' else dm.masked(without_masks(dm,
                        keys)) if edits[k] is None else edits[k]:
                    t = clock()
                    dm(x)
                    if i>1: spent[k].append(clock()-t)
    at = torch.rand(x.shape)<.02
    t = clock()
    lora(dm, site, Places(x[:,:41], at[:,:41]|(torch.arange(41)==20)), says(3), steps=20, progress=False)
    step = (clock()-t)/20
    t = clock()
    measure(dm, edits['one write vector'], Places(x, at), [3], Places(x, at))
    return dict(target=statistics.median(spent['target']),
        ratios={k:statistics.median(a/b for a,b in zip(spent[k], spent['target'])) for k in edits}, lora=step,
        measure=(clock()-t)/(2*x.numel()))

def made_up(path, n):
    "A harvest of `n` components, 40 tokens a side, 100 examples each"
    import numpy as np, torch
    from spd_nb.harvest import write
    from spd_nb.stats import Stats
    from spd_nb.stories import story_tokenizer
    rng,vocab = np.random.default_rng(0),2000
    s = Stats({f'model.layers.{l}.mlp.down_proj':n//4 for l in range(4)}, vocab)
    s.sums['tokens'] += torch.from_numpy(1_000_000//np.arange(2, vocab+2))
    s.sums['mass'] += s.sums['tokens']
    s.sums['count'] += torch.from_numpy(rng.integers(100, 20_000, n))
    for side,shape in (('input',s.sums['input'].shape), ('output',s.sums['output'].shape)):
        s.sums[side] += torch.from_numpy(rng.pareto(1., shape)*(rng.random(shape)<.1)*10).to(s.sums[side].dtype)
    pairs = rng.integers(0, n, (2, 30*n))
    s.sums['together'][pairs.min(0),pairs.max(0)] = 7
    for k,a in s.examples.arrays.items():
        a[...] = rng.integers(1, 2**62, a.shape) if k=='ticket' else rng.integers(0, vocab,
            a.shape) if k=='toks' else rng.random(a.shape)*(rng.random(a.shape)<.1 if k=='ci' else 1)
    class Nothing(torch.nn.Module): target = None
    write(s, Nothing(), path, story_tokenizer())

def searched(name, n):
    "Wall milliseconds of opening and searching a made-up harvest"
    import tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as tmp:
        made_up(Path(tmp)/'h', n)
        disk = {f.stem:f.stat().st_size/1e6 for f in (Path(tmp)/'h').iterdir()}
        code = f"""import json, time; from spd_nb.harvest import Harvest; took = {{}}
def timed(name, f):
    t = time.perf_counter(); r = f(); took[name] = (time.perf_counter()-t)*1e3; return r
h = timed('opening', lambda: (h := Harvest({tmp!r}+'/h'), repr(h))[0])
timed('components', lambda: h.components)
for i in range(5): timed('first by_token' if i==0 else 'by_token', lambda: h.by_token(100+i))
keys = list(h.keys)
for i in range(9): timed('first component' if i==0 else 'component', lambda: h.component(keys[i*937%len(keys)], 100))
for i in range(2): timed('first correlated' if i==0 else 'correlated', lambda: h.correlated(keys[i+5]))
print(json.dumps(took))"""
        took = json.loads(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
            check=True).stdout)
    return dict(took=took, disk=disk)

LOOK = """
import json, torch
torch.set_num_threads(1)
from spd_nb.attribution import graph
from spd_nb.browser import ComponentBrowser
from spd_nb.graph_view import GraphView
from spd_nb.harvest import Harvest
from spd_nb.lens import PromptLens
from spd_nb.model import load
from spd_nb.studio import EditStudio
big = Harvest({big!r})
dm = load({data!r}+'/story')
h = Harvest({data!r}+'/story/harvest', dm)
def held(): return int(open('/proc/self/statm').read().split()[1])*4096/1e6
g = graph(dm, 'Ida went to the farm. She got a letter: "See you at the')
best = g.nodes[g.nodes.kind=='component'].nlargest(8, 'influence').index.tolist()
repr(big), repr(h)
before = held()
"""
CLOCK = """([start, until]) => new Promise(r => {
    const done = new Function('return '+until), t = performance.now()
    new Function(start)()
    const look = () => requestAnimationFrame(() => done() ? requestAnimationFrame(() => r(performance.now()-t)) : look())
    look()
})"""  # noqa: E501

def looked(name, n):
    """Milliseconds from a keystroke, a click or a slider to what it shows, in a real JupyterLab, on a made-up
    harvest of `n` components and on the story model"""
    import tempfile
    from pathlib import Path
    from lab_test import FLAGS, Lab, open_nb
    from playwright.sync_api import sync_playwright
    root = Path(__file__).resolve().parent.parent
    took = {}
    with tempfile.TemporaryDirectory() as tmp, sync_playwright() as pw:
        made_up(Path(tmp)/'big', n)
        cells = [LOOK.format(big=str(Path(tmp)/'big'), data=str(root/'data')), 'view = ComponentBrowser(big)\nview',
            "PromptLens(h, prompt='Ida')",
            "EditStudio(h, keys=['model.layers.1.mlp.down_proj:80'], prompt='Ida went to the farm. She got a letter:')",
            'drawn = GraphView(g, h, pinned=best)\ndrawn']
        code = [dict(cell_type='code', id=f'c{i}', metadata={}, execution_count=None, outputs=[], source=c)
            for i,c in enumerate(cells)]
        (Path(tmp)/'a.ipynb').write_text(json.dumps(dict(nbformat=4, nbformat_minor=5,
            metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python')), cells=code)),
            encoding='utf-8')
        with Lab(tmp) as lab:
            b = pw.chromium.launch(executable_path=shutil.which('chromium'), args=FLAGS)
            page = b.new_page(viewport=dict(width=1300, height=2400))
            open_nb(page, lab, 'a.ipynb')
            run = (
                "const a = window.jupyterapp; a.shell.currentWidget.content.activeCellIndex = {}; "
                "a.commands.execute('notebook:run-cell')").format
            def cell(i):
                page.evaluate(
                    'async i => '
                    '{ const a = window.jupyterapp; a.shell.currentWidget.content.activeCellIndex = i; await a.commands.execute("notebook:run-cell") }', i)  # noqa: E501
            def timed(what, start, until):
                took.setdefault(what, []).append(page.evaluate(CLOCK, [start, until]))
                page.wait_for_timeout(350)
            cell(0)
            timed('first paint', run(1), "document.querySelector('.spd-line')")
            memory = float(lab.eval('a.ipynb', 'held()-before'))
            message = int(lab.eval('a.ipynb', 'len(json.dumps(view.rows(start=0, n=60), default=str))'))
            shown = (
                "[...document.querySelectorAll('.spd-line')].slice(0, 3).map(l => "
                "l.dataset.key).join()+document.querySelector('.spd-filters [role=status]').textContent")
            def typed(what, box, text):
                timed(what, f"window.was = {shown}; const i = document.querySelector('{box}'); i.value = {json.dumps(text)}; i.dispatchEvent(new Event('input'))", f"{shown} !== window.was")  # noqa: E501
            for text in ('x','','xy',''): typed('label keystroke', '.spd-label-box', text)
            for i in (105, 207, 300, 404):
                typed('token keystroke', '.spd-token-box',
                    json.loads(lab.eval('a.ipynb', f'json.dumps(big.texts[{i}])')[1:-1]))
            for i in range(1, 8):
                timed('detail',
                    f"const l = document.querySelectorAll('.spd-line')[{i}]; window.want = l.dataset.key; l.click()",
                    "document.querySelector('.spd-detail .spd-key')?.textContent === window.want")
            memory = max(memory, float(lab.eval('a.ipynb', 'held()-before')))
            cell(2)
            cell(3)
            page.wait_for_timeout(1500)
            for text in ('Ida went to the farm.','Tom met Mia. She asked', 'One day Tom'):
                timed('prompt', f"window.was = document.querySelector('.spd-prompt-tokens').textContent; const i = document.querySelector('.spd-lens .spd-prompt'); i.value = {json.dumps(text)}; i.dispatchEvent(new Event('input'))", "document.querySelector('.spd-prompt-tokens').textContent !== window.was")  # noqa: E501
            bars = "document.querySelector('.spd-studio .spd-bars').textContent"
            for v in (.1, .2, .3, .4, .5, .6):
                timed('slider', f"window.was = {bars}; const i = document.querySelector('.spd-slide'); i.value = {v}; i.dispatchEvent(new Event('input'))", f"{bars} !== window.was")  # noqa: E501
            drawn = "document.querySelectorAll('.spd-node').length > 400 && document.querySelector('.spd-box')"
            timed('graph, first paint', run(4), drawn)
            for i in range(20, 400, 20):  # what a hover itself takes, before the frame that shows it
                took.setdefault('graph, hover', []).append(page.evaluate("i => { const e = document.querySelectorAll('.spd-node')[i], t = performance.now(); e.dispatchEvent(new PointerEvent('pointerover', { bubbles: true })); e.getBoundingClientRect(); return performance.now() - t }", i))  # noqa: E501
            for v in (.9, 1, .5, .99, .7, .95):
                timed('graph, slider', f"window.was = document.querySelector('.spd-graph-count').textContent; const i = document.querySelector('.spd-graph-node_share'); i.value = {v}; i.dispatchEvent(new Event('input'))", "document.querySelector('.spd-graph-count').textContent !== window.was")  # noqa: E501
            timed('graph, intervention', "document.querySelector('.spd-how-only').click()",
                "document.querySelector('.spd-graph .spd-result').textContent.includes('only the pinned')")
            f = lab.eval('a.ipynb', "drawn.to_html('graph.html').stat().st_size")
            took['graph, kB of its file'] = [int(f)/1e3]
            if (root/'demo.html').exists():
                page.goto((root/'demo.html').as_uri())
                page.wait_for_timeout(1500)
                took['demo.html, first paint'] = [page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")]  # noqa: E501
            b.close()
    return dict(took={k:statistics.median(v) for k,v in took.items()}, worst={k:max(v) for k,v in took.items()},
        memory=memory, message=message)

def shared_steps(batch, n):
    "Median wall seconds of a step of the story model in each of two processes that share its batch, and in one alone"
    import tempfile
    from pathlib import Path
    from spd_nb.dist import launch
    took = {1:[], 2:[]}
    with tempfile.TemporaryDirectory() as tmp:
        for i in range(2):  # in turn, as another job may begin in between
            for processes in (1,2):
                took[processes].append(launch(story_steps, processes, int(batch), n, Path(tmp)/f'{processes}-{i}'))
    return {k:min(v) for k,v in took.items()}

def story_steps(batch, n, path):
    "Median wall seconds of a step in this process, with one thread"
    import torch
    from spd_nb.experiments import story
    from spd_nb.learner import Learner
    from spd_nb.train import fit
    torch.set_num_threads(1)
    seconds,step = [],Learner.train_step
    def timed(self):
        t = time.perf_counter()
        found = step(self)
        seconds.append(time.perf_counter()-t)
        return found
    Learner.train_step = timed
    fit(**story(batch=batch, steps=n)|dict(warm=0), path=path, every=10**6, save_every=10**6, progress=False)
    return statistics.median(seconds[3:])

OLD = '17f165f'  # the commit before steps became cheaper; the same cases run with it, in turn with the code of now
STEPS = {  # what, its importance function, rows, components, precision
    'TMS 5-2':('tms', None, 4096, 20, 'float32'), 'TMS 40-10':('tms', None, 4096, 200, 'float32'),
    'residual MLP 1':(1, 'ScalarCI', 2048, 100, 'float32'), 'residual MLP 2':(2, 'ScalarCI', 2048, 100, 'float32'),
    'residual MLP 2, SharedCI':(2, 'SharedCI', 2048, 100, 'float32'),
    'residual MLP 3':(3, 'ScalarCI', 1024, 150, 'float32'),
    **{f'VPD, d_model 128, {ci}, {how}':('VPD, d_model 128', ci, 8, 256, how) for ci in ('SharedCI','TransformerCI')
        for how in ('float32','medium','bf16')},
    'VPD, story model':('VPD, story model', 'SharedCI', 8, 160, 'float32'),
    **{f'SmolLM2, MLP of layer {layer}, {how}':(f'smol {layer}', 'SharedCI', 1, 512, how) for layer in (8,29)
        for how in ('float32','bf16')},
}
SMOL = 'runs/smol/model'  # from `make smol`

def _precision(how):
    "Arguments of a learner of now, or of one of then, which had other names for them"
    import inspect, torch
    from spd_nb.learner import Learner
    if 'precision' in inspect.signature(Learner).parameters: return dict(precision=how)
    if how=='medium': torch.set_float32_matmul_precision('medium')
    return dict(autocast=torch.bfloat16) if how=='bf16' else {}

def stepped(name, n):
    "Median CPU seconds of a training step, floating-point operations and peak MB, with the spd_nb that is found"
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from spd_nb import ci, toys
    from spd_nb.adversary import PersistentPGD
    from spd_nb.compute import peak_memory
    from spd_nb.feature_space import feature_space
    from spd_nb.initialisation import aligned
    from spd_nb.learner import Learner
    from spd_nb.losses import cosine
    from spd_nb.model import decompose
    from spd_nb.objectives import spd_losses, vpd_losses
    torch.set_num_threads(1)
    torch.manual_seed(0)
    what,kind,rows,C,how = STEPS[name]
    make,options = getattr(ci, kind or 'ScalarCI'),_precision(how)
    if what=='tms':
        toy = toys.TMS(n=5 if C==20 else 40, d=2 if C==20 else 10).eval()
        dm = decompose(toy, 'linear*', make, C, tied={'linear2':'linear1'}, init=aligned)
    elif isinstance(what, int):
        toy = toys.ResidMLP(100, 1000, 51 if what==3 else 50, what).eval()
        dm = decompose(toy, '*mlp_*', make, C, init=aligned)
        try: feature_space(dm)
        except TypeError: pass  # the code of before has it for ScalarCI only
        else: options['view'] = feature_space
    elif what.startswith('smol'):
        from transformers import AutoModelForCausalLM
        model = AutoModelForCausalLM.from_pretrained(SMOL).eval()
        dm = decompose(model, f'*layers.{what.split()[1]}.mlp.*_proj', make, C)
    else: dm = language_model(what, make)[0]
    if what=='tms' or isinstance(what, int): batches,losses = toy.batches(rows, merge=True),spd_losses()
    else:
        vocab = dm.target.config.vocab_size
        batches = [torch.randint(vocab, (rows, 128)) for _ in range(4)]
        losses = vpd_losses(adversary=PersistentPGD(steps=1))
    learner = Learner(dm, batches, losses, 1000, 1e-3, cosine, **options)
    for _ in range(3): learner.train_step()
    took = []
    for _ in range(n):
        t = time.process_time()
        learner.train_step()
        took.append(time.process_time()-t)
    mb = peak_memory()
    with FlopCounterMode(display=False) as flops: learner.train_step()
    return dict(seconds=statistics.median(took), flops=flops.get_total_flops(), mb=mb)

def old_code(folder):
    "The package as it was, beside the tools of now; `None` where there is no history"
    got = subprocess.run(['git', 'worktree', 'add', '-f', '--detach', str(folder), OLD], capture_output=True)
    return folder if got.returncode==0 else None

def compared(apart, products):
    "Every case of `STEPS` with the code of now and with that of then, in turn; the faster of two each"
    import os, tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as tmp:
        then = old_code(Path(tmp)/'then')
        if then is None: print('no history here, so no code to compare with')
        for name,(what,*_) in STEPS.items():
            if str(what).startswith('smol') and not os.path.isdir(SMOL):
                print(f'{name:44} left out: there is no {SMOL} (see `make smol`)')
                continue
            found = {}
            for _ in range(2):
                for k,path in dict(now=None, then=then).items():
                    if k=='then' and then is None: continue
                    r = apart('stepped', name, 30 if what=='tms' else 7, path)
                    found[k] = min(found.get(k, r), r, key=lambda r: r['seconds'])
            now,then_ = found['now'],found.get('then')
            rate = now['flops']/now['seconds']/(5*2*512**3/products)
            old = (f"{then_['seconds']*1e3:7.1f} ms {then_['mb']:5.0f} MB before, "
                f"{then_['seconds']/now['seconds']:.2f} times as fast") if then_ else ''
            print(
                f"{name:44} {now['seconds']*1e3:7.1f} ms {now['mb']:5.0f} MB; {old}; {now['flops']/1e9:.1f} GFLOP, "
                f"{rate:.0%} of the rate of the products above", flush=True)
        if then is not None: subprocess.run(['git', 'worktree', 'remove', '-f', str(then)], capture_output=True)

def calibration():
    "Five 512x512 float32 products, seconds"
    import torch
    torch.set_num_threads(1)
    a = torch.randn(512, 512)
    def once():
        t = time.process_time()
        for _ in range(5): a@a
        return time.process_time()-t
    return statistics.median(once() for _ in range(30))

def imported(what):
    "CPU seconds to import, in a fresh process"
    code = f'import time; t=time.process_time(); import {what}; print(time.process_time()-t)'
    return float(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout)

if __name__=='__main__':
    if len(sys.argv)>1:
        print(json.dumps(globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
        sys.exit()
    def apart(what, name, steps, path=None):
        import os
        env = dict(os.environ, PYTHONPATH=str(path)) if path else None
        return json.loads(subprocess.run([sys.executable, __file__, what, str(name), str(steps)], capture_output=True,
            text=True, check=True, env=env).stdout)
    products = calibration()
    print(f'one thread; five 512x512 float32 products: {products*1e3:.1f} ms (11 ms on the machine of the reference)')
    compared(apart, products)
    results = {}
    for name in CASES:
        r = results[name] = apart('case', name, 40 if name=='TMS 5-2' else 10)
        goal = 'at most {:.0f} ms, {:.0f} MB'.format(TARGETS[name][0]*1e3, TARGETS[name][1]) if name in TARGETS else ''
        print(f"{name:26} {r['seconds']*1e3:8.1f} ms per step {r['mb']:6.0f} MB   {goal}", flush=True)
    for half in ('C','batch'):
        print(
            f"half of {half} takes "
            f"{results[f'TMS 40-10, half of {half}']['seconds']/results['TMS 40-10']['seconds']:.2f} of the time "
            "(linear cost: 0.5)")
    for steps in (400,2000):
        r = apart('swept', 10, steps)
        print(
            f"sweep of 10 runs of {steps:,} steps: {r['1']:.0f} s one after the other, {r['2']:.0f} s by two workers, "
            f"{r['1']/r['2']:.2f} times as fast (at least 1.8 for runs that take longer than a worker's start)",
            flush=True)
    for batch in (8,16):
        r = apart('shared_steps', batch, 14)
        print(
            f"story model, {batch} rows of 128: {r['1']*1e3:.0f} ms per step in one process, {r['2']*1e3:.0f} ms in "
            f"two, {r['1']/r['2']:.2f} times as fast (at least 1.7)", flush=True)
    for name in VPD:
        r = apart('vpd', name, 8)
        goal = 'at most {:.0f} ms, {:.0f} MB'.format(VPD_TARGET[name][0]*1e3,
            VPD_TARGET[name][1]) if name in VPD_TARGET else ''
        rate = r['flops']/r['seconds']/(5*2*512**3/products)
        print(
            f"{name:26} {r['seconds']*1e3:8.1f} ms per step {r['mb']:6.0f} MB   {goal}; "
            f"{r['flops']/1e9:.0f} GFLOP, {rate:.0%} of the rate of the products above", flush=True)
        print('  '+', '.join(f'{k} {v*1e3:.0f}' for k,v in r['phases'].items())+' ms')
        r = apart('planned', name, 40)
        print(
            f"  plan says {r['planned']*1e3:.0f} ms and {r['planned_mb']:.0f} MB; 40 steps of fit took "
            f"{r['took']*1e3:.0f} ms each and {r['mb']:.0f} MB: time {r['planned']/r['took']-1:+.0%} "
            f"(within 30 %), memory {r['planned_mb']/r['mb']-1:+.0%} (within 20 %)", flush=True)
    for ci,rows in ((128,8), (128,16), (256,16)):
        r = apart('harvested', ci, rows)
        print(
            f"harvest, TransformerCI({ci}), {rows} rows at a time: {r['rate']:,.0f} tokens per second in all and "
            f"{r['steady']:,.0f} once started, {r['rate']/r['bare']:.2f} and {r['steady']/r['bare']:.2f} of the rate "
            f"of forward and importances alone (at least .6), {r['rate']/HARVEST[0]:.1f} times the public "
            f"implementation's (at least 10), {r['mb']:.0f} MB (at most 1,000), "
              f"{r['save']:.1f} s to save, {r['disk']:.0f} MB on disk (at most {HARVEST[2]/8:.0f}) with "
              f"{r['examples']:,} examples; L0 {r['l0']:.0f}", flush=True)
    r = apart('edited', 'VPD, d_model 128', 20)
    print(f"edits of it: a forward pass takes {r['target']*1e3:.0f} ms, and under "+', '.join(f'{k} {v:.2f}' for k,v in r['ratios'].items())+f" of that; a step of LoRA on 8 windows of 41 tokens {r['lora']*1e3:.0f} ms; measuring {r['measure']*1e6:.0f} us per token", flush=True)  # noqa: E501
    r = apart('searched', 'x', 10_000)
    print(f"searching 10,000 components on {sum(r['disk'].values()):.0f} MB ({', '.join(f'{k} {v:.1f}' for k,v in r['disk'].items())}): "+', '.join(f'{k} {v:.0f}' for k,v in r['took'].items())+' ms (opening 500, by_token 100, component 50, components 300)', flush=True)  # noqa: E501
    if shutil.which('chromium'):
        r = apart('looked', 'x', 10_000)
        print("in JupyterLab, medians (largest): "+', '.join(f"{k} {v:.0f} ({r['worst'][k]:.0f})" for k,v in r['took'].items())+f" ms; {r['memory']:.0f} MB more in the kernel, {r['message']/1e3:.0f} kB for a page of rows (at most 1,000 ms first paint, 100 keystroke, 150 detail, 1,000 prompt, 300 slider, 1,000 demo; graph: 1,000 first paint, 16 hover, 100 slider, 2,000 kB; 200 MB, 200 kB)", flush=True)  # noqa: E501
    else: print('no chromium on PATH, so views are not timed')
    mods = 'spd_nb.train, spd_nb.eval, spd_nb.feature_space, spd_nb.plots'
    pairs = [(imported('torch'), imported(mods)) for _ in range(5)]
    t,s = (statistics.median(p[i] for p in pairs) for i in (0,1))
    print(
        f'import: torch {t:.2f} CPU seconds, all of spd_nb {s:.2f}, ratio '
        f'{statistics.median(b/a for a,b in pairs):.2f} (at most 1.25)')
