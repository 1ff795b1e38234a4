"""Pushing to and fetching from a Hub, over HTTP to a stub on loopback: whole or not at all, resumed after a cut, with
errors that say what to do and never the token"""
import json, os, pickle, shutil, threading, traceback
from pathlib import Path
import pytest
import huggingface_hub
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http
from hub_stub import TOKEN, Hub, Repo, serving
from spd_nb import downloads
from spd_nb.downloads import download, fetched, HubName
from spd_nb.harvest import Harvest
from spd_nb.hub import push
from spd_nb.model import load, save

ROOT = Path(__file__).parent.parent
# the library's own way of sending without xet
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")

TOY,STORY = ROOT/'data'/'toys'/'tms_5-2',ROOT/'data'/'story'

@pytest.fixture
def hub(tmp_path, monkeypatch):
    "A Hub, to which the library is sent, with a token and an empty cache"
    state = Hub()
    server,url = serving(state)
    for k in ('http_proxy','https_proxy','all_proxy'):
        for name in (k, k.upper()): monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('HF_TOKEN', TOKEN)
    monkeypatch.setattr(constants, 'ENDPOINT', url)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', url+'/{repo_id}/resolve/{revision}/{filename}')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
    monkeypatch.setattr(constants, 'HF_ASSETS_CACHE', str(tmp_path/'assets'))
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path/'hf'))
    for module in (_http,file_download): monkeypatch.setattr(module.time, 'sleep', lambda s: None)
    yield state
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()

def tree(folder):
    return {f.relative_to(folder).as_posix():f.read_bytes() for f in sorted(folder.rglob('*')) if f.is_file()}

def cache(): return Path(constants.HF_ASSETS_CACHE)/'spd_nb'
def gets(hub): return [p for m,p in hub.log if m=='GET' and '/resolve/' in p]

def refused(kind, said, f):
    "An error that says something, with the token nowhere in its traceback"
    with pytest.raises(kind, match=said) as e: f()
    assert TOKEN not in ''.join(traceback.format_exception(e.value))

def test_a_toy_comes_back_as_it_was(hub):
    dm = load(TOY)
    there = push(dm, 'ada/toy', license='mit')
    repo = hub.repos['ada/toy']
    sha = repo.commits[-1][0]
    assert there==(f'hub:ada/toy@{sha}', f'{constants.ENDPOINT}/ada/toy/tree/{sha}')
    assert repo.private and len(repo.commits)==2
    assert {*repo.commits[-1][1]}=={'.gitattributes','README.md','picture.svg',*tree(TOY)}
    for name in ('hub:ada/toy', there.name):
        back = load(name)
        assert back.origin==there.name and back.history==dm.history and back.training_run==dm.training_run
        assert all(p.equal(q) for p,q in zip(back.trainable_parameters(), dm.trainable_parameters()))
    assert len(gets(hub))==5  # each file once, and the second name needs none
    assert [p for m,p in hub.log if m=='POST' and '/commit/' in p]==['/api/models/ada/toy/commit/main']
    back = load(there.name, verify=True)
    assert load(save(back, cache().parent/'saved')).origin==there.name

def test_a_harvest_beside_its_decomposition(hub, tmp_path):
    dm = load('story')
    push(dm, 'ada/story')
    there = push(Harvest('story/harvest'), 'ada/story/harvest')
    dm = load('hub:ada/story')
    h,here = Harvest(there.name, dm),Harvest('story/harvest', load('story'))
    assert h.by_token(' "').equals(here.by_token(' "')) and len(h.labels.rows)==len(here.labels.rows)
    assert repr(h.component('model.layers.1.mlp.down_proj:80'))==repr(here.component('model.layers.1.mlp.down_proj:80'))
    assert str(there.name) in repr(h) and tree(h.path)==tree(STORY/'harvest')
    assert 'components.safetensors' in hub.repos['ada/story'].commits[-1][1]
    mine = download(there.name, tmp_path/'mine')
    assert tree(mine)==tree(h.path) and os.access(mine/'labels.jsonl', os.W_OK)

def test_a_folder_is_pushed_as_it_is(hub, tmp_path):
    folder = save(load(TOY), tmp_path/'saved')
    before = tree(folder)
    push(folder, 'ada/toy')
    sent = hub.repos['ada/toy'].commits[-1][1]
    assert tree(folder)==before
    assert {n:b for n,b in before.items() if n!='decomposition.json'}.items()<=sent.items()
    assert json.loads(sent['decomposition.json'])==json.loads(before['decomposition.json'])

def test_the_same_again_makes_no_commit_and_a_part_of_it_is_not_sent_again(hub):
    folder = ROOT/'data'/'toys'/'tms_5-2'
    first = push(folder, 'ada/toy')
    sent = list(hub.put)
    assert push(folder, 'ada/toy').name.split('@')[0]==first.name.split('@')[0]
    assert hub.put==sent

def test_a_push_that_is_cut_goes_on(hub):
    dm = load(TOY)
    hub.drop_puts = 1  # the library tries again by itself
    push(dm, 'ada/once')
    hub.lfs.clear()
    hub.put.clear()
    hub.refuse['PUT', '/lfs/'] = 500
    refused(ConnectionError, 'call again', lambda: push(dm, 'ada/toy'))
    assert len(hub.repos['ada/toy'].commits)==1 and not hub.put  # nothing is there, not even a half
    hub.refuse.clear()
    hub.refuse['POST', '/api/models/ada/toy/commit'] = 503
    refused(ConnectionError, 'call again', lambda: push(dm, 'ada/toy'))
    assert len(hub.repos['ada/toy'].commits)==1 and len(hub.put)==4
    hub.refuse.clear()
    push(dm, 'ada/toy')
    assert len(hub.put)==4  # what had arrived was not sent again
    assert load('hub:ada/toy').C==dm.C

def test_a_large_file_in_parts(hub):
    hub.part = 1000
    push(load(TOY), 'ada/toy')
    assert load('hub:ada/toy').C==load(TOY).C and len(hub.parts)>8

def test_a_download_that_is_cut_goes_on(hub):
    there = push(load(TOY), 'ada/toy')
    hub.cut['ci.safetensors'] = 3000,1  # the library asks for the rest by itself
    assert load(there.name).C
    shutil.rmtree(cache())
    hub.cut['ci.safetensors'] = 3000,99
    hub.cut['components.safetensors'] = 0,99
    refused(ConnectionError, 'call again', lambda: load(there.name))
    assert not (cache()/'ada--toy'/there.name.split('@')[1]).exists()
    hub.cut.clear()
    hub.log.clear()
    assert load(there.name).C==load(TOY).C
    assert len(gets(hub))<=5 and not list(cache().rglob('*.part'))

def test_two_that_fetch_at_once_fetch_once(hub):
    there = push(load(TOY), 'ada/toy')
    hub.log.clear()
    threads = [threading.Thread(target=fetched, args=[HubName.parse(there.name)]) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(gets(hub))==5 and load(there.name).C

def test_what_the_hub_refuses(hub, monkeypatch):
    dm,sent = load(TOY),lambda: [len(r.commits) for r in hub.repos.values()]
    hub.echo_token = True
    refused(PermissionError, 'right to write', lambda: push(dm, 'bob/toy'))
    refused(FileNotFoundError, 'no repository ada/none', lambda: load('hub:ada/none'))
    hub.repos['bob/public'] = Repo(private=False)
    refused(PermissionError, 'right to write', lambda: push(dm, 'bob/public', private=False))
    there = push(dm, 'ada/toy')
    refused(FileNotFoundError, "no revision 'v9' of ada/toy", lambda: load('hub:ada/toy@v9'))
    refused(FileNotFoundError, 'holds no saved result', lambda: load('hub:ada/toy/harvest'))
    hub.repos['ada/toy'].tags['v1'] = there.name.split('@')[1]
    assert load('hub:ada/toy@v1').origin==there.name
    before = sent()
    monkeypatch.setenv('HF_TOKEN', 'hf_'+'another'*5)
    refused(PermissionError, 'log in|does not know your token', lambda: push(dm, 'ada/other'))
    refused((FileNotFoundError, PermissionError), 'log in', lambda: push(dm, 'ada/toy'))
    shutil.rmtree(cache())
    refused(FileNotFoundError, 'or it is private', lambda: load('hub:ada/toy'))
    monkeypatch.delenv('HF_TOKEN')
    monkeypatch.setattr(constants, 'HF_TOKEN_PATH', '/nonexistent')
    refused(PermissionError, 'log in', lambda: push(dm, 'ada/other'))
    assert sent()==before

def test_no_connection(hub, monkeypatch):
    there = push(load(TOY), 'ada/toy')
    load(there.name)
    hub.log.clear()
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert load(there.name).C
    refused(ConnectionError, f'you can open {there.name}', lambda: load('hub:ada/toy'))
    refused(ConnectionError, 'call again', lambda: push(load(TOY), 'ada/toy'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    refused(ConnectionError, f'you can open {there.name}', lambda: load('hub:ada/toy'))
    assert hub.log==[]

def test_a_disk_that_fills_up(hub, monkeypatch):
    there = push(load(TOY), 'ada/toy')
    def full(*a, **kw): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(file_download, 'http_get', full)
    refused(OSError, 'free some space', lambda: load(there.name))
    assert not (cache()/'ada--toy'/there.name.split('@')[1]).exists()
    monkeypatch.undo()

# ---- what is shown of data

HOSTILE = ['<script>alert(1)</script>', '<img src=x onerror=y>', '![x](http://evil.example/a.png)', '[x](javascript:y)',
    'a | b |', '`x`', '\n\n# title', '\n---\nlicense: other\n---', '\\\\(x\\\\) $$y$$', 'https://evil.example',
    '<!-- x', 'www.evil.example', '```\n</table>', '\u202egpj', '&lt;script&gt;', '- [ ] x', '\\| x', '[x]: http://evil.example',
    'm@evil.example', '~~x~~', '**x**', '[^1]: x']

def test_a_card_shows_data_as_text(hub):
    "To a reader of Markdown that is not ours"
    import mistune, yaml
    dm = load(TOY)
    checks = [dict(name=t, verdict='pass', value=.5, standard=t) for t in HOSTILE]
    dm.report = dict(verdict='**<b>fail</b>', checks=checks)
    push(dm, 'ada/toy', license='cc-by-4.0')
    text = hub.repos['ada/toy'].commits[-1][1]['README.md'].decode()
    _,front,body = text.split('---\n', 2)
    tags = ['parameter-decomposition','interpretability','spd_nb']
    assert yaml.safe_load(front)==dict(library_name='spd_nb', tags=tags, license='cc-by-4.0')
    plugins = ['table','url','strikethrough','math','task_lists','footnotes']
    tokens = mistune.create_markdown(renderer=None, plugins=plugins)(body)
    def walk(ts):
        for t in ts:
            yield t
            yield from walk(t.get('children') or [])
    kinds,images = {t['type'] for t in walk(tokens)},[t['attrs']['url'] for t in walk(tokens) if t['type']=='image']
    assert kinds-{'softbreak','linebreak'}=={'blank_line','heading','paragraph','block_code','table','table_head',
        'table_body','table_row','table_cell','text','strong','codespan','image'}
    assert [t['raw'] for t in walk(tokens) if t['type']=='codespan']==['@']
    assert images==['picture.svg']
    assert [t['attrs']['level'] for t in walk(tokens) if t['type']=='heading']==[1,2,2]
    rows = [t['children'] for t in walk(tokens) if t['type']=='table_row']
    assert {len(r) for r in rows}=={3,4} and len(rows)==len(HOSTILE)+len(dm.sites)

# ---- a repository that someone else made

def from_elsewhere(hub, **files):
    "A repository with the files of a toy, and others"
    given = {n:b for n,b in tree(TOY).items()}|files
    hub.repos['eve/toy'] = Repo(private=False)
    hub.repos['eve/toy'].add({n:b for n,b in given.items() if b is not None})
    return 'hub:eve/toy'

class Bomb:
    def __reduce__(self): return os.mkdir,('ran',)

@pytest.mark.parametrize('files,said', [
    ({'../x.json':b'{}'}, None), ({'a\\b.json':b'{}'}, 'which is not fetched'),
    ({'..json':b'{}'}, 'which is not fetched'),
    ({'CON.json':b'{}'}, 'which is not fetched'), ({'a\nb.json':b'{}'}, 'which is not fetched'),
    ({'\u202egpj.json':b'{}'}, 'which is not fetched'), ({'C:x.json':b'{}'}, 'which is not fetched'),
    ({'Ci.safetensors':b''}, 'differ only in case'),
    ({f'{i}.json':b'' for i in range(1001)}, 'no saved result has more than'),
    ({'components.safetensors':b'../../outside/components.safetensors'}, 'damaged'),  # a link, as git keeps it
    ({'components.safetensors':pickle.dumps(Bomb())}, 'damaged'), ({'history.parquet':pickle.dumps(Bomb())}, 'damaged'),
    ({'decomposition.json':b'../outside'}, 'damaged'), ({'decomposition.json':b' '*(9<<20)}, 'at most'),
    ({'ci.safetensors':None}, 'missing'), ({'decomposition.json':None}, 'no decomposition')], ids=lambda v: '')
def test_a_hostile_repository(hub, tmp_path, monkeypatch, files, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'outside').mkdir()
    name = from_elsewhere(hub, **files)
    if said is None: assert load(name).C  # right in the folder it has no such file
    else:
        with pytest.raises((ValueError,FileNotFoundError), match=said) as e: load(name)
        assert len(str(e.value))<1500 and str(e.value).isprintable()
    fetched_files = [f for f in tmp_path.rglob('*') if f.is_file() and 'assets' in f.parts]
    assert all(f.is_relative_to(cache()) and not f.is_symlink() for f in fetched_files)
    assert not (tmp_path/'ran').exists() and not list((tmp_path/'outside').iterdir())

def test_code_and_pickles_are_not_fetched(hub):
    others = ['model.pkl','pytorch_model.bin','modeling.py','x.pt','a.ipynb','README.md','sub/a.json']
    name = from_elsewhere(hub, **dict.fromkeys(others, b'{}'))
    assert load(name).C
    assert not {p.rsplit('/', 1)[1] for p in gets(hub)} & {n.rsplit('/', 1)[-1] for n in others}

def test_a_hub_that_lies_about_a_file(hub, monkeypatch):
    name = from_elsewhere(hub)
    commit,files = hub.repos['eve/toy'].commits[-1]
    honest = downloads._remote_files
    def lying(info, name):
        found = honest(info, name)
        return found|{'ci.safetensors':found['ci.safetensors']._replace(sha256='0'*64)}
    monkeypatch.setattr(downloads, '_remote_files', lying)
    refused(ConnectionError, 'ci.safetensors arrived damaged', lambda: load(name))
    assert not (cache()/'eve--toy'/commit).exists()

def test_the_token_is_nowhere(hub, monkeypatch):
    "Also if the server sends it back"
    hub.echo_token = True
    hub.refuse['POST', '/api/models/ada/toy/commit'] = 400
    refused(ValueError, r'no Bearer \.\.\.', lambda: push(load(TOY), 'ada/toy'))
    hub.refuse.clear()
    there = push(load(TOY), 'ada/toy')
    sent = b''.join(hub.repos['ada/toy'].commits[-1][1].values())
    assert TOKEN.encode() not in sent and str(Path.home()).encode()+b'/' not in sent and str(ROOT).encode() not in sent
    assert TOKEN not in repr(there)
