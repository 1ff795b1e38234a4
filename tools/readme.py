"Write README.md from nbs/index.ipynb: its text, its visible code, and the text of its outputs"
import json, re
from os.path import normpath
from pathlib import Path

root = Path(__file__).resolve().parent.parent

def from_root(src):
    "Markdown whose links to files, seen from nbs/, are as seen from the top"
    return re.sub(r'(?<=\]\()(?![a-z]+:|#)([^)#\s]+)', lambda m: normpath('nbs/'+m[1]), src)

def markdown(nb):
    "The notebook as one page of Markdown"
    parts = []
    for c in nb['cells']:
        src = ''.join(c['source'])
        if c['cell_type']=='markdown': parts.append(from_root(src))
        elif not re.search(r'^#\|\s*hide', src, re.M):
            parts.append('```python\n'+re.sub(r'^#\|.*\n', '', src, flags=re.M)+'\n```')
            for o in c.get('outputs', []):
                if text := o.get('data', {}).get('text/plain'): parts.append('```\n'+''.join(text)+'\n```')
    return '\n\n'.join(parts)+'\n'

if __name__=='__main__':
    (root/'README.md').write_text(markdown(json.loads((root/'nbs'/'index.ipynb').read_text(encoding='utf-8'))),
        encoding='utf-8')
