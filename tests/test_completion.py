"What an editor offers after a dot: every public name, and every public method of every public class"
import ast, importlib, inspect
from types import FunctionType
import jedi, pytest
from test_layout import ROOT

MODULES = sorted(p.stem for p in (ROOT/'spd_nb').glob('[a-z]*.py'))

def offered(source):
    "Names that jedi, which JupyterLab and IPython use, offers at the end of a source text"
    *_,last = lines = source.split('\n')
    return {c.name for c in jedi.Script(source, project=jedi.Project(ROOT)).complete(len(lines), len(last))}

def public_classes(module):
    m = importlib.import_module(f'spd_nb.{module}')
    return [c for n in m.__all__ if inspect.isclass(c := getattr(m, n)) and c.__module__==m.__name__]

def own_members(cls):
    "Public methods and properties that the class, or a class of ours below it, defines"
    ours = [c for c in cls.__mro__ if c.__module__.startswith('spd_nb.')]
    return {n for c in ours for n,v in vars(c).items() if n[0]!='_'
        and isinstance(v, (FunctionType, property, classmethod, staticmethod))}

def test_the_package_offers_its_names_and_modules():
    import spd_nb
    got = offered('import spd_nb as spd\nspd.')
    assert not set(spd_nb.__all__)-got

@pytest.mark.parametrize('module', MODULES)
def test_a_module_offers_what_it_exports(module):
    m = importlib.import_module(f'spd_nb.{module}')
    assert not set(m.__all__)-offered(f'from spd_nb import {module}\n{module}.')

@pytest.mark.parametrize('module', MODULES)
def test_classes_offer_their_methods(module):
    for cls in public_classes(module):
        assert not own_members(cls)-offered(f'from spd_nb.{module} import {cls.__name__}\n{cls.__name__}.'), cls

def test_no_method_is_patched_on_from_outside_its_class():
    "`@patch` hides a method of our own from editors and type checkers"
    for module in MODULES:
        tree = ast.parse((ROOT/'spd_nb'/f'{module}.py').read_text(encoding='utf-8'))
        assert not [f.name for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)
            and 'patch' in map(ast.unparse, f.decorator_list)], module

@pytest.mark.parametrize('source,method', [
    ("import spd_nb as spd\ndm = spd.load('story')\ndm.", 'masked'),
    ("import spd_nb as spd\ndm = spd.load('story')\nspd.u_replaced(dm, 'a:0', u).", 'export'),
    ("import spd_nb as spd\nh = spd.Harvest('story/harvest', dm)\nh.", 'by_token'),
    ("import spd_nb as spd\nh = spd.Harvest('story/harvest', dm)\nh.component('a:0').", 'examples'),
    ("import spd_nb as spd\nspd.fit(dm, batches).", 'history'),
    ("import spd_nb as spd\nspd.report(dm, batches).", 'to_html'),
])
def test_what_a_call_returns_offers_its_methods(source, method): assert method in offered(source)
