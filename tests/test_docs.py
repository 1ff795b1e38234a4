"""The site without Quarto: pages can be processed and converted, links lead somewhere, public names are documented,
the sidebar lists what there is"""
import ast, json, os, re, shutil, subprocess, sys
from configparser import ConfigParser
from os.path import normpath
from pathlib import Path
import nbformat, pytest, yaml
from test_layout import tracked

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT/'tools'))
import api_index, apidoc, exec_nbs

cfg = ConfigParser(delimiters=['='])
cfg.read(ROOT/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
HOSTS = cfg['doc_host'],cfg['git_url']
BUILT = {'demo.html','api.ipynb'}  # what `make docs` puts beside the pages
IMAGES = sorted((ROOT/'nbs'/'images').iterdir())

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
'''  # noqa: E501

@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "A folder with what nbdev hands to Quarto, and each page as nbconvert's HTML; outputs are those that git holds"
    tmp = tmp_path_factory.mktemp('site')
    (tmp/'settings.ini').write_text((ROOT/'settings.ini').read_text(encoding='utf-8'), encoding='utf-8')
    (tmp/'process.py').write_text(SCRIPT, encoding='utf-8')
    env = os.environ|dict(PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
        OMP_NUM_THREADS='1')
    ran = subprocess.run([sys.executable, 'process.py'], cwd=tmp, env=env, capture_output=True, text=True)
    assert ran.returncode==0, ran.stderr[-3000:]
    return tmp/'_proc'

@pytest.fixture(scope='module')
def pages(built):
    "Page, as the sidebar names it, to notebook (not validated: nbdev leaves marks of its own in cells)"
    return {f.relative_to(built).as_posix():nbformat.v4.reads(f.read_text(encoding='utf-8'))
        for f in sorted(built.rglob('*.ipynb'))}

def notebooks():
    return {f.relative_to(ROOT/'nbs').as_posix() for f in (ROOT/'nbs').rglob('*.ipynb')
        if not any(p[0] in '._' for p in f.relative_to(ROOT).parts)}

def prose(nb):
    "All Markdown of a page: its cells, and what documents its names"
    return [c.source for c in nb.cells if c.cell_type=='markdown']+[o.data['text/markdown'] for c in nb.cells
        for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {})]

def unfenced(src): return re.sub(r'^(```+).*?^\1', '', src, flags=re.M|re.S)
def links(src): return re.findall(r'\]\(([^)\s]+)\)', re.sub(r'`[^`\n]*`', '`', unfenced(src)))

def anchors(sources):
    "Ids of headings, as pandoc gives them"
    ids = set()
    for h in (h for s in sources for h in re.findall(r'^#{1,6} +(.+?)\s*$', unfenced(s), re.M)):
        if own := re.search(r'\{#([^ }]+)[^}]*\}$', h):
            assert own[1] not in ids, own[1]
            ids.add(own[1])
            continue
        words = re.sub(r'[^\w\s.-]', '', re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', h).lower())
        base = n = re.sub(r'^[^a-z]+', '', re.sub(r'\s+', '-', words.strip())) or 'section'
        k = 0
        while n in ids: n = f'{base}-{(k := k+1)}'
        ids.add(n)
    return ids

def about(nb): return yaml.safe_load(next(c.source for c in nb.cells if c.cell_type=='raw').strip().strip('-'))
def output_file(page, nb): return (Path(page).parent/about(nb)['output-file']).as_posix()

def test_pages_can_be_processed_and_converted(built, pages):
    assert set(pages)==notebooks()|{'api.ipynb'}
    assert all((built/f).exists() for f in ('sidebar.yml','nbdev.yml','_quarto.yml','styles.css'))
    for page,nb in pages.items():
        assert about(nb)['title'] and len((built/page).with_suffix('.html').read_text(encoding='utf-8'))>10_000, page
        assert not any(o.output_type=='error' for c in nb.cells for o in c.get('outputs', [])), page

def test_pages_ask_for_no_widget_and_no_script(pages):
    "Quarto would load what shows them from elsewhere"
    kinds = {k for nb in pages.values() for c in nb.cells for o in c.get('outputs', []) for k in o.get('data', {})}
    assert not [k for k in kinds if k=='text/html' or k.startswith('application/')]

def test_widgets_leave_what_they_say_elsewhere():
    from exec_nbs import VIEW, without_scripts
    def shown(**data):
        return without_scripts(nbformat.v4.new_output('display_data',
            data={k.replace('_','/'):v for k,v in data.items()}))
    view = nbformat.v4.new_output('display_data', data={VIEW:{}, 'text/html':'<b>hi</b>', 'text/plain':'hi'})
    assert without_scripts(view).data=={'text/markdown':'`````{=html}\n<b>hi</b>\n`````', 'text/plain':'hi'}
    assert without_scripts(nbformat.v4.new_output('display_data', data={VIEW:{}})) is None
    assert without_scripts(nbformat.v4.new_output('stream', name='stderr',
        text='careful')) is None and without_scripts(nbformat.v4.new_output('stream', text='hi')).text=='hi'
    assert shown(image_png='x').data=={'image/png':'x'} and shown(text_plain='x').data=={'text/plain':'x'}

def broken(where, src, page_files, exists, heads):
    "Links in `src` that lead nowhere"
    bad = []
    for link in links(src):
        if re.match(r'[a-z]+:', link): continue
        path,_,anchor = link.partition('#')
        path = normpath(Path(where).parent/path) if path else where
        path = page_files.get(path, path)
        if not exists(path) or anchor and anchor not in heads(path): bad.append((where, link))
    return bad

def test_links_in_pages_lead_somewhere(pages):
    files,heads = {output_file(p, nb):p for p,nb in pages.items()},{p:anchors(prose(nb)) for p,nb in pages.items()}
    assert len(files)==len(pages)
    assert all(output_file(p, nb)==apidoc.output_of(p) for p,nb in pages.items())
    def exists(p): return p in pages or not p.startswith('..') and not p.endswith('.ipynb') and (ROOT/'nbs'/p).is_file()
    sources = [(p,s) for p,nb in pages.items() for s in prose(nb)]
    assert sum(len(links(s)) for _,s in sources)>400
    assert not [b for p,s in sources for b in broken(p, s, files, exists, lambda p: heads.get(p, ()))]
    # a name that is linked, inside a link
    assert not [(p,m) for p,s in sources for m in re.findall(r'\[\[`[^]]*\]\([^)]*\)\]\([^)]*\)', s)]

def test_links_in_readme_lead_somewhere():
    def heads(p):
        if not p.endswith('.ipynb'): return anchors([(ROOT/p).read_text(encoding='utf-8')])
        return anchors([''.join(c['source']) for c in json.loads((ROOT/p).read_text(encoding='utf-8'))['cells']
            if c['cell_type']=='markdown'])
    src = (ROOT/'README.md').read_text(encoding='utf-8')
    assert len(links(src))>30 and not broken('README.md', src, {}, lambda p: (ROOT/p).is_file(), heads)

MODULES = sorted(f.stem for f in (ROOT/'spd_nb').glob('[a-z]*.py'))
def exported(module):
    tree = ast.parse((ROOT/'spd_nb'/f'{module}.py').read_text(encoding='utf-8'))
    names = next(ast.literal_eval(o.value) for o in tree.body if isinstance(o, ast.Assign)
        and o.targets[0].id=='__all__')
    return names,{o.name:o for o in tree.body if isinstance(o, (ast.FunctionDef,ast.ClassDef))}

def test_every_public_name_has_a_place_on_its_page(pages):
    home = {apidoc.NUMBER.sub('', p).removesuffix('.ipynb'):p for p in pages if '/' not in p}
    missing = []
    for m in MODULES:
        names,defined = exported(m)
        nb = pages[home[m]]
        docs = '\n'.join(prose(nb))
        text = docs+'\n'.join(c.source for c in nb.cells)
        missing += [f'{m}.{n}' for n in names if not re.search(rf'^### {re.escape(n)} {{#', docs, re.M)
            and (n in defined or not re.search(rf'\b{re.escape(n)}\b', text))]
    assert not missing

def test_documentation_is_read_from_the_code():
    source = '''
@contextmanager
def f(
    x:'pd.DataFrame', # One of `a|b`
    # Above it
    *rest:int,
    n:int=(1, 2),     # How many
    **kw,
)->list[str]:         # Yields *them*
    "Does it"
class P(NamedTuple):
    "A pair"
    a:Float[Tensor, "*b"]  # First
    b:int=3                # Second
'''
    tree,comments = ast.parse(source),apidoc.comments_of(source)
    f = apidoc.function(tree.body[0], source, comments)
    assert [tuple(a) for a in f.args]==[('x','pd.DataFrame',None,'One of `a|b`'), ('*rest','int',None,'Above it'),
        ('n','int','(1, 2)','How many'), ('**kw','',None,'')]
    assert (f.kind, f.returns.type, f.returns.about, apidoc.call(f))==('context', 'list[str]', 'Yields *them*',
        'with f(x, *rest, n=(1, 2), **kw):')
    md = apidoc.section(f, 3, 'f')
    assert md.splitlines()[0]=='### f {#f}' and '- `x` (`pd.DataFrame`): One of `a|b`' in md and r'Yields (`list[str]`): \*them\*' in md  # noqa: E501
    P = apidoc.class_(tree.body[1], source, comments, {}, {})
    assert apidoc.call(P)=='P(a, b=3)' and P.args[0]==('a', 'Float[Tensor, "*b"]', None, 'First')

@pytest.mark.parametrize('module', MODULES)
def test_signatures_say_what_a_call_takes(module):
    "The arguments of each name in the code, and no others; fields of a `NamedTuple`; every comment beside an argument"
    docs,names = apidoc.documented(module)
    _,defined = exported(module)
    assert {n for n in names if n in docs}==names_of(defined)&set(names)
    comments = apidoc.comments_of((ROOT/'spd_nb'/f'{module}.py').read_text(encoding='utf-8'))
    for n,node in defined.items():
        if n not in docs or not isinstance(node, ast.FunctionDef): continue
        d,a = docs[n],node.args
        assert [x.name.lstrip('*') for x in d.args if x.name!='*']==[x.arg
            for x in (*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg]))]
        said = ' '.join([x.about for x in d.args]+[d.returns.about])
        assert all(c in said for i,(c,_) in comments.items() if node.lineno<=i<node.body[0].lineno), n
    for n,d in docs.items():
        if 'NamedTuple' in d.bases: assert d.args and '*args' not in apidoc.call(d), n

def names_of(defined): return {n for n,o in defined.items() if n[0]!='_' and 'patch' not in apidoc.decorators(o)}

def test_ids_are_one_of_a_kind_and_links_find_the_right_one(pages):
    for nb in pages.values(): anchors(prose(nb))  # asserts it for ids of definitions
    page = next(p for p in apidoc.pages() if {'plan','Plan'}<=set(apidoc.documented(p.module)[1]))
    assert (apidoc.ids(page.module)['plan'], apidoc.ids(page.module)['Plan'])==('plan','plan-class')
    assert apidoc.linked('`plan` makes a `Plan`',
        'howto/a.ipynb')==f'[`plan`](../{page.out}#plan) makes a [`Plan`](../{page.out}#plan-class)'
    assert apidoc.linked('`plan()`', page.path, page.module)=='[`plan()`](#plan)'
    assert apidoc.linked('```\n`plan`\n```', 'a.ipynb')=='```\n`plan`\n```' and apidoc.linked('[`plan`](x)',
        'a.ipynb')=='[`plan`](x)'

def test_headings_leave_ids_to_definitions():
    assert exec_nbs.heading_ids('## Plan\n\n## Costs', {'plan'})=='## Plan {#about-plan}\n\n## Costs'

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

def test_who_hosts_it_is_said_once():
    "In settings.ini; `nbdev_export` and `nbdev_docs` copy it"
    raw = ConfigParser(delimiters=['='], interpolation=None)
    raw.read(ROOT/'settings.ini', encoding='utf-8')
    assert all('%(user)s' in raw['DEFAULT'][k] and cfg['user'] not in raw['DEFAULT'][k] for k in ('git_url','doc_host'))
    copied = {ROOT/'spd_nb'/'_modidx.py', ROOT/'nbs'/'nbdev.yml'}
    assert not [f for f in tracked() if f not in copied and b'\0' not in (b := f.read_bytes())
        and any(h.encode() in b for h in HOSTS)]
    assert all(h in (ROOT/'nbs'/'nbdev.yml').read_text(encoding='utf-8') for h in HOSTS)

def test_pages_name_no_host_that_is_not_there(built, pages, monkeypatch, tmp_path):
    assert cfg['user']!='example' or not any(h in f.read_text(encoding='utf-8')
        for f in (*built.rglob('*.ipynb'), *built.glob('*.yml')) for h in HOSTS)
    for f in ('_quarto.yml','nbdev.yml'): (tmp_path/f).write_bytes((ROOT/'nbs'/f).read_bytes())
    for there in (True, False):
        for m in (apidoc, exec_nbs, api_index): monkeypatch.setattr(m, 'hosted', lambda there=there: there)
        exec_nbs.site_settings(tmp_path)
        quarto,site = (yaml.safe_load((tmp_path/f).read_text(encoding='utf-8'))['website']
            for f in ('_quarto.yml','nbdev.yml'))
        assert ([o['href'] for o in quarto['navbar'].get('right', [])]==[cfg['git_url']]
            and site['repo-url']==cfg['git_url'])==there
        assert (f"{cfg['git_url']}/blob/{cfg['branch']}/spd_nb/core.py#L" in ''.join(apidoc.sections('core',
            apidoc.documented('core')[1])))==there
        assert (f"({cfg['doc_host']}{cfg['doc_baseurl']}/core.html)" in api_index.llms())==there
        if there: (tmp_path/'_quarto.yml').write_bytes((ROOT/'nbs'/'_quarto.yml').read_bytes())

def test_links_to_files_that_are_not_on_the_site(tmp_path):
    src = 'See [the `log`](../../data/LOG.md#x), [a page](../01_a.ipynb) and ![a picture](../images/a.png).'
    def out(repo): return exec_nbs.outside(src, Path('howto/b.ipynb'), tmp_path, repo)
    assert out('https://r')==src.replace('../../data', 'https://r/data')
    assert out('')==src.replace('[the `log`](../../data/LOG.md#x)', 'the `log`')

def test_settings_of_the_site():
    quarto = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))
    assert cfg.getboolean('custom_sidebar') and quarto['website']['page-navigation'] and quarto['website']['navbar']['search']  # noqa: E501
    assert (ROOT/'nbs'/quarto['website']['favicon']).exists()
    theme = quarto['format']['html']['theme']
    # other themes load fonts
    assert theme['light']=='default' and theme['dark'][0]=='default' and (ROOT/'nbs'/theme['dark'][1]).exists()
    assert not [f.name for f in (ROOT/'nbs').glob('*.*css')
        if re.search(r'https?:|@import', f.read_text(encoding='utf-8'))]

def test_one_page_can_be_built_without_quarto(tmp_path):
    import page
    path = next(p.path for p in apidoc.pages() if 'u_replaced' in apidoc.documented(p.module)[1])
    nb = page.processed(Path(path), page.stored, tmp_path/'_exec', tmp_path/'_proc')
    html = page.plain(nbformat.v4.reads(nb.read_text(encoding='utf-8')))
    assert '<a id="u_replaced"></a>' in html and 'u_replaced(dm, site, c=None' in re.sub('<[^>]*>', '',
        html) and '{#' not in html

# the index, llms.txt and the search

def test_the_index_lists_every_public_name(pages):
    found = prose(pages['api.ipynb'])
    for p in apidoc.pages():
        cell = next(c for c in found if c.startswith(f'### [{p.title}]({p.out})'))
        names,defined = exported(p.module)
        assert all(f'`{n}`' in cell for n in names), p.module
        assert [n for n in re.findall(rf'^- \[`([^`]*)`\]\({re.escape(p.out)}#', cell, re.M)]==[n for n in names
            if n in names_of(defined)]
    assert [l for l in re.findall('^## (.*)', '\n'.join(found), re.M)]==list(api_index.layers())

def test_llms_txt_lists_every_page():
    text = api_index.llms()
    assert text.startswith(f"# {cfg['title']}\n\n> {cfg['description']}\n") and text.count('\n## Optional\n')==1
    listed = re.findall(r'^- \[[^]]+\]\(([^)]+)\)', text, re.M)
    base = f"{cfg['doc_host']}{cfg['doc_baseurl']}/" if apidoc.hosted() else ''
    assert sorted(listed)==sorted(base+apidoc.output_of(p) for p in notebooks()|{'api.ipynb'})
    assert not re.search(r'\]\([^)]*\.ipynb', text)

def test_search_puts_definitions_first(pages):
    old = dict(objectID='train.html#a-lesson', href='train.html#a-lesson', title='Train', section='A lesson',
        text='fit plan')
    found = api_index.with_definitions([old])
    assert found[-1]==old and api_index.with_definitions(found)==found
    fit = next(o for o in found if o['title']=='fit')
    assert fit.keys()>=old.keys() and fit['href'].endswith('#fit') and fit['crumbs'][0]=='API'
    heads = {output_file(p, nb):anchors(prose(nb)) for p,nb in pages.items()}
    assert not [o['href'] for o in found[:-1] if o['href'].partition('#')[2] not in heads[o['href'].partition('#')[0]]]

def test_names_in_the_glossary_and_for_newcomers_are_there():
    "What stands in backticks by itself is a public name, but for words of Python and parts of our objects"
    ours = {n for m in MODULES for n in exported(m)[0]}
    parts = set(
        'with f outer log beta c p pre lower upper out dm sites mlp to_html near_kl elsewhere_kl anywhere_kl '
        'ppl_elsewhere specificity min_density max_density transformers partial ff base'.split())
    def cells(f):
        return [''.join(c['source']) for c in json.loads((ROOT/'nbs'/'howto'/f).read_text(encoding='utf-8'))['cells']
            if c['cell_type']=='markdown']
    here = [row.split(' | ', 1)[1] for c in cells('08_coming_from.ipynb') for row in c.splitlines()
        if row.startswith('| ') and ' | ' in row]
    found = {n for s in cells('07_glossary.ipynb')+here for n in re.findall(r'`([A-Za-z_]\w*)(?:\([^`]*\))?`', s)}
    assert len(found&ours)>80 and not found-ours-parts

PUBLISHED = '''UnmaskedReconLoss, CIMaskedReconLoss, layerwise and subset forms, PGDReconLoss, over several batches,
StochasticHiddenActsReconLoss, n_mask_samples, static_probability, persistent PGD,
repeat_across_batch, attention-pattern, local objective, hidden_dims, mlp_hidden_dim, rope_base,
global_reverse_residual, sigmoid_type: normal, swish_hard, detach_inputs, importance noise,
warmup_pct, exponential, faithfulness_warmup_steps, pretrained run, evaluation metrics, BatchTopK,
Schatten, activation reconstruction, scrubbing, p_anneal_final_p, exactly_one_active, synced_inputs,
GELU, key-value, bilinear, skip-trigrams, importance histograms, density spectra, L0 by group,
network diagram, activation scatter, Pareto data, per-token KL, tied weights'''

def test_words_of_the_papers_and_of_their_code_lead_to_our_names():
    ours = {n for m in MODULES for n in exported(m)[0]}
    page = json.loads((ROOT/'nbs'/'howto'/'08_coming_from.ipynb').read_text(encoding='utf-8'))
    rows = [r[2:].split(' | ', 1) for c in page['cells'] for r in ''.join(c['source']).splitlines()
        if r.startswith('| ') and ' | ' in r[2:]]
    for word in re.split(r',\s+', PUBLISHED):
        here = [h for there,h in rows if word in there]
        names = {n for h in here for n in re.findall(r'\w+', h)}
        assert names&ours, word

# pictures and small screens

def test_every_picture_has_words_and_is_used(pages):
    shown = [(p,*m) for p,nb in pages.items() for s in prose(nb) for m in re.findall(r'!\[([^]]*)\]\(([^)]*)\)', s)]
    assert not [o for o in shown if len(o[1])<15]
    used = {(Path('nbs')/Path(p).parent/f).as_posix() for p,_,f in shown}
    used = {normpath(f) for f in used}|{'nbs/images/favicon.svg'}
    assert used=={f.relative_to(ROOT).as_posix() for f in IMAGES}
    for f in IMAGES:
        assert f.stat().st_size<60e3, f.name
        if f.suffix=='.svg':
            text = f.read_text(encoding='utf-8')
            assert '<title' in text and 'prefers-color-scheme: dark' in text and not re.search(r'(href|src|url\()["\']?https?:', text)  # noqa: E501
            if f.name!='favicon.svg': assert '<desc id="desc">' in text and 'aria-labelledby="title desc"' in text
    assert sum(f.stat().st_size for f in IMAGES)<400e3

def test_figures_say_what_they_show():
    import plotly.graph_objects as go
    fig = go.Figure([go.Scatter(x=[1], y=[2], name='a', mode='lines'),
        go.Scatter(x=[1], y=[2], name='b')]).update_layout(title='Losses', xaxis_title='step',
        yaxis_title='loss<br>(nats)')
    assert exec_nbs.described(json.loads(fig.to_json()))=='Losses: lines of loss (nats) against step, for a, b'
    cell = nbformat.v4.new_code_cell('fig', outputs=[nbformat.v4.new_output('display_data',
        data={exec_nbs.FIGURE:json.loads(fig.to_json()), 'image/png':'x'})])
    exec_nbs.with_alt(cell)
    assert cell.source=='#| fig-alt: "Losses: lines of loss (nats) against step, for a, b"\nfig'
    assert exec_nbs.without_scripts(cell.outputs[0]).data=={'image/png':'x'}
    assert exec_nbs.described({'data':[{'type':'heatmap'}], 'layout':{}})=='A heatmap'

@pytest.mark.skipif(shutil.which('chromium') is None, reason='no chromium on PATH')
def test_a_phone_does_not_scroll_sideways(tmp_path):
    pytest.importorskip('playwright')
    from lab_test import FLAGS
    from playwright.sync_api import sync_playwright
    wide = 'x'*200
    body = (
        f'<h2>{wide}</h2><p><code>{wide}</code> {wide}</p><pre><code>{wide}</code></pre><div '
        f'class="cell-output"><pre>{wide}</pre></div>')
    body += f'<table><tr>{"<td>"+"y"*20+"</td>":s}{"<td>yyyyyyyyyyyyyyyyyyyy</td>"*20}</tr></table><svg width="900" height="50"></svg><ul><li><code>{wide}</code></li></ul>'  # noqa: E501
    css = (ROOT/'nbs'/'styles.css').read_text(encoding='utf-8')
    with sync_playwright() as pw:
        b = pw.chromium.launch(executable_path=shutil.which('chromium'), headless=True, args=FLAGS)
        page = b.new_page(viewport=dict(width=390, height=800))
        def width(css):
            page.set_content(f'<style>{css}</style><main>{body}</main>')
            return page.evaluate('document.documentElement.scrollWidth')
        assert width(css)==390<width('')
        b.close()
