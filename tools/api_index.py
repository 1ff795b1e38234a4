"""The index of the API: `api.ipynb` for the docs build; beside the built site, `llms.txt` and entries for its search:
python tools/api_index.py _docs"""
import json, sys
from pathlib import Path
import yaml
from nbdev.config import get_config
from nbformat.v4 import new_markdown_cell, new_notebook
from apidoc import ROOT, documented, escaped, heading_of, hosted, ids, output_of, pages

TITLE,SUBTITLE = 'API index','Every public name with a line about it, by layer and page'

def sections_of_sidebar():
    "Section, by its path of titles, to the notebooks in it, as the sidebar has them"
    sidebar = yaml.safe_load((ROOT/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']
    found = {}
    def walk(items, path):
        for o in items:
            if isinstance(o, str): found.setdefault(path, []).append(o)
            elif 'section' in o: walk(o['contents'], (*path, o['section']))
            elif o['href'].endswith('.ipynb') and (ROOT/'nbs'/o['href']).exists():
                found.setdefault(path, []).append(o['href'])
    walk(sidebar['contents'], ())
    return found

def layers():
    "Title of a layer to its pages"
    by_path,found = {p.path:p for p in pages()},sections_of_sidebar()
    return {path[1]:[by_path[f] for f in files] for path,files in found.items() if path[:1]==('API',)}

def entries(page):
    "Public name, its id on the page or nothing for a constant, and a line about it"
    docs,exported = documented(page.module)
    for n in exported: yield (n, ids(page.module)[n], docs[n].summary) if n in docs else (n, '', '')

def index_page():
    "The notebook of the index"
    cells = [new_markdown_cell(f'# {TITLE}\n\n> {SUBTITLE}')]
    for layer,its_pages in layers().items():
        cells.append(new_markdown_cell(f'## {layer}'))
        for p in its_pages:
            found = list(entries(p))
            lines = [f'### [{p.title}]({p.out})', escaped(p.subtitle)]
            rows = [f'- [`{n}`]({p.out}#{at}): {escaped(about)}' for n,at,about in found if at]
            constants = [f'`{n}`' for n,at,_ in found if not at]
            if rows: lines.append('\n'.join(rows))
            if constants: lines.append('Constants: '+', '.join(constants))
            cells.append(new_markdown_cell('\n\n'.join(lines)))
    return new_notebook(cells=cells)

def llms():
    "`llms.txt` (llmstxt.org): what the project is, and its pages with what each is about"
    cfg = get_config()
    base = f'{cfg.doc_host}{cfg.doc_baseurl}/' if hosted() else ''
    lines = [f'# {cfg.title}', '', f'> {cfg.description}', '',
        'Every page is a notebook with the code that it documents. `import spd_nb as spd` gives the names that most '
        'work begins with.', '']
    for path,files in {('Start',):['index.ipynb'], **sections_of_sidebar()}.items():
        if not path: continue
        lines += [f'## {": ".join(path)}','']
        for f in files:
            title,subtitle = heading_of(json.loads((ROOT/'nbs'/f).read_text(encoding='utf-8')))
            lines.append(f'- [{title}]({base}{output_of(f)})'+(f': {subtitle}' if subtitle else ''))
        lines.append('')
    lines += ['## Optional','',f'- [{TITLE}]({base}api.html): {SUBTITLE}','']
    return '\n'.join(lines)

def search_entries():
    "An entry for each definition under its own name, as in Quarto's `search.json`, which has none below level 2"
    for layer,its_pages in layers().items():
        for p in its_pages:
            docs,exported = documented(p.module)
            for d in (o for n in exported if n in docs for o in (docs[n], *docs[n].members)):
                href = f'{p.out}#{ids(p.module)[d.name]}'
                crumbs = ['API', layer, p.title]
                yield dict(objectID=href, href=href, title=d.name, section='', text=d.summary, crumbs=crumbs)

def with_definitions(entries):
    "Quarto's search entries, definitions first; those of an earlier call are replaced"
    ours = list(search_entries())
    had = {o['objectID'] for o in ours}
    return ours+[o for o in entries if o['objectID'] not in had]

if __name__=='__main__':
    site = Path(sys.argv[1])
    (site/'llms.txt').write_text(llms(), encoding='utf-8')
    search = site/'search.json'
    if not search.exists(): sys.exit(f'no {search}: build the site first')
    found = with_definitions(json.loads(search.read_text(encoding='utf-8')))
    search.write_text(json.dumps(found, ensure_ascii=False), encoding='utf-8')
    print(f'wrote {site/"llms.txt"}, and definitions into {search}')
