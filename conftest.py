"Collect the notebooks: `pytest` runs each one as `nbdev_test` does (same skip flags, `#| eval: false`, `skip_exec`)."
import gc, os, shutil, subprocess, sys, traceback
from contextlib import contextmanager
from pathlib import Path
import pytest

# read when the libraries are imported: no browser tab for a figure, no network, no thread oversubscription under xdist
os.environ.setdefault('PLOTLY_RENDERER', 'plotly_mimetype')
os.environ.setdefault('HF_HUB_OFFLINE', '1')
if workers := os.environ.get('PYTEST_XDIST_WORKER_COUNT'):
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, os.cpu_count()//int(workers))))

def pytest_addoption(parser):
    parser.addoption('--nbflags', default='', help='run cells with these flags too, e.g. --nbflags slow')
    parser.addoption('--zoo', action='store_true', help='check every model of tests/zoo.py, not only a few')

def pytest_collect_file(parent, file_path):
    if file_path.suffix=='.ipynb' and not any(p[0] in '._'
            for p in file_path.relative_to(parent.config.rootpath).parts):
        return NbFile.from_parent(parent, path=file_path)

LONG = 'test_browser.py','test_hostile.py','12_sweep_and_cluster.ipynb','46_postprocess.ipynb','test_docs.py'

def pytest_collection_modifyitems(items):
    "The longest files first, so that the last ones are short and no process waits long for another"
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))

class NbFile(pytest.File):
    def collect(self):
        nb = NbItem.from_parent(self, name='notebook')
        nb.add_marker(pytest.mark.filterwarnings('default'))  # pytest.ini makes warnings errors, which is for tests/
        yield nb

class NbItem(pytest.Item):
    def runtest(self):
        from IPython.core.history import HistoryManager
        # else each page leaves a thread and two open files, and lines in the reader's own history
        HistoryManager._get_hist_file_name = lambda self, profile='default': ':memory:'
        from nbdev.config import get_config
        cfg = get_config(path=self.config.rootpath)
        skip = set(cfg.tst_flags.split())-set(self.config.getoption('--nbflags').split())
        try:
            with as_readers_run(self.path): run_page(self.path, skip, cfg.config_path)
        # what a page left open is reported for the page, not for whichever test runs when it is collected
        finally: gc.collect()

    def repr_failure(self, excinfo):
        cell = getattr(excinfo.value, '__notebook_cell__', None)
        if cell is None: return super().repr_failure(excinfo)
        return describe_failure(self.path.relative_to(self.config.rootpath), *cell, excinfo.value)

    def reportinfo(self): return self.path, 0, f'{self.path.name}'

@contextmanager
def as_readers_run(path):
    "Tutorials, how-tos and the front page run without checks of types and shapes, which more than double their time"
    from jaxtyping import config
    if path.parent.name in ('tutorials','howto') or path.stem=='index': config.update('jaxtyping_disable', True)
    try: yield
    finally: config.update('jaxtyping_disable', False)

def run_page(path, skip_flags, root):
    """Run the cells of a notebook in this process, as `nbdev_test` does; an error is raised as it is, with the cell
    attached, so that `--pdb` stops in it"""
    from execnb.shell import CaptureShell
    from fastcore.xtras import working_directory
    from nbdev.frontmatter import FrontmatterProc
    from nbdev.process import NBProcessor
    sys.path.insert(0, str(root))
    os.environ['IN_TEST'] = '1'
    nb = NBProcessor(path, procs=FrontmatterProc, process=True).nb
    if getattr(nb, 'frontmatter_', {}).get('skip_exec'): return
    shell = CaptureShell(path)
    with working_directory(path.parent):
        for number,cell in enumerate(nb.cells, 1):
            flags = getattr(cell, 'directives_', None) or {}
            skipped = cell.cell_type!='code' or 'nbdev_export'+'(' in cell.source or flags.get('eval:',
                [''])[0].lower()=='false' or skip_flags&flags.keys()
            if skipped: continue
            shell.cell(cell)
            if shell.exc:
                shell.exc.__notebook_cell__ = number,cell.get('id', ''),cell.source
                raise shell.exc

def describe_failure(path, number, cell_id, source, error):
    "The cell with an arrow at the line that failed, then where the error was raised below it"
    frames = [f for f in traceback.extract_tb(error.__traceback__)
        if not any(f'{os.sep}{p}{os.sep}' in f.filename for p in ('jaxtyping','beartype','IPython','execnb'))]
    in_cell = [i for i,f in enumerate(frames) if f.filename.startswith('<ipython-input') and f.name=='<module>']
    at,below = (frames[in_cell[-1]].lineno,frames[in_cell[-1]+1:]) if in_cell else (0,frames)
    said = ''.join(traceback.format_exception_only(error)).rstrip()
    shown = [f"{'-->' if i==at else '   '} {i:3} {line}" for i,line in enumerate(source.splitlines(), 1)]
    return '\n'.join([f'{path}, cell {number} (id {cell_id}), line {at}: {said}', '', *shown, '',
        *map(str.rstrip, traceback.format_list(below)), said])

@pytest.fixture(scope='session')
def wheel(tmp_path_factory):
    "The wheel that setup.py makes"
    root = Path(__file__).parent
    pytest.importorskip('setuptools')
    tmp = tmp_path_factory.mktemp('wheel')
    for f in ('settings.ini','setup.py','MANIFEST.in','README.md','LICENSE'): shutil.copy(root/f, tmp)
    for d in ('spd_nb','nbs','tests','data'):
        shutil.copytree(root/d, tmp/d, ignore=shutil.ignore_patterns('__pycache__','.*'))
    p = subprocess.run([sys.executable, 'setup.py', '-q', 'bdist_wheel'], cwd=tmp, capture_output=True, text=True)
    assert p.returncode==0, p.stderr
    return next(tmp.glob('dist/*.whl'))
