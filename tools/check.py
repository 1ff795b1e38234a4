"Export and clean the notebooks; fail when that changes a file, for then the notebooks and the package disagreed"
import hashlib, os, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
os.chdir(root)
os.environ.pop('IN_TEST', None)  # with it nbdev_export does nothing
from nbdev.clean import nbdev_clean
from nbdev.doclinks import nbdev_export

def state():
    "Content of every notebook and module, so that this works in a dirty tree and without git"
    fs = [f for d,ext in (('nbs','ipynb'), ('spd_nb','py')) for f in Path(d).rglob(f'*.{ext}')
        if not any(p[0]=='.' for p in f.parts)]
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in fs}

before = state()
nbdev_export.__wrapped__()
nbdev_clean.__wrapped__()
after = state()
if changed := sorted(f for f in before.keys()|after.keys() if before.get(f)!=after.get(f)):
    sys.exit('nbdev_export and nbdev_clean changed these files, so notebooks and package disagreed:\n  ' + '\n  '.join(changed)  # noqa: E501
             + '\nThey agree now: look at the change, commit it with the notebooks, and run this again.')
print(f'export agrees with the notebooks ({len(after)} files)')
