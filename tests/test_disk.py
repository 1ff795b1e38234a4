"What is written to disk: `~` in every path, and JSON that every reader accepts"
import json, math, os, subprocess, sys
import pytest, torch
from spd_nb.core import Run, atomic
from spd_nb.data import tokens
from spd_nb.edit import ablated
from spd_nb.eval import report
from spd_nb.harvest import Harvest, harvest
from spd_nb.labels import Labels
from spd_nb.count import count
from spd_nb.lms import StoryLM, load_lm
from spd_nb.model import decompose, load, save
from spd_nb.objectives import spd_losses
from spd_nb.stats import load_stats
from spd_nb.stories import stories, story_tokenizer
from spd_nb.toys import TMS, fit_toy
from spd_nb.train import fit
from spd_nb.pages import write_page

@pytest.fixture
def home(tmp_path, monkeypatch):
    "A home folder, and another working folder beside it, which must stay empty"
    there,here = tmp_path/'home',tmp_path/'here'
    there.mkdir()
    here.mkdir()
    for name in ('HOME','USERPROFILE'): monkeypatch.setenv(name, str(there))
    monkeypatch.chdir(here)
    yield there
    assert not any(here.iterdir())

def strict(text):
    def refuse(constant): raise ValueError(f'{constant} is not JSON')
    return json.loads(text, parse_constant=refuse)

def toy():
    t = TMS(5, 2, seed=0)
    fit_toy(t, 50)
    return decompose(t, 'linear*', C=7, tied={'linear2':'linear1'})

def test_home_folder_of_runs_and_saves(home):
    dm = toy()
    assert Run('~/runs/mine').path==home/'runs'/'mine'
    with atomic('~/a.txt') as f: f.write_text('a', encoding='utf-8')
    fit(dm, dm.target.batches(8), steps=2, path='~/fitted', progress=False)
    assert save(dm, '~/saved')==home/'saved'
    assert torch.equal(load('~/saved').at('linear1').V, dm.at('linear1').V)
    assert write_page('~/page.html', {'':'text'})==home/'page.html'
    report(dm, dm.target.batches(64), n=1).to_html('~/report.html')
    assert {'runs','a.txt','fitted','saved','page.html','report.html'}<={f.name for f in home.iterdir()}

def test_home_folder_of_language_models(home):
    (home/'text.txt').write_text('Mia went to the farm.\n'*9, encoding='utf-8')
    assert tokens('~/text.txt', 2, 6, story_tokenizer())[0].shape==(2,6)
    assert tokens('~/te*.txt', 2, 6, story_tokenizer())[0].shape==(2,6)
    StoryLM(d=8, d_mlp=16, layers=1).save_pretrained(home/'model')
    model = load_lm('~/model').model
    dm = decompose(model, '*up_proj', C=9)
    batches = [stories(2, 16)[i] for i in range(2)]
    options = dict(examples=3, progress=False)
    assert count(dm, batches, '~/counts', **options).n==load_stats('~/counts')[0].n==64
    h = harvest(dm, batches, '~/harvest', tokenizer=story_tokenizer(), **options)
    assert Harvest('~/harvest').path==h.path==home/'harvest'
    Labels('~/labels.jsonl').append(next(iter(h.keys)), 'by hand', 'a')
    assert (home/'labels.jsonl').exists()
    assert ablated(dm, next(iter(h.keys))).export('~/edited')==home/'edited'

def test_every_json_is_strict(tmp_path):
    "A report on a short run holds an infinity; labels and figures may hold anything"
    dm = toy()
    fit(dm, dm.target.batches(64), spd_losses(), steps=3, clip=math.inf, path=tmp_path/'run', progress=False)
    report(dm, dm.target.batches(256), n=1)
    assert any(not math.isfinite(c['value']) for c in dm.report['checks'])
    back = load(save(dm, tmp_path/'saved'))
    assert [c['name'] for c in back.report['checks']]==[c['name'] for c in dm.report['checks']]
    assert all(isinstance(c['value'], float) for c in back.report['checks'])
    tale = decompose(StoryLM(d=8, d_mlp=16, layers=1), '*up_proj', C=9)
    h = harvest(tale, [stories(2, 16)[0]], tmp_path/'harvest', examples=3, progress=False)
    h.labels.append(next(iter(h.keys)), 'by hand', confidence=math.nan, cost=math.inf)
    edit = ablated(tale, next(iter(h.keys)))
    edit.export(tmp_path/'edited', figures=dict(effect=math.inf))
    found = [f for f in tmp_path.rglob('*.json*') if f.is_file()]
    assert {'run.json','history.jsonl','decomposition.json','manifest.json','labels.jsonl','edit.json'}<={f.name
        for f in found}
    for f in found:
        for part in f.read_text(encoding='utf-8').splitlines() if f.suffix=='.jsonl' else [f.read_text(encoding='utf-8')]:  # noqa: E501
            strict(part)

@pytest.mark.skipif(os.name!='posix', reason='permissions of POSIX')
@pytest.mark.parametrize('umask', [0o022, 0o027, 0o077], ids=oct)
def test_saved_files_have_the_permissions_of_a_new_file(umask, tmp_path):
    "A colleague on a shared disk can open what the `umask` lets them open; safetensors alone writes 0600"
    from spd_nb.attributions import FlowSums
    from spd_nb.clusters import cluster
    from spd_nb.memberships import Memberships
    dm,lm = toy(),StoryLM(d=8, d_mlp=16, layers=1)
    before = os.umask(umask)
    try:
        save(dm, tmp_path/'saved')
        fit(dm, dm.target.batches(8), steps=2, path=tmp_path/'run', progress=False)
        edited = ablated(decompose(lm, '*up_proj', C=9), 'model.layers.0.mlp.up_proj:1')
        edited.export(tmp_path/'hf', tokenizer=story_tokenizer())
        FlowSums({}).save(tmp_path/'sums.safetensors')
        m = Memberships(['a:0','a:1','a:2'], torch.rand(64, 3).numpy()<.5)
        cluster(m, 1., progress=False).save(tmp_path/'merges.safetensors')
    finally: os.umask(before)
    files = [f for f in tmp_path.rglob('*') if f.is_file()]
    wrong = {str(f.relative_to(tmp_path)):oct(f.stat().st_mode&0o777) for f in files
        if f.stat().st_mode&0o777!=0o666&~umask}
    assert len(files)>12 and not wrong

FULL = """
import resource, torch
from spd_nb.dist import launch
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
launch(print, 2, torch.zeros(100_000))
"""

@pytest.mark.skipif(sys.platform=='win32', reason='has no such limits')
def test_processes_that_cannot_be_told_what_to_do(tmp_path):
    done = subprocess.run([sys.executable, '-c', FULL], text=True, capture_output=True,
        env=os.environ|{'TMPDIR':str(tmp_path)})
    assert f'OSError: what 2 processes need could not be written to {tmp_path}' in done.stderr
    assert 'set TMPDIR' in done.stderr and not any(tmp_path.iterdir())
