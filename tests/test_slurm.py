"Sweeps as jobs of a real SLURM, which is started on this machine: kills, queueing again, cancelling, the command"
import json, os, random, shutil, signal, socket, subprocess, sys, time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
import pytest, torch
from slurm_toys import arguments
from spd_nb.core import Run
from spd_nb.model import load
from spd_nb.slurm import SlurmRuns, submit
from spd_nb.train import fit

ROOT = Path(__file__).parents[1]
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
AuthInfo=socket={run}/munge.sock,cred_expire=5
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
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
'''

def free(port):
    with socket.socket() as s: return s.connect_ex(('127.0.0.1', port))!=0

def free_ports(n):
    "Below those that the system gives to any connection"
    return random.sample([p for p in random.sample(range(12_000, 32_000), 20) if free(p)], n)

def until(true, seconds=60.):
    end = time.monotonic()+seconds
    while not true():
        assert time.monotonic()<end, f'{true.__name__} did not become true'
        time.sleep(.1)

def alive(pid):
    "Zombies are not: in a container nobody may collect them"
    try: return Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()[0]!='Z'
    except OSError: return False

def end_daemons(pid_files):
    pids = [int(f.read_text(encoding='utf-8')) for f in pid_files if f.exists()]
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for pid in filter(alive, pids): os.kill(pid, kind)
        end = time.monotonic()+8
        while any(map(alive, pids)) and time.monotonic()<end: time.sleep(.1)

@pytest.fixture(scope='module')
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
    node,own = ['slurmd','-N',host],run/'own'  # where a folder of the node is another one
    own.mkdir()
    apart = ['unshare','--mount','sh','-c',f'mount -t tmpfs none {own} && exec "$@"','sh']
    if subprocess.run([*apart, 'true'], capture_output=True).returncode==0: node = [*apart, *node]
    start = ['munged', '--force', *(f'--{names[k]}={v}' for k,v in munge.items())],['slurmctld'],node
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SLURM_CONF', str(run/'slurm.conf'))
        patch.setenv('OMP_NUM_THREADS', '1')
        try:
            def up(): return ' is UP' in slurm('scontrol', 'ping', check=False)
            for command in start:
                subprocess.run(command, check=True, timeout=30)
                if command[0]=='slurmctld': until(up, 30)  # a node that asks too early asks again much later
            def idle(): return 'idle' in slurm('sinfo', '--noheader', '--format=%t', check=False)
            until(idle, 30)
            yield own if node[0]=='unshare' else None
        finally:
            with suppress(Exception): slurm('scancel', '--user=root', check=False)
            end_daemons([run/f'{d}.pid' for d in DAEMONS])

def slurm(*command, check=True):
    return subprocess.run(command, check=check, timeout=30, capture_output=True, text=True).stdout

def job_of(runs, name): return json.loads((runs.path/name/'slurm.json').read_text(encoding='utf-8'))['job']

def sent(points, path, **how):
    return submit(arguments, points, path, partition='main', hours=.2, uncommitted='copy', **how)

def states(runs): return dict(runs.frame().state)

ENDS = 'requeued','killed','signalled'
SLOW = {way:f'pause={.4+i/100},seed=7' for i,way in enumerate(ENDS)}
POINTS = [*(dict(seed=7, pause=.4+i/100) for i in range(len(ENDS))), dict(seed=0), dict(seed=1), dict(seed=4)]

def end_early(runs, way):
    "End a job that has a checkpoint"
    job = job_of(runs, SLOW[way])
    if way=='requeued': slurm('scontrol', 'requeue', job)
    elif way=='signalled': slurm('scancel', '--signal=USR2', job)  # as before the time limit
    else: os.kill(json.loads((runs.path/SLOW[way]/'run.lock').read_text(encoding='utf-8'))['pid'], signal.SIGKILL)

class Begun(NamedTuple):
    "What runs at the same time, since every job takes seconds to start"
    six:SlurmRuns             # Three of them are ended early
    two:SlurmRuns             # One after the other
    command:subprocess.Popen

def called(folder):
    "`spd-run`, as its console script does it"
    points = 'tms_5-2: {C: {values: [6]}, steps: {values: [20]}, batch: {values: [16]}}'
    (folder/'sweep.yaml').write_text(points, encoding='utf-8')
    (folder/'spd_run.py').write_text('from spd_nb.commands import spd_run\nspd_run()\n', encoding='utf-8')
    asked = '--sweep sweep.yaml --partition main --cpu --no_report --hours .2 --out all --uncommitted copy'.split()
    return subprocess.Popen([sys.executable, 'spd_run.py', *asked], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)

@pytest.fixture(scope='module')
def begun(cluster, tmp_path_factory):
    path = tmp_path_factory.mktemp('sweeps')
    runs = sent(POINTS, path/'six')
    assert all(s.startswith(('queued','running')) for s in states(runs).values()), states(runs)
    ids = {n:job_of(runs, n) for n in runs.names()}
    assert len(ids)==6 and len({i.split('_')[0] for i in ids.values()})==1
    assert ids=={n:job_of(sent(POINTS, path/'six'), n) for n in ids}  # nothing is sent twice
    everything = Begun(runs, sent([dict(seed=s, pause=2.5) for s in (0,1)], path/'two', at_once=1), called(path))
    left = {*ENDS}
    def ended():
        for way in [w for w in left if (path/'six'/SLOW[w]/'checkpoint.safetensors').exists()]:
            end_early(runs, way)
            left.remove(way)
        return not left
    until(ended)
    return everything

def test_cancelled_runs_keep_their_last_checkpoint(begun):
    def training(): return (begun.two.path/'pause=2.5,seed=0'/'history.jsonl').exists()
    until(training)
    assert states(begun.two)=={'pause=2.5,seed=0':'running', 'pause=2.5,seed=1':'queued: JobArrayTaskLimit'}
    begun.two.cancel()
    begun.two.wait(60., every=.3)
    first,second = states(begun.two).values()
    assert first.startswith('cancelled; stopped at step ') and second=='cancelled; never began'

def test_what_slurm_refuses_is_said_in_a_line(cluster, tmp_path):
    with pytest.raises(ValueError, match="there is no partition 'mian'; did you mean main"):
        submit(arguments, POINTS, tmp_path/'none', partition='mian')
    assert not (tmp_path/'none').exists()
    with pytest.raises(RuntimeError, match='SLURM refused the jobs: Memory specification can not be satisfied') as e:
        sent(POINTS, tmp_path/'none', memory=1000.)
    assert '\n' not in str(e.value) and not SlurmRuns(tmp_path/'none').names()
    assert not [*(tmp_path/'none'/'.slurm'/'jobs').iterdir()]

def test_a_folder_that_nodes_do_not_share_is_named(cluster):
    if cluster is None: pytest.skip('mounting is not allowed')
    runs = sent([dict(seed=0)], cluster/'sweep').wait(60., every=.2)
    assert states(runs)=={'seed=0':'killed: its node cannot write to the folder, which has to be on a shared disk; '
        'never began'}

def test_the_command_sends_jobs(begun):
    out,errors = begun.command.communicate(timeout=120)
    assert begun.command.returncode==0 and ('queued' in out or 'running' in out), errors
    runs = SlurmRuns(begun.six.path.parent/'all').wait(90., every=.3)
    assert runs.frame().state.tolist()==['finished']
    folder, = runs.path.rglob('command.json')
    about,code = (json.loads((folder.parent/f).read_text(encoding='utf-8')) for f in ('command.json','code.json'))
    assert '--partition main' in about['command'] and about['experiment']=='tms_5-2'
    if code['code']: assert about['commit']==code['code'][0]['commit'] and about['diff']==code['code'][0]['diff']

def test_kills_and_errors_lose_nothing(begun, tmp_path):
    six = begun.six.wait(90., every=.3)
    found = states(six)
    assert found.pop('seed=4')=='failed: ValueError: there is no data for seed 4'
    log = six.log('seed=4')
    assert 'there is no data for seed 4' in log
    if (six.path/'.slurm'/'code').exists(): assert '/.slurm/code/' in log and str(ROOT/'spd_nb') not in log
    assert found.pop(SLOW['killed']).startswith('killed: SIGKILL, perhaps because memory ran out; stopped at step ')
    assert set(found.values())=={'finished'} and len(found)==4, found
    ids = {n:job_of(six, n) for n in six.names()}
    again = sent(POINTS[:-1], six.path).wait(90., every=.3)
    assert set(states(again).values())=={'finished','failed: ValueError: there is no data for seed 4'}
    assert [n for n in ids if job_of(again, n)!=ids[n]]==[SLOW['killed']]
    torch.set_num_threads(1)
    alone = fit(**arguments(7), path=tmp_path/'alone', progress=False)
    for way,name in SLOW.items():
        assert alone.history==Run(six.path/name).history, way
        ours,theirs = (d.trainable_parameters() for d in (alone.dm, load(six.path/name)))
        assert all(torch.equal(a, b) for a,b in zip(ours, theirs, strict=True)), way
