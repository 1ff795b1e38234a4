"""Folders from a stranger: nothing outside them is opened, nothing in them runs, a small file fills no memory, and each
refusal is a `ValueError` that names the file and fits on a few lines"""
import builtins, io, json, os, pickle, shutil, socket, subprocess, sys, zipfile
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
import pytest, torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from seals import rewritten
from spd_nb.integrity import file_about
from spd_nb import integrity
from spd_nb.attribution import graph
from spd_nb.attributions import FlowSums
from spd_nb.clusters import load_merges, read_history
from spd_nb.graphs import load_graph
from spd_nb.harvest import Harvest
from spd_nb.model import decompose, load, save
from spd_nb.memberships import Memberships
from spd_nb.published import read_comparison
from spd_nb.received import MOST_JSON
from spd_nb.stats import load_stats

ROOT = Path(__file__).parent.parent
TOY = ROOT/'data'/'toys'/'tms_5-2-id'
HF = dict(kind='hf', model='GPTNeoXForCausalLM', name='someone/model', revision=None, dtype='float32')

class Bomb:
    "Unpickled, it leaves a file"
    def __reduce__(self): return os.mkdir, (os.environ.get('SPD_NB_RAN', 'ran'),)

def changed(folder, **fields):
    "Change fields of a description; one that is `...` goes"
    rewritten(folder/'decomposition.json', **fields)

def described(d): return json.loads((d/'decomposition.json').read_text(encoding='utf-8'))
def target(**kw): return lambda d: changed(d, target=described(d)['target']|kw)
def fields(**kw): return lambda d: changed(d, **kw)
def linked(name, to):
    def make(d):
        (d/name).unlink(missing_ok=True)
        (d/name).symlink_to(to)
    return make
def pickled(name):
    def make(d): (d/name).write_bytes(pickle.dumps(Bomb()))
    return make
def table(**columns):
    def make(d): pq.write_table(pa.table(columns), d/'history.parquet', compression='zstd', store_schema=False)
    return make
def tensors(name, **new): return lambda d: save_file(load_file(d/name)|new, d/name)
def raw(name, data): return lambda d: (d/name).write_bytes(data)
def header(**about):
    text = json.dumps(about).encode()
    return raw('components.safetensors', len(text).to_bytes(8, 'little')+text)

def run_folder(step='1', args='{}', history='{"step": 0}\n'):
    "A folder as `fit` leaves it"
    def make(d):
        state = {f'components/{k}':v for k,v in load_file(d/'components.safetensors').items()}
        save_file(state, d/'checkpoint.safetensors', dict(step=step, args=args))
        (d/'history.jsonl').write_text(history, encoding='utf-8')
    return make

def model_inside(name, **files):
    "A checkpoint with more in it, inside the folder"
    def make(d):
        GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=30, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2)).save_pretrained(d/name)
        for f,text in files.items(): (d/name/f.replace('_json', '.json')).write_text(text, encoding='utf-8')
        changed(d, target=HF|dict(name=str(d/name), beside=name))
    return make

def dictionary(n, text): return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([text]))

VARIANTS = dict(
    # names and places
    hub_name=fields(target=HF), hub_name_of_earlier_saves=fields(target={k:v for k,v in HF.items() if k!='model'}),
    absolute_path=lambda d: fields(target=HF|dict(name=str(d.parent/'outside')))(d),
    path_upwards=fields(target=HF|dict(name='../outside')), home=fields(target=HF|dict(name='~/model')),
    unc_path=fields(target=HF|dict(name='\\\\server\\share')), nul_in_name=fields(target=HF|dict(name='a\0b')),
    url=fields(target=HF|dict(name='https://example.com/model')),
    beside=fields(target=HF|dict(beside='../outside')), beside_absolute=fields(target=HF|dict(beside='/etc')),
    model_inside=model_inside('model'),
    model_inside_with_code=model_inside('model', config_json='{"auto_map": {"AutoModelForCausalLM": "x.Y"}}'),
    model_inside_with_adapter=model_inside('model', adapter_config_json='{"base_model_name_or_path": "someone/x"}'),
    class_of_another_module=fields(target=dict(kind='import', name='os:getcwd')),
    pretrained_of_another_module=fields(target=dict(kind='import', name='spd_nb.toys:TMS', pretrained=HF)),
    class_of_transformers=fields(target=HF|dict(model='pipeline')), unknown_kind=target(kind='pickle'),
    # code
    ci_elsewhere=fields(ci='os:system'), ci_with_arguments=fields(ci=dict(kind='subprocess:run', args='x')),
    lower_elsewhere=fields(lower='builtins:eval'), upper_elsewhere=fields(upper='builtins:exec'),
    output_elsewhere=fields(output=dict(kind='os:system')), ci_as_sigmoid=fields(lower='ScalarCI'),
    pickled_components=pickled('components.safetensors'), pickled_target=pickled('target.safetensors'),
    pickled_history=pickled('history.parquet'),
    # links
    link_to_tensors=linked('components.safetensors', '../outside/components.safetensors'),
    link_to_weights=linked('target.safetensors', '../outside/target.safetensors'),
    link_to_description=linked('decomposition.json', '../outside/decomposition.json'),
    link_to_history=linked('history.parquet', '/etc/passwd'), link_to_device=linked('history.parquet', '/dev/zero'),
    link_to_itself=linked('decomposition.json', 'decomposition.json'),
    link_to_run=linked('checkpoint.safetensors', '../outside/state'), pipe=lambda d: (
        (d/'decomposition.json').unlink(), os.mkfifo(d/'decomposition.json')),
    # sizes
    wide_toy=target(n=10**9), wide_toy_for_two=target(n=40_000, d=40_000), negative_toy=target(n=-1),
    many_components=fields(sites=dict(linear1=10**9, linear2=10**9, hidden=10)),
    components_beyond_64_bits=fields(sites=dict(linear1=10**30)),
    wide_ci=fields(ci=dict(kind='ScalarCI', hidden=10**9)),
    deep_ci=fields(ci=dict(kind='ScalarCI', hidden=[1]*200_000)),
    many_blocks=fields(ci=dict(kind='TransformerCI', blocks=10**9)),
    wide_story=fields(target=dict(kind='story', d=2**15, d_mlp=2**17, layers=90, heads=1, seed=0)),
    wide_bilinear=fields(target=dict(kind='bilinear', vocab=900, context=12, bigrams=3, trigrams=3, seed=0)),
    large_json=raw('decomposition.json', b' '*MOST_JSON+b'{}'), many_objects=raw('decomposition.json',
        b'['+b'{},'*20_000_000+b'{}]'), deep_json=raw('decomposition.json', b'['*200_000),
    deep_object=raw('decomposition.json', b'{"report":'+b'{"a":'*100_000+b'1'+b'}'*100_001),
    long_number=raw('decomposition.json', b'{"schema_version": '+b'9'*10_000+b'}'),
    many_rows=table(step=np.zeros(60_000_000)), long_texts=table(step=dictionary(200, 'x'*10**5)),
    header_of_many_tensors=header(a=dict(dtype='F32', shape=[10**6, 10**6], data_offsets=[0, 4*10**12])),
    header_too_long=raw('components.safetensors', (2**62).to_bytes(8, 'little')+b'{}'),
    checkpoint_arguments=run_folder(args='['+'{},'*(10**7)+'{}]'),
    # forms
    no_sites=fields(sites=...), sites_as_list=fields(sites=['linear1']), sites_as_text=fields(sites=dict(linear1='9')),
    unknown_site=fields(sites={'linear1':10, '../x':3}), glob_as_site=fields(sites={'*':3}),
    tied_to_itself=fields(tied=dict(linear1='linear1')), version_as_text=fields(schema_version='1'),
    version_0=fields(schema_version=0), no_version=fields(schema_version=...), report_as_list=fields(report=[1]),
    checks_as_text=fields(report=dict(checks='x')), check_without_name=fields(report=dict(checks=[{}])),
    ci_as_number=fields(ci=3), ci_without_kind=fields(ci=dict(hidden=3)), ci_as_list=fields(ci=dict(kind=['a'])),
    target_as_list=fields(target=[]), target_without_kind=fields(target=dict(name='x')),
    name_as_number=fields(target=HF|dict(name=3)), number_type=target(dtype='load'),
    training_as_text=fields(training='x'), twice_as_text=fields(twice='x'), list_as_description=raw(
        'decomposition.json', b'[]'), latin=raw('decomposition.json', '{"é": 1}'.encode('latin-1')),
    other_tensors=tensors('components.safetensors', more=torch.ones(3)), no_weights=lambda d: (
        d/'target.safetensors').unlink(), history_of_a_run=run_folder(history='[]\n'),
    step_of_a_run=run_folder(step='x'), arguments_of_a_run=run_folder(args='[]'),
    escapes=fields(ci='\x1b[2J\r\nall is well\u2028:x'), escapes_in_target=fields(
        target=dict(kind='import', name='\x1b]0;x\x07\nok:x')), escapes_in_sites=fields(sites={'\x1b[2J\nok':3}))

@pytest.fixture
def sent(tmp_path):
    "A folder as it was sent, beside a folder that is the reader's"
    save(load(TOY), tmp_path/'sent')
    rewritten(tmp_path/'sent'/'decomposition.json', files=...)  # whoever made it has no hashes, or right ones
    shutil.copytree(tmp_path/'sent', tmp_path/'outside')
    return tmp_path/'sent'

@pytest.fixture
def watched(tmp_path, monkeypatch):
    "What is opened outside `sent`, and every attempt at a connection"
    seen = []
    def outside(p):
        if isinstance(p, (str,bytes,os.PathLike)):
            at = Path(os.path.realpath(os.fsdecode(p)))
            if at.is_relative_to(tmp_path) and not at.is_relative_to(tmp_path/'sent') or at.is_relative_to('/etc'):
                seen.append(str(at))
    def watching(f):
        def g(p, *a, **kw):
            outside(p)
            return f(p, *a, **kw)
        return g
    monkeypatch.setattr(builtins, 'open', watching(builtins.open))
    monkeypatch.setattr(io, 'open', watching(io.open))
    monkeypatch.setattr(os, 'open', watching(os.open))
    monkeypatch.setattr(integrity, 'safe_open', watching(integrity.safe_open))
    monkeypatch.setattr(pq, 'read_table', watching(pq.read_table))
    def refused(*a, **kw):
        seen.append('connection')
        raise OSError('no network')
    for name in ('connect','connect_ex'): monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, 'getaddrinfo', refused)
    for name in ('Popen','run','call'): monkeypatch.setattr(subprocess, name, refused)
    monkeypatch.setenv('SPD_NB_RAN', str(tmp_path/'ran'))
    return seen

def clear(e, tmp_path):
    "Whether a refusal is of a few lines that show in a terminal what they hold"
    said = str(e)
    assert len(said)<1500 and all(c.isprintable() for c in said), said
    return said

@pytest.mark.skipif(os.name!='posix', reason='links and pipes of POSIX')
@pytest.mark.parametrize('name', VARIANTS)
def test_a_hostile_folder_is_refused(name, sent, watched, tmp_path):
    VARIANTS[name](sent)
    before = {f:f.read_bytes() for f in (tmp_path/'outside').iterdir()}
    watched.clear()
    with pytest.raises(ValueError) as e: load(sent)
    clear(e.value, tmp_path)
    assert watched==[] and not (tmp_path/'ran').exists()
    assert {f:f.read_bytes() for f in (tmp_path/'outside').iterdir()}==before

def test_there_are_enough_hostile_folders(): assert len(VARIANTS)>=60

GROWTH = '''
import resource, sys, time
from spd_nb.model import load
load({toy!r})
import pandas, pyarrow.parquet
before,start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,time.monotonic()
resource.setrlimit(resource.RLIMIT_AS, (6*2**30, 6*2**30))  # on the old code some took all there is
try: load(sys.argv[1])
except ValueError: pass
except BaseException as e: print(type(e).__name__, end=' ')
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss-before)//1024, time.monotonic()-start)
'''
SIZES = [k for k in VARIANTS if k in ('wide_toy','wide_toy_for_two','many_components','wide_ci','deep_ci','wide_story',
    'wide_bilinear','many_objects','many_rows','long_texts','checkpoint_arguments')]

@pytest.mark.skipif(sys.platform!='linux', reason='memory as Linux counts it')
@pytest.mark.parametrize('name', SIZES)
def test_a_small_file_fills_no_memory(name, sent):
    "In a process of its own, whose largest memory is then known; in megabytes and seconds"
    VARIANTS[name](sent)
    r = subprocess.run([sys.executable, '-c', GROWTH.format(toy=str(TOY)), sent], capture_output=True, text=True,
        cwd=ROOT, check=True, timeout=120)
    *_,grown,seconds = r.stdout.split()
    assert len(r.stdout.split())==2 and int(grown)<300 and float(seconds)<20, r.stdout

def test_a_model_of_a_save_is_opened_when_trusted_and_never_unpickled(tmp_path, monkeypatch):
    made = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=30, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2))
    made.save_pretrained(tmp_path/'model')
    model = GPTNeoXForCausalLM.from_pretrained(tmp_path/'model').eval()
    folder = save(decompose(model, '*dense', C=3), tmp_path/'saved')
    with pytest.raises(ValueError, match='nothing was opened there') as e: load(folder)
    way = str(e.value).partition('`load(path, target=')[2].partition(')`')[0]
    assert load(folder, target=eval(way, dict(GPTNeoXForCausalLM=GPTNeoXForCausalLM, torch=torch))).C
    assert load(folder, trust=True).C
    (tmp_path/'model'/'model.safetensors').unlink()
    monkeypatch.setenv('SPD_NB_RAN', str(tmp_path/'ran'))
    (tmp_path/'model'/'pytorch_model.bin').write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(OSError, match='model.safetensors'): load(folder, trust=True)
    assert not (tmp_path/'ran').exists()

def test_a_checkpoint_with_code_asks_no_question(tmp_path, monkeypatch):
    (tmp_path/'model').mkdir()
    (tmp_path/'model'/'config.json').write_text(json.dumps(dict(model_type='mine', auto_map=dict(
        AutoConfig='code.Config', AutoModelForCausalLM='code.Model'))), encoding='utf-8')
    code = f'import os; os.mkdir({str(tmp_path/"ran")!r})'
    (tmp_path/'model'/'code.py').write_text(code, encoding='utf-8')
    shutil.copytree(TOY, tmp_path/'sent')
    changed(tmp_path/'sent', target={k:v for k,v in HF.items() if k!='model'}|dict(name=str(tmp_path/'model')))
    monkeypatch.setattr(builtins, 'input', lambda *a: 1/0)
    for trust in (False,True):
        with pytest.raises((ValueError,OSError)): load(tmp_path/'sent', trust=trust)
    assert not (tmp_path/'ran').exists()

@pytest.mark.skipif(os.name!='posix', reason='links of POSIX')
def test_links_of_ones_own_are_followed_when_trusted(sent, tmp_path):
    linked('components.safetensors', '../outside/components.safetensors')(sent)
    assert load(sent, trust=True).C==load(TOY).C
    (tmp_path/'here').symlink_to(sent)
    with pytest.raises(ValueError, match='`trust=True` if the links are your own'): load(tmp_path/'here')
    shutil.copy(tmp_path/'outside'/'components.safetensors', tmp_path/'copy')
    (sent/'components.safetensors').unlink()
    shutil.move(tmp_path/'copy', sent/'components.safetensors')
    assert load(tmp_path/'here').C==load(TOY).C

# ---- other folders and files that are passed on

STORY = ROOT/'data'/'story'

def manifest(**kw):
    return lambda d: rewritten(d/'manifest.json', **kw)

def resized(d, name):
    "Write size and hash of a changed file into the manifest"
    files = json.loads((d/'manifest.json').read_text(encoding='utf-8'))['files']
    manifest(files=files|{name:file_about(d/name)})(d)

def other_table(name, **columns):
    def make(d):
        n = pq.read_metadata(d/f'{name}.parquet').num_rows
        t = pa.table({k:v(n) if callable(v) else v for k,v in columns.items()})
        pq.write_table(t, d/f'{name}.parquet', compression='zstd', store_schema=False)
        resized(d, f'{name}.parquet')
    return make

def pairs(**arrays):
    def make(d):
        half = dict(indices=np.zeros(0, np.int32), indptr=np.zeros(1281, np.int32), data=np.zeros(0, np.int64),
            shape=np.array([1280,1280]), format=np.array(b'csr'))
        np.savez_compressed(d/'cofiring.npz', **half|arrays)
        resized(d, 'cofiring.npz')
    return make

def huge_array(d):
    "An array whose header asks for 8 TB"
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    with zipfile.ZipFile(d/'cofiring.npz', 'w') as z:
        for name in ('indices','indptr','data','shape','format'):
            z.writestr(f'{name}.npy', b'\x93NUMPY\x01\x00'+len(head).to_bytes(2, 'little')+head)
    resized(d, 'cofiring.npz')

HARVESTS = dict(file_outside=manifest(files={'../secret.json':dict(bytes=9)}), no_files=manifest(files=...),
    absolute_file=manifest(files={'/etc/passwd':dict(bytes=9)}), size_as_text=manifest(files={'a':dict(bytes='9')}),
    files_as_list=manifest(files=[1]), version_as_text=manifest(schema_version='2'),
    tokens_as_text=manifest(tokens='x'), threshold_as_list=manifest(threshold=[]),
    manifest_as_list=raw('manifest.json', b'[]'),
    large_manifest=raw('manifest.json', b'['+b'{},'*10_000_000+b'{}]'), deep=raw('manifest.json', b'['*200_000),
    link=linked('components.parquet', '../outside/components.parquet'),
    link_of_labels=linked('labels.jsonl', '../outside/labels.jsonl'),
    many_rows=other_table('components', key=lambda n: np.zeros(60_000_000)),
    long_texts=other_table('token_totals', text=lambda n: dictionary(661, 'x'*10**6), token=np.arange(661)),
    pairs_that_swell=pairs(data=np.zeros(10**8, np.int8)), pairs_of_others=pairs(shape=np.array([9,9])),
    pairs_that_lead_away=pairs(indices=np.full(1, 10**9, np.int32), data=np.ones(1, np.int64),
        indptr=np.ones(1281, np.int32)), pairs_of_objects=pairs(data=np.array([Bomb()], dtype=object)),
    pairs_without_end=huge_array, label_as_list=raw('labels.jsonl', b'[]\n'),
    label_without_key=raw('labels.jsonl', b'{"schema_version": 1, "strategy": "a"}\n'))

@pytest.mark.skipif(os.name!='posix', reason='links of POSIX')
@pytest.mark.parametrize('name', HARVESTS)
def test_a_hostile_harvest_is_refused(name, watched, tmp_path):
    for d in ('sent','outside'): shutil.copytree(STORY/'harvest', tmp_path/d)
    (tmp_path/'secret.json').write_text('{"a": 1}\n', encoding='utf-8')
    HARVESTS[name](tmp_path/'sent')
    watched.clear()
    with pytest.raises(ValueError) as e:
        h = Harvest(tmp_path/'sent')
        h.components, h.texts, h._cofiring, h.labels.rows
    assert str(e.value).replace('\n', '').isprintable() and len(str(e.value))<1500
    assert watched==[] and not (tmp_path/'ran').exists()

def test_a_hostile_graph_is_refused(tmp_path):
    good = graph(load('story'), 'There she met Lucy. She said,').pruned()
    def broken(name, data):
        good.save(tmp_path/'g')
        (tmp_path/'g'/name).write_bytes(data)
        with pytest.raises(ValueError, match='no graph, or damaged'): load_graph(tmp_path/'g')
    good.save(tmp_path/'g')
    assert len(load_graph(tmp_path/'g'))==len(good)
    for data in (b'[]', b'{"schema_version": "1"}', b'{}', b'['*10**5, b' '*(MOST_JSON+1)): broken('graph.json', data)
    out = io.BytesIO()
    pq.write_table(pa.table(dict(a=np.zeros(10**7))), out)
    for name in ('nodes.parquet','edges.parquet'): broken(name, out.getvalue())
    out = io.BytesIO()
    pq.write_table(pa.table(dict(a=[1.])), out)
    broken('edges.parquet', out.getvalue())

def test_other_hostile_files_are_refused(tmp_path):
    f = tmp_path/'file'
    for about in ('[]', '{}', '{"about": {}}', '['*10**5, ' '*(MOST_JSON+1)):
        save_file({'a':torch.ones(2)}, f, dict(about=about))
        for read in (FlowSums.load, load_merges):
            with pytest.raises(ValueError): read(f)
    m = Memberships(['a:0'], np.ones((4, 1), bool))
    with zipfile.ZipFile(f, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('merge.group_idxs.npy', bytes(2*10**8))
    with pytest.raises(ValueError, match='is no history of merges'): read_history(f, m, 1.)
    for about in (b'[]', b'{}', b'{"args": 3}', b'{"args": {"C": "x"}}'):
        np.savez(f.with_suffix('.npz'), about=np.frombuffer(about, np.uint8))
        with pytest.raises(ValueError, match='missing or damaged|holds a list'): load_stats(f.with_suffix('.npz'))
    with open(f, 'wb') as o: o.truncate(65<<20)
    with pytest.raises(ValueError, match='at most 67,108,864 are read'): read_comparison(f)
