"""Draw the pictures of the docs, `nbs/images`, from what ships in `data/`:
python tools/figures.py                    all of them
python tools/figures.py pentagon browser   some of them
Diagrams are SVG that follows the reader's light or dark; pictures of views are PNG with a palette, taken in Debian's
chromium. `method.svg` and `favicon.svg` are drawn by hand"""
import base64, shutil, struct, sys, tempfile, zlib
from html import escape
from pathlib import Path
from typing import NamedTuple
import numpy as np, pandas as pd, torch
from spd_nb.attribution import graph as graph_of
from spd_nb.browser import ComponentBrowser
from spd_nb.cluster_picker import ClusterPicker
from spd_nb.clusters import cluster
from spd_nb.compare import firing, match as match_of
from spd_nb.diff import EditDiff
from spd_nb.edit import ablated
from spd_nb.ground_truth import matched, one_hots
from spd_nb.graph_view import GraphView
from spd_nb.harvest import Harvest, harvest
from spd_nb.lens import PromptLens
from spd_nb.match_view import MatchView
from spd_nb.memberships import memberships
from spd_nb.model import decompose, load
from spd_nb.monitor import TrainingMonitor
from spd_nb.pickers import HeatmapPicker, ParetoPicker
from spd_nb.plots import on_front
from spd_nb.qk_view import QKView
from spd_nb.stories import stories
from spd_nb.studio import EditStudio
from spd_nb.toys import TMS, fit_toy
from spd_nb.train import fit
from spd_nb.objectives import spd_losses
from spd_nb.widgets import View

ROOT = Path(__file__).resolve().parent.parent
IMAGES,RESULTS = ROOT/'nbs'/'images',ROOT/'data'/'results'
QUOTE,EYES = 'model.layers.1.mlp.down_proj:80','model.layers.1.mlp.down_proj:130'
LETTER = 'Ida went to the farm. She got a letter:'

# diagrams

STYLE = """
    :root { --paper: #fff; --ink: #1d2733; --soft: #5b6875; --line: #c3ccd5 }
    :root { --a: #0b6bcb; --b: #c2570c; --c: #1c7c54; --d: #8a3fb0; --e: #a8862a }
    @media (prefers-color-scheme: dark) {
      :root { --paper: #14191f; --ink: #e6ebf0; --soft: #a9b4bf; --line: #46525e }
      :root { --a: #6ab4ff; --b: #f5a45d; --c: #62c99a; --d: #d09bf0; --e: #e0c268 }
    }
    text { fill: var(--ink); font: 14px system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif }
    .soft { fill: var(--soft); font-size: 12.5px } .mid { text-anchor: middle } .end { text-anchor: end }
    .hull { fill: none; stroke: var(--line) }
"""

def svg(width, height, title, desc, parts):
    "A drawing with a title and a description for those who cannot see it, on a ground of its own"
    head = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title desc"'
    return f'''<svg {head}>
  <title id="title">{escape(title)}</title>
  <desc id="desc">{escape(desc)}</desc>
  <style>{STYLE}  </style>
  <rect width="{width}" height="{height}" rx="10" fill="var(--paper)"/>
{chr(10).join(parts)}
</svg>
'''

def text(x, y, s, kind=''): return f'  <text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(s)}</text>'
def turned(x, y, s):
    return f'  <text class="mid soft" transform="translate({x:.1f} {y:.1f}) rotate(-90)">{escape(s)}</text>'
def line(x0, y0, x1, y1, **style):
    style = ' '.join(f'{k.replace("_","-")}="{v}"' for k,v in style.items())
    return f'  <line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" {style}/>'
def rect(x, y, w, h, opacity=None):
    "A hull, or an area filled with the first colour"
    ink = 'class="hull"' if opacity is None else f'fill="var(--a)" opacity="{opacity:.2f}"'
    return f'  <rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" {ink}/>'
def circle(x, y, r, colour, opacity=1.):
    "A disc, or a ring where `opacity` is 0"
    ink = f'fill="var(--{colour})" opacity="{opacity:.2f}"'
    if not opacity: ink = f'fill="none" stroke="var(--{colour})" stroke-width="1.5"'
    return f'  <circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" {ink}/>'

def pentagon():
    "TMS 5-2: the columns of the weight, and what the largest component of each writes and reads"
    dm = load('tms_5-2')
    W,cs = dm.target.linear1.weight.detach(),dm.at('linear1')
    V,U = cs.V.detach(),cs.U.detach()
    size,parts = 150/W.norm(dim=0).max().item(),[]
    wide = dict(stroke_width=12, opacity=.3, stroke_linecap='round')
    for j in range(5):
        x,y = (size*W[:,j]).tolist()
        parts += [line(200, 190, 200+x, 190-y, stroke=f'var(--{"abcde"[j]})', **wide),
                  text(200+1.14*x, 195-1.14*y, str(j), 'mid')]
    big = [c for c in range(cs.C) if V[:,c].norm()*U[c].norm()>.1]
    for c in big:
        j = V[:,c].abs().argmax().item()
        x,y = (size*U[c]*V[j,c]).tolist()
        parts.append(line(200, 190, 200+x, 190-y, stroke=f'var(--{"abcde"[j]})', stroke_width=3))
    parts += [text(420, 130, 'Five features in two dimensions'),
              line(420, 165, 460, 165, stroke='var(--soft)', **wide),
              text(474, 170, 'a column of the weight, with its feature', 'soft'),
              line(420, 200, 460, 200, stroke='var(--soft)', stroke_width=3),
              text(474, 205, 'what a component gives to that feature', 'soft'),
              text(420, 245, f'{len(big)} of {cs.C} components are alive,', 'soft'),
              text(420, 263, 'one for each feature', 'soft')]
    return svg(740, 380, 'The pentagon of a toy model of superposition, and its components',
        'Five directions of the weight of TMS 5-2, spread evenly round a circle. On each lies the vector that one '
        f'component contributes: {len(big)} of {cs.C} components are alive, one for each feature.', parts)

def importances():
    "TMS 40-10: which components each feature alone needs"
    dm = load('tms_40-10')
    with torch.no_grad(): ci = dm.ci(one_hots(40)).lower['linear1']
    values,cell = ci[:,matched(ci)[:44]],8
    n,m = values.shape
    parts = [rect(60+cell*j, 40+cell*i, cell-1, cell-1, values[i,j].item())
             for i in range(n) for j in range(m) if values[i,j]>.02]
    parts += [rect(59, 39, cell*m+1, cell*n+1), text(60+cell*m/2, 28, 'component, sorted', 'mid soft'),
              turned(46, 40+cell*n/2, 'feature, one at a time'), text(460, 150, '40 features in 10 dimensions'),
              text(460, 178, 'Each feature alone needs one component,', 'soft'),
              text(460, 196, 'and each component serves one feature.', 'soft'), text(460, 228, 'importance', 'soft')]
    for k in range(5): parts += [rect(540+22*k, 216, 20, 14, .25*k), rect(540+22*k, 216, 20, 14)]
    parts += [text(540, 246, '0', 'soft'), text(640, 246, '1', 'soft')]
    return svg(740, 380, 'Importances of the components of a toy',
        'A heatmap with a row for each of 40 features, probed alone, and a column for each component. Importances are '
        'near 1 on the diagonal and near 0 elsewhere.', parts)

def front():
    "Making o the mouth of emoticons in the story model: effect and cost of rewriting a component, and of LoRAs"
    learned,written = pd.read_csv(RESULTS/'editing_learned.csv'),pd.read_csv(RESULTS/'editing_write.csv')
    lora = learned[(learned.method=='LoRA')&(learned.token=='o')]
    written = written[(written.token=='o')&(written.form=='replacement')]
    ways = {'component rewritten by hand':(written, 'b'),
            'LoRA, 10 examples':(lora[lora.n==10], 'd'), 'LoRA, all examples':(lora[lora.n==lora.n.max()], 'a')}
    def across(kl): return 90+330*(np.log10(kl)+4)/3
    def up(p): return 330-270*(np.log(p/(1-p))-np.log(.25))/(np.log(999)-np.log(.25))
    parts = []
    for p in (.2,.5,.8,.9,.95,.98,.99,.999):
        parts += [line(90, up(p), 450, up(p), stroke='var(--line)', opacity=.6),
                  text(80, up(p)+4, f'{p:g}', 'end soft')]
    parts += [text(across(10.**k), 350, f'{10.**k:g}', 'mid soft') for k in (-4,-3,-2,-1)]
    parts += [text(270, 370, 'cost: KL elsewhere, nats per token', 'mid soft'),
              turned(36, 195, 'effect: probability of o'), text(480, 100, 'Up and to the left is better')]
    for i,(name,(df,colour)) in enumerate(ways.items()):
        df = df[(df.elsewhere_kl>1e-4)&(df.p_after>.2)]
        best = df.iloc[on_front(df.elsewhere_kl.to_numpy(), df.p_after.to_numpy(), 'low', 'high')]
        parts += [circle(across(r.elsewhere_kl), up(r.p_after), 3, colour, .45) for r in df.itertuples()]
        path = ' '.join(f'{across(r.elsewhere_kl):.1f},{up(r.p_after):.1f}' for r in best.itertuples())
        parts += [f'  <polyline fill="none" stroke="var(--{colour})" stroke-width="2.5" points="{path}"/>',
                  line(480, 130+30*i, 510, 130+30*i, stroke=f'var(--{colour})', stroke_width=2.5),
                  text(522, 135+30*i, name, 'soft')]
    return svg(760, 385, 'A Pareto front: rewriting a component beside LoRAs',
        'Probability of the letter o as the mouth of emoticons against the KL divergence at other tokens, for one '
        'component rewritten to several strengths without examples, for LoRAs trained on 10 examples and for LoRAs '
        'trained on all examples. The LoRAs lie further up and to the left, those with all examples furthest.', parts)

def dose():
    "How far the best 1, 3 and 6 components take away a behaviour of the story model, beside random ones"
    table = pd.read_csv(RESULTS/'story_sharpness.csv', index_col='role')
    names = dict(quote_open='opening quotation mark', qmark='question mark', emo_eyes='eyes of an emoticon',
                 name='names', pron_m='he', nature='nature words', moral='words of the moral')
    marks = {'the best one':('change_1', 8, 'a', .45), 'three':('change_3', 6, 'a', .7), 'six':('change_6', 4, 'a', 1.),
             'random ones':('random', 4, 'soft', 0.)}
    parts = [text(230, 34, 'Probability left when components are taken out')]
    parts += [line(230+440*s, 52, 230+440*s, 346, stroke='var(--line)', opacity=.6) for s in (0,.25,.5,.75,1.)]
    parts += [text(230+440*s, 364, f'{s:.0%}', 'mid soft') for s in (0,.5,1.)]
    for i,(role,name) in enumerate(names.items()):
        parts.append(text(218, 81+40*i, name, 'end'))
        for column,*look in marks.values():
            parts.append(circle(230+440*min(1+table.loc[role, column], 1), 77+40*i, *look))
    for i,(name,(_,*look)) in enumerate(marks.items()):
        parts += [circle(240+110*i, 384, *look), text(254+110*i, 389, name, 'soft')]
    return svg(740, 405, 'What is left of seven behaviours when their best components are removed',
        'For seven behaviours of the story model, such as opening a quotation, the share of their probability that is '
        'left when the best one, three or six components are removed. Five of them lose more than half with one '
        'component. Words of the moral keep most of theirs. Removing random components changes almost nothing.', parts)

# views

def story():
    dm = load('story')
    return dm,Harvest('story/harvest', dm)

class Shot(NamedTuple):
    "What to take a picture of"
    view:View
    limits:dict={}   # What its page keeps, as for `to_html`
    clicks:tuple=()  # Selectors, clicked in turn
    width:int=1000   # Pixels
    height:int=560   # Pixels, at most

def browser():
    dm,h = story()
    view = ComponentBrowser(h, token=' "', key=QUOTE)
    return Shot(view, dict(keys=[*h.by_token(' "').index[:20], QUOTE]), height=760)

def lens():
    dm,h = story()
    clicks = '.spd-tok >> nth=-1','.spd-cell:enabled >> nth=-1'
    return Shot(PromptLens(h, prompt=LETTER), dict(most=6, examples=2), clicks, height=760)

def graph():
    dm,h = story()
    g = graph_of(dm, LETTER+' "See you at the')
    copied = g.paths('/token:213', '/logit:213', 1).path[0]
    return Shot(GraphView(g, h, node=copied[2], pinned=copied, node_share=.95), dict(most=4), height=650)

def pairs():
    dm,h = story()
    view = QKView(dm, LETTER+' "See you at the', h, layer=0, head=1)
    top = view.attention.pairs(1, view.position).iloc[0]
    view.off = [[str(top['query']), str(top.key)]]
    return Shot(view, clicks=('.spd-pair-value >> nth=0',), height=800)

def clusters():
    dm,h = story()
    m = memberships(dm, stories(16, 128, seed=5), 8, progress=False)
    view = ClusterPicker(cluster(m, progress=False), h, m, group=10)
    return Shot(view, dict(components=1), clicks=('[aria-label="zoom in"]',)*3, height=900)

def match():
    dm,h = story()
    second = load('story/seed_1', target=dm.target)
    tmp = tempfile.TemporaryDirectory()
    other = harvest(second, stories(16, 128, seed=6), Path(tmp.name)/'h', n=6, progress=False)
    by,living = firing(stories(8, 128, seed=81, held_out=True), 8),h.components.query('density>1e-3').index
    view = MatchView(match_of(dm, second, by, living), h, other, QUOTE, ('seed 0','seed 1'), sort='density')
    view.folder = tmp  # which is there as long as the view
    return Shot(view, dict(pairs=1, examples=2), height=1150)

def studio():
    dm,h = story()
    return Shot(EditStudio(h, prompt=LETTER, changes=[dict(key=QUOTE, factor=0., token='', strength=1.)]))

def diff():
    dm,h = story()
    prompts = [LETTER, 'Tom went to the river. There he met Mia. She asked']
    return Shot(EditDiff(dm, ablated(dm, QUOTE), prompts, n=16), clicks=('[data-prompt="0"][data-position="11"]',))

def monitor():
    toy = TMS(5, 2)
    fit_toy(toy, 3000)
    dm,view = decompose(toy, {'linear*':20}, tied={'linear2':'linear1'}),TrainingMonitor(seconds=0.)
    with tempfile.TemporaryDirectory() as tmp:
        fit(dm, toy.batches(256, merge=True), spd_losses(), steps=1500, lr=5e-3, warm=200, every=10,
            path=Path(tmp)/'run', callbacks=[view], progress=False)
    return Shot(view)

def heatmap():
    dm = load('tms_5-2')
    with torch.no_grad(): ci = dm.ci(one_hots(5)).lower['linear1']
    view = HeatmapPicker(ci, y=[f'feature {j}' for j in range(5)], zmin=0., zmax=1., title='Importances of linear1',
        x_title='component', y_title='input', z_title='importance')
    view.cell = 0,int(ci[0].argmax())
    return Shot(view, width=760)

def pareto():
    df = pd.read_csv(RESULTS/'editing_learned.csv')
    df = df[(df.method=='LoRA')&(df.token=='o')]
    df = df.assign(edit=[f'λ {r.weight:g}, rate {r.lr:g}, seed {r.seed}' for r in df.itertuples()],
        examples=df.n.map(lambda n: f'{n} examples'))[['edit','examples','elsewhere_kl','p_after']]
    view = ParetoPicker(df, 'elsewhere_kl', 'p_after', text='edit', group='examples', y_better='high', log_x=True,
        title='LoRAs', x_title='KL elsewhere (nats per token)', y_title='P(o)')
    return Shot(view, clicks=('.spd-point >> nth=4',), width=760)

PIXELS = """async png => {
  const image = new Image(), c = document.createElement('canvas'), g = c.getContext('2d')
  image.src = 'data:image/png;base64,' + png
  await image.decode()
  c.width = image.width
  c.height = image.height
  g.drawImage(image, 0, 0)
  const bytes = g.getImageData(0, 0, c.width, c.height).data
  let s = ''
  for (let i = 0; i < bytes.length; i += 32768) s += String.fromCharCode(...bytes.subarray(i, i + 32768))
  return [c.width, c.height, btoa(s)]
}"""

def palette_png(rgb, most=64):
    "An image, h w 3 of uint8, as a PNG of at most `most` colours, others drawn as the nearest"
    colours,index,n = np.unique(rgb.reshape(-1, 3).astype(int), axis=0, return_inverse=True, return_counts=True)
    # the commonest of like ones: else the greys of smoothed letters would take all places
    alike = np.unique(colours//12, axis=0, return_inverse=True)[1].ravel()
    groups = np.argsort(-np.bincount(alike, n))[:most]
    chosen = colours[[max(np.flatnonzero(alike==k), key=lambda i: n[i]) for k in groups]]
    near = ((colours[:,None]-chosen[None])**2).sum(-1).argmin(1)
    rows = near[index.ravel()].astype(np.uint8).reshape(rgb.shape[:2])
    def chunk(kind, data): return struct.pack('>I', len(data))+kind+data+struct.pack('>I', zlib.crc32(kind+data))
    header = struct.pack('>IIBBBBB', *rows.shape[::-1], 8, 3, 0, 0, 0)
    lines = zlib.compress(b''.join(b'\0'+r.tobytes() for r in rows), 9)
    colours = chosen.astype(np.uint8).tobytes()
    chunks = chunk(b'IHDR', header), chunk(b'PLTE', colours), chunk(b'IDAT', lines), chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n'+b''.join(chunks)

def picture(shot, browser):
    "A view as a page without Python shows it"
    page = browser.new_page(viewport=dict(width=shot.width, height=shot.height), color_scheme='light')
    with tempfile.TemporaryDirectory() as tmp:
        page.goto(shot.view.to_html(Path(tmp)/'view.html', **shot.limits).as_uri())
        view = page.locator('.spd').first
        for c in shot.clicks:
            page.locator(c).first.click()
            page.wait_for_timeout(200)
        page.mouse.move(0, 0)
        page.wait_for_timeout(600)
        box = view.bounding_box()
        box['height'] = min(box['height'], shot.height)
        png = page.screenshot(full_page=True, clip=box)
    w,h,data = page.evaluate(PIXELS, base64.b64encode(png).decode())
    page.close()
    return palette_png(np.frombuffer(base64.b64decode(data), np.uint8).reshape(h, w, 4)[...,:3])

DIAGRAMS = {f.__name__:f for f in (pentagon, importances, front, dose)}
VIEWS = {f.__name__:f for f in (browser, lens, graph, pairs, clusters, match, studio, diff, monitor, heatmap, pareto)}

def main(names):
    torch.set_num_threads(1)
    if wrong := sorted(set(names)-DIAGRAMS.keys()-VIEWS.keys()):
        sys.exit(f'no figure {wrong[0]!r}; there are {", ".join([*DIAGRAMS, *VIEWS])}')
    for n in names:
        if n in DIAGRAMS: (IMAGES/f'{n}.svg').write_text(DIAGRAMS[n](), encoding='utf-8')
    if views := [n for n in names if n in VIEWS]:
        from playwright.sync_api import sync_playwright
        from lab_test import FLAGS
        chromium = shutil.which('chromium') or sys.exit('no chromium on PATH; on Debian: apt-get install chromium')
        with sync_playwright() as pw:
            b = pw.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
            for n in views: (IMAGES/f'{n}.png').write_bytes(picture(VIEWS[n](), b))
            b.close()
    for f in sorted(IMAGES.iterdir()): print(f'{f.stat().st_size/1000:6.1f} kB  {f.name}')

if __name__=='__main__': main(sys.argv[1:] or [*DIAGRAMS, *VIEWS])
