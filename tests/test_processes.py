"Several processes do what one does: the same training, harvests and attributions, also after kills"
import json, sys
import pytest, torch
import processes
from spd_nb.dist import launch

pytestmark = pytest.mark.skipif(sys.platform!='linux' or not torch.distributed.is_available(), reason='needs gloo')

@pytest.fixture(scope='module')
def one(tmp_path_factory):
    path = tmp_path_factory.mktemp('one')
    processes.everything(path)
    return path

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp('two')
    launch(processes.everything, 2, path)
    return path

@pytest.mark.parametrize('kind', processes.SHORT)
def test_two_processes_train_as_one_does(one, two, kind):
    "`python tests/processes.py all 4` tries all kinds, in any number of processes"
    assert processes.difference(one/kind, two/kind)<1e-9

def test_a_run_goes_on_with_another_number_of_processes(one, two):
    processes.run(two/'stopped', processes.SHORT, resume=True)
    for kind in processes.SHORT: assert processes.difference(one/kind, two/'stopped'/kind)<1e-9, kind

def test_two_processes_gather_the_same_to_the_last_bit(one, two):
    found = processes.hashes(one)
    assert len(found)>5 and found==processes.hashes(two)

def test_two_processes_judge_as_one_does(one, two):
    for kind in ('padded','each'):
        a,b = (json.loads((p/f'report-{kind}.json').read_text(encoding='utf-8')) for p in (one, two))
        assert a.keys()==b.keys() and len(a)>20
        assert all(abs(v-b[k])<1e-9*max(1, abs(v)) for k,v in a.items() if v is not None), kind

@pytest.mark.filterwarnings('ignore:a run of `fit` in')
@pytest.mark.parametrize('who', ['rank','launcher'])
def test_a_kill_loses_nothing_and_leaves_no_process(tmp_path, who):
    assert processes.killed(tmp_path, who, after=3)==0
    processes.slow_run(tmp_path/'killed')
    processes.slow_run(tmp_path/'alone')
    assert processes.difference(tmp_path/'killed', tmp_path/'alone')<1e-9
