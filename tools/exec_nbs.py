"""Execute copies of the notebooks, so that the docs have fresh outputs and widget state while git holds none:
python tools/exec_nbs.py nbs _exec, then nbdev_docs --path _exec"""
import re, shutil, sys
from pathlib import Path
import nbformat
from nbclient import NotebookClient
from nbdev.config import get_config

SKIP = re.compile(r'^#\|\s*(' + '|'.join(get_config().tst_flags.split()) + r'|eval:\s*false)\b|nbdev_export\(', re.M)
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

if __name__=='__main__':
    src,dst = map(Path, sys.argv[1:3])
    shutil.rmtree(dst, ignore_errors=True)
    shutil.copytree(src, dst, ignore=shutil.ignore_patterns('.*'))
    for f in sorted(dst.rglob('*.ipynb')):
        nbformat.write(execute(f, store_widget_state=True), f)
        print('executed', f)
