"What several test files need"
import shutil, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent

@pytest.fixture(scope='session')
def wheel(tmp_path_factory):
    "The wheel that setup.py makes"
    pytest.importorskip('setuptools')
    tmp = tmp_path_factory.mktemp('wheel')
    for f in ('settings.ini','setup.py','MANIFEST.in','README.md','LICENSE'): shutil.copy(ROOT/f, tmp)
    for d in ('spd_nb','nbs','tests','data'):
        shutil.copytree(ROOT/d, tmp/d, ignore=shutil.ignore_patterns('__pycache__','.*'))
    p = subprocess.run([sys.executable, 'setup.py', '-q', 'bdist_wheel'], cwd=tmp, capture_output=True, text=True)
    assert p.returncode==0, p.stderr
    return next(tmp.glob('dist/*.whl'))
