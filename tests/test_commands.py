"Commands as a shell calls them: help, errors in a line, exit codes, and a run that goes on after Ctrl-C"
import json, os, signal, subprocess, sys, time
import pytest
from spd_nb.model import load
from spd_nb.runs import Runs

@pytest.fixture
def called(tmp_path):
    "Starts a command in an empty folder, as its console script does"
    def start(command, *args):
        script = tmp_path/f'{command}.py'
        text = f'import sys\nfrom spd_nb.commands import {command}\nsys.exit({command}())\n'
        script.write_text(text, encoding='utf-8')
        return subprocess.Popen([sys.executable, script, *args], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=os.environ|{'OMP_NUM_THREADS':'1'})
    return start

def ended(process):
    out,errors = process.communicate(timeout=120)
    return process.returncode,out,errors

def test_errors_are_a_line_and_a_code(called):
    calls = ('spd_local','tms_52'),('spd_local','tms_5-2','--change','spasity=1'),('spd_run','--help')
    begun = [called(*c) for c in calls]
    (code,_,errors),(code2,_,errors2),(code3,out,_) = map(ended, begun)
    assert (code, code2, code3)==(1, 1, 0)
    assert errors.startswith("spd-local: there is no experiment 'tms_52'; did you mean tms_5-2?")
    assert errors.count('\n')==1
    assert "has no argument 'spasity'; did you mean sparsity?" in errors2
    assert 'Runs at a time (default: 1)' in out

@pytest.mark.skipif(sys.platform=='win32', reason='a console gets Ctrl-C there')
def test_ctrl_c_leaves_a_run_that_the_same_command_goes_on_with(called, tmp_path):
    args = 'tms_5-2', '--cpu', '--change', 'steps=400 C=6 batch=64'
    process,history = called('spd_local', *args),tmp_path/'runs'/'tms_5-2'/'history.jsonl'
    until = time.monotonic()+100
    while not (history.exists() and history.read_bytes().count(b'\n')) and time.monotonic()<until: time.sleep(.02)
    process.send_signal(signal.SIGINT)
    code,out,_ = ended(process)
    assert code==130 and 'the same command goes on from there' in out
    assert Runs(tmp_path/'runs').frame().state.iloc[0].startswith('stopped at step')
    code,out,_ = ended(called('spd_local', *args))
    assert code==0 and 'report: ' in out
    frame = Runs(tmp_path/'runs').frame()
    assert frame.state.tolist()==['finished'] and frame.verdict.iloc[0] in ('pass','warn','fail')
    assert load(tmp_path/'runs'/'tms_5-2').C=={'linear1':6, 'linear2':6}
    about = json.loads((tmp_path/'runs'/'tms_5-2'/'command.json').read_text(encoding='utf-8'))
    assert about['changed']==dict(steps=400, C=6, batch=64) and 'tms_5-2' in about['command']
