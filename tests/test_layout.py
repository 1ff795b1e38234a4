"""Rules the notebooks keep about themselves: numbers order imports, exports are shown, imports are light, git holds
no pictures"""
import ast, json, re, shlex, subprocess, sys
from collections import Counter
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent
ALL = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if not any(o[0] in '._' for o in p.relative_to(ROOT).parts))
NBS = [p for p in ALL if p.parent.name=='nbs' and p.name[0].isdigit()]
STORIES = [p for p in ALL if p.parent.name in ('tutorials','howto')]
HEAVY = set('transformers datasets pandas plotly ipywidgets anywidget scipy pyarrow IPython'.split())
WIDGET = {'anywidget','ipywidgets','IPython'}  # a page that defines a widget class needs its base class
EXPORT = re.compile(r'^#\|\s*exports?\b', re.M)

each_nb = pytest.mark.parametrize('nb', NBS, ids=lambda o:o.stem)
each_page = pytest.mark.parametrize('nb', ALL, ids=lambda o:o.stem)

def load(nb): return json.loads(nb.read_text(encoding='utf-8'))
def cells(nb): return [(c['cell_type'],''.join(c['source'])) for c in load(nb)['cells']]
def code(nb): return [s for t,s in cells(nb) if t=='code']
def exported(nb): return '\n'.join(s for s in code(nb) if EXPORT.search(s))
def module(nb): return re.search(r'default_exp (\w+)', '\n'.join(code(nb)))[1]
def number(nb): return nb.name.split('_')[0]  # a letter after it puts a page between two
def is_widget(src):
    return 'anywidget.AnyWidget' in src or re.search(r'^from \.widgets import |^from spd_nb\.widgets import ', src,
        re.M) is not None

def imports(node, deep=True):
    "Modules imported below `node`; without `deep`, those imported when the module is"
    for o in ast.iter_child_nodes(node):
        if isinstance(o, ast.Import): yield from (a.name for a in o.names)
        elif isinstance(o, ast.ImportFrom): yield o.module or ''
        elif deep or not (isinstance(o, (ast.FunctionDef,ast.AsyncFunctionDef,ast.Lambda)) or isinstance(o, ast.If)
                and 'TYPE_CHECKING' in ast.unparse(o.test)):
            yield from imports(o, deep)

def delegates(f):
    """A method that only hands itself on to a function of a higher page: a docstring, one import, `return f(self,
    ...)` or `return f(self.dm, self, ...)`"""
    if not isinstance(f,
            ast.FunctionDef) or len(f.body)!=3 or not f.args.args or f.args.args[0].arg!='self' or f.decorator_list:
        return False
    doc,imported,call = f.body
    if not (isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str)):
        return False
    if not (isinstance(imported, ast.ImportFrom) and len(imported.names)==1 and not imported.names[0].asname):
        return False
    if not (isinstance(call, ast.Return) and isinstance(call.value, ast.Call)): return False
    name,args = imported.names[0].name,list(map(ast.unparse, call.value.args))
    return ast.unparse(call.value.func)==name and (args[:1]==['self'] or args[:2]==['self.dm','self'])

def without_delegates(tree):
    for c in ast.walk(tree):
        if isinstance(c, ast.ClassDef): c.body = [f for f in c.body if not delegates(f)]
    tree.body = [o for o in tree.body if not (isinstance(o, ast.If) and ast.unparse(o.test)=='TYPE_CHECKING')]
    return tree

def packages(nb): return {m.split('.')[0] for m in imports(ast.parse(exported(nb)), deep=False)}

def tracked():
    "What git holds or would add"
    try:
        out = subprocess.run(['git','ls-files','-coz','--exclude-standard'], cwd=ROOT, capture_output=True, check=True,
            text=True).stdout
    except (OSError, subprocess.CalledProcessError): pytest.skip('not a git checkout')
    return [ROOT/f for f in out.split('\0') if (ROOT/f).is_file()]

def test_numbers_name_a_layer_and_are_unique():
    assert all(re.match(r'[0-4]\d[a-z]?_\w+\.ipynb$', p.name) for p in NBS)
    assert not [n for n,k in Counter(map(number, NBS)).items() if k>1]
    assert not [m for m,k in Counter(map(module, NBS)).items() if k>1]

@each_nb
def test_module_is_named_after_its_notebook(nb): assert module(nb)==nb.stem.split('_', 1)[1]

@each_nb
def test_imports_point_down(nb):
    order = {module(o):number(o) for o in NBS}
    used = {m.split('.')[1] for m in imports(without_delegates(ast.parse(exported(nb)))) if m.startswith('spd_nb.')}
    assert not [m for m in used if order[m]>=number(nb)]

@pytest.mark.parametrize('body,allowed', [
    ('"Doc"; from spd_nb.x import f; return f(self, a)',
        True), ('"Doc"; from spd_nb.x import f; return f(self.dm, self, a)', True),
    ('from spd_nb.x import f; return f(self, a)', False), ('"Doc"; from spd_nb.x import f; return f(a, self)', False),
    ('"Doc"; from spd_nb.x import f, g; return f(self, a)',
        False), ('"Doc"; from spd_nb.x import f; return g(self, a)', False),
    ('"Doc"; from spd_nb.x import f; return f(self, a).b', False), ('"Doc"; from spd_nb.x import f; f(self, a)', False),
    ('g(a); from spd_nb.x import f; return f(self, a)', False)])
def test_a_method_may_import_upward_only_to_hand_itself_on(body, allowed):
    tree = without_delegates(ast.parse(f'class C:\n    def m(self, a): {body}'))
    assert ('spd_nb.x' not in imports(tree))==allowed

@each_nb
def test_every_definition_is_shown(nb):
    "Each public name is used by some lesson cell, so its behaviour is seen and checked"
    names = re.findall(r'^(?:def|class) ([a-zA-Z]\w*)', exported(nb), re.M)
    lessons = '\n'.join(s for s in code(nb) if not EXPORT.search(s))
    assert not [n for n in names if not re.search(rf'\b{n}\b', lessons)]

@each_nb
def test_heavy_packages_wait_for_the_function_that_needs_them(nb):
    assert not packages(nb) & (HEAVY-WIDGET if is_widget(exported(nb)) else HEAVY)

@each_nb
def test_groups_are_of_what_is_there(nb):
    "Before version 3, pandas makes an empty group of each unused category unless told otherwise"
    calls = [n for n in ast.walk(ast.parse(exported(nb))) if isinstance(n, ast.Call)
        and isinstance(n.func, ast.Attribute) and n.func.attr=='groupby']
    assert not [ast.unparse(n) for n in calls if not any(k.arg=='observed' for k in n.keywords)]

@each_nb
def test_imports_are_declared(nb):
    cfg = ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    def norm(s): return re.match(r'[\w.-]+', s)[0].lower().replace('_','-')
    declared = {norm(r) for r in shlex.split(cfg['DEFAULT']['requirements'])}
    installed = packages_distributions()  # the standard library is not in it
    assert not [p for p in packages(nb)-{'spd_nb'} if p in installed and not declared & {norm(d) for d in installed[p]}]

@pytest.mark.parametrize('nb', STORIES, ids=lambda o:f'{o.parent.name}/{o.stem}')
def test_tutorials_and_howtos_are_numbered_and_export_nothing(nb):
    assert re.match(r'\d\d_\w+\.ipynb$', nb.name)
    assert not exported(nb) and not any('default_exp' in s for s in code(nb))

@each_page
def test_title_and_subtitle(nb):
    kind,src = next(c for c in cells(nb) if c[0]=='markdown')
    assert re.match(r'# \S[^\n]*\n+> \S', src)

@each_page
def test_outputs_are_small_text(nb):
    "Pictures and widget state belong to the docs build; `tools/outputs.py` keeps what git should show"
    assert 'widgets' not in load(nb)['metadata']
    outs = [o for c in load(nb)['cells'] for o in c.get('outputs', [])]
    kinds = {k for o in outs for k in o.get('data', {})}
    assert not [k for k in kinds if re.match(r'image/|application/', k)]
    assert not any(o['output_type']=='error' for o in outs)
    assert max((len(''.join(s)) for o in outs for s in [*o.get('data', {}).values(), o.get('text', '')]),
        default=0) <= 8000

@each_page
def test_runtime_checks_can_read_annotations(nb): assert 'from __future__ import annotations' not in '\n'.join(code(nb))

def test_modules_come_from_notebooks():
    assert {p.stem for p in (ROOT/'spd_nb').glob('*.py') if p.name[0]!='_'} == {module(nb) for nb in NBS}

def test_no_machine_path_is_tracked():
    path = re.compile(rb'(?<![\w.}/-])/(?:work|home|root)(?:/|\b(?=[\s"\'`]))')
    assert not [str(f.relative_to(ROOT)) for f in tracked() if b'\0' not in (b:=f.read_bytes()) and path.search(b)]

def test_tracked_files_are_small():
    assert not [str(f.relative_to(ROOT)) for f in tracked()
        if f.stat().st_size>(4e6 if ROOT/'data' in f.parents else 1e6)]

def test_exported_lines_have_at_most_120_columns():
    "But for `__all__`, which nbdev writes"
    for p in sorted((ROOT/'spd_nb').glob('[a-z]*.py')):
        text = p.read_text(encoding='utf-8')
        names = [range(n.lineno, n.end_lineno+1) for n in ast.parse(text).body if isinstance(n, ast.Assign)
            and ast.unparse(n.targets[0])=='__all__']
        long = [i for i,line in enumerate(text.splitlines(), 1) if len(line)>120]
        assert not [i for i in long if not any(i in r for r in names)], p.name

@pytest.mark.parametrize('nb', STORIES, ids=lambda o:o.stem)
def test_what_a_reader_sees_runs_by_itself(nb, tmp_path):
    "Hidden cells of tutorials and how-to pages check; no visible one needs a name from them"
    visible = [s for s in code(nb) if not re.search(r'^#\|\s*(hide|eval: *false)', s, re.M)]
    page = tmp_path/'page.py'
    page.write_text('\n'.join(visible), encoding='utf-8')
    ruff = 'ruff check --isolated --output-format concise --select F403,F821'  # star imports, undefined names
    ran = subprocess.run([sys.executable, '-m', *ruff.split(), page], capture_output=True, text=True)
    assert ran.returncode==0, ran.stdout
