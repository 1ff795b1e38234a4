"""The wheel that setup.py makes: metadata from settings.ini, the modules, the widgets' front ends, what `load` opens
by name, nothing else"""
import re, shlex, subprocess, sys
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile
import pytest

ROOT = Path(__file__).parent.parent

@pytest.fixture(scope='module')
def held(wheel): return ZipFile(wheel)

@pytest.fixture
def cfg():
    c = ConfigParser(delimiters=['='])
    c.read(ROOT/'settings.ini', encoding='utf-8')
    return c['DEFAULT']

def test_metadata_is_settings_ini(held, cfg):
    m = Parser().parsestr(held.read(next(n for n in held.namelist() if n.endswith('dist-info/METADATA'))).decode())
    assert (m['Name'],m['Version'],m['Requires-Python']) == (cfg['lib_name'],cfg['version'],'>='+cfg['min_python'])
    assert set(m.get_all('Provides-Extra')) == {k.removesuffix('_requirements') for k in cfg
        if k.endswith('_requirements')}
    assert len([r for r in m.get_all('Requires-Dist') if 'extra ==' not in r]) == len(shlex.split(cfg['requirements']))
    assert f'__version__ = "{cfg["version"]}"' in (ROOT/'spd_nb/__init__.py').read_text(encoding='utf-8')

def test_contents(held):
    inside = {n for n in held.namelist() if '.dist-info/' not in n}
    code = {str(p.relative_to(ROOT)) for p in (ROOT/'spd_nb').rglob('*') if p.suffix in ('.py','.js','.css')
        or p.name=='py.typed'}
    data = {f'spd_nb/{p.relative_to(ROOT)}' for kind in ('story','toys') for p in (ROOT/'data'/kind).rglob('*')
        if p.is_file() and p.suffix!='.md'}
    assert inside==code|data

OPENS = """
import sys
sys.path.insert(0, sys.argv[1])
import spd_nb as spd
assert spd.__file__.startswith(sys.argv[1])
dm = spd.load('story')
assert len(spd.Harvest('story/harvest', dm).by_token(' he')) and spd.load('tms_5-2').C['linear1']==20
"""

def test_installed_it_opens_what_it_ships_from_any_folder(held, tmp_path):
    held.extractall(tmp_path/'site')
    subprocess.run([sys.executable, '-c', OPENS, tmp_path/'site'], check=True, cwd=tmp_path)

def test_constraints_pin_every_requirement(cfg):
    "One line per package, exact, without a local version that only one machine has"
    lines = (ROOT/'constraints.txt').read_text(encoding='utf-8').split()
    assert not [o for o in lines if '+' in o or '@' in o or o.count('==')!=1]
    pinned = {o.split('==')[0].lower().replace('_','-') for o in lines}
    wanted = [re.match(r'[\w.-]+', r)[0].lower().replace('_','-') for k,v in cfg.items() if k.endswith('requirements')
        for r in shlex.split(v)]
    assert not set(wanted)-pinned-{'setuptools'}
