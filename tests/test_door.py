"`import spd_nb as spd`: names that are loaded when they are used, the same for Python, editors and type checkers"
import ast, importlib, subprocess, sys
from pathlib import Path
import pytest
import spd_nb as spd

SOURCE = ast.parse(Path(spd.__file__).read_text(encoding='utf-8'))

def test_editors_see_what_runs():
    block = next(o for o in SOURCE.body if isinstance(o, ast.If))
    assert {a.name:i.module for i in block.body for a in i.names}=={n:m for m,names in spd._MODULES.items()
        for n in names.split()}
    assert spd.__all__==sorted(spd.__all__) and set(spd.__all__)=={a.name for i in block.body for a in i.names}

def test_names_are_those_of_their_modules():
    for module,names in spd._MODULES.items():
        there = importlib.import_module(f'spd_nb.{module}')
        for n in names.split(): assert getattr(spd, n) is getattr(there, n) and n in there.__all__
    assert spd.edit.u_replaced is spd.u_replaced and set(spd.__all__)<=set(dir(spd))

def test_what_is_not_there_says_what_is():
    with pytest.raises(AttributeError, match="no attribute 'decompse'; did you mean decompose?"): spd.decompse
    with pytest.raises(AttributeError, match="no attribute 'xyz'$"): spd.xyz
    with pytest.raises(ImportError): from spd_nb import xyz  # noqa: F401
    assert not hasattr(spd, '__wrapped__')

def test_importing_it_loads_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import spd_nb; print([m for m in set(sys.modules)-before if "
        "m.split('.')[0] in ('torch','numpy','pandas') or m.startswith('spd_nb.')])")
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()=='[]'
