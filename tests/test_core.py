"""`core`: writes that are killed or fail at every step, what reaches the disk in which order, torn histories,
generators of GPUs"""
import errno, os, sys
from functools import partial
from itertools import count
from pathlib import Path
from unittest.mock import patch
import pytest, torch
from spd_nb import core
from spd_nb.core import Run, atomic, restore_rng, rng_state, standing

unix = pytest.mark.skipif(sys.platform=='win32', reason='forks')
forks = pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')  # from Python 3.12 where there are threads
STEPS = ['mkdir','replace','fsync','unlink','rmdir']

def write_folder(path, text):
    with atomic(path, folder=True) as new:
        (new/'deep').mkdir()
        for n in 'xy': (new/'deep'/n).write_text(text, encoding='utf-8')

def write_file(path, text):
    with atomic(path) as f: f.write_text(text, encoding='utf-8')

def content(path):
    path = standing(path)
    return {f.relative_to(path).as_posix():f.read_text(encoding='utf-8') for f in path.rglob('*') if f.is_file()}
def both(text): return {'deep/x':text, 'deep/y':text}

def forked(f):
    "Exit code of a copy of this process: what `f` returns there, 1 if it raised an OSError"
    if pid := os.fork(): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 2
    try: code = f() or 0
    except OSError: code = 1
    finally: os._exit(code)

def stumbling(f, k, act, names):
    "Run `f`, with `act` in place of the `k`-th call of the functions of `os` in `names`; 4 if there is no `k`-th call"
    calls = count()
    def at(g): return lambda *a,**kw: act() if next(calls)==k else g(*a,**kw)
    for n in names: setattr(os, n, at(getattr(os, n)))
    f()
    return 4*(next(calls)<=k)

def fates(folder, write, read, act, names):
    "For each `k`: exit code, whether anything stood in its place, what `read` finds there, and what lies beside it"
    for k in count():
        p = folder/f'{k}'/'result'
        write(p, 'old')
        code = forked(partial(stumbling, partial(write, p, 'new'), k, act, names))
        if code==4: return
        yield code, p.exists(), read(p), [n for n in os.listdir(p.parent) if n!='result']

def kill(): os._exit(9)
def fail(): raise OSError(errno.ENOSPC, 'No space left on device')
def old_then_new(held, old, new):
    return 0<held.count(old)<len(held) and list(held)==held.count(old)*[old]+(len(held)-held.count(old))*[new]

@unix
@forks
def test_a_write_after_any_kill_needs_no_repair_and_clears_the_old_version_away(tmp_path):
    def rewritten(path):
        write_folder(path, 'next')
        return {f.name:f.read_text(encoding='utf-8') for f in (path/'deep').iterdir()}
    *_,held,left = zip(*fates(tmp_path, write_folder, rewritten, kill, STEPS))
    assert list(held)==len(held)*[dict(x='next', y='next')]
    assert not any('.result.old' in names for names in left)

@unix
@forks
def test_failing_calls_leave_the_old_folder_or_the_new_one_and_nothing_beside_it(tmp_path):
    codes,there,held,left = zip(*fates(tmp_path, write_folder, content, fail, ['replace','fsync']))
    assert old_then_new(held, both('old'), both('new'))
    assert all(there) and not any(left) and set(codes)=={1}

@unix
@forks
@pytest.mark.parametrize('act', [kill, fail])
def test_a_file_stands_in_its_place_at_every_moment(tmp_path, act):
    _,there,held,_ = zip(*fates(tmp_path, write_file, Path.read_text, act, ['replace','fsync']))
    assert old_then_new(held, 'old', 'new') and all(there)

def limit_file_size(n):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

@unix
@forks
def test_a_write_that_fails_half_way_leaves_the_old_version(tmp_path):
    "The process may write no more than 1000 bytes; the temporary file with the first 1000 is removed"
    def too_much():
        limit_file_size(1000)
        with atomic(tmp_path/'file.txt') as f: f.write_bytes(bytes(2000))
    write_file(tmp_path/'file.txt', 'old')
    assert forked(too_much)==1
    assert content(tmp_path)=={'file.txt':'old'} and os.listdir(tmp_path)==['file.txt']

def synced(write, path):
    "Calls of `os.fsync` and `os.replace` that `write` makes, with the file's number (inode)"
    log = []
    def exchanged(a, b, swap=core._exchange):
        log.append(('exchange', None))
        return swap(a, b)
    def logged(name, g):
        return lambda to,*a: (log.append((name, os.fstat(to).st_ino if name=='fsync' else None)), g(to, *a))[1]
    write(path, 'old')
    with patch.object(os, 'fsync', logged('fsync', os.fsync)), patch.object(os, 'replace',
            logged('replace', os.replace)), patch.object(core, '_exchange', exchanged):
        write(path, 'new')
    return log

@unix
def test_data_reaches_the_disk_before_the_rename(tmp_path):
    "A rename may reach the disk first, and after a power cut the new name would hold nothing"
    p = tmp_path/'result'
    names,inodes = zip(*synced(write_folder, p))
    first = names.index('exchange')  # everything before it is flushed
    assert names[first+1:] in (('fsync',), ('replace','replace','fsync'))
    assert set(inodes[:first])=={f.stat().st_ino for f in [p, *p.rglob('*')]} and inodes[-1]==tmp_path.stat().st_ino
    assert synced(write_file, tmp_path/'file')==[('fsync',(tmp_path/'file').stat().st_ino), ('replace',None),
        ('fsync',inodes[-1])]

@unix
def test_files_are_flushed_where_folders_cannot_be(tmp_path):
    "Windows cannot flush a folder, nor a file that is open for reading only; a disk that fails is still an error"
    import fcntl
    flushed = []
    def only_files(fd):
        if fcntl.fcntl(fd, fcntl.F_GETFL)&os.O_ACCMODE==os.O_RDONLY:
            raise OSError(errno.EBADF, 'Bad file descriptor')
        flushed.append(os.fstat(fd).st_ino)
    def no_folder(path, flags, *a, opened=os.open, **kw):
        # with keywords it is `rmtree`
        if not kw and Path(path).is_dir(): raise PermissionError(errno.EACCES, 'Permission denied')
        return opened(path, flags, *a, **kw)
    p = tmp_path/'result'
    with patch.object(os, 'fsync', only_files), patch.object(os, 'open', no_folder): write_folder(p, 'new')
    assert set(flushed)=={f.stat().st_ino for f in p.rglob('*') if f.is_file()}
    with patch.object(os, 'fsync', side_effect=OSError(errno.EIO, 'broken disk')), pytest.raises(OSError,
            match='broken disk'):
        write_folder(p, 'newer')
    assert content(p)==both('new')

def test_recover_and_atomic_read_the_home_folder(tmp_path, monkeypatch):
    for name in ('HOME','USERPROFILE'): monkeypatch.setenv(name, str(tmp_path))
    write_folder('~/result', 'new')
    assert standing('~/result')==tmp_path/'result' and content(tmp_path/'result')==both('new')
    write_file('~/home.txt', 'mine')
    assert (tmp_path/'home.txt').read_text(encoding='utf-8')=='mine'

def test_a_history_whose_first_row_is_torn(tmp_path):
    run = Run(tmp_path)
    (run/'history.jsonl').write_text('{"st', encoding='utf-8')
    assert run.history==[]
    run.log(dict(step=0))
    run.log(dict(step=1))
    assert [r['step'] for r in run.history]==[0,1]

@unix
@forks
def test_a_full_disk_cuts_a_row_short_in_a_process_that_goes_on(tmp_path):
    run = Run(tmp_path)
    run.log(dict(step=0))
    run.log(dict(step=1))
    def cut_short():
        limit_file_size(len('{"step": 0}\n')*2+5)
        with pytest.raises(OSError): run.log(dict(step=2))
        limit_file_size(1000)
        run.log(dict(step=3))
    assert forked(cut_short)==0
    assert [r['step'] for r in run.history]==[0,1,3]

def test_generators_of_gpus_are_kept_and_those_not_in_use_passed_over():
    "Apple's and CUDA's are stood in for, as most machines lack one or both"
    states = dict(mps=torch.tensor(1), cuda=[torch.tensor(2),torch.tensor(3)])
    def set_cuda(s, device): states['cuda'][device] = s
    mps = patch.multiple(torch.mps, get_rng_state=lambda: states['mps'], set_rng_state=lambda s: states.update(mps=s))
    cuda = patch.multiple(torch.cuda, is_initialized=lambda: True, device_count=lambda: 2,
        get_rng_state=lambda i: states['cuda'][i], set_rng_state=set_cuda)
    with mps, cuda, patch.object(torch.backends.mps, 'is_available', return_value=True):
        state = rng_state()
        states.update(mps=torch.tensor(9), cuda=[torch.tensor(9),torch.tensor(9)])
        restore_rng(state)
    assert (states['mps'], states['cuda'])==(1, [2,3]) and list(state)==['cpu','cuda:0','cuda:1','mps']
    restore_rng(rng_state()|dict(mps=torch.tensor(1)))
