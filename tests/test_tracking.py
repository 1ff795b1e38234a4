"Runs of `fit` in the trackers themselves, where they are installed: a run in two halves, read back from their files"
import os, subprocess, sys, textwrap
from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent
STEPS = [0,5,10,15,20,25,29]

HALVES = '''
import socket, sys
from pathlib import Path
connect = socket.socket.connect
def watched(self, to):
    if self.family!=socket.AF_UNIX and to[0] not in ('127.0.0.1','::1','localhost'): print('connected to', to)
    return connect(self, to)
socket.socket.connect = watched
import plotly.express as px
import spd_nb as spd
from spd_nb.toys import TMS
from spd_nb.tracking import TensorBoard, Trackio, WandB

class Killed(Exception): pass
def kill(run):
    if run.step>10: raise Killed

def halves(make):
    args = dict(steps=30, lr=.01, path=Path('run'), every=5, save_every=8, progress=False)
    def dm(): return spd.decompose(TMS(5, 2).eval(), 'linear*', C=8)
    def tracker(): return make(figures={'curve':lambda run: px.line(run.frame(), x='step', y='total')},
        report=lambda run: spd.report(run.dm, TMS(5, 2).batches(64), n=1, ladder=(1,2)))
    try: spd.fit(dm(), TMS(5, 2).batches(8), callbacks=[tracker(),kill], **args)
    except Killed: pass
    return spd.fit(dm(), TMS(5, 2).batches(8), callbacks=[tracker()], resume=True, **args)
'''

def read_back(folder, code):
    "What a process prints that runs both halves in a folder and then some code"
    env = os.environ|dict(PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
        TRACKIO_DIR=str(folder/'trackio'), WANDB_ERROR_REPORTING='false', PYTHONIOENCODING='utf-8')
    r = subprocess.run([sys.executable, '-W', 'error::UserWarning:spd_nb', '-c', HALVES+textwrap.dedent(code)],
        cwd=folder, env=env, capture_output=True, text=True, encoding='utf-8', timeout=120)
    assert r.returncode==0 and 'connected to' not in r.stdout, r.stdout+r.stderr
    assert 'so the rest of this run is not tracked' not in r.stderr, r.stderr
    return r.stdout.splitlines()[-1]

def test_tensorboard(tmp_path):
    pytest.importorskip('tensorboard')
    assert read_back(tmp_path, '''
        halves(TensorBoard)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        read = EventAccumulator('run/tensorboard').Reload()
        print([e.step for e in read.Scalars('total')], Path('run/tensorboard/curve.html').exists(),
            [e.step for e in read.Scalars('report/an adversary is held')])''')==f'{STEPS} True [29]'

def test_wandb(tmp_path):
    pytest.importorskip('wandb')
    assert read_back(tmp_path, '''
        run = halves(WandB)
        from wandb.proto.wandb_internal_pb2 import Record
        def records(data):
            "The records of a LevelDB log: blocks of 32 KB, pieces with checksum, length and kind"
            at,part = 7,b''
            while at<len(data):
                left = 2**15-at%2**15
                if left<7:
                    at += left
                    continue
                n,kind = int.from_bytes(data[at+4:at+6], 'little'),data[at+6]
                part += data[at+7:at+7+n]
                at += 7+n
                if kind in (1,4):  # whole, or the last piece
                    yield part
                    part = b''
        steps,ids,curves = [],set(),0
        for f in sorted(Path('run').rglob('*.wandb')):
            for data in records(f.read_bytes()):
                record = Record()
                record.ParseFromString(data)
                if record.WhichOneof('record_type')=='run': ids.add(record.run.run_id)
                if record.WhichOneof('record_type')!='history': continue
                names = {i.key or '/'.join(i.nested_key) for i in record.history.item}
                curves += any(n.startswith('curve') for n in names)
                if 'total' in names: steps.append(record.history.step.num)
        print(steps, ids=={run.args['run']}, curves)''')==f'{STEPS} True 1'

def test_trackio(tmp_path):
    pytest.importorskip('trackio')
    assert read_back(tmp_path, '''
        halves(Trackio)
        from trackio.sqlite_storage import SQLiteStorage
        runs = SQLiteStorage.get_runs('spd_nb')
        logs = SQLiteStorage.get_logs('spd_nb', runs[0])
        print([r['step'] for r in logs if 'total' in r], len(runs), sum('curve' in r for r in logs))
        import os
        sys.stdout.flush()
        os._exit(0)  # it says something more at the end''')==f'{STEPS} 1 1'
