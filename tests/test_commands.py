"""Commands as a shell calls them, from the wheel, in an empty folder: help, errors in a line, exit codes, a run that
goes on after Ctrl-C, and every line of the README's table"""
import json, os, re, shlex, signal, subprocess, sys, sysconfig, time, venv
from configparser import ConfigParser
from pathlib import Path
import pytest
from spd_nb.model import load
from spd_nb.runs import Runs

ROOT = Path(__file__).parent.parent

@pytest.fixture(scope='module')
def scripts(wheel, tmp_path_factory):
    "The folder of console scripts in an environment that has the wheel, and beside it only what the package needs"
    folder = tmp_path_factory.mktemp('installed')/'env'
    venv.create(folder, with_pip=False)
    here = 'Scripts' if sys.platform=='win32' else 'bin'
    site = Path(sysconfig.get_path('purelib', vars=dict(base=str(folder), platbase=str(folder))))
    subprocess.run([sys.executable, '-m', 'pip', '-q', '--python', folder, 'install', '--no-deps', '--no-index', wheel],
        check=True)
    (site/'needed.pth').write_text(sysconfig.get_path('purelib')+'\n', encoding='utf-8')
    return folder/here

@pytest.fixture
def called(scripts, tmp_path):
    "Starts a command in an empty folder"
    def start(command, *args):
        env = {k:v for k,v in os.environ.items() if k!='PYTHONPATH'}|{'OMP_NUM_THREADS':'1'}
        return subprocess.Popen([scripts/command, *args], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=env)
    return start

def ended(process):
    out,errors = process.communicate(timeout=300)
    return process.returncode,out,errors

def test_all_are_installed_with_help(called, scripts):
    settings = ConfigParser(delimiters=['='])
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    names = [s.split('=')[0] for s in shlex.split(settings['DEFAULT']['console_scripts'])]
    assert {p.name for p in scripts.iterdir() if p.name.startswith('spd-')}=={*names}
    assert {*re.findall(r'`(spd-\w+) ', (ROOT/'README.md').read_text(encoding='utf-8'))}=={*names}
    code,out,_ = ended(called('spd-run', '--help'))
    assert code==0 and 'Runs at a time (default: 1)' in out
    where = subprocess.run([scripts/'python', '-c', 'import spd_nb; print(spd_nb.__file__)'], cwd=scripts, text=True,
        capture_output=True, check=True).stdout
    assert where.startswith(str(scripts.parent))

def test_errors_are_a_line_and_a_code(called):
    calls = ('spd-local','tms_52'),('spd-local','tms_5-2','--change','spasity=1'),('spd-harvest','nowhere')
    said = [ended(p)[::2] for p in [called(*c) for c in calls]]
    assert [code for code,_ in said]==[1]*3
    assert all(errors.count('\n')==1 for _,errors in said)
    assert said[0][1].startswith("spd-local: there is no experiment 'tms_52'; did you mean tms_5-2?")
    assert "has no argument 'spasity'; did you mean sparsity?" in said[1][1]
    assert 'nowhere' in said[2][1]

@pytest.mark.skipif(sys.platform=='win32', reason='a console gets Ctrl-C there')
def test_a_stopped_command_leaves_a_run_that_the_same_command_goes_on_with(called, tmp_path):
    args,history = ('tms_5-2', '--cpu', '--change', 'steps=600 C=6 batch=64'),tmp_path/'runs'/'tms_5-2'/'history.jsonl'
    def rows(): return history.read_bytes().count(b'\n') if history.exists() else 0
    stops = (signal.SIGTERM, 143, 'stopped'),(signal.SIGINT, 130, 'the same command goes on from there')
    for stop,code,said in stops:
        process,before,until = called('spd-local', *args),rows(),time.monotonic()+100
        while rows()==before and time.monotonic()<until: time.sleep(.02)
        process.send_signal(stop)
        got,out,err = ended(process)
        assert got==code and said in out+err, (got, out, err)
        assert Runs(tmp_path/'runs').frame().state.iloc[0].startswith('stopped at step')
    code,out,_ = ended(called('spd-local', *args))
    assert code==0 and 'report: ' in out
    frame = Runs(tmp_path/'runs').frame()
    assert frame.state.tolist()==['finished'] and frame.verdict.iloc[0] in ('pass','warn','fail')
    assert load(tmp_path/'runs'/'tms_5-2').C=={'linear1':6, 'linear2':6}
    about = json.loads((tmp_path/'runs'/'tms_5-2'/'command.json').read_text(encoding='utf-8'))
    assert about['changed']==dict(steps=600, C=6, batch=64) and 'tms_5-2' in about['command']

LESS = {  # how a line of the table is made quick; what it says is otherwise run as it stands
    'seed=1':'seed=1 steps=30 batch=64', '--steps 4000':'--steps 20 --batch 2 --seq 32',
    'steps=6000':'steps=6 batch=2 C_attention=4 C_mlp=4', '--n 40':'--n 2 --batch 4', '--n 10':'--n 2 --batch 4',
    'spd-autointerp story':'spd-autointerp story --n 12 --n_scored 3 --batch 4'}

IN_ONE = """
import shlex, sys, time
from importlib.metadata import entry_points
commands = {e.name:e for e in entry_points(group='console_scripts')}
for line in sys.stdin.read().splitlines():
    sys.argv,began = shlex.split(line),time.monotonic()
    print(line, flush=True)
    commands[sys.argv[0]].load()()
    print(f'{time.monotonic()-began:.1f} s', flush=True)
"""  # as the scripts do, without importing torch for each line

def test_every_line_of_the_readme(scripts, tmp_path):
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    table = re.findall(r'^\| `(spd-[^`]+)` \|', text, re.M)
    sweep = re.search(r'```yaml\n(.*?)```', text, re.S)[1]
    assert len(table)>10 and all(any(long in line for line in table) for long in LESS) and '[3000]' in sweep
    (tmp_path/'sweep.yaml').write_text(sweep.replace('[3000]', '[20]'), encoding='utf-8')
    for long,short in LESS.items(): table = [line.replace(long, short) for line in table]
    assert table[0]=='spd-local tms_5-2'
    table[0] += ' --change "steps=30 batch=64"'
    env = {k:v for k,v in os.environ.items() if k!='PYTHONPATH'}|{'OMP_NUM_THREADS':'1'}
    (scripts/'all.py').write_text(IN_ONE, encoding='utf-8')
    done = subprocess.run([scripts/'python', scripts/'all.py'], input='\n'.join(table), cwd=tmp_path, text=True,
        env=env, capture_output=True)
    print(done.stdout)
    assert done.returncode==0, (done.stdout[-2000:], done.stderr[-2000:])
    frame = Runs(tmp_path/'runs').frame()
    assert len(frame)==9 and {*frame.state}=={'finished'}
    assert (tmp_path/'components.html').stat().st_size>10**6 and (tmp_path/'edited'/'model.safetensors').exists()
    steps = json.loads((tmp_path/'runs'/'mine'/'postprocess.json').read_text(encoding='utf-8'))['steps']
    assert [*steps]==['harvest','attributions','labels','detection','fuzzing','intruder','clustering']
