"The front ends' pure functions, run by node"
import shutil, subprocess
from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent

@pytest.mark.skipif(shutil.which('node') is None, reason='no node on PATH')
@pytest.mark.parametrize('test', sorted((ROOT/'tests'/'js').glob('*.test.mjs')),
    ids=lambda p: p.name.removesuffix('.test.mjs'))
def test_js(test):
    p = subprocess.run(['node','--test','--no-warnings',test], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert p.returncode==0, p.stdout+p.stderr
