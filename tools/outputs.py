"""Run notebooks in place and keep only small text outputs, so that their pages in git show values:
python tools/outputs.py nbs/12_masks.ipynb ..."""
import os, re, sys
from pathlib import Path

os.environ.update(PLOTLY_RENDERER='plotly_mimetype', PYTHONHASHSEED='0', HF_HUB_OFFLINE='1', TQDM_DISABLE='1')
import nbformat
from nbdev.clean import nbdev_clean
from exec_nbs import execute

SIZES = {'text/plain': 2048, 'text/markdown': 2048, 'text/latex': 2048, 'text/html': 6144}  # characters
PICTURE = re.compile(r'^(image/|application/(vnd\.(plotly|jupyter\.widget)|javascript))')

def kept(out):
    "`out` with what is small and readable in it, or nothing"
    if out.output_type=='stream': return [out] if out.name=='stdout' and len(out.text)<=SIZES['text/plain'] else []
    if out.output_type not in ('execute_result','display_data') or any(map(PICTURE.match, out.data)): return []
    data = {k:v for k,v in out.data.items() if len(v)<=SIZES.get(k, 0) and '<script' not in v}
    out.data, out.metadata = nbformat.from_dict(data), nbformat.from_dict({})
    return [out] if data else []

def show(path):
    "Replace the outputs of the notebook at `path`, and nothing else in it"
    nb,ran = nbformat.read(path, 4), execute(path)
    for cell,new in zip(nb.cells, ran.cells, strict=True):
        if cell.cell_type=='code': cell.outputs = [k for o in new.outputs for k in kept(o)]
    nb.metadata.pop('widgets', None)
    nbformat.write(nb, path)
    nbdev_clean.__wrapped__(str(path))

if __name__=='__main__':
    for f in sys.argv[1:]:
        show(Path(f))
        print('outputs of', f)
