"""Stands in for Windows, as far as files and missing modules go: `python tests/windows.py script.py` or `import
windows` before anything else. Folders cannot be opened, what is open for reading cannot be flushed, what is open or
mapped cannot be replaced or removed, and names have fewer characters."""
import fcntl, os, re, runpy, shutil, sys

BAD = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$|^(?i:con|prn|aux|nul|com\d|lpt\d)(\.|$)')
MISSING = 'resource fcntl pwd grp'.split()

def bad_names(path): return [n for n in str(path).split(os.sep) if n not in ('','.','..') and BAD.search(n)]

def in_use(path):
    "Is a file, or one below a folder, open or mapped in this process?"
    path = os.path.realpath(path)
    def link(fd):
        try: return os.readlink(f'/proc/self/fd/{fd}')
        except OSError: return ''
    with open('/proc/self/maps', encoding='utf-8') as f: held = {l.rstrip('\n').split(maxsplit=5)[-1] for l in f}
    return any(h==path or h.startswith(path+os.sep) for h in held|{link(fd) for fd in os.listdir('/proc/self/fd')})

def guarded(f):
    "A renaming or removal, refused where a path is in use"
    def act(*paths, **kw):
        for p in paths:
            if in_use(p):
                raise PermissionError(13,
                    'The process cannot access the file because it is being used by another process', str(p))
        return f(*paths, **kw)
    return act

def flushed(fd, fsync=os.fsync):
    if fcntl.fcntl(fd, fcntl.F_GETFL)&os.O_ACCMODE==os.O_RDONLY: raise OSError(9, 'Bad file descriptor')
    fsync(fd)

def opened(path, flags, *a, opened=os.open, **kw):
    if os.path.isdir(path): raise PermissionError(13, 'Permission denied', str(path))
    return opened(path, flags, *a, **kw)

def named(event, args):
    "Refuse names that Windows has not, in whatever is written"
    writes = event=='open' and isinstance(args[2], int) and args[2]&(os.O_WRONLY|os.O_RDWR|os.O_CREAT)
    if (writes or event in ('os.mkdir','os.rename')) and isinstance(args[0], (str, os.PathLike)):
        for p in args[:2 if event=='os.rename' else 1]:
            if bad := bad_names(p):
                raise OSError(22, f'The filename, directory name, or volume label syntax is incorrect: {bad}', str(p))

def become_windows():
    import filelock, psutil  # noqa: F401  they have a Windows of their own
    shutil._use_fd_functions = False  # `rmtree` there goes by paths
    for name in ('replace','rename','unlink','remove','rmdir'): setattr(os, name, guarded(getattr(os, name)))
    os.fsync,os.open = flushed,opened
    for name in MISSING: sys.modules[name] = None
    for name in 'fork forkpty killpg getpgid setsid getuid geteuid chown'.split(): delattr(os, name)
    sys.addaudithook(named)

if __name__=='__main__':
    become_windows()
    sys.argv.pop(0)
    runpy.run_path(sys.argv[0], run_name='__main__')
