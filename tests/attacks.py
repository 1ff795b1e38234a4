"""Attacks on what is promised: threads and tasks, interrupts, kills, damaged files, processes that share a folder.

`pytest` runs the short forms (tests/test_promises.py). The long ones: python tests/attacks.py threads interrupts,
or `all`; each prints a line with what it did and what went wrong, which should be nothing."""
import asyncio, hashlib, itertools, json, os, random, shutil, signal, sys, threading, time, traceback, warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
import torch
import spd_nb as spd
from spd_nb.edit import ablated
from spd_nb.hooks import without_hooks
from spd_nb.keys import Key
from spd_nb.masks import constant_masks
from spd_nb.toys import TMS
from tqdm import tqdm

# a killed process would keep the lock that processes share
tqdm.set_lock(threading.RLock())
tqdm.monitor_interval = 0

# ---- threads and tasks

def story():
    "The shipped story model, some text, and what each way of running it gives without any company"
    from spd_nb.harvest import Harvest
    dm = spd.load('story')
    h = Harvest('story/harvest', dm)
    often = h.components.firings.sort_values(ascending=False).index[:12]
    toks = h.contexts(often[0], 2)[:,:12]
    return dm,h,toks,[Key.parse(k) for k in often]

def ways(dm, h, toks, keys):
    "Name to a function that runs the model in some way"
    ci = dm.ci(toks).lower
    def masked():
        with dm.masked(constant_masks(ci, 0.)): return dm(toks)
    def edited(key, **where):
        with ablated(dm, key, **where): return dm(toks)
    def nested():
        with ablated(dm, keys[0]), ablated(dm, keys[1]): return dm(toks)
    def generated():
        with ablated(dm, keys[2]): return dm.target.generate(toks[:1], max_new_tokens=3, do_sample=False).float()
    shared = ablated(dm, keys[3])  # one edit that several threads open
    def together():
        with shared: return dm(toks)
    return dict(plain=lambda: dm(toks), target=lambda: dm.target(toks).logits, masked=masked, nested=nested,
        edited=partial(edited, keys[4]), gated=partial(edited, keys[5], ci_threshold=.1),
        placed=partial(edited, keys[6], positions=[1,2]),
        importances=lambda: torch.cat([*dm.ci(toks).lower.values()], -1), generated=generated, together=together,
        read=lambda: torch.tensor(h.tokens(keys[0]).token.to_numpy()).float())

def threads(calls=3000, workers=10, fitting=True):
    "Run a model in many ways at once, one of them a training run: how many answers are not as they are alone"
    dm,h,toks,keys = story()
    with torch.no_grad():
        run = ways(dm, h, toks, keys)
        alone = {k:f().clone() for k,f in run.items()}
        wrong,errors,lock = {},[],threading.Lock()
        def call(name):
            try:
                with torch.no_grad(): got = run[name]()
            except Exception as e: errors.append(f'{name}: {type(e).__name__}: {e}')
            else:
                if got.shape!=alone[name].shape or not torch.allclose(got, alone[name], atol=1e-4):
                    with lock: wrong[name] = wrong.get(name, 0)+1
        done = threading.Event()
        def train():  # its own components, of the same target
            other = spd.decompose(dm.target, 'model.layers.0.*', C=8)
            try:
                while not done.is_set():
                    with TemporaryDirectory() as path: spd.fit(other, [toks], steps=4, progress=False, path=path)
            except Exception as e: errors.append(f'fit: {type(e).__name__}: {e}')
        trainer = threading.Thread(target=train)
        if fitting: trainer.start()
        names = random.Random(0).choices(list(run), k=calls)
        with ThreadPoolExecutor(workers) as pool: list(pool.map(call, names))
        done.set()
        if fitting: trainer.join()
    return dict(calls=calls, wrong=wrong, errors=errors, hooks=hooks_left(dm.target))

def tasks(calls=300):
    "The same ways to run a model from asyncio, where blocks stay open while other tasks run"
    dm,h,toks,keys = story()
    wrong = []
    def opened(i):
        if i%3==0: return None
        return ablated(dm, keys[i%6+1]) if i%3==1 else dm.masked(constant_masks(dm.ci(toks).lower, float(i%2)))
    def answer(i):
        block = opened(i)
        if block is None: return dm(toks)
        with block: return dm(toks)
    async def one(i):
        block = opened(i)
        if block is None:
            await asyncio.sleep(0)
            return dm(toks)
        with block:
            await asyncio.sleep(0)
            here = dm(toks)
            await asyncio.sleep(0)
            there = await asyncio.to_thread(quiet, dm, toks)
            if not torch.allclose(here, there, atol=1e-4): wrong.append(i)
            return here
    async def main(): return await asyncio.gather(*(one(i) for i in range(calls)))
    with torch.no_grad():
        want = [answer(i) for i in range(6*3)]
        got = asyncio.run(main())
    wrong += [i for i,g in enumerate(got) if not torch.allclose(g, want[i%18], atol=1e-4)]
    return dict(calls=calls, wrong=wrong, hooks=hooks_left(dm.target))

@torch.no_grad()
def quiet(dm, toks): return dm(toks)

def hooks_left(model): return sum(len(m._forward_hooks)+len(m._forward_pre_hooks) for m in model.modules())

# ---- interrupts

def interrupted(work, seconds):
    "Call `work` until an interrupt stops it after some time; what was raised, with its traceback"
    timer = threading.Timer(seconds, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    try:
        timer.start()
        while True: work()
    except KeyboardInterrupt as e: return e
    finally: timer.join()

def interrupts(times=2500, longest=.002):
    "Interrupt masks, edits, caches and pauses at random moments: what is left open"
    dm,x = spd.decompose(TMS(5, 2, seed=0).eval(), 'linear*', C=3),torch.ones(2, 5)
    with torch.no_grad(): alone,ci = dm(x),dm.ci(x).lower
    edits = [ablated(dm, 'linear1:0'), ablated(dm, 'linear2:1')]
    @contextmanager
    def own():  # as in somebody's own code
        with edits[1], dm.masked(constant_masks({"linear1":ci["linear1"]}, 0.)): yield
    def work():
        with torch.no_grad():
            with edits[0], ablated(dm, 'linear1:1', ci_threshold=.1): dm.clean(x)
            with dm.masked(constant_masks(ci, .5)), without_hooks(): dm(x)
            with own(): dm(x)
    before,kept,left,wrong = signal.getsignal(signal.SIGINT),[],0,0
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for i in range(times):
            kept = [*kept[-3:], interrupted(work, random.Random(i).random()*longest)]  # as a notebook keeps the last
            with torch.no_grad(): wrong += not torch.equal(dm(x), alone)
            left += hooks_left(dm.target)+len(dm.edits)
            left += signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    finally: signal.signal(signal.SIGINT, before)
    return dict(interrupts=times, left=left, wrong=wrong)

# ---- damaged files

def damages(data, other, rng, flips):
    "Name to the bytes of a damaged file; `None` for one that is gone"
    n = len(data)
    for cut in (0, 1, n//3, n//2, n-1): yield f'cut at {cut}',data[:cut]
    for _ in range(flips):
        i,bit = rng.randrange(n),1<<rng.randrange(8)
        yield f'bit {bit} of byte {i}',data[:i]+bytes([data[i]^bit])+data[i+1:]
    yield 'gone',None
    if other!=data: yield "another's",other

def seen(read, at):
    "What reading gives, as text that compares: the data, or the error if it names the file"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        try: found = read()
        except (ValueError, FileNotFoundError) as e:
            return 'named' if at.name in str(e) else f'not named: {str(e)[:150]}'
        except Exception as e: return f'unexplained: {type(e).__name__}: {str(e)[:150]}'
    return 'warned' if any(at.name in str(w.message) for w in said) else found

def broken(folder, other, read, flips=40, lines=()):
    """Damage every file of a folder in every way: which damage was silent, or not explained by the name of the file; of
    files of `lines` that stand for themselves, only damage within lines"""
    rng,want,bad,n = random.Random(0),read(),[],0
    for file in sorted(f for f in folder.rglob('*') if f.is_file()):
        data,name = file.read_bytes(),file.relative_to(folder)
        for how,new in damages(data, (other/name).read_bytes(), rng, flips):
            if file.name in lines and how in ('cut at 0', 'gone', "another's"): continue
            n += 1
            if new is None: file.unlink()
            else: file.write_bytes(new)
            got = seen(read, file)
            if got not in ('named','warned',want):
                bad.append((str(name), how, 'silent' if isinstance(got, tuple) else got))
            file.write_bytes(data)
    return n,bad

def summary(dm):
    "Everything that a decomposition is, to compare"
    def digest(m):
        return hashlib.sha256(b''.join(v.numpy().tobytes() for v in m.state_dict().values())).hexdigest()
    parts = (digest(m) for m in (dm.target, dm.components, dm.ci_fn))
    return *parts,repr(dm.history),repr(dm.training_run),repr(dm.report),repr(dm)

def toy_run(path, seed=0, **kw):
    "A little run, and its learner"
    dm = spd.decompose(TMS(5, 2, seed=seed).eval(), 'linear*', C=4, seed=seed)
    return spd.fit(dm, dm.target.batches(8, seed=seed), steps=12, every=2, save_every=6, path=path, progress=False,
        **kw)

def flips(flips=40):
    "Damage the files of a save, a run, a harvest, an exported edit and a graph: how many damages were not noticed"
    found = {}
    with TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        for name,seed in (('a',0), ('b',1)):
            run = toy_run(tmp/name/'run', seed)
            spd.save(run.dm, tmp/name/'save')
        for kind in ('save','run'):
            found[kind] = broken(tmp/'a'/kind, tmp/'b'/kind, lambda: summary(spd.load(tmp/'a'/kind)), flips)
        def resumed():
            for f in ('a','kept'): shutil.rmtree(tmp/'again'/f, ignore_errors=True)
            shutil.copytree(tmp/'a'/'run', tmp/'again'/'a')
            dm = spd.decompose(TMS(5, 2, seed=0).eval(), 'linear*', C=4, seed=0)
            run = spd.fit(dm, dm.target.batches(8, seed=0), steps=12, every=2, save_every=6, path=tmp/'again'/'a',
                progress=False, resume=True)
            return summary(run.dm)
        found['resume'] = broken(tmp/'a'/'run', tmp/'b'/'run', resumed, flips)
        found['harvest'] = broken_harvest(tmp, flips)
        found['export'] = broken_export(tmp, flips)
    return {k:dict(damages=n, bad=bad) for k,(n,bad) in found.items()}

def broken_harvest(tmp, flips):
    from spd_nb.autointerp import label_evidence
    from spd_nb.harvest import Harvest, harvest
    from spd_nb.stories import stories
    dm = spd.load('story')
    for name,seed in (('a',1), ('b',2)):
        harvest(dm, stories(2, 32, seed=seed), tmp/name/'harvest', n=1, sites='*.1.mlp.down_proj', examples=4,
            progress=False)
        label_evidence(Harvest(tmp/name/'harvest'), [f'model.layers.1.mlp.down_proj:{c}' for c in (3,4)])
    def read():
        h = Harvest(tmp/'a'/'harvest')
        key = h.components.index[0]
        texts = [repr(h.tokens(k)) for k in h.components.index[:3]]
        more = h.examples(key),h.correlated(key, 1., 0),h.manifest
        return h.components.to_csv(),h._totals.to_csv(),*texts,*map(repr, more),h.labels.frame().to_csv()
    return broken(tmp/'a'/'harvest', tmp/'b'/'harvest', read, flips, ['labels.jsonl'])

def broken_export(tmp, flips):
    import transformers as hf
    from spd_nb.export import verify_export
    model = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2)).eval()
    dm = spd.decompose(model, '*c_fc', C=3, seed=0)
    for name,c in (('a',0), ('b',1)): ablated(dm, f'transformer.h.0.mlp.c_fc:{c}').export(tmp/name/'export')
    return broken(tmp/'a'/'export', tmp/'b'/'export', lambda: (repr(verify_export(tmp/'a'/'export')),), flips)

# ---- stops and kills

def small_harvest(folder, n=4, **options):
    "A harvest of one site of the shipped story model"
    from spd_nb.harvest import harvest
    from spd_nb.stories import stories
    dm = spd.load('story')
    return harvest(dm, stories(4, 64, seed=1), folder, n=n, sites='*.1.mlp.down_proj', examples=4, progress=False,
        **options)

def answering(name, seconds, blocking=False, note=None):
    "Something to ask, which notes each question"
    from spd_nb.llm import Answer
    asked = []
    def answer(prompt):
        asked.append(1)
        if note: os.write(note, b'x')
        return Answer(json.dumps(dict(input_label=f'a {len(prompt)}', output_label='b')), 1, 1)
    async def waiting(prompt, shape):
        found = answer(prompt)
        await asyncio.sleep(seconds)
        return found
    def busy(prompt, shape):
        found = answer(prompt)
        time.sleep(seconds)
        return found
    ask = busy if blocking else waiting
    ask.model = name
    return ask,asked

def stopped_labels(times=500, longest=.12):
    "Interrupt labelling at random moments: questions after the call has returned, and threads that are still there"
    from spd_nb.autointerp import label
    late,alive,unpaid = 0,0,0
    with TemporaryDirectory() as tmp:
        h = small_harvest(Path(tmp)/'harvest')
        keys,threads_before = list(h.components.index[:12]),threading.active_count()
        before = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            for i in range(times):
                rng = random.Random(i)
                ask,asked = answering(f'model {i}', .004, blocking=i%2==0)
                # repeated calls ask for what is left
                interrupted(lambda: label(h, ask, keys, concurrency=3, progress=False), rng.random()*longest)
                n = len(asked)
                time.sleep(.01)
                late += len(asked)-n
                alive += threading.active_count()>threads_before
                rest = label(h, ask, keys, concurrency=3, progress=False)
                unpaid += len(rest.labels)!=12
        finally: signal.signal(signal.SIGINT, before)
        left = [f.name for f in h.path.iterdir() if f.name[0]=='.']
    return dict(interrupts=times, late=late, alive=alive, missing=unpaid, left=left)

def in_children(n, work):
    "Run `work(i)` in `n` processes at a time; their exit codes, 0 if nothing went wrong"
    pids = []
    for i in range(n):
        if pid := os.fork():
            pids.append(pid)
            continue
        code = 1
        try:
            work(i)
            code = 0
        except BaseException: traceback.print_exc()
        finally: os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids]

def shared_labels(keys=80):
    "Two processes label the same components: how many questions were asked in all"
    from spd_nb.autointerp import label
    with TemporaryDirectory() as tmp:
        h = small_harvest(Path(tmp)/'harvest')
        chosen = list(h.components.index[:keys])
        note = os.open(Path(tmp)/'asked', os.O_CREAT|os.O_APPEND|os.O_WRONLY)
        def work(i): label(h, answering('model', .01, note=note)[0], chosen, concurrency=4, progress=False)
        codes = in_children(2, work)
        left = [f.name for f in h.path.iterdir() if f.name[0]=='.']
        return dict(codes=codes, asked=(Path(tmp)/'asked').stat().st_size, labels=len(h.labels.frame()), left=left)

def killed(work, rng, longest):
    "Run `work()` in a process that is killed after a random time; was it?"
    if pid := os.fork():
        time.sleep(rng.random()*longest)
        os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])!=0
    code = 1
    try:
        sys.stderr = open(os.devnull, 'w', encoding='utf-8')
        work()
        code = 0
    except BaseException: traceback.print_exc(file=sys.__stderr__)
    finally: os._exit(code)

def hidden(folder): return [str(f.relative_to(folder)) for f in folder.rglob('.*')]

def kinds_of_run():
    "Name to a function that trains in a folder, and goes on there"
    from torch.utils.data import DataLoader
    from spd_nb.adversary import PersistentPGD, shared
    from spd_nb.measures import mse
    def run(path, batches=None, **losses):
        dm = spd.decompose(TMS(5, 2, seed=0).eval(), 'linear*', C=4, seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # what was cut off, and begins anew
            return spd.fit(dm, dm.target.batches(8, seed=0) if batches is None else batches, steps=150, every=5,
                save_every=10, path=path, progress=False, resume=True, **losses)
    def vpd(path): return run(path, losses=spd.vpd_losses(measure=mse, adversary=PersistentPGD(1, .01, scope=shared)))
    rows = TMS(5, 2, seed=0).batches(160, seed=3)[0]
    return dict(spd=run, vpd=vpd, loader=lambda path: run(path, DataLoader(rows, batch_size=8, shuffle=True)))

def kills(training=60, others=40, saves=60):
    "Kill processes at random moments: what differs from work that was left alone, and what is left beside it"
    from spd_nb.autointerp import label
    from spd_nb.harvest import Harvest
    rng,found = random.Random(0),{}
    with TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        for name,run in kinds_of_run().items():
            whole,n,wrong = summary(run(tmp/name/'whole').dm)[1:4],0,0
            for i in range(10**6):
                path = tmp/name/f'{i}'
                while n<training and killed(lambda: run(path), rng, .8): n += 1
                wrong += summary(run(path).dm)[1:4]!=whole
                if n>=training: break
            found[name] = dict(kills=n, wrong=wrong, left=hidden(tmp/name))
        want = {f.name:f.read_bytes() for f in small_harvest(tmp/'h'/'whole', 30).path.glob('*.parquet')}
        n = wrong = 0
        for i in range(10**6):
            path = tmp/'h'/f'{i}'
            def again(): small_harvest(path, 30, save_every=0.)
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                while n<others and killed(again, rng, 1.): n += 1
                again()
            wrong += {f.name:f.read_bytes() for f in path.glob('*.parquet')}!=want
            if n>=others: break
        found['harvest'] = dict(kills=n, wrong=wrong, left=hidden(tmp/'h'))
        h,n,paid = Harvest(tmp/'h'/'whole'),0,0
        for i in range(10**6):
            note = os.open(tmp/f'asked {i}', os.O_CREAT|os.O_APPEND|os.O_WRONLY)
            ask,some = answering(f'model {i}', .02, note=note)[0],list(h.components.index[:40])
            def work(): label(h, ask, some, concurrency=2, progress=False)
            lost = 0
            while n<others and killed(work, rng, .4): n,lost = n+1,lost+2  # answers under way, at most
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # a torn line
                work()
            paid += not 40<=(tmp/f'asked {i}').stat().st_size<=40+lost
            if n>=others: break
        found['labels'] = dict(kills=n, paid_twice=paid, left=hidden(tmp/'h'))
        found |= killed_saves(tmp, saves, rng)
    return found

def killed_saves(tmp, times, rng):
    "Kill saves and exports: what is there always opens, and the next one leaves nothing beside it"
    import transformers as hf
    from spd_nb.export import verify_export
    dms = [spd.decompose(TMS(5, 2, seed=i).eval(), 'linear*', C=4, seed=i) for i in (0, 1)]
    either,path,wrong = [summary(spd.load(spd.save(dm, tmp/f's{i}')))[1] for i,dm in enumerate(dms)],tmp/'saves'/'one',0
    def saving():
        for _ in range(1000):
            for dm in dms: spd.save(dm, path)
    spd.save(dms[0], path)
    for _ in range(times):
        killed(saving, rng, .15)
        wrong += summary(spd.load(path))[1] not in either
    piled = len(hidden(path.parent))
    spd.save(dms[0], path)
    found = dict(saves=dict(kills=times, wrong=wrong, before_next_save=piled, left=hidden(path.parent)))
    model = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2)).eval()
    dm,wrong,out = spd.decompose(model, '*c_fc', C=3, seed=0),0,tmp/'exports'
    edit = ablated(dm, 'transformer.h.0.mlp.c_fc:0')
    for i in range(times):
        killed(lambda: edit.export(out/f'{i%4}'), rng, .3)
        if (out/f'{i%4}').exists():
            verify_export(out/f'{i%4}')
            shutil.rmtree(out/f'{i%4}')
    for i in range(4): edit.export(out/f'{i}')
    return found|dict(exports=dict(kills=times, wrong=wrong, left=hidden(out)))

# ---- several processes in one folder

def large_loads(tmp, loads=20):
    "Loads of a save whose components count as large, beside a process that saves: how many mixed two saves"
    from spd_nb import integrity
    before,(integrity.WHOLE,integrity._BLOCK) = (integrity.WHOLE,integrity._BLOCK),(100,16)
    try:
        dms = [spd.decompose(TMS(5, 2, seed=0).eval(), 'linear*', C=4, seed=i) for i in (0, 1)]
        either,path = [summary(spd.load(spd.save(dm, tmp/f'l{i}'))) for i,dm in enumerate(dms)],tmp/'large'
        spd.save(dms[0], path)
        pid = os.fork()
        if not pid:
            for dm in itertools.cycle(dms):
                spd.save(dm, path)
                time.sleep(.03)
        try: return sum(summary(spd.load(path)) not in either for _ in range(loads))
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    finally: integrity.WHOLE,integrity._BLOCK = before

def crowds(loads=300):
    "Loads beside two savers, two runs and two harvests in one folder: what is mixed, and errors without a reason"
    from spd_nb.harvest import Harvest
    found = {}
    with TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        dms = [spd.decompose(TMS(5, 2, seed=i).eval(), 'linear*', C=4, seed=i) for i in (0, 1)]
        either,path = [summary(spd.load(spd.save(dm, tmp/f's{i}'))) for i,dm in enumerate(dms)],tmp/'one'
        spd.save(dms[0], path)
        def work(i):
            if i<2:
                while not (tmp/'done').exists(): spd.save(dms[i], path)
                return
            bad = sum(summary(spd.load(path)) not in either for _ in range(loads))
            (tmp/'done').touch()
            assert not bad, f'{bad} of {loads} loads mixed two saves'
        found['loads'] = dict(loads=loads, codes=in_children(3, work), left=hidden(tmp))
        run = kinds_of_run()['spd']
        def train(i):
            try: run(tmp/'run')
            except RuntimeError as e: assert 'is in use: a run of `fit` is under way there (process' in str(e), e
        codes = in_children(2, train)
        found['runs'] = dict(codes=codes, same=summary(spd.load(tmp/'run'))[1:4]==summary(run(tmp/'alone').dm)[1:4])
        def gather(i):
            try: small_harvest(tmp/'harvest')
            except RuntimeError as e: assert 'is in use: a harvest of' in str(e), e
        found['harvests'] = dict(codes=in_children(2, gather), left=hidden(tmp))
        keys = list(Harvest(tmp/'harvest').components.index[:30])
        def keep(i):
            import pandas as pd
            row = dict(stability=.5, worst=.5, found=1., mixed=.1, runs=1, by='firing')
            for k in keys[10*i:10*i+10]: Harvest(tmp/'harvest').keep_stability(pd.DataFrame([row], index=[k]))
        codes = in_children(3, keep)
        found['stability'] = dict(codes=codes, same=len(Harvest(tmp/'harvest').stability)==30, left=hidden(tmp))
        late = large_loads(tmp)
        found['large'] = dict(codes=[late])
    return found

if __name__=='__main__':
    long = dict(threads=threads, tasks=tasks, interrupts=interrupts, flips=flips,
        stopped_labels=stopped_labels, shared_labels=shared_labels, kills=kills, crowds=crowds)
    torch.set_num_threads(1)
    for name in sys.argv[1:] if sys.argv[1:]!=['all'] else long:
        start = time.monotonic()
        print(name, long[name](), f'{time.monotonic()-start:.0f} s', flush=True)
