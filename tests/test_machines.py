"What other systems lack: Windows' files and signals, processes that do not fork"
import ast, multiprocessing, os, pickle, re, subprocess, sys, textwrap
from contextlib import nullcontext
from functools import partial
from pathlib import Path
import pytest, torch
from spd_nb.ci import GlobalCI, ScalarCI, SharedCI, TransformerCI, VectorCI
from spd_nb.data import TokenBatches, repeated_tokens, sparse_features
from spd_nb.edit import ablated
from spd_nb.places import avoids, says
from spd_nb.harvest import Harvest
from spd_nb.count import count
from spd_nb.lms import StoryLM
from spd_nb.masks import Mask, binomial, one_site
from spd_nb.adversary import PersistentPGD, per_position
from spd_nb.model import decompose, load
from spd_nb.stats import load_stats
from spd_nb.stories import stories
from spd_nb.toys import TMS, InductionHead, ResidMLP
from spd_nb.objectives import Adversarial, Step, smooth_sparse, spd_losses, stochastic, vpd_losses

ROOT = Path(__file__).parent.parent
stood_in = pytest.mark.skipif(sys.platform!='linux', reason='tests/windows.py stands in for Windows on Linux')

def counted(dm, batches, path, rank):
    "What a spawned process does"
    torch.set_num_threads(1)
    count(dm, batches, path, n=3, examples=5, rank=rank, world=2, progress=False)

def test_spawned_processes_count_their_shares(tmp_path):
    "macOS, Windows and Python 3.14 do not fork: model and batches are sent pickled"
    dm,batches,context = load(ROOT/'data'/'story'),stories(4, 64, seed=5),multiprocessing.get_context('spawn')
    paths = [tmp_path/f'{rank}' for rank in (0,1)]
    with context.Pool(2) as pool: pool.starmap(counted, [(dm, batches, p, rank) for rank,p in enumerate(paths)])
    shares = [load_stats(p)[0] for p in paths]
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes': products in several threads differ in their last bits
    try: whole = count(dm, batches, tmp_path/'whole', n=3, examples=5, progress=False)
    finally: torch.set_num_threads(before)
    both = shares[0]+shares[1]
    assert [s.seen for s in shares]==[{0,2},{1}] and both.seen==whole.seen
    assert all(torch.equal(v, whole.sums[k]) for k,v in both.sums.items())

@stood_in
def test_main_paths_as_on_windows(tmp_path):
    "No `resource`, no fork, folders that cannot be opened, files in use that cannot be replaced, names without colons"
    ran = subprocess.run([sys.executable, ROOT/'tests'/'windows.py', ROOT/'tests'/'main_paths.py', tmp_path], cwd=ROOT,
        capture_output=True, encoding='utf-8')
    assert ran.stdout=='done\n', ran.stderr[-3000:]
    from windows import bad_names
    assert not [f for f in tmp_path.rglob('*') if bad_names(f)]

@stood_in
def test_windows_is_stood_in_for(tmp_path):
    "What the test before this one relies on"
    code = textwrap.dedent('''
        import os, sys
        from windows import become_windows
        become_windows()
        os.chdir(sys.argv[1])
        def refused(f):
            try: f()
            except (OSError, ImportError, AttributeError) as e: return type(e).__name__
        open('a', 'w').close()
        held = open('a', 'rb')
        print(*map(refused, [lambda: os.replace('a', 'b'), lambda: os.remove('a'), lambda: os.fsync(held.fileno()), lambda: os.open('.', os.O_RDONLY), lambda: open('a:b', 'w'),
            lambda: os.mkdir('aux'), lambda: __import__('resource'), lambda: os.fork()]))
        held.close()
        print(refused(lambda: os.replace('a', 'b')))''')  # noqa: E501
    ran = subprocess.run([sys.executable, '-c', code, tmp_path], env=os.environ|dict(PYTHONPATH=str(ROOT/'tests')),
        capture_output=True, encoding='utf-8')
    assert ran.stdout.splitlines()==['PermissionError PermissionError OSError PermissionError OSError OSError ModuleNotFoundError AttributeError','None'], ran.stderr  # noqa: E501

def unencoded(tree):
    "Calls that read or write text in whatever encoding a system has"
    for n in ast.walk(tree):
        if not isinstance(n, ast.Call) or 'encoding' in {k.arg for k in n.keywords}: continue
        binary = any(isinstance(a, ast.Constant) and isinstance(a.value, str)
            and re.fullmatch('[rwaxt+]*b[rwaxt+]*', a.value) for a in [*n.args[1:], *(k.value for k in n.keywords)])
        if isinstance(n.func, ast.Attribute) and n.func.attr in ('read_text','write_text') or isinstance(n.func,
                ast.Name) and n.func.id=='open' and not binary:
            yield ast.unparse(n)

@pytest.mark.parametrize('folder', ['spd_nb','tools','tests'])
def test_text_is_utf_8_wherever_it_is_read_or_written(folder):
    assert list(unencoded(ast.parse("open(f); open(f, 'rb'); p.read_text(); p.write_text(t, encoding='utf-8'); open(f, mode='ab+')")))==['open(f)','p.read_text()']  # noqa: E501
    assert not [(f.name, call) for f in sorted((ROOT/folder).glob('*.py'))
        for call in unencoded(ast.parse(f.read_text(encoding='utf-8')))]

def test_what_processes_are_sent_can_be_pickled():
    toy,dm = TMS(5, 2).eval(),load(ROOT/'data'/'story')
    key,x = 'model.layers.1.mlp.down_proj:80',stories(2, 16)[0]
    logp,masks = dm.clean(x).out[0].log_softmax(-1),{s:Mask(torch.rand(2, C)) for s,C in (('q',3), ('k',4))}
    def again(o): return pickle.loads(pickle.dumps(o))
    for batches in (stories(2, 16), sparse_features(5, 8, merge=True), repeated_tokens(9, 4, 2), toy.batches(8),
            ResidMLP(5, 6, 4).batches(8), InductionHead().batches(4), TokenBatches(x, 1)):
        for a,b in zip(*(o[3] if isinstance(o[3], tuple) else [o[3]] for o in (batches, again(batches)))):
            assert torch.equal(a, b)
    for losses in (spd_losses(), vpd_losses()):
        assert [(k,c) for k,(c,_) in again(losses).items()]==[(k,c) for k,(c,_) in losses.items()]
    assert again(one_site('k'))(masks)=={'k':None}
    for goal in (says(3, 4), avoids(3)): assert torch.equal(again(goal)(logp), goal(logp))
    with again(ablated(dm, key)) as sent, ablated(dm, key): assert torch.equal(sent(x), dm(x))
    h = Harvest(ROOT/'data'/'story'/'harvest', dm)
    # also once its file is open
    assert list(map(str, again(h).examples(key)))==list(map(str, h.examples(key))) and again(h).component(key).key==key

def test_float64_is_made_on_the_cpu():
    "Apple's GPU has none; `Stats` asks the device first"
    def elsewhere(tree):
        return [ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr=='double'
            and not ast.unparse(n.value).endswith(('.cpu()','.numpy()'))]
    assert elsewhere(ast.parse('a.double().cpu(); a.cpu().double(); a.sum(0).cpu().double()'))==['a.double']
    assert not [(f.name, e) for f in sorted((ROOT/'spd_nb').glob('*.py')) if f.name!='stats.py'
        for e in elsewhere(ast.parse(f.read_text(encoding='utf-8')))]

@pytest.mark.parametrize('make', [ScalarCI, VectorCI, SharedCI, GlobalCI, partial(TransformerCI, d=32)],
    ids=lambda m: getattr(m, 'func', m).__name__)
def test_a_step_makes_its_tensors_where_the_model_is(make, monkeypatch):
    "A device without values: tensors that are made on the CPU cannot meet those of the model there, as on a GPU"
    x = stories(2, 16)[0]
    dm = decompose(StoryLM(32, 64), {'*mlp.*_proj':40, '*q_proj':24}, make)
    dm(x)  # the sites are audited
    dm,x = dm.to('meta'),x.to('meta')
    monkeypatch.setattr(torch, 'autocast', lambda *a, **kw: nullcontext())  # that device has none
    monkeypatch.setattr(torch, 'is_autocast_enabled', lambda *a: False)
    clean = dm.clean(x)
    step = Step(dm, dm, x, torch.ones(2, 16, device='meta'), clean, dm.ci(clean=clean), .5)
    spread = dict(smooth=(1.,smooth_sparse), shared=(1.,Adversarial(PersistentPGD(scope=per_position))),
        bits=(1.,partial(stochastic, source=binomial, delta=True)))
    sum(c*loss(step) for c,loss in (vpd_losses()|spd_losses()|spread).values()).backward()
    assert all(p.grad.device.type=='meta' for p in dm.components.parameters())
    key = 'model.layers.1.mlp.down_proj:3'
    for where in ({}, dict(ci_threshold=.1), dict(positions=[0,1]), dict(positions=slice(-3, None)),
            dict(positions=torch.ones(2, 16, dtype=bool))):
        with ablated(dm, key, **where): assert dm(x).device.type=='meta'
