"Sweeps as jobs of a real SLURM, which is started on this machine: kills, queueing again, cancelling, the command"
import json, os, shutil, signal, socket, subprocess, sys, time
from contextlib import suppress
from pathlib import Path
import pytest, torch
from slurm_toys import arguments
from spd_nb.core import Run
from spd_nb.model import load
from spd_nb.runs import Runs
from spd_nb.slurm import SlurmRuns, submit
from spd_nb.train import fit

DAEMONS = 'munged','slurmctld','slurmd'
missing = [c for c in ('sbatch','squeue','scancel','scontrol',*DAEMONS) if not shutil.which(c)]
pytestmark = [
    pytest.mark.skipif(sys.platform!='linux' or os.geteuid()!=0, reason='starting SLURM needs Linux and root'),
    pytest.mark.skipif(bool(missing), reason=f"there is no {', '.join(missing)}; tools/slurm.sh installs them")]

CONF = '''ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={run}/munge.sock,cred_expire=1
StateSaveLocation={run}/state
SlurmdSpoolDir={run}/spool
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/slurmd.pid
SlurmctldLogFile={run}/slurmctld.log
SlurmdLogFile={run}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
KillWait=10
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
'''

def free_ports(n):
    held = [socket.create_server(('127.0.0.1', 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in held]
    for s in held: s.close()
    return ports

def until(true, seconds=60.):
    end = time.monotonic()+seconds
    while not true():
        assert time.monotonic()<end, f'{true.__name__} did not become true'
        time.sleep(.1)

def end_daemon(pid_file):
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text(encoding='utf-8'))
        os.kill(pid, signal.SIGTERM)
        for _ in range(50):
            time.sleep(.1)
            os.kill(pid, 0)  # an error when it is gone
        os.kill(pid, signal.SIGKILL)

@pytest.fixture(scope='module', autouse=True)
def cluster(tmp_path_factory):
    "A cluster of one node that takes itself for eight CPUs"
    run = tmp_path_factory.mktemp('slurm')
    for name in ('state','spool'): (run/name).mkdir()
    host = socket.gethostname().partition('.')[0]
    (run/'slurm.conf').write_text(CONF.format(run=run, host=host, ports=free_ports(2)), encoding='utf-8')
    (run/'key').write_bytes(os.urandom(1024))
    (run/'key').chmod(0o400)
    munge = dict(key=run/'key', socket=run/'munge.sock', pid=run/'munged.pid', seed=run/'seed', log=run/'munged.log')
    names = dict(key='key-file', socket='socket', pid='pid-file', seed='seed-file', log='log-file')
    start = ['munged', '--force', *(f'--{names[k]}={v}' for k,v in munge.items())],['slurmctld'],['slurmd', '-N', host]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SLURM_CONF', str(run/'slurm.conf'))
        patch.setenv('OMP_NUM_THREADS', '1')
        try:
            for command in start: subprocess.run(command, check=True, timeout=30)
            def idle(): return 'idle' in slurm('sinfo', '--noheader', '--format=%t', check=False)
            until(idle, 30)
            yield
        finally:
            with suppress(Exception): slurm('scancel', '--user=root', check=False)
            for d in reversed(DAEMONS): end_daemon(run/f'{d}.pid')

def slurm(*command, check=True):
    return subprocess.run(command, check=check, timeout=30, capture_output=True, text=True).stdout

def job_of(runs, name): return json.loads((runs.path/name/'slurm.json').read_text(encoding='utf-8'))['job']

def sent(points, path, **how):
    return submit(arguments, points, path, partition='main', hours=.2, uncommitted='copy', **how)

def states(runs): return dict(runs.frame().state)

def test_kills_and_errors_lose_nothing(tmp_path):
    ways = dict(requeued=7, killed=8, signalled=9)
    slow = {way:f'pause=0.4,seed={seed}' for way,seed in ways.items()}
    points = [dict(seed=0), dict(seed=1), dict(seed=4), *(dict(seed=s, pause=.4) for s in ways.values())]
    began = time.monotonic()
    runs = sent(points, tmp_path/'sweep')
    assert all(s.startswith(('queued','running')) for s in states(runs).values()), states(runs)
    assert states(sent(points, tmp_path/'sweep')).keys()==states(runs).keys()  # nothing is sent twice
    assert len({job_of(runs, n).split('_')[0] for n in runs.names()})==1
    def saved(): return all((runs.path/n/'checkpoint.safetensors').exists() for n in slow.values())
    until(saved)
    print('saved', time.monotonic()-began)
    slurm('scontrol', 'requeue', job_of(runs, slow['requeued']))
    slurm('scancel', '--signal=USR2', job_of(runs, slow['signalled']))
    os.kill(json.loads((runs.path/slow['killed']/'run.lock').read_text(encoding='utf-8'))['pid'], signal.SIGKILL)
    runs.wait(90, every=.3)
    print('waited', time.monotonic()-began)
    found = states(runs)
    assert found.pop('seed=4')=='failed: ValueError: there is no data for seed 4'
    assert 'there is no data for seed 4' in runs.log('seed=4')
    assert found.pop(slow['killed']).startswith('killed: SIGKILL, perhaps because memory ran out; stopped at step ')
    assert set(found.values())=={'finished'} and len(found)==4, found
    assert int(slurm('squeue', '--noheader', '--states=all', f"--jobs={job_of(runs, slow['requeued'])}", '-O', 'RestartCnt'))==1
    before = {n:job_of(runs, n) for n in found}
    again = sent(points, tmp_path/'sweep').wait(90, every=.3)
    print('again', time.monotonic()-began)
    assert states(again)|{'seed=4':''}==dict.fromkeys([*found, slow['killed']], 'finished')|{'seed=4':''}
    assert states(again)['seed=4'].startswith('failed: ValueError')
    assert before=={n:job_of(again, n) for n in found}
    torch.set_num_threads(1)
    for way,seed in ways.items():
        alone = fit(**arguments(seed), path=tmp_path/way, progress=False)
        assert [r['step'] for r in alone.history]==[r['step'] for r in Run(runs.path/slow[way]).history], way
        assert alone.history==Run(runs.path/slow[way]).history, way
        ours,theirs = (d.trainable_parameters() for d in (alone.dm, load(runs.path/slow[way])))
        assert all(torch.equal(a, b) for a,b in zip(ours, theirs, strict=True)), way
