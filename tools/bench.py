"""`make bench`: CPU seconds per training step, peak memory and import time, one thread, medians; each case in a process of its own"""
import json, resource, statistics, subprocess, sys, time

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
    from spd_nb.components import aligned
    from spd_nb.feature_space import feature_space
    from spd_nb.losses import quarter_cosine
    from spd_nb.model import decompose
    from spd_nb.train import Learner, spd_losses
    kind,args,C,batch = CASES[name]
    toy = getattr(toys, kind)(**args).eval()
    dm = decompose(toy, ['linear1','linear2'] if kind=='TMS' else '*mlp_*', C=C, tied={'linear2':'linear1'} if kind=='TMS' else {}, init=aligned)
    learner = Learner(dm, toy.batches(batch, merge=True), spd_losses(), 1000, 1e-3, quarter_cosine, view=feature_space if kind=='ResidMLP' else None)
    for _ in range(3): learner.one()
    times = []
    for _ in range(steps):
        t = time.process_time()
        learner.one()
        times.append(time.process_time()-t)
    return dict(seconds=statistics.median(times), mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)

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
    if len(sys.argv)>1: print(json.dumps(case(sys.argv[1], int(sys.argv[2])))); sys.exit()
    print(f'one thread; five 512x512 float32 products: {calibration()*1e3:.1f} ms (11 ms on the machine of the reference)')
    results = {}
    for name in CASES:
        out = subprocess.run([sys.executable, __file__, name, '40' if name=='TMS 5-2' else '10'], capture_output=True, text=True, check=True).stdout
        r = results[name] = json.loads(out)
        goal = 'at most {:.0f} ms, {:.0f} MB'.format(TARGETS[name][0]*1e3, TARGETS[name][1]) if name in TARGETS else ''
        print(f"{name:26} {r['seconds']*1e3:8.1f} ms per step {r['mb']:6.0f} MB   {goal}", flush=True)
    for half in ('C','batch'): print(f"half of {half} takes {results[f'TMS 40-10, half of {half}']['seconds']/results['TMS 40-10']['seconds']:.2f} of the time (linear cost: 0.5)")
    mods = 'spd_nb.train, spd_nb.eval, spd_nb.feature_space, spd_nb.plots'
    pairs = [(imported('torch'), imported(mods)) for _ in range(5)]
    t,s = (statistics.median(p[i] for p in pairs) for i in (0,1))
    print(f'import: torch {t:.2f} CPU seconds, all of spd_nb {s:.2f}, ratio {statistics.median(b/a for a,b in pairs):.2f} (at most 1.25)')
