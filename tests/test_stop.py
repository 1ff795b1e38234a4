"Runs that are stopped or killed from outside, in a process of their own"
import os, shutil, signal, subprocess, sys, textwrap, warnings
from contextlib import contextmanager
from pathlib import Path
import pytest, torch
from spd_nb.initialisation import aligned
from spd_nb.harvest import Harvest, harvest
from spd_nb.labels import Labels
from spd_nb.model import decompose, load, save
from spd_nb.stories import stories
from spd_nb.toys import TMS, fit_toy
from spd_nb.train import fit

pytestmark = pytest.mark.skipif(os.name!='posix',
    reason='Windows has no SIGTERM that a process could hear, and no limit on the size of files')
forking = pytest.mark.skipif(sys.platform!='linux',
    reason='forks a process that has loaded torch, which macOS does not take')
STEPS = 60
ROOT = Path(__file__).parent.parent

def fresh():
    toy = TMS(5, 2, seed=0)
    fit_toy(toy, 50)
    return decompose(toy, 'linear*', C=7, tied={'linear2':'linear1'}, init=aligned)

def train(path, **kw):
    dm = fresh()
    return dm, fit(dm, dm.target.batches(32), steps=STEPS, every=10, save_every=10, path=path, progress=False, **kw)

@contextmanager
def child(code, path):
    "Python in this folder on `code`, from the moment it says that it has begun"
    with subprocess.Popen([sys.executable, '-c', f'import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\nfrom test_stop import *\npath = {str(path)!r}\n{code}'], stdout=subprocess.PIPE, text=True) as p:  # noqa: E501
        try:
            assert p.stdout.readline()=='begun\n'
            yield p
        # where it has ended, this does nothing; where a test failed, leaving the block would wait for ever
        finally: p.kill()

def test_sigterm_leaves_a_checkpoint_and_a_resumed_run_is_the_same(tmp_path):
    whole,_ = train(tmp_path/'whole')
    slow = (
        'import time\ndef slow(learner):\n    if learner.step==21: print("begun", flush=True)\n    time.sleep(.5)\n'
        'train(path, callbacks=[slow])')
    with child(slow, tmp_path/'cut') as p:
        p.send_signal(signal.SIGTERM)
        assert p.wait(60)==143
    dm,learner = train(tmp_path/'cut', resume=True)
    assert learner.step==STEPS
    assert all(torch.equal(a, b) for a,b in zip(whole.trainable_parameters(), dm.trainable_parameters()))

def test_a_full_disk_leaves_the_old_save(tmp_path):
    "A limit on file size stands in for the disk: the write fails, the old save opens"
    save(fresh(), tmp_path/'kept')
    code = (
        'import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nprint("begun", flush=True)\ndm = '
        'fresh()\n'
            'resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\ntry: save(dm, path)\nexcept Exception as e: '
            'sys.exit(7)')
    with child(code, tmp_path/'kept') as p: assert p.wait(60)==7
    assert torch.equal(load(tmp_path/'kept').at('linear1').V, fresh().at('linear1').V)
    assert sorted(f.name for f in tmp_path.iterdir())==['kept']

# killed at random moments: a script forks a worker, kills it, and forks the next, so that torch is imported once

def killed(worker, path, times=10, seconds=1.5):
    "Run `worker` (code that uses `path`) to its end, killing it `times` times on the way; what it printed last"
    code = f'''import os, random, signal, sys, time, torch
torch.set_num_threads(1)
from pathlib import Path
from spd_nb.llm import Chat; from spd_nb.autointerp import label
from spd_nb.harvest import Harvest, harvest
from spd_nb.model import load
from spd_nb.stories import stories
data,path,rng = Path({str(ROOT/'data'/'story')!r}),Path({str(path)!r}),random.Random(0)
dm = load(data)
def worker():
{textwrap.indent(textwrap.dedent(worker), '    ')}
for i in range({times}+1):
    if not (pid := os.fork()):
        try: worker()
        except BaseException: import traceback; traceback.print_exc(); os._exit(3)
        os._exit(0)
    if i<{times}:
        time.sleep(rng.uniform(.05, {seconds}))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    else: assert os.waitpid(pid, 0)[1]==0
'''
    subprocess.run([sys.executable, '-c', code], check=True, timeout=300)

@forking
def test_a_harvest_killed_ten_times_is_the_same(tmp_path):
    killed("harvest(dm, stories(8, 64, seed=9), path/'cut', n=40, examples=10, save_every=0., progress=False)",
        tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the worker's: products in several threads differ in their last bits
    try:
        whole = harvest(load(ROOT/'data'/'story'), stories(8, 64, seed=9), tmp_path/'whole', n=40, examples=10,
            progress=False)
        cut = Harvest(tmp_path/'cut')
    finally: torch.set_num_threads(before)
    for f,about in whole.manifest['files'].items(): assert cut.manifest['files'][f]==about, f
    assert not list(tmp_path.glob('*.counts')) and not list(tmp_path.glob('.*.counts.*'))

@forking
def test_labelling_killed_ten_times_loses_and_repeats_nothing(tmp_path):
    server = f'''import http.server, json, sys, time
class S(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def do_POST(self):
        self.rfile.read(int(self.headers['Content-Length']))
        time.sleep(.05)
        text = json.dumps(dict(input_label='a', output_label='b', description='c', reasoning='d', confidence=.5))
        body = json.dumps(dict(id='x', object='chat.completion', created=0, model='m', choices=[dict(index=0, finish_reason='stop', message=dict(role='assistant', content=text))], usage=dict(prompt_tokens=9, completion_tokens=9, total_tokens=18))).encode()
        with open({str(tmp_path/'answered')!r}, 'a') as f: f.write('1')
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), S)
print(s.server_port, flush=True)
s.serve_forever()'''  # noqa: E501
    (tmp_path/'h').mkdir()
    for f in (ROOT/'data'/'story'/'harvest').iterdir():
        if f.name!='labels.jsonl': shutil.copy(f, tmp_path/'h')
    with subprocess.Popen([sys.executable, '-c', server], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True) as p:
        port = int(p.stdout.readline())
        try:
            killed(
                f"h = Harvest(path/'h')\nlabel(h, Chat('m', 'http://127.0.0.1:{port}/v1'), "
                "h.components.firings.nlargest(120).index, concurrency=3, progress=False)", tmp_path)
        finally: p.kill()
    labels = Labels(tmp_path/'h'/'labels.jsonl')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a kill may have torn a line
        rows = labels.rows
    assert len(rows)==len({r['key'] for r in rows})==120
    answered = len((tmp_path/'answered').read_text(encoding='utf-8'))
    assert 120<=answered<=120+10*3  # at most those under way at each kill were asked for again
