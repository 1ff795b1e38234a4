"""The main paths from a toy to an exported edit, at their smallest: `python tests/main_paths.py FOLDER` on any
system, `python tests/windows.py tests/main_paths.py FOLDER` as on Windows"""
import shutil, sys
from importlib import import_module
from pathlib import Path

ROOT,tmp = Path(__file__).resolve().parent.parent,Path(sys.argv[1])
for f in sorted((ROOT/'spd_nb').glob('[a-z]*.py')): import_module(f'spd_nb.{f.stem}')

import torch
from spd_nb.browser import ComponentBrowser
from spd_nb.core import atomic
from spd_nb.edit import ablated
from spd_nb.grids import grid
from spd_nb.harvest import harvest
from spd_nb.model import decompose, load, save
from spd_nb.planning import plan
from spd_nb.stories import stories, story_tokenizer
from spd_nb.sweep import sweep
from spd_nb.toys import TMS, fit_toy
from spd_nb.train import fit

torch.set_num_threads(1)
for text in ('old','new'):
    with atomic(tmp/'file.txt') as f: f.write_text(text, encoding='utf-8')
    with atomic(tmp/'folder', folder=True) as f: (f/'x').write_text(text, encoding='utf-8')
assert (tmp/'file.txt').read_text(encoding='utf-8')==(tmp/'folder'/'x').read_text(encoding='utf-8')=='new'

toy = TMS(5, 2, seed=0)
fit_toy(toy, 50)
def fresh(): return decompose(toy, 'linear*', C=7, tied={'linear2':'linear1'})
def trained(dm, steps=8, **kw):
    return fit(dm, toy.batches(32), steps=steps, every=2, save_every=2, path=tmp/'run', progress=False, **kw)
assert plan(fresh(), toy.batches(32), steps=20, sample=1).seconds>0

class Halt(Exception): pass
def halt(learner):
    if learner.step==5: raise Halt
try: trained(fresh(), callbacks=[halt])
except Halt: pass
dm = fresh()
learner = trained(dm, resume=True)  # writes over the checkpoint that it began with
assert [r['step'] for r in learner.history]==[0,2,4,6,7]
for _ in range(2):
    save(dm, tmp/'saved')
    dm = load(tmp/'saved')

def of_seed(seed): return dict(dm=fresh(), batches=toy.batches(32), steps=8, every=2, save_every=2, seed=seed)
for _ in range(2): runs = sweep(of_seed, grid(seed=[0,1]), tmp/'runs', workers=2, progress=False)
assert list(runs.frame().state)==['finished']*2 and runs.open('seed=1').sites

lm = load(ROOT/'data'/'story')
# the second time it is opened
for _ in range(2): h = harvest(lm, stories(2, 32), tmp/'harvest', n=2, examples=3, save_every=0., progress=False)
key = h.components.firings.idxmax()
h.labels.append(key, 'by hand', 'a', '→ “ö')
assert h.labels.frame().output_label[key]=='→ “ö' and len(h.examples(key))
for _ in range(2): assert ComponentBrowser(h).to_html(tmp/'view.html').stat().st_size>1e5
for form in ('hf','peft'): ablated(lm, key).export(tmp/form, form, story_tokenizer())
shutil.rmtree(tmp/'harvest')  # nothing in it is still open
print('done')
