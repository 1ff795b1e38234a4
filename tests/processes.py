"What several processes do in the tests: the same runs as one process, with every kind of noise, adversary and weight"
import hashlib, shutil, subprocess, sys, time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
import torch
from safetensors.torch import load_file
from torch import nn
from spd_nb.adversary import PersistentPGD, each, per_position, repeated, shared
from spd_nb.ci import TransformerCI, VectorCI
from spd_nb.core import Run, as_json
from spd_nb.apd import apd_losses
from spd_nb.attributions import attributions
from spd_nb.data import Weighted
from spd_nb.dist import launch, rank
from spd_nb.eval import report
from spd_nb.harvest import harvest
from spd_nb.lms import vocab_of
from spd_nb.masks import binomial, subset, with_chance
from spd_nb.measures import kl
from spd_nb.model import decompose, load
from spd_nb.objectives import fresh_pgd, hidden, local, smooth_sparse, sparse, spd_losses, stochastic, vpd_losses
from spd_nb.topk import TopK
from spd_nb.toys import TMS
from spd_nb.train import fit

class Net(nn.Module):
    "Mixes positions, has a position embedding that is the same for all rows, and one answer per row in each position"
    def __init__(self, vocab=11, d=8):
        super().__init__()
        torch.manual_seed(0)
        self.e,self.p = nn.Embedding(vocab, d),nn.Embedding(6, d)
        self.a,self.b,self.u,self.pool = nn.Linear(d, 16),nn.Linear(16, d),nn.Linear(d, vocab),nn.Linear(d, vocab)

    def forward(self, input_ids, attention_mask=None):
        x = self.e(input_ids)+self.p(torch.arange(input_ids.shape[1])[None])
        if attention_mask is not None: x = x*attention_mask[...,None]
        x = x+self.b(torch.relu(self.a(x.cumsum(1))))
        return self.u(x)+self.pool(x[:,0])[:,None]

def seeded(): return torch.Generator().manual_seed(3)
def tokens(n=20, rows=8):
    g = seeded()
    return [torch.randint(0, 11, (rows, 6), generator=g) for _ in range(n)]
def padded():
    g = seeded()
    def one(x):
        mask = (torch.arange(6)[None]<torch.randint(1, 7, (len(x),1), generator=g)).long()
        mask[-1] = 1
        return dict(input_ids=x, attention_mask=mask)
    return [one(x) for x in tokens()]
def weighted():
    "Also batches of which one half counts nothing"
    g = seeded()
    def one(i, x):
        w = torch.randint(0, 3, (len(x),), generator=g).double()
        w[0] = 1
        if i%3==0: w[len(x)//2:] = 0
        return Weighted(x, w)
    return [one(i, x) for i,x in enumerate(tokens())]
def numbers(rows=8):
    g = seeded()
    return [torch.rand(rows, 5, generator=g) for _ in range(20)]

def every_loss():
    return dict(spd_losses(measure=kl), rare=(.01, partial(sparse, p=.7, beta=.5)),
        smooth=(.01, partial(smooth_sparse, beta=.5)), hidden=(1., hidden), local=(1., local),
        worst=(1., partial(fresh_pgd, measure=kl, steps=2)),
        each=(1., partial(fresh_pgd, measure=kl, steps=2, scope=each, route=subset)),
        noisy=(1., partial(stochastic, measure=kl, source=binomial, noise=.05, route=with_chance(.5))))

def adversarial(**kw): return vpd_losses(faith=1., adversary=PersistentPGD(**kw))
def net(data, losses, sites='*', **kw):
    return lambda: (decompose(Net().eval(), sites, C=7, batch=tokens()[0], **kw), data(), losses())
def toy(losses, rows=8, **kw):
    target = TMS(5, 2).double().eval()
    return lambda: (decompose(target, '*', C=20, batch=numbers()[0], **kw), numbers(rows), losses())

KINDS = dict(
    spd=net(tokens, partial(spd_losses, measure=kl)), every_loss=net(tokens, every_loss),
    each=net(tokens, partial(adversarial, scope=each)), shared=net(tokens, partial(adversarial, scope=shared)),
    per_position=net(tokens, partial(adversarial, scope=per_position)),
    two_rows=net(tokens, partial(adversarial, scope=repeated(2))),
    four_rows=net(tokens, partial(adversarial, scope=repeated(4))),
    sign=net(tokens, partial(adversarial, scope=repeated(8), betas=None)),
    padded=net(padded, every_loss), padded_vpd=net(padded, partial(adversarial)), weighted=net(weighted, every_loss),
    transformer=net(tokens, partial(adversarial, scope=each), list('abu'),
        ci=partial(TransformerCI, d=8, blocks=1, heads=2)),
    deep=net(tokens, partial(spd_losses, measure=kl), ci=partial(VectorCI, hidden=(3,4))),
    tied=toy(spd_losses, tied=dict(linear2='linear1')), toy=toy(spd_losses),
    a_row_each=toy(spd_losses, rows=4), apd=toy(apd_losses, ci=partial(TopK, n=10, k=1.)))

@contextmanager
def doubles():
    "What is made in the block is in double precision"
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try: yield
    finally: torch.set_default_dtype(before)

def run(path, kinds, steps=6, stop=0, resume=False, shard=False):
    "Make runs in this process, or in as many as there are"
    def halt(learner): learner.stop() if learner.step==stop else None
    for kind in kinds:
        with doubles():
            dm,data,losses = KINDS[kind]()
            fit(dm, data, losses, steps=steps, lr=3e-3, path=Path(path)/kind, every=1, save_every=5, clip=.5, warm=3,
                callbacks=[halt], progress=False, resume=resume, shard=shard)

def difference(a, b):
    "How far two runs are apart, in the history and in the checkpoint; infinitely if they cannot be compared"
    rows,more = Run(a).history,Run(b).history
    x,y = (load_file(p/'checkpoint.safetensors') for p in (a, b))
    steps = [r['step'] for r in rows]==[r['step'] for r in more]
    if not steps or {k:v.shape for k,v in x.items()}!={k:v.shape for k,v in y.items()}: return float('inf')
    if not all(torch.equal(v, y[k]) for k,v in x.items() if k.startswith('rng')): return float('inf')
    logged = max(abs(r[k]-s[k])/(1e-3+abs(r[k])) for r,s in zip(rows, more) for k in r)
    return max(logged, *((v.double()-y[k].double()).abs().max().item() for k,v in x.items() if v.numel()))

def gather(path, n=None):
    "A harvest and attributions of the story model on a few random tokens"
    dm = load('story')
    g = seeded()
    text = [torch.randint(5, vocab_of(dm.target), (4, 24), generator=g) for _ in range(5)]
    harvest(dm, text, Path(path)/'harvest', n=n, progress=False)
    if n is None: attributions(dm, text, Path(path)/'attributions', progress=False)

SHORT = 'every_loss','each','shared','four_rows','padded','weighted','apd'  # of `KINDS`, for the tests

def everything(path):
    "What the tests compare, so that processes are launched once"
    run(path, SHORT)
    run(Path(path)/'stopped', SHORT, stop=2)
    gather(path, n=1)  # of two processes one has nothing to read
    gather(path)
    judge(path)

def judge(path):
    "Reports on two decompositions, with padding and without"
    for kind in ('padded','each'):
        with doubles():
            dm,data,_ = KINDS[kind]()
            found = report(dm, data, n=3, ladder=(2,4))
        if rank()==0:
            numbers = {c.name:c.value for c in found}|found.tables['spectrum'].set_index('key').max_ci.to_dict()
            (Path(path)/f'report-{kind}.json').write_text(as_json(numbers), encoding='utf-8')

def hashes(path):
    "What the files of a harvest and of attributions hold, but for their manifests, which have the time"
    return {str(f.relative_to(path)):hashlib.sha256(f.read_bytes()).hexdigest()
        for kind in ('harvest','attributions') for f in sorted((Path(path)/kind).iterdir()) if f.name!='manifest.json'}

def wait(learner): time.sleep(.02)

def slow_run(path, steps=150, **kw):
    "A run of some seconds, for kills; it goes on from what is there"
    with doubles():
        dm,data,losses = KINDS['toy']()
        return fit(dm, data, losses, steps=steps, path=path, every=5, save_every=10, progress=False, resume=True, **kw)

def killed(tmp, who, after):
    "Kill a part of a run of two processes after some rows of its history; the processes that are left after 15 seconds"
    import psutil
    path = Path(tmp)/'killed'
    launcher = subprocess.Popen([sys.executable, __file__, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    history,until = path/'history.jsonl',time.monotonic()+120
    while not (history.exists() and history.read_bytes().count(b'\n')>=after):
        assert launcher.poll() is None and time.monotonic()<until, 'the run has ended before it was killed'
        time.sleep(.02)
    main = psutil.Process(launcher.pid)
    agent, = main.children()
    ranks = agent.children()
    assert len(ranks)==2
    chosen = dict(rank=ranks[:1], other_rank=ranks[1:], agent=[agent], launcher=[main], all=[main,agent,*ranks])
    for p in chosen[who]: p.kill()
    launcher.wait(60)
    return len(psutil.wait_procs([agent, *ranks], 15)[1])

def kills(folder, n=20):
    "Kills of a rank, of all processes and of the launcher: processes left, and runs that differ from one left alone"
    tmp,found = Path(folder),{}
    slow_run(tmp/'alone')
    for who in ('rank','other_rank','all','launcher','agent'):
        left = wrong = 0
        for i in range(n):
            left += killed(tmp, who, after=1+i%20)
            slow_run(tmp/'killed')
            wrong += difference(tmp/'killed', tmp/'alone')>1e-9
            shutil.rmtree(tmp/'killed')
        found[who] = dict(kills=n, left=left, wrong=wrong)
        print(who, found[who], flush=True)
    return found

if __name__=='__main__':
    torch.set_num_threads(1)
    what,*n = sys.argv[1:]
    shard = 'shard' in n
    if what=='kills':
        with TemporaryDirectory() as tmp: kills(tmp, *map(int, n))
    elif what=='all':
        with TemporaryDirectory() as tmp:
            one,more = Path(tmp)/'one',Path(tmp)/'more'
            run(one, KINDS, steps=50)
            launch(run, int(n[0]), more, list(KINDS), steps=50, shard=shard)
            for k in KINDS: print(f'{k:13} {difference(one/k, more/k):.1e}')
    else: slow_run(sys.argv[1], processes=2, callbacks=[wait])
