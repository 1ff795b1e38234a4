"`atomic` under kills, failing calls, a full disk and systems that cannot flush: always a whole version, old or new"
import errno, fcntl, os, resource
from functools import partial
from itertools import count
from pathlib import Path
from unittest.mock import patch
import pytest
from spd_nb.core import Run, atomic

OLD,NEW = ({'deep/x':v, 'deep/y':v} for v in ('old','new'))
CALLS = ['mkdir','replace','fsync','unlink','rmdir']

def write(path, text):
    "A folder with two files"
    with atomic(path, folder=True) as new:
        (new/'deep').mkdir()
        for n in ('x','y'): (new/'deep'/n).write_text(text)

def put(path, text):
    "A single file"
    with atomic(path) as f: f.write_text(text)

def content(folder): return {str(f.relative_to(folder)):f.read_text() for f in folder.rglob('*') if f.is_file()}

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
def fail(): raise OSError(28, 'No space left on device')

def test_a_write_after_any_kill_needs_no_repair(tmp_path):
    def rewritten(path):
        write(path, 'next')
        return content(path)
    *_,held,left = zip(*fates(tmp_path, write, rewritten, kill, CALLS))
    assert list(held)==len(held)*[{'deep/x':'next', 'deep/y':'next'}]
    assert not any('.result.old' in names for names in left)

def test_a_call_that_fails_leaves_a_whole_version_and_nothing_beside_it(tmp_path):
    codes,there,held,left = zip(*fates(tmp_path, write, content, fail, ['replace','fsync']))
    n = list(held).count(OLD)
    assert list(held)==n*[OLD]+(len(held)-n)*[NEW] and 0<n<len(held)
    assert all(there) and not any(left) and set(codes)=={1}

@pytest.mark.parametrize('act', [kill, fail])
def test_a_file_stands_in_its_place_at_every_moment(tmp_path, act):
    _,there,held,_ = zip(*fates(tmp_path, put, Path.read_text, act, ['replace','fsync']))
    n = list(held).count('old')
    assert list(held)==n*['old']+(len(held)-n)*['new'] and 0<n<len(held) and all(there)

def test_a_disk_that_is_full_half_way_leaves_the_old_file(tmp_path):
    def too_much():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        with atomic(tmp_path/'file.txt') as f: f.write_bytes(bytes(2000))
    put(tmp_path/'file.txt', 'old')
    assert forked(too_much)==1
    assert content(tmp_path)=={'file.txt':'old'}

def synced(write, path):
    "Calls of os.fsync and os.replace that `write` makes, with the file's number (inode)"
    def logged(name, g):
        def call(fd_or_path, *a):
            log.append((name, os.fstat(fd_or_path).st_ino if name=='fsync' else None))
            return g(fd_or_path, *a)
        return call
    write(path, 'old')
    log = []
    with patch.object(os, 'fsync', logged('fsync', os.fsync)), patch.object(os, 'replace', logged('replace', os.replace)):
        write(path, 'new')
    return zip(*log)

def test_everything_is_flushed_before_the_first_rename_and_the_folder_after_the_last(tmp_path):
    p = tmp_path/'sync'/'result'
    names,inodes = synced(write, p)
    assert names[-3:]==('replace','replace','fsync')
    assert set(inodes[:-3])=={f.stat().st_ino for f in [p, *p.rglob('*')]}
    assert inodes[-1]==p.parent.stat().st_ino
    file = tmp_path/'sync'/'file'
    calls = list(zip(*synced(put, file)))
    assert calls==[('fsync',file.stat().st_ino), ('replace',None), ('fsync',inodes[-1])]

def test_where_folders_cannot_be_flushed_files_are(tmp_path):
    "As on Windows, which cannot flush a folder, nor a file that is open for reading only"
    def only_files(fd):
        if fcntl.fcntl(fd, fcntl.F_GETFL)&os.O_ACCMODE==os.O_RDONLY: raise OSError(errno.EBADF, 'Bad file descriptor')
        flushed.append(os.fstat(fd).st_ino)
    def no_folder(path, flags, *a, opened=os.open, **kw):
        # with keywords it is `rmtree`, which has other ways on Windows
        if not kw and Path(path).is_dir(): raise PermissionError(errno.EACCES, 'Permission denied')
        return opened(path, flags, *a, **kw)
    p,flushed = tmp_path/'result',[]
    write(p, 'old')
    with patch.object(os, 'fsync', only_files), patch.object(os, 'open', no_folder): write(p, 'new')
    assert set(flushed)=={f.stat().st_ino for f in p.rglob('*') if f.is_file()}

def test_a_broken_disk_is_an_error(tmp_path):
    write(tmp_path/'result', 'new')
    with patch.object(os, 'fsync', side_effect=OSError(errno.EIO, 'broken disk')), pytest.raises(OSError, match='broken disk'):
        write(tmp_path/'result', 'newer')
    assert content(tmp_path/'result')==NEW

def test_a_row_cut_short_by_a_full_disk_is_skipped_by_the_process_that_goes_on(tmp_path):
    run = Run(tmp_path/'run')
    for i in range(2): run.log(dict(step=i))
    def room(n): resource.setrlimit(resource.RLIMIT_FSIZE, (n, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    def cut_short():
        room(len('{"step": 0}\n')*2+5)
        with pytest.raises(OSError): run.log(dict(step=2))
        room(1000)
        run.log(dict(step=3))
    assert forked(cut_short)==0
    assert [r['step'] for r in run.history]==[0,1,3]
