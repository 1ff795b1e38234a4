"""Attacks on what is promised: threads and tasks, interrupts, kills, damaged files, processes that share a folder.

`pytest` runs the short forms (tests/test_promises.py). The long ones: python tests/attacks.py threads interrupts,
or `all`; each prints a line with what it did and what went wrong, which should be nothing."""
import asyncio, random, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory
import torch
import spd_nb as spd
from spd_nb.edit import ablated
from spd_nb.hooks import without_hooks
from spd_nb.keys import Key
from spd_nb.masks import constant_masks
from spd_nb.toys import TMS

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

if __name__=='__main__':
    long = dict(threads=threads, tasks=tasks, interrupts=interrupts)
    torch.set_num_threads(1)
    for name in sys.argv[1:] if sys.argv[1:]!=['all'] else long:
        start = time.monotonic()
        print(name, long[name](), f'{time.monotonic()-start:.0f} s', flush=True)
