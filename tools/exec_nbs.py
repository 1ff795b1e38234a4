"""Make the copies of the notebooks that the docs are built from, with fresh outputs, while git holds none:
python tools/exec_nbs.py nbs _exec, then nbdev_docs --path _exec"""
import ast, json, os, re, shutil, sys
from pathlib import Path
import nbformat, yaml
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbdev.config import get_config
from api_index import index_page
from apidoc import hosted, ids, imported, linked, sections

SKIP = re.compile(r'^#\|\s*(' + '|'.join(get_config().tst_flags.split()) + r'|eval:\s*false)\b|nbdev_export\(', re.M)
MODULE = re.compile(r'^#\|\s*default_exp (\w+)', re.M)
EXPORT = re.compile(r'^#\|\s*(exports?|exporti|exec_doc)\b', re.M)
# a link to a file: its text, path and anchor
LINK = re.compile(r'\[((?:[^][]|\[[^]]*\])*)\]\((?![a-z]+:|#)([^)#\s]+)([^)]*)\)')
VIEW,FIGURE = 'application/vnd.jupyter.widget-view+json','application/vnd.plotly.v1+json'

def skipped(cell): return cell.cell_type=='code' and SKIP.search(cell.source)

class Client(NotebookClient):
    "Executes what `nbdev_test` would, leaving the other cells as they are"
    async def async_execute_cell(self, cell, *a, **k):
        return cell if skipped(cell) else await super().async_execute_cell(cell, *a, **k)

def execute(path, timeout=1200, **kw):
    "The notebook at `path` after running it in its own folder"
    nb = nbformat.read(path, 4)
    where = dict(metadata=dict(path=str(Path(path).resolve().parent)))
    Client(nb, timeout=timeout, kernel_name='python3', record_timing=False, coalesce_streams=True,
        extra_arguments=['--log-level=ERROR'], resources=where, **kw).execute()
    return nb

def without_scripts(out):
    """`out` as a page can show it that loads nothing: of a widget what it says where widgets are not to be had, HTML as
    Markdown that holds it; no warnings"""
    data = out.get('data')
    if out.get('name')=='stderr': return None
    if data is None: return out
    data.pop(VIEW, None)
    if 'image/png' in data: data.pop(FIGURE, None)
    # for an output that calls itself HTML, Quarto loads require.js and jQuery from a CDN; it shows this alike
    if (page := data.pop('text/html', None)) is not None: data['text/markdown'] = f'`````{{=html}}\n{page}\n`````'
    return out if data else None

def described(figure):
    "What a plotly figure shows, in a sentence for those who cannot see it"
    layout,traces = figure.get('layout', {}),figure.get('data', [])
    def words(title):
        text = title if isinstance(title, str) else (title or {}).get('text') or ''
        return re.sub(r'<[^>]*>', ' ', text).strip()
    def axis(letter):
        titles = (words(v.get('title')) for k,v in layout.items() if k.startswith(f'{letter}axis'))
        return next(filter(None, titles), '')
    drawn = 'lines' if any('lines' in t.get('mode', 'lines') for t in traces) else 'points'
    kinds = dict(scatter=drawn, heatmap='a heatmap', bar='bars', histogram='a histogram')
    said = next((kinds[k] for k in (t.get('type', 'scatter') for t in traces) if k in kinds), 'a figure')
    x,y,title = axis('x'),axis('y'),words(layout.get('title'))
    if x and y: said += f' of {y} against {x}'
    elif x or y: said += f' over {x or y}'
    names = list(dict.fromkeys(words(t.get('name')) for t in traces if t.get('name') and t.get('showlegend', True)))
    if len(names)>1: said += f', for {", ".join(names[:6])}{" and others" if len(names)>6 else ""}'
    return f'{title}: {said}' if title else said[0].upper()+said[1:]

def with_alt(cell):
    "A cell whose pictures have words in their place"
    alts = [described(o.data[FIGURE]) for o in cell.outputs if FIGURE in o.get('data', {}) and 'image/png' in o.data]
    if not alts or 'fig-alt:' in cell.source: return
    said = json.dumps(alts[0] if len(alts)==1 else alts, ensure_ascii=False)
    cell.source = f'#| fig-alt: {said}\n{cell.source}'

def outside(source, page, root, repo):
    "Markdown of `page`, whose links to files that are not on the site go to the repository, or are none without one"
    def f(m):
        rel = Path(os.path.relpath((root/page).parent/m[2], root)).as_posix()
        if not rel.startswith('../'): return m[0]
        return f'[{m[1]}]({repo}/{os.path.normpath("nbs/"+rel)}{m[3]})' if repo else m[1]
    return LINK.sub(f, source)

def constants(source):
    "The lines of an exported cell that define public names which are no function or class"
    lines = source.splitlines()
    def public(t):
        if isinstance(t, ast.Tuple): return all(map(public, t.elts))
        return isinstance(t, ast.Name) and t.id[0]!='_'
    own = [o for o in ast.parse(source).body if isinstance(o, ast.Assign) and all(map(public, o.targets))]
    return '\n'.join('\n'.join(lines[o.lineno-1:o.end_lineno]) for o in own)

def heading_ids(source, taken):
    "Markdown whose headings leave the ids in `taken` to the definitions of the page"
    def f(m):
        auto = re.sub(r'^[^a-z]+', '', re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', m[2].lower()).strip()))
        return f'{m[0]} {{#about-{auto}}}' if auto in taken and '{#' not in m[2] else m[0]
    return re.sub(r'^(#{1,6}) +(.+?)[ \t]*$', f, source, flags=re.M)

def defined(source):
    "Functions and classes of a cell"
    kinds = ast.FunctionDef,ast.AsyncFunctionDef,ast.ClassDef
    return [o.name for o in ast.parse(source).body if isinstance(o, kinds)]

def site_copy(nb, page, root):
    "`nb`, at `page` below `root`, as nbdev and Quarto should get it"
    cfg,path = get_config(),Path(page).as_posix()
    nb.metadata.pop('widgets', None)
    module = next((m[1] for c in nb.cells if (m := MODULE.search(c.source))), '')
    names,repo = imported(nb),f'{cfg.git_url}/blob/{cfg.branch}' if hosted() else ''
    taken,cells = set(ids(module).values()) if module else (),[]
    for c in nb.cells:
        cells.append(c)
        if c.cell_type=='markdown':
            c.source = linked(heading_ids(outside(c.source, page, root, repo), taken), path, module, names)
        if c.cell_type!='code': continue
        with_alt(c)
        c.outputs = [o for o in map(without_scripts, c.outputs) if o]
        if not (module and EXPORT.search(c.source)): continue
        if shown := constants(c.source): cells.append(new_code_cell(shown))
        cells += [new_markdown_cell(linked(s, path, module, names)) for s in sections(module, defined(c.source))]
    nb.cells = cells
    return nb

def site_settings(dst):
    "Quarto's settings in `dst`, with the repository and the address of the site where settings.ini has some"
    cfg = get_config()
    files = dst/'_quarto.yml',dst/'nbdev.yml'
    quarto,site = (yaml.safe_load(f.read_text(encoding='utf-8')) for f in files)
    if hosted():
        quarto['website']['repo-actions'] = ['issue']
        quarto['website']['navbar']['right'] = [dict(icon='github', text='Repository', href=cfg.git_url)]
        address = cfg.doc_host+cfg.doc_baseurl
        site['website'] |= {'repo-url': cfg.git_url, 'repo-branch': cfg.branch, 'site-url': address}
    else:
        for k in ('repo-url','repo-branch','site-url'): site['website'].pop(k, None)
    for f,data in zip(files, (quarto, site)):
        f.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding='utf-8')

def copies(src, dst, run=execute):
    "A folder of the notebooks in `src` for the docs build, and the index of the API; gives each when it is there"
    shutil.rmtree(dst, ignore_errors=True)
    shutil.copytree(src, dst, ignore=shutil.ignore_patterns('.*'))
    site_settings(dst)
    for f in sorted(dst.rglob('*.ipynb')):
        nbformat.write(site_copy(run(f), f.relative_to(dst), dst), f)
        yield f
    nbformat.write(index_page(), dst/'api.ipynb')
    yield dst/'api.ipynb'

if __name__=='__main__':
    # Quarto shows the picture; the words in its place are made of the JSON
    os.environ.update(PLOTLY_RENDERER='plotly_mimetype+png', TQDM_DISABLE='1', HF_HUB_OFFLINE='1')
    for f in copies(*map(Path, sys.argv[1:3])): print('executed', f)
