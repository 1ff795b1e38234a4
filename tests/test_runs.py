"Many runs: kills and interrupts of sweeps, damaged folders, and points of every kind"
import ast, json, os, re, shutil, signal, subprocess, sys, time
from pathlib import Path
import pytest, torch
from hypothesis import given, settings, strategies as st
from spd_nb.core import claimed, sealed
from spd_nb.grids import grid, point_data, point_name
from spd_nb.model import decompose, save
from spd_nb.objectives import spd_losses
from spd_nb.runs import Runs
from spd_nb.sweep import sweep
from spd_nb.toys import TMS
from spd_nb.train import fit
from spd_nb.workers import in_processes

ROOT = Path(__file__).parent.parent
posix = pytest.mark.skipif(os.name!='posix', reason='needs signals that a process hears')
POINTS = grid(seed=[0,1])

def arguments(seed, steps=12, **kw):
    toy = TMS(5, 2, seed=0).eval()
    dm = decompose(toy, 'linear1', C=6, seed=seed)
    return dict(dm=dm, batches=toy.batches(8), losses=spd_losses(), steps=steps, every=6, save_every=6, seed=seed)|kw

def trained(path, seed=0, **kw): return fit(**arguments(seed, **kw), path=path, progress=False)

def V(dm): return dm.at('linear1').V

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A finished run, to be copied"
    path = tmp_path_factory.mktemp('whole')/'run'
    trained(path)
    return path

# a script without a guard, as a reader would write one, in processes that can be killed

SCRIPT = '''
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
import torch
torch.set_num_threads(1)
from spd_nb.grids import grid
from spd_nb.model import decompose
from spd_nb.objectives import spd_losses
from spd_nb.sweep import sweep
from spd_nb.toys import TMS
path = Path(sys.argv[1])
with open(path/'main', 'a') as f: f.write('x')
toy = TMS(5, 2, seed=0).eval()
def pause(learner):
    (path/f'pid-{os.getpid()}').touch()
    time.sleep(float(os.environ['SPEED']))
def make(seed):
    dm = decompose(toy, 'linear1', C=6, seed=seed)
    return dict(dm=dm, batches=toy.batches(8), losses=spd_losses(), steps=20, every=1, save_every=5, seed=seed,
        callbacks=[pause])
print(sweep(make, grid(seed=[0,1,2]), path/'runs', workers=2, progress=False).frame().state.tolist(), flush=True)
'''

FINISHED = f'{["finished"]*3}\n'

@pytest.fixture
def script(tmp_path):
    (tmp_path/'script.py').write_text(SCRIPT, encoding='utf-8')
    def begin(speed):
        return subprocess.Popen([sys.executable, str(tmp_path/'script.py'), str(tmp_path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env=os.environ|dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', SPEED=str(speed)))
    return begin

def alive(pid):
    try: return Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').split(')')[-1].split()[0]!='Z'
    except FileNotFoundError: return False

def until(said, seconds=60):
    end = time.monotonic()+seconds
    while not (found := said()):
        assert time.monotonic()<end, 'waited too long'
        time.sleep(.05)
    return found

def workers_of(path): return [int(f.name.split('-')[1]) for f in path.glob('pid-*')]

linux = pytest.mark.skipif(sys.platform!='linux', reason='looks for processes in /proc')

def stopped(p, path, sig):
    "What a sweep under way printed when it was stopped; no process of it is left"
    try:
        until(lambda: len(workers_of(path))==2)
        assert list(Runs(path/'runs').frame().state)==['running']*2
        time.sleep(.5)
        p.send_signal(sig)
        _,err = p.communicate(timeout=40)
    finally: p.kill()
    until(lambda: not any(map(alive, workers_of(path))), 20)
    states = Runs(path/'runs').frame().state
    # after a step, with a checkpoint, and not at the last one before
    assert all(re.fullmatch(r'stopped at step \d+ of 20', s) for s in states) and len(states)==2, states
    assert not list((path/'runs').rglob('result.json')) and not list((path/'runs').rglob('run.lock'))
    return err

@linux
def test_ctrl_c_stops_all_workers(script, tmp_path):
    with script(.4) as p: assert 'KeyboardInterrupt' in stopped(p, tmp_path, signal.SIGINT)
    assert p.returncode

@linux
def test_workers_end_with_their_parent_and_a_notebook_goes_on(script, tmp_path):
    "A notebook has no file, and what it defines is in `__main__`, which workers do not run"
    with script(.4) as p: stopped(p, tmp_path, signal.SIGKILL)
    assert p.returncode==-signal.SIGKILL
    code = SCRIPT.replace('sys.argv[1]', repr(str(tmp_path)))
    ran = subprocess.run([sys.executable, '-'], input=code, capture_output=True, text=True, cwd=tmp_path,
        env=os.environ|dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', SPEED='0'))
    assert ran.stdout==FINISHED, ran.stderr
    assert (tmp_path/'main').read_text(encoding='utf-8')=='xx'
    for s in range(3):
        uncut = trained(tmp_path/f'uncut{s}', s, steps=20).dm
        assert torch.equal(V(Runs(tmp_path/'runs').open(f'seed={s}')), V(uncut))

@linux
def test_a_killed_worker_is_a_failed_row_and_the_others_go_on(script, tmp_path):
    with script(.2) as p:
        try:
            until(lambda: len(workers_of(tmp_path))==2)
            victim = workers_of(tmp_path)[0]
            os.kill(victim, signal.SIGKILL)
            out,err = p.communicate(timeout=60)
        finally: p.kill()
    states = ast.literal_eval(out)
    assert sorted(s.split(':')[0] for s in states)==['failed','finished','finished'], err
    failed, = (s for s in states if s.startswith('failed'))
    assert failed==(f'failed: WorkerDied: worker process {victim} was killed by SIGKILL, perhaps because the machine '
        'was out of memory')

# stops and errors here

def test_one_sweep_at_a_time(tmp_path):
    with claimed(tmp_path/'sweep.lock', 'a sweep'):
        with pytest.raises(RuntimeError, match='a sweep is under way there'):
            sweep(arguments, POINTS, tmp_path, progress=False)
    assert not len(Runs(tmp_path))

def stops_early(seed):
    return arguments(seed, callbacks=[lambda l: l.stop() if seed==0 and l.step>6 else None])

def test_a_callback_may_end_a_run_and_the_sweep_goes_on(tmp_path):
    states = ['stopped at step 7 of 12','finished']
    assert list(sweep(stops_early, POINTS, tmp_path, judge=lambda l: dict(step=l.step),
        progress=False).frame()['step'])==[7,12]
    before = (tmp_path/'seed=0'/'result.json').stat().st_mtime_ns
    assert list(sweep(stops_early, POINTS, tmp_path, judge=lambda l: dict(step=l.step),
        progress=False).frame().state)==states
    assert (tmp_path/'seed=0'/'result.json').stat().st_mtime_ns==before

@pytest.mark.parametrize('make,said', [
    (lambda seed: None, 'TypeError: `make` returns the arguments of `fit` as a dict'),
    (lambda seed: dict(dm=1), 'TypeError: `make` returns'),
    (lambda seed: arguments(seed, path='x'), "ValueError: `make` gives 'path', which `sweep` sets"),
    (lambda seed: arguments(seed, stepz=3), 'TypeError: '), (lambda seed: arguments(seed, lr=1e38), 'RuntimeError: ')])
def test_what_make_gets_wrong_is_a_row(tmp_path, make, said):
    state, = sweep(make, [dict(seed=0)], tmp_path, progress=False).frame().state
    assert state.startswith(f'failed: {said}')

def test_a_function_may_be_repaired_before_anything_is_learnt(tmp_path):
    def make(seed): raise RuntimeError('<b>no</b>')
    failed = sweep(make, POINTS, tmp_path, progress=False)
    assert set(failed.frame().state)=={'failed: RuntimeError: <b>no</b>'}
    assert list(failed.frame().seed)==[0,1] and '<b>' not in failed._repr_html_()
    assert set(sweep(arguments, POINTS, tmp_path, progress=False).frame().state)=={'finished'}

def test_a_judge_that_fails_is_asked_again(tmp_path):
    broken = tmp_path/'broken'
    broken.touch()
    def judge(learner): return 3 if broken.exists() else dict(answer=torch.tensor(42.), none=float('nan'))
    state, = sweep(arguments, [dict(seed=0)], tmp_path/'s', judge=judge, progress=False).frame().state
    assert state=='failed: TypeError: `judge` gives a dict of numbers, got 3'
    at = (tmp_path/'s'/'seed=0'/'checkpoint.safetensors').stat().st_mtime_ns
    broken.unlink()
    row = sweep(arguments, [dict(seed=0)], tmp_path/'s', judge=judge, progress=False).frame().iloc[0]
    assert (row.state, row.answer)==('finished', 42) and row['none']!=row['none']
    assert (tmp_path/'s'/'seed=0'/'checkpoint.safetensors').stat().st_mtime_ns==at

def test_a_sweep_says_what_it_does_again(tmp_path, capsys):
    def make(seed):
        if seed==1 and not (tmp_path/'now').exists(): raise RuntimeError('not yet')
        return arguments(seed)
    sweep(make, POINTS, tmp_path/'s')
    assert 'points' not in capsys.readouterr().out
    (tmp_path/'now').touch()
    sweep(make, grid(seed=[0,1,2]), tmp_path/'s')
    assert '3 points: 1 finished before, 1 failed and are tried again' in capsys.readouterr().out

def test_another_point_in_a_folder_is_noticed(tmp_path):
    sweep(arguments, POINTS[:1], tmp_path, progress=False)
    (tmp_path/'seed=0').rename(tmp_path/'seed=1')
    with pytest.raises(ValueError, match="holds a run with another 'point'"): sweep(arguments, POINTS, tmp_path)
    with open(tmp_path/'seed=1'/'point.json', 'a', encoding='utf-8') as f: f.write('!')
    with pytest.raises(ValueError, match='point.json is damaged'): sweep(arguments, POINTS, tmp_path)

def test_workers_are_counted_from_one(tmp_path):
    with pytest.raises(ValueError, match='`workers` is a whole number of at least 1, got 0'):
        sweep(arguments, POINTS, tmp_path, workers=0)

def own_group(_):
    print('no message')
    return os.getpgid(0)==os.getpid(), sys.stdin.read(), os.environ['OMP_NUM_THREADS']

@posix
def test_a_worker_has_no_input_and_a_group_of_its_own():
    assert list(in_processes(own_group, [0], workers=1))==[(0, (True,'','1'))]

# the table

def test_nothing_is_read_but_small_files(whole, tmp_path):
    "A checkpoint of 8 GB, nearly all of it a hole in the file"
    run = tmp_path/'run'
    shutil.copytree(whole, run)
    file = run/'checkpoint.safetensors'
    data = file.read_bytes()
    n = int.from_bytes(data[:8], 'little')
    head = json.loads(data[8:8+n])
    end = len(data)-8-n
    head['big'] = dict(dtype='F32', shape=[2**31], data_offsets=[end, end+2**33])
    text = json.dumps(head).encode()
    file.write_bytes(len(text).to_bytes(8, 'little')+text+data[8+n:])
    os.truncate(file, 8+len(text)+end+2**33)
    began = time.monotonic()
    assert list(Runs(tmp_path).frame().state)==['finished'] and time.monotonic()-began<5

JUNK = [b'', b'[]', b'{}', b'{"args": 3}', b'null', b'\xff\xfe', b'{'*5000,
    b'[1'*9999, b'{"sealed": true}', b'x'*(9<<20)]
FILES = ['run.json','decomposition.json','history.jsonl','checkpoint.safetensors','point.json','result.json',
    'target.safetensors']

@pytest.mark.parametrize('name', FILES)
def test_a_damaged_file_is_a_row(whole, tmp_path, name):
    for i,junk in enumerate(JUNK):
        shutil.copytree(whole, tmp_path/f'{i}')
        (tmp_path/f'{i}'/name).write_bytes(junk)
    shutil.copytree(whole, tmp_path/'missing')
    (tmp_path/'missing'/name).unlink(missing_ok=True)
    shutil.copytree(whole, tmp_path/'whole')
    df = Runs(tmp_path).frame()
    assert len(df)==len(JUNK)+2 and df.state['whole']=='finished'
    odd = df.state.drop('whole')
    if name in ('point.json','result.json'): odd = odd.drop('missing')
    fine = {'checkpoint.safetensors':{'stopped before its first checkpoint'},
        'point.json':{'finished'}, 'result.json':{'finished'}}.get(name, set())
    assert all(s.startswith('damaged: ') or s in fine for s in odd), odd.to_dict()
    assert odd.str.startswith('damaged: ').sum()>=6
    Runs(tmp_path)._repr_html_()

@posix
def test_a_link_a_pipe_and_a_closed_folder_are_rows(whole, tmp_path):
    for n in ('link','pipe','loop'): shutil.copytree(whole, tmp_path/n)
    for n,make in dict(link=lambda f: f.symlink_to(whole/'run.json'), pipe=os.mkfifo,
            loop=lambda f: f.symlink_to(f)).items():
        (tmp_path/n/'run.json').unlink()
        make(tmp_path/n/'run.json')
    (tmp_path/'round').symlink_to(tmp_path)
    shutil.copytree(whole, tmp_path/'.run.spd_nb-x'/'run')  # as a killed writer leaves it
    df = Runs(tmp_path).frame()
    assert set(df.index)=={'link','loop','pipe'} and df.state.str.startswith('damaged: ').all()
    assert 'leads to' in df.state['link'] and 'neither a file nor a folder' in df.state['pipe']

def test_text_from_a_folder_is_text(whole, tmp_path):
    shutil.copytree(whole, tmp_path/'a')
    shutil.copytree(whole, tmp_path/'b')
    file = tmp_path/'b'/'run.json'
    said = json.loads(file.read_text(encoding='utf-8'))
    args = said['args']|{'<img src=x>':'<script>$x$\u202e', 'lr':[1,{'a':2}]}
    file.write_text(sealed(dict(args=args, time=said['time'])), encoding='utf-8')
    html = Runs(tmp_path)._repr_html_()
    assert '<script' not in html and '<img' not in html and '\u202e' not in html and '&lt;script&gt;' in html
    df = Runs(tmp_path).frame()
    assert df.loc['b','lr']=='[1, {"a": 2}]' and list(df.columns[1:3])==['lr','<img src=x>']

def test_a_run_under_way_is_running_and_reading_does_not_disturb_it(tmp_path):
    seen = []
    def look(learner): seen.append(Runs(tmp_path).frame())
    dm = trained(tmp_path/'run', callbacks=[look]).dm
    assert [list(f.state) for f in seen]==[['running']]*3
    assert seen[0].columns.tolist()[-1]=='seconds' and seen[1]['loss.total'].iloc[0]>0
    df = Runs(tmp_path).frame()
    assert list(df.state)==['finished'] and torch.equal(V(dm), V(Runs(tmp_path).open(0)))
    (tmp_path/'run'/'run.lock').write_text(json.dumps(dict(pid=1, host='elsewhere', since='now')), encoding='utf-8')
    assert list(Runs(tmp_path).frame().state)==['running']

def test_what_differs_is_a_column(tmp_path):
    trained(tmp_path/'a', 0)
    extra = dict(extra=(0., lambda s: s.ci.lower['linear1'].sum()))
    trained(tmp_path/'b', 1, schedule=lambda t: 1., losses=spd_losses(p=2.)|extra)
    dm = decompose(TMS(5, 2, seed=3).eval(), 'linear1', C=9)
    fit(dm, dm.target.batches(8), spd_losses(), steps=12, every=6, save_every=6, path=tmp_path/'c', progress=False)
    df = Runs(tmp_path).frame()
    assert set(df.columns)=={'state', 'losses.sparsity.p', 'losses.extra.coefficient', 'losses.extra.loss', 'schedule',
        'seed', 'sites.linear1', 'target.seed', 'fingerprint', 'loss.faithfulness', 'loss.stochastic', 'loss.layerwise',
        'loss.sparsity', 'loss.total', 'loss.extra', 'l0', 'seconds'}
    assert df.columns[0]=='state' and df.columns[-1]=='seconds'
    assert list(df['losses.sparsity.p'])==[1,2,1] and list(df['sites.linear1'])==[6,6,9]
    assert list(df.seed)==[0,1,0] and df['losses.extra.coefficient'].isna().tolist()==[True,False,True]

def test_a_point_and_an_argument_of_one_name_are_two_columns(tmp_path):
    def make(seed, lr): return arguments(seed, lr=lr/10)
    def judge(learner): return dict(l0=5, seed=7, drawn=torch.rand(1))
    df = sweep(make, grid(seed=[0,1], lr=[.1,.01]), tmp_path, judge=judge, progress=False).frame()
    assert list(df.lr)==[.01,.01,.1,.1] and list(df['args.lr'])==[.001,.001,.01,.01]
    assert list(df.seed)==[0,1,0,1] and 'args.seed' not in df and list(df['judged.seed'])==[7]*4
    assert df.drawn.nunique()==1  # points begin with the same random state
    assert list(df['judged.l0'])==[5]*4 and (df.l0!=5).any()

def test_seconds_are_only_told_where_they_are_known(whole, tmp_path):
    shutil.copytree(whole, tmp_path/'kept')
    shutil.copytree(whole, tmp_path/'copied', copy_function=shutil.copy)
    os.utime(tmp_path/'copied'/'run.json', (time.time()+999,)*2)
    df = Runs(tmp_path).frame()
    assert 0<=df.seconds['kept']<60 and df.seconds['copied']!=df.seconds['copied']

def test_an_empty_folder_has_no_rows(tmp_path):
    df = Runs(tmp_path).frame()
    assert not len(df) and 'state' in df and 'no runs' in repr(Runs(tmp_path)) and Runs(tmp_path)._repr_html_()
    with pytest.raises(ValueError, match="no run 'x' below"): Runs(tmp_path).open('x')

def test_the_folder_itself_may_be_a_run(whole):
    assert list(Runs(whole).frame().index)==['.'] and Runs(whole).open('.').sites==['linear1']

def test_shipped_decompositions_are_rows():
    df = Runs(ROOT/'data').frame()
    assert not df.state.str.startswith('damaged').any() and {'story','toys/tms_5-2'}<=set(df.index)

def test_histories_of_saves_and_runs_are_compared(whole, tmp_path):
    shutil.copytree(whole, tmp_path/'run')
    save(Runs(tmp_path).open('run'), tmp_path/'saved')
    both = Runs(tmp_path).compare(['saved', 0])
    saved,run = both.figure.data
    assert (saved.name, run.name)==('saved','run') and list(saved.y)==list(run.y)
    with open(tmp_path/'run'/'history.jsonl', 'a', encoding='utf-8') as f: f.write('{"step":\n')
    with pytest.raises(ValueError, match='the history of run cannot be read'): Runs(tmp_path).compare(['run'])
    with pytest.raises(ValueError, match='`rows` is empty'): Runs(tmp_path).compare([])

def test_a_thousand_runs_are_read_in_seconds(whole, tmp_path):
    for i in range(100): shutil.copytree(whole, tmp_path/str(i))
    began = time.monotonic()
    assert len(Runs(tmp_path).frame())==100 and time.monotonic()-began<3

# names

VALUES = st.recursive(
    st.none()|st.booleans()|st.integers(-99, 99)|st.floats(allow_nan=False, allow_infinity=False)|st.text(max_size=5),
    lambda o: st.lists(o, max_size=2)|st.dictionaries(st.text(max_size=3), o, max_size=2), max_leaves=4)
POINT = st.dictionaries(st.sampled_from(['a','b','C','lr','a.b','=',',','con'])|st.text(max_size=4), VALUES, max_size=3)

@settings(max_examples=300, deadline=None)
@given(POINT, POINT)
def test_names_are_safe_and_tell_points_apart(a, b):
    sys.path.insert(0, str(ROOT/'tests'))
    from windows import bad_names
    x,y = point_name(a),point_name(b)
    assert x and len(x)<=80 and x.isascii() and not bad_names(x) and '/' not in x and '\\' not in x and x[0] not in '.-'
    assert (x==y)==(json.dumps(point_data(a), sort_keys=True)==json.dumps(point_data(b), sort_keys=True))
    assert x==point_name(dict(reversed(a.items())))
