"`tools/gpu.py`, which a machine with a GPU runs, at its smallest on the CPU: its checks run, and notice what is wrong"
import re, subprocess, sys
from pathlib import Path
import pytest, torch
from spd_nb.model import load

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT/'tools'))
import gpu

def run(*args):
    return subprocess.run([sys.executable, ROOT/'tools'/'gpu.py', '--device', 'cpu', *args], capture_output=True,
        encoding='utf-8')

def test_all_checks_pass_and_are_logged(tmp_path):
    for only in ([], ['--only', 'counts']): ran = run('--log', str(tmp_path/'gpu.md'), *only)
    assert ran.returncode==0, ran.stdout+ran.stderr
    log = (tmp_path/'gpu.md').read_text(encoding='utf-8')
    assert log.count('# On a GPU')==1 and len(re.findall(r'^## 20\d\d-\d\d-\d\d, cpu$', log, re.M))==2
    assert log.count('| pass |')>50 and 'FAIL' not in log and log.count('whole numbers and examples')==2
    assert all(c.__doc__ for c in gpu.CHECKS)

def test_a_failing_check_ends_with_an_error_and_the_others_go_on(tmp_path):
    late = run('--only', 'counts,moved', '--seconds', '0')
    assert late.returncode==1 and late.stdout.count('not begun')==4  # as it goes, and in the table
    assert run('--only', 'nothing').returncode==2
    def broken(at):
        yield gpu.Row('before', '1', True)
        raise RuntimeError('no kernel for this')
    rows = gpu.checked(broken, None)
    assert [r.good for r in rows]==[True,False] and 'no kernel' in rows[1].value
    assert gpu.lines(rows)[-1]=='| broken went no further | RuntimeError: no kernel for this | **FAIL** |'

@pytest.mark.parametrize('check,least', [('edits',12), ('views',3), ('counts',1)])
def test_a_model_that_differs_is_noticed(check, least, monkeypatch):
    def other(self):
        dm = load(ROOT/'data'/'story')
        dm.target.model.layers[0].mlp.register_forward_hook(lambda m, args, out: out*1.01)
        return dm
    monkeypatch.setattr(gpu.At, 'story', other)
    assert sum(r.good is False for r in gpu.checked(getattr(gpu, check), gpu.At(torch.device('cpu'), True)))>=least

def test_how_far_apart():
    a = dict(x=torch.tensor([1.,2]), y=[3., 'z', float('nan')])
    assert gpu.close(a, dict(x=torch.tensor([1.,2]), y=[3., 'z', float('nan')]))==0
    assert gpu.close(a, a|dict(x=torch.tensor([1.,2.2])))==pytest.approx(.1)
    assert gpu.close(a, a|dict(y=[3.3, 'z', float('nan')]))==pytest.approx(.1)
    assert gpu.close(a, a|dict(y=[3., 'other', float('nan')]))==gpu.close(a, dict(x=a['x']))==gpu.close([1],
        [1,2])==float('inf')
    assert gpu.close(torch.tensor([1.,float('nan')]), torch.tensor([1.,2.]))==float('inf')
    assert torch.equal(gpu.spread(torch.zeros(3, dtype=torch.float64)).float(), gpu.spread(torch.zeros(3)))
