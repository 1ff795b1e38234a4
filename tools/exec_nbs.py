"""Make the copies of the notebooks that the docs are built from, with fresh outputs, while git holds none:
python tools/exec_nbs.py nbs _exec, then nbdev_docs --path _exec"""
import ast, os, re, shutil, sys
from pathlib import Path
import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from nbdev.config import get_config

SKIP = re.compile(r'^#\|\s*(' + '|'.join(get_config().tst_flags.split()) + r'|eval:\s*false)\b|nbdev_export\(', re.M)
MODULE = re.compile(r'^#\|\s*default_exp (\w+)', re.M)
EXPORT = re.compile(r'^#\|\s*(exports?|exporti|exec_doc)\b', re.M)
IMPORT = re.compile(r'^\s*(import|from) \w', re.M)
LINK = re.compile(r'(?<=\]\()(?![a-z]+:|#)([^)#\s]+)')  # the path of a link to a file
VIEW = 'application/vnd.jupyter.widget-view+json'

def skipped(cell): return cell.cell_type=='code' and SKIP.search(cell.source)

class Client(NotebookClient):
    "Executes what `nbdev_test` would, leaving the other cells as they are"
    async def async_execute_cell(self, cell, *a, **k): return cell if skipped(cell) else await super().async_execute_cell(cell, *a, **k)

def execute(path, timeout=1200, **kw):
    "The notebook at `path` after running it in its own folder"
    nb = nbformat.read(path, 4)
    Client(nb, timeout=timeout, kernel_name='python3', record_timing=False, coalesce_streams=True, extra_arguments=['--log-level=ERROR'],
           resources=dict(metadata=dict(path=str(Path(path).resolve().parent))), **kw).execute()
    return nb

def without_scripts(out):
    "`out` as a page can show it that loads nothing: of a widget what it says where widgets are not to be had, HTML as Markdown that holds it; no warnings"
    data = out.get('data')
    if out.get('name')=='stderr': return None
    if data is None: return out
    data.pop(VIEW, None)
    # for an output that calls itself HTML, Quarto loads require.js and jQuery from a CDN; what it makes of this is the same
    if (page := data.pop('text/html', None)) is not None: data['text/markdown'] = f'`````{{=html}}\n{page}\n`````'
    return out if data else None

def outside(source, page, root, repo):
    "Markdown of `page`, whose links to files that are not on the site go to the repository"
    def f(m):
        rel = Path(os.path.relpath((root/page).parent/m[1], root)).as_posix()
        return f'{repo}/{os.path.normpath("nbs/"+rel)}' if rel.startswith('../') else m[1]
    return LINK.sub(f, source)

def constants(source):
    "The lines of an exported cell that define public names which are no function or class; nbdev documents only those"
    lines = source.splitlines()
    def public(t): return all(map(public, t.elts)) if isinstance(t, ast.Tuple) else isinstance(t, ast.Name) and t.id[0]!='_'
    return '\n'.join('\n'.join(lines[o.lineno-1:o.end_lineno]) for o in ast.parse(source).body if isinstance(o, ast.Assign) and all(map(public, o.targets)))

def for_types(nb):
    "The imports that a page makes for type checkers only, which nbdev needs to read its signatures"
    trees = [ast.parse(c.source) for c in nb.cells if c.cell_type=='code' and EXPORT.search(c.source)]
    blocks = [o for t in trees for o in t.body if isinstance(o, ast.If) and ast.unparse(o.test)=='TYPE_CHECKING']
    return [ast.unparse(i) for b in blocks for i in b.body]

def site_copy(nb, page, root):
    "`nb`, at `page` below `root`, as nbdev and Quarto should get it"
    cfg = get_config()
    nb.metadata.pop('widgets', None)
    for c in nb.cells:
        if c.cell_type=='markdown': c.source = outside(c.source, page, root, f'{cfg.git_url}/blob/{cfg.branch}')
        if c.cell_type!='code': continue
        # to document a page nbdev runs its exports and imports once more: a lesson that imports would run without the lessons before it
        if IMPORT.search(c.source) and not EXPORT.search(c.source) and not SKIP.search(c.source): c.source = '#| eval: false\n'+c.source
        # nbdev evaluates annotations in quotes, which name what only type checkers import
        if EXPORT.search(c.source): c.source = c.source.replace('if TYPE_CHECKING: ', '')
        c.outputs = [o for o in map(without_scripts, c.outputs) if o]
    # ... a signature may name a class that comes later on the page
    for i,m in [(i,m[1]) for i,c in enumerate(nb.cells) if (m := MODULE.search(c.source))]:
        nb.cells.insert(i+1, new_code_cell('\n'.join(['#| hide', *for_types(nb), f'from {cfg.lib_path.name}.{m} import *'])))
    for i,c in reversed(list(enumerate(nb.cells))):
        if c.cell_type=='code' and EXPORT.search(c.source) and (shown := constants(c.source)): nb.cells.insert(i+1, new_code_cell(shown))
    return nb

def copies(src, dst, run=execute):
    "A folder of the notebooks in `src` for the docs build; gives each when it is there"
    shutil.rmtree(dst, ignore_errors=True)
    shutil.copytree(src, dst, ignore=shutil.ignore_patterns('.*'))
    for f in sorted(dst.rglob('*.ipynb')):
        nbformat.write(site_copy(run(f), f.relative_to(dst), dst), f)
        yield f

if __name__=='__main__':
    os.environ.update(PLOTLY_RENDERER='png', TQDM_DISABLE='1', HF_HUB_OFFLINE='1')  # Quarto shows nothing for a figure's JSON alone
    for f in copies(*map(Path, sys.argv[1:3])): print('executed', f)
