"The site without Quarto: pages can be processed and converted, links lead somewhere, public names are documented, the sidebar lists what there is"
import ast, base64, hashlib, json, os, re, subprocess, sys
from configparser import ConfigParser
from html import unescape
from os.path import normpath
from pathlib import Path
import nbformat, pytest, yaml
from execnb.nbio import dict2nb
from nbdev import processors
from nbdev.doclinks import NbdevLookup
from spd_nb.pages import Pageable

ROOT = Path(__file__).parent.parent
cfg = ConfigParser(delimiters=['='])
cfg.read(ROOT/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
SITE,REPO = f"{cfg['doc_host']}{cfg['doc_baseurl']}/",f"{cfg['git_url']}/"
BUILT = {'demo.html'}  # what `make docs` puts beside the pages

# both pools start processes that import this file
SCRIPT = f'''
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import nbformat
from nbconvert import HTMLExporter

def convert(f): f.with_suffix('.html').write_text(HTMLExporter().from_notebook_node(nbformat.read(f, 4))[0], encoding='utf-8')

if __name__=='__main__':
    sys.path.insert(0, {str(ROOT/'tools')!r})
    from exec_nbs import copies
    from nbdev.serve import proc_nbs
    for _ in copies(Path({str(ROOT/'nbs')!r}), Path('_exec'), lambda f: nbformat.read(f, 4)): pass
    pages = sorted(proc_nbs('_exec', n_workers=2).rglob('*.ipynb'))
    with ProcessPoolExecutor(2) as pool: list(pool.map(convert, pages))
'''

@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "A folder with what nbdev hands to Quarto, and each page as nbconvert's HTML; outputs are those that git holds"
    tmp = tmp_path_factory.mktemp('site')
    (tmp/'settings.ini').write_text((ROOT/'settings.ini').read_text(encoding='utf-8'), encoding='utf-8')
    (tmp/'process.py').write_text(SCRIPT, encoding='utf-8')
    env = os.environ|dict(PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]), OMP_NUM_THREADS='1')
    ran = subprocess.run([sys.executable, 'process.py'], cwd=tmp, env=env, capture_output=True, text=True)
    assert ran.returncode==0, ran.stderr[-3000:]
    return tmp/'_proc'

@pytest.fixture(scope='module')
def pages(built):
    "Page, as the sidebar names it, to notebook (not validated: nbdev leaves marks of its own in cells)"
    return {f.relative_to(built).as_posix():nbformat.v4.reads(f.read_text(encoding='utf-8')) for f in sorted(built.rglob('*.ipynb'))}

def notebooks(): return {f.relative_to(ROOT/'nbs').as_posix() for f in (ROOT/'nbs').rglob('*.ipynb') if not any(p[0] in '._' for p in f.relative_to(ROOT).parts)}

def prose(nb):
    "All Markdown of a page: its cells, and what documents its names"
    return [c.source for c in nb.cells if c.cell_type=='markdown']+[o.data['text/markdown'] for c in nb.cells for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {})]

def unfenced(src): return re.sub(r'^(```+).*?^\1', '', src, flags=re.M|re.S)
def links(src): return re.findall(r'\]\(([^)\s]+)\)', re.sub(r'`[^`\n]*`', '`', unfenced(src)))

def anchors(sources):
    "Ids of headings, as pandoc gives them"
    ids = set()
    for h in (h for s in sources for h in re.findall(r'^#{1,6} +(.+?)\s*$', unfenced(s), re.M)):
        words = re.sub(r'[^\w\s.-]', '', re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', h).lower())
        base = n = re.sub(r'^[^a-z]+', '', re.sub(r'\s+', '-', words.strip())) or 'section'
        k = 0
        while n in ids: n = f'{base}-{(k := k+1)}'
        ids.add(n)
    return ids

def about(nb): return yaml.safe_load(next(c.source for c in nb.cells if c.cell_type=='raw').strip().strip('-'))
def output_file(page, nb): return (Path(page).parent/about(nb)['output-file']).as_posix()

def test_pages_can_be_processed_and_converted(built, pages):
    assert set(pages)==notebooks()
    assert all((built/f).exists() for f in ('sidebar.yml','nbdev.yml','_quarto.yml','styles.css'))
    for page,nb in pages.items():
        assert about(nb)['title'] and len((built/page).with_suffix('.html').read_text(encoding='utf-8'))>10_000, page
        assert not any(o.output_type=='error' for c in nb.cells for o in c.get('outputs', [])), page

def test_pages_ask_for_no_widget_and_no_script(pages):
    "Quarto would load what shows them from elsewhere"
    kinds = {k for nb in pages.values() for c in nb.cells for o in c.get('outputs', []) for k in o.get('data', {})}
    assert not [k for k in kinds if k=='text/html' or k.startswith('application/')]

def test_widgets_leave_what_they_say_elsewhere():
    sys.path.insert(0, str(ROOT/'tools'))
    from exec_nbs import VIEW, without_scripts
    def shown(**data): return without_scripts(nbformat.v4.new_output('display_data', data={k.replace('_','/'):v for k,v in data.items()}))
    view = nbformat.v4.new_output('display_data', data={VIEW:{}, 'text/html':'<b>hi</b>', 'text/plain':'hi'})
    assert without_scripts(view).data=={'text/markdown':'`````{=html}\n<b>hi</b>\n`````', 'text/plain':'hi'}
    assert without_scripts(nbformat.v4.new_output('display_data', data={VIEW:{}})) is None
    assert without_scripts(nbformat.v4.new_output('stream', name='stderr', text='careful')) is None and without_scripts(nbformat.v4.new_output('stream', text='hi')).text=='hi'
    assert shown(image_png='x').data=={'image/png':'x'} and shown(text_plain='x').data=={'text/plain':'x'}

class LinkAll(NbdevLookup):
    "nbdev's link maker, which finds a page for every name"
    def __init__(self): pass
    def __getitem__(self, sym): return f'https://site/{sym}.html'

def scripts_allowed(html):
    "Whether the policy of a page names its script by the right hash"
    script = re.search(r'<script type="module">(.*?)</script>', html, re.S)[1]
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1])
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy

def on_site(html, monkeypatch):
    "HTML of an output as the site has it: made Markdown by `exec_nbs`, then processed by nbdev"
    sys.path.insert(0, str(ROOT/'tools'))
    from exec_nbs import without_scripts
    monkeypatch.setattr(processors, 'NbdevLookup', LinkAll)
    out = without_scripts(nbformat.v4.new_output('display_data', data={'text/html':html}))
    out.data['text/markdown'] = out.data['text/markdown'].splitlines(True)
    cell = dict2nb(dict(cells=[dict(cell_type='code', source='', metadata={}, outputs=[out])])).cells[0]
    processors.add_links(cell)
    return ''.join(cell.outputs[0].data['text/markdown'])

@pytest.mark.parametrize('front', [f.stem for f in sorted((ROOT/'spd_nb'/'static').glob('*.js')) if 'export default' in f.read_text(encoding='utf-8')])
def test_links_to_names_leave_the_script_of_a_view_as_it_is(front, monkeypatch):
    "A script that is not the one named in the page's policy does not run, and the view stays empty"
    class Shown(Pageable):
        def snapshot_state(self): return {}
        def __repr__(self): return 'Shown(`View`)'
    Shown.front = front
    html = Shown()._repr_html_()
    def inside(md): return unescape(re.search('srcdoc="([^"]*)"', md)[1])
    processed = on_site(html, monkeypatch)
    assert '](https://site/' not in processed and inside(processed)==inside(html) and scripts_allowed(inside(processed))
    assert unescape(re.search(' title="([^"]*)"', processed)[1])=='Shown(`View`)'
    raw = on_site(html.replace('&#96;', '`'), monkeypatch)  # it would be changed
    assert '](https://site/' in raw and not scripts_allowed(inside(raw))

def broken(where, src, page_files, exists, heads):
    "Links in `src` that lead nowhere"
    bad = []
    for link in links(src):
        path,_,anchor = link.partition('#')
        if link.startswith(SITE): found,path = path[len(SITE):] in page_files,page_files.get(path[len(SITE):])
        elif link.startswith(REPO+'blob/'): found,anchor = (ROOT/path.removeprefix(f"{REPO}blob/{cfg['branch']}/")).exists(),''
        elif re.match(r'[a-z]+:', link): continue
        else: found = exists(path := normpath(Path(where).parent/path) if path else where)
        if not found or anchor and anchor not in heads(path): bad.append((where, link))
    return bad

def test_links_in_pages_lead_somewhere(pages):
    files,heads = {output_file(p, nb):p for p,nb in pages.items()},{p:anchors(prose(nb)) for p,nb in pages.items()}
    assert len(files)==len(pages)
    def exists(p): return p in pages or not p.startswith('..') and not p.endswith('.ipynb') and (ROOT/'nbs'/p).is_file()
    sources = [(p,s) for p,nb in pages.items() for s in prose(nb)]
    assert sum(len(links(s)) for _,s in sources)>400
    assert not [b for p,s in sources for b in broken(p, s, files, exists, lambda p: heads.get(p, ()))]
    assert not [(p,m) for p,s in sources for m in re.findall(r'\[\[`[^]]*\]\([^)]*\)\]\([^)]*\)', s)]  # a name that nbdev links, inside a link

def test_links_in_readme_lead_somewhere():
    def heads(p):
        if not p.endswith('.ipynb'): return anchors([(ROOT/p).read_text(encoding='utf-8')])
        return anchors([''.join(c['source']) for c in json.loads((ROOT/p).read_text(encoding='utf-8'))['cells'] if c['cell_type']=='markdown'])
    src = (ROOT/'README.md').read_text(encoding='utf-8')
    assert len(links(src))>30 and not broken('README.md', src, {}, lambda p: (ROOT/p).is_file(), heads)

def test_every_public_name_has_a_place_on_its_page(pages):
    home = {re.sub(r'^\d+[a-z]?_', '', p).removesuffix('.ipynb'):p for p in pages if '/' not in p}
    missing = []
    for f in sorted((ROOT/'spd_nb').glob('[a-z]*.py')):
        tree = ast.parse(f.read_text(encoding='utf-8'))
        names = next(ast.literal_eval(o.value) for o in tree.body if isinstance(o, ast.Assign) and o.targets[0].id=='__all__')
        defined = {o.name for o in tree.body if isinstance(o, (ast.FunctionDef,ast.ClassDef))}
        nb = pages[home[f.stem]]
        docs = '\n'.join(prose(nb))
        text = docs+'\n'.join(c.source for c in nb.cells)
        missing += [f'{f.stem}.{n}' for n in names if not re.search(rf'^### {re.escape(n)}$', docs, re.M) and (n in defined or not re.search(rf'\b{re.escape(n)}\b', text))]
    assert not missing

def listed(items):
    for o in items:
        if isinstance(o, str): yield o
        else:
            if 'href' in o: yield o['href']
            yield from listed(o.get('contents', []))

def test_sidebar_lists_every_page_once():
    contents = yaml.safe_load((ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']
    assert sorted(listed(contents))==sorted(notebooks()|BUILT)
    sections = [o['section'] for o in contents if 'section' in o]
    assert sections==['Tutorials','How-to','API'] and contents[0]['href']=='index.ipynb'
    for o in contents:
        for part in [o, *(p for p in o.get('contents', []) if not isinstance(p, str))]:
            pages = [p for p in part.get('contents', []) if isinstance(p, str)]
            assert pages==sorted(pages)
    api = next(o for o in contents if o.get('section')=='API')['contents']
    assert [{p[0] for p in part['contents']} for part in api]==[{str(i)} for i in range(len(api))]  # a layer each

def test_navbar_points_at_the_repository():
    bar = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))['website']['navbar']
    assert cfg['git_url'] in [o.get('href') for o in bar['right']]
    assert cfg.getboolean('custom_sidebar')
