"""Make rendered pages (Quarto's `_docs`, or nbconvert's HTML) show widgets with no CDN: python tools/localize_widgets.py DIR NODE_MODULES
NODE_MODULES holds what `npm install @jupyter-widgets/html-manager requirejs anywidget@0.11` puts there"""
import os, re, shutil, sys
from pathlib import Path

docs,nm = map(Path, sys.argv[1:3])
files = {'require.js': nm/'requirejs/require.js', 'embed-amd.js': nm/'@jupyter-widgets/html-manager/dist/embed-amd.js', 'anywidget.js': nm/'anywidget/dist/index.js'}
pages = [p for p in docs.rglob('*.html') if 'widget-state+json' in p.read_text(encoding='utf-8')]
if pages:
    (docs/'widget_libs').mkdir(exist_ok=True)
    for n,f in files.items(): shutil.copy(f, docs/'widget_libs'/n)
for p in pages:
    w,s = Path(os.path.relpath(docs/'widget_libs', p.parent)).as_posix(), p.read_text(encoding='utf-8')
    s = re.sub(r'<script src="https://[^"]*jquery[^"]*"[^>]*></script>\s*', '', s)
    s = re.sub(r'<script src="https://[^"]*require(?:\.min)?\.js"[^>]*></script>', f'<script src="{w}/require.js"></script><script>requirejs.config({{paths: {{anywidget: "{w}/anywidget"}}}})</script>', s)
    s = re.sub(r'<script src="https://[^"]*embed-amd\.js"[^>]*></script>', f'<script src="{w}/embed-amd.js"></script>', s)
    p.write_text(s, encoding='utf-8'); print('localized', p)
