"Collect the notebooks: `pytest` runs each one as `nbdev_test` does (same skip flags, `#| eval: false`, `skip_exec`)."
import gc, os, pytest

# read when the libraries are imported: no browser tab for a figure, no network, no thread oversubscription under xdist
os.environ.setdefault('PLOTLY_RENDERER', 'plotly_mimetype')
os.environ.setdefault('HF_HUB_OFFLINE', '1')
if workers := os.environ.get('PYTEST_XDIST_WORKER_COUNT'): os.environ.setdefault('OMP_NUM_THREADS', str(max(1, os.cpu_count()//int(workers))))

def pytest_addoption(parser):
    parser.addoption('--nbflags', default='', help='run cells with these flags too, e.g. --nbflags slow')
    parser.addoption('--zoo', action='store_true', help='check every model of tests/zoo.py, not only a few')

def pytest_collect_file(parent, file_path):
    if file_path.suffix=='.ipynb' and not any(p[0] in '._' for p in file_path.relative_to(parent.config.rootpath).parts):
        return NbFile.from_parent(parent, path=file_path)

class NbFile(pytest.File):
    def collect(self):
        nb = NbItem.from_parent(self, name='notebook')
        nb.add_marker(pytest.mark.filterwarnings('default'))  # pytest.ini makes warnings errors, which is for tests/
        yield nb

class NbItem(pytest.Item):
    def runtest(self):
        from IPython.core.history import HistoryManager
        from nbdev.test import test_nb
        HistoryManager._get_hist_file_name = lambda self, profile='default': ':memory:'  # else each page leaves a thread and two open files, and lines in the reader's own history
        from nbdev.config import get_config
        cfg = get_config(path=self.config.rootpath)
        ok,_ = test_nb(self.path, skip_flags=cfg.tst_flags.split(), force_flags=self.config.getoption('--nbflags').split(), basepath=cfg.config_path)
        gc.collect()  # what a page left open is reported for the page, not for whichever test runs when it is collected
        if not ok: raise NbFailed
    def repr_failure(self, excinfo):
        return 'notebook failed, see stderr below' if excinfo.errisinstance(NbFailed) else super().repr_failure(excinfo)
    def reportinfo(self): return self.path, 0, f'{self.path.name}'

class NbFailed(Exception): pass
