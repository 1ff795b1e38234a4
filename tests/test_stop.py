"Runs that are stopped or killed from outside, in a process of their own"
import os, signal, subprocess, sys, time
from contextlib import contextmanager
import torch
from spd_nb.components import aligned
from spd_nb.model import decompose, load, save
from spd_nb.toys import TMS, fit_toy
from spd_nb.train import fit

STEPS = 60

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
    with subprocess.Popen([sys.executable, '-c', f'import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\nfrom test_stop import *\npath = {str(path)!r}\n{code}'], stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout.readline()=='begun\n'
        yield p

def test_sigterm_leaves_a_checkpoint_and_a_resumed_run_is_the_same(tmp_path):
    whole,_ = train(tmp_path/'whole')
    slow = 'def slow(learner):\n    if learner.step==21: print("begun", flush=True)\n    time.sleep(.5)\ntrain(path, callbacks=[slow])'
    with child(slow, tmp_path/'cut') as p:
        p.send_signal(signal.SIGTERM)
        assert p.wait(60)==143
    dm,learner = train(tmp_path/'cut', resume=True)
    assert learner.step==STEPS
    assert all(torch.equal(a, b) for a,b in zip(whole.learnt(), dm.learnt()))

def test_a_killed_save_leaves_a_whole_one(tmp_path):
    "Kill a process that saves over and over at many moments; what is there always opens"
    fresh_V = fresh().at('linear1').V
    save(fresh(), tmp_path/'kept')
    for wait in (.003, .011, .037):
        with child('import pandas\ndm = fresh()\nprint("begun", flush=True)\nwhile True: save(dm, path)', tmp_path/'kept') as p:
            time.sleep(wait)
            p.kill()
        assert torch.equal(load(tmp_path/'kept').at('linear1').V, fresh_V)

def test_a_full_disk_leaves_the_old_save(tmp_path):
    "A limit on file size stands in for the disk: the write fails, the old save opens"
    save(fresh(), tmp_path/'kept')
    code = ('import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nprint("begun", flush=True)\ndm = fresh()\n'
            'resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\ntry: save(dm, path)\nexcept Exception as e: sys.exit(7)')
    with child(code, tmp_path/'kept') as p: assert p.wait(60)==7
    assert torch.equal(load(tmp_path/'kept').at('linear1').V, fresh().at('linear1').V)
    assert sorted(f.name for f in tmp_path.iterdir())==['kept']
