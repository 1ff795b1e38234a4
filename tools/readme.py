"Write README.md from nbs/index.ipynb: its text, its visible code, and the text of its outputs"
import json, re, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent

def markdown(nb):
    "The notebook as one page of Markdown"
    parts = []
    for c in nb['cells']:
        src = ''.join(c['source'])
        if c['cell_type']=='markdown': parts.append(src)
        elif not re.search(r'^#\|\s*hide', src, re.M):
            parts.append('```python\n'+re.sub(r'^#\|.*\n', '', src, flags=re.M)+'\n```')
            for o in c.get('outputs', []):
                if text := o.get('data', {}).get('text/plain'): parts.append('```\n'+''.join(text)+'\n```')
    return '\n\n'.join(parts)+'\n'

if __name__=='__main__': (root/'README.md').write_text(markdown(json.loads((root/'nbs'/'index.ipynb').read_text())))
