"""Build one page of the docs, to look at while writing it: `make page PAGE=nbs/30_edit.ipynb`, or
python tools/page.py nbs/30_edit.ipynb            running it first
python tools/page.py nbs/30_edit.ipynb --stored   with the outputs that git holds
With quarto on PATH it becomes a page of the site; without, nbconvert makes a plain page of the same content."""
import os, re, shutil, subprocess, sys
from pathlib import Path
import nbformat, yaml
from nbdev.processors import FilterDefaults
from nbdev.serve_drv import exec_nb
from apidoc import ROOT, output_of
from exec_nbs import copies, execute, site_copy

def stored(path): return nbformat.read(path, 4)

def processed(page, run, exec_dir, proc_dir):
    "The notebook `page`, below nbs, as Quarto gets it"
    nbs,src,dst = ROOT/'nbs',exec_dir/page,proc_dir/page
    for f in (src, dst): f.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(site_copy(run(nbs/page), page, nbs), src)
    exec_nb(src, dst, FilterDefaults)
    return dst

def plain(nb):
    "A processed notebook as HTML without Quarto; what only pandoc reads is left out, links between pages stay"
    from nbconvert import HTMLExporter
    for c in nb.cells:
        if c.cell_type=='raw':  # Quarto's title block
            about = yaml.safe_load(c.source.strip().strip('-'))
            c.update(cell_type='markdown', source=f"# {about['title']}\n\n*{about.get('description', '')}*")
        if c.cell_type=='markdown':
            c.source = re.sub(r'\{target=[^}]*\}', '', c.source)
            c.source = re.sub(r'^(#+ .*?) *\{#([^}]*)\}$', r'<a id="\2"></a>\n\n\1', c.source, flags=re.M)
        else: c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M)
        for o in c.get('outputs', []):
            text = ''.join(o.get('data', {}).get('text/markdown', ''))
            if text.startswith('`````{=html}\n'): o.data = {'text/html':text.split('\n', 1)[1].removesuffix('\n`````')}
    return HTMLExporter(require_js_url='', mathjax_url='').from_notebook_node(nb)[0]

def main(path, run):
    page,out = Path(path).resolve().relative_to(ROOT/'nbs'),ROOT/'_docs'
    if shutil.which('quarto'):
        if not (ROOT/'_proc'/'_quarto.yml').exists():  # the site around the page, with the outputs that git holds
            from nbdev.serve import proc_nbs
            for _ in copies(ROOT/'nbs', ROOT/'_exec', stored): pass
            proc_nbs('_exec')
        made = processed(page, run, ROOT/'_exec', ROOT/'_proc')
        subprocess.run(['quarto','render',str(made),'--no-execute'], cwd=ROOT/'_proc', check=True)
        return ROOT/'_proc'/'_docs'/output_of(page)
    made,out = processed(page, run, ROOT/'_exec', ROOT/'_proc'),out/output_of(page)
    out.parent.mkdir(parents=True, exist_ok=True)
    # not validated: nbdev leaves marks of its own in cells
    out.write_text(plain(nbformat.v4.reads(made.read_text(encoding='utf-8'))), encoding='utf-8')
    shutil.copytree(ROOT/'nbs'/'images', ROOT/'_docs'/'images', dirs_exist_ok=True)
    return out

if __name__=='__main__':
    if len(sys.argv)<2 or not Path(sys.argv[1]).is_file(): sys.exit(__doc__)
    os.chdir(ROOT)
    os.environ.update(PLOTLY_RENDERER='plotly_mimetype+png', TQDM_DISABLE='1', HF_HUB_OFFLINE='1')
    print('wrote', main(sys.argv[1], stored if '--stored' in sys.argv else execute))
