"""The views in a real browser: in JupyterLab, and as pages without Python. Nothing may leave the machine, and no
console may hold an error"""
import ast, json, shutil, sys
from itertools import count
from pathlib import Path
from typing import NamedTuple
import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip('playwright', reason='no playwright; `make test` installs it')
pytestmark = [pytest.mark.browser, pytest.mark.skipif(shutil.which('chromium') is None,
    reason='no chromium on PATH; on Debian: apt-get install chromium')]
sys.path.insert(0, str(ROOT/'tools'))
from lab_test import FLAGS, Lab, run_all, watched
from playwright.sync_api import expect, sync_playwright

expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong
from hostile import LABELS, LIMITS, PROMPT, TEXTS, copied, figures, opened, tables, views
from spd_nb.display import visible
from spd_nb.pages import write_page

# A view of no use but for these tests. Its front end stands in the notebook, as it is not one of the package's
COUNTER = '''
import threading, time
from typing import Annotated
from pydantic import Field
from traitlets import Int, Unicode
from spd_nb import pages
from spd_nb.widgets import View, browser_callable
FRONT = """import { h, mountView } from './kit.js'
function render({ model, el }) {
  const { body, ask, close } = mountView(el, model, 'counter')
  const n = h('output', { class: 'n' }), label = h('span', { class: 'label' })
  const draw = () => { n.textContent = String(model.get('n')); label.textContent = model.get('label') }
  body.append(h('button', { class: 'add', onclick: () => ask('add', { by: 2 }).catch(() => {}) }, 'add'), h('button', { class: 'wrong', onclick: () => ask('add', { by: -1 }).catch(() => {}) }, 'wrong'), n, label)
  model.on('change:n', draw)
  model.on('change:label', draw)
  draw()
  return () => { model.off('change:n', draw); model.off('change:label', draw); close() }
}
function answer(model, what, args) { model.set('n', model.get('n') + args.by); return null }
export default { render, answer }
"""
class Counter(View):
    front = 'counter'
    n,label,updates = Int(0).tag(sync=True),Unicode('<b>as text</b>').tag(sync=True),[]
    def set_state(self, state): self.updates.append(state)
    @browser_callable
    def add(self, by:Annotated[int, Field(ge=1)]):
        self.n += by
        self.answered = threading.current_thread() is threading.main_thread()
pages._static_text = lambda name, own=pages._static_text: FRONT if name=='counter.js' else own(name)
view = Counter()
view
'''  # noqa: E501

STORY = f"""
import torch
torch.set_num_threads(1)
from spd_nb.harvest import Harvest
from spd_nb.model import load
dm = load({str(ROOT/'data'/'story')!r})
h = Harvest({str(ROOT/'data'/'story'/'harvest')!r}, dm)
quote = 'model.layers.1.mlp.down_proj:80'
other = 'model.layers.1.mlp.down_proj:130'
text = 'Ida went to the farm. She got a letter:'
"""
BROWSER = """
from spd_nb.browser import ComponentBrowser
view = ComponentBrowser(h, token=' "')
limits = dict(keys=[*h.by_token(' "').index[:4], quote])
view
"""
LENS = """
from spd_nb.lens import PromptLens
view = PromptLens(h, prompt=text)
limits = dict(most=1, examples=1)
view
"""
STUDIO = """
from spd_nb.studio import EditStudio
view = EditStudio(h, prompt=text, changes=[dict(key=quote, factor=1., token='', strength=1.)])
view.key = other
view
"""
MONITOR = '''
from types import SimpleNamespace
import torch
from spd_nb.monitor import TrainingMonitor
view,stopped = TrainingMonitor(seconds=0.),[]
learner = SimpleNamespace(step=3, steps=99, losses=dict(faithfulness=0, sparsity=0), history=[dict(step=i, faithfulness=2.**-i, sparsity=5., l0=1.25) for i in range(3)],
    l0={'<b>.up':1., 'h.0.down':.25}, ci={'<b>.up':torch.eye(3), 'h.0.down':torch.rand(2,5)}, stop=lambda: stopped.append(1))
view(learner)
view
'''  # noqa: E501

HEAT = """
import torch
from spd_nb.pickers import HeatmapPicker
view = HeatmapPicker(torch.arange(15.).view(5, 3), x=['a','b','<i>c</i>'], title='<b>z</b>')
view
"""
PARETO = """
from spd_nb.pickers import ParetoPicker
view = ParetoPicker(dict(kl=[.1,.2,.3,.4,.5,.6], p=[.9,.7,.8,.3,.4,.1], edit=list('abcde')+['<b>f</b>']), 'kl', 'p', text='edit')
view
"""  # noqa: E501
DIFF = """
from spd_nb.diff import EditDiff
from spd_nb.edit import ablated
view = EditDiff(dm, ablated(dm, quote), [text, 'Tom said'], n=5)
view
"""

GRAPH = """
from spd_nb.attribution import graph
from spd_nb.graph_view import GraphView
g = graph(dm, text)
best = g.nodes[g.nodes.kind=='component'].nlargest(3, 'influence').index.tolist()
view = GraphView(g, h, pinned=best[:2], groups={'<b>pair</b>':best[:2]})
limits = dict(most=2, examples=1)
view
"""

QK = """
from spd_nb.qk_view import QKView
view = QKView(dm, text, h, layer=0, head=1)
limits = dict(examples=1)
view
"""

CLUSTERS = """
import numpy as np
from spd_nb.cluster_picker import ClusterPicker
from spd_nb.clusters import cluster
from spd_nb.memberships import Memberships
often = h.components.density.nlargest(40).index
m = Memberships(often, np.random.default_rng(0).random((300, 40))<.2)
view = ClusterPicker(cluster(m, 10., progress=False), h, m, step=10, key=often[0])
limits = dict(components=2, examples=1)
view
"""

MATCH = """
import numpy as np, pandas as pd
from spd_nb.compare import Match
from spd_nb.match_view import MatchView
site,x = quote.rpartition(':')[0],np.random.default_rng(0).random((40, 160))
x[5,7] = 2.
keys,partners = [f'{site}:{i}' for i in range(40)],[f'{site}:{i+2}' for i in range(40)]
numbers = dict(similarity=x[range(40),range(2,42)]/2, best=x.max(1), mixed=x[:,0])
view = MatchView(Match(pd.DataFrame(dict(partner=partners, **numbers), index=keys), {site:x}), h, h, names=('<b>one</b>','two'))
limits = dict(pairs=2, examples=1)
view
"""  # noqa: E501

class Case(NamedTuple):
    "What is asked of a view"
    name:str          # Of the test
    source:str        # A cell that makes `view` and shows it; it may use what `STORY` makes
    shows:str         # A selector, of what is there once it is drawn
    click:str         # A selector, of what is clicked
    expr:str          # Python that the click changes
    value:object      # What it is after the click
    set:str           # Python that changes the view
    then:tuple        # A selector and the text that it holds after that
    # As `then`, after the same click in a page without Python, of which `limits` of the cell say how much it holds;
    # `None` where a click does nothing there
    page:tuple|None

CASES = [
    Case('counter', COUNTER, '.n', '.add', 'view.n', 2, 'view.n = 41', ('.n', '41'), ('.n', '2')),
    Case('browser', BROWSER, '.spd-line', '.spd-line', "view.key==h.by_token(' \"').index[0]", True,
        "view.key = quote", ('.spd-detail .spd-key', 'model.layers.1.mlp.down_proj:80'),
        ('.spd-detail .spd-label', '→')),
    Case('lens', LENS, '.spd-tok', '.spd-cell:enabled', "view.key==next(f\"{r['sites'][s]['site']}:{c}\" for r in [view._read(text)] for s,c,*_ in sorted(r['active'][-1]))", True, "view.prompt = 'Tom said'", ('.spd-prompt-tokens', ' said'), ('.spd-detail .spd-key', 'model.layers')),  # noqa: E501
    Case('studio', STUDIO, '.spd-card', '.spd-offer', "[c['key'] for c in view.changes]==[quote, other]", True,
        "view.changes = [dict(key=quote, factor=0., token='', strength=1.)]", ('.spd-slider', 'out'), None),
    Case('monitor', MONITOR, '.spd-sites', '.stop', '(view.stop_requested, stopped)', (True, [1]),
        "view.ended('failed', 'RuntimeError: <i>why</i>')", ('.spd-said', 'RuntimeError: <i>why</i>'), None),
    Case('heat', HEAT, 'canvas', 'canvas', '(view.cell, tuple(view.selected))', ((2, 1), (2, 'b', 7.0)),
        'view.cell = 0,2', ('.spd-heat-chosen', 'column <i>c</i>: value 2'), ('.spd-heat-chosen', 'column b: value 7')),
    Case('pareto', PARETO, '.spd-pareto .spd-point', '.spd-point >> nth=4', '(view.row, view.selected.edit)', (4, 'e'),
        'view.row = 5', ('.spd-pareto-row', '<b>f</b>'), ('.spd-pareto-row', 'row 4')),
    Case('diff', DIFF, '.spd-diff-token', '[data-prompt="0"][data-position="5"]',
        '(view.prompt, view.position, len(view.selected))', (0, 5, 8), 'view.prompt = 1',
        ('.spd-diff-written', 'after prompt 1'), ('[data-prompt="0"][data-position="5"][aria-selected=true]', ' farm')),
    Case('graph', GRAPH, '.spd-node', '.spd-node.spd-kind-1:not(.spd-out)',
        "view.node in g.nodes.index and view.node.startswith(view.key+'@')", True,
        "view.groups = {}; view.pinned = best", ('.spd-box:nth-child(3)', ' at '),
        ('.spd-graph-side header', 'model.layers')),
    Case('qk', QK, '.spd-pair', '.spd-pair-name:enabled', "view.key in h.keys", True,
        "view.head = 2", ('.spd-heads [aria-pressed=true]', '0.2'), ('.spd-detail .spd-key', 'model.layers')),
    Case('clusters', CLUSTERS, '.spd-groups [role=option]', '.spd-groups [data-group="2"]',
        "(view.step, view.group, view.selected_group==view.merges.at(step=10)[2])", (10, 2, True),
        "view.step = 38", ('.spd-cut-said', '2 groups'), ('.spd-group h3', 'group 2')),
    Case('match', MATCH, '.spd-match-row[role=option]', '.spd-match-row[role=option]',
        '(view.key, view.partner)', ('model.layers.1.mlp.down_proj:5', 'model.layers.1.mlp.down_proj:7'),
        "view.least = 1.", ('.spd-match-said', '1 of 40 components have a partner of 1.00 or more'),
        ('.spd-match-side:nth-child(2) .spd-key', 'model.layers.1.mlp.down_proj:7')),
]
PHONE = dict(width=390, height=844)
FITS = '() => document.documentElement.scrollWidth <= innerWidth' # nothing to scroll sideways

each_case = pytest.mark.parametrize('case', CASES, ids=lambda c: c.name)

@pytest.fixture(scope='module')
def browser():
    with sync_playwright() as pw:
        b = pw.chromium.launch(executable_path=shutil.which('chromium'), headless=True, args=FLAGS)
        yield b
        b.close()

@pytest.fixture(scope='module')
def lab(browser, tmp_path_factory):
    "JupyterLab, open in one page for all tests, as loading it takes longest"
    root = tmp_path_factory.mktemp('notebooks')
    with Lab(root) as lab:
        lab.root,lab.page = root,browser.new_page(viewport=dict(width=1300, height=1000))
        lab.outside,lab.noise = watched(lab.page, lab.port)
        lab.page.goto(lab.url('/lab?reset'), wait_until='domcontentloaded')
        lab.page.wait_for_selector('.jp-Launcher', timeout=60_000)
        lab.page.evaluate('() => window.jupyterapp.shell.collapseLeft()')
        yield lab
        lab.page.close()

class Notebook:
    "A notebook of the given cells, open in JupyterLab and run"
    numbers = count()

    def __init__(self, lab, cells, run=True):
        self.lab,self.path = lab,f'{next(self.numbers)}.ipynb'
        code = [dict(cell_type='code', id=f'cell-{i}', metadata={}, execution_count=None, outputs=[], source=c)
            for i,c in enumerate(cells)]
        spec = dict(name='python3', display_name='Python 3', language='python')
        (lab.root/self.path).write_text(json.dumps(dict(nbformat=4, nbformat_minor=5, metadata=dict(kernelspec=spec),
            cells=code)), encoding='utf-8')
        self.page,self.outside,self.noise = lab.page,lab.outside,lab.noise
        self.noise.clear()
        self.page.evaluate('''async path => { const w = await window.jupyterapp.commands.execute('docmanager:open', { path }); await w.sessionContext.ready; await w.sessionContext.session.kernel.info }''', self.path)  # noqa: E501
        if run: self.run()

    def run(self):
        "All cells"
        assert run_all(self.page, 60, settle=0)==[]

    def start(self, i):
        "Run cell `i` and do not wait for it"
        self.page.evaluate('''i => { const a = window.jupyterapp; a.shell.currentWidget.content.activeCellIndex = i; a.commands.execute('notebook:run-cell'); return null }''', i)  # noqa: E501

    def run_cell(self, i):
        assert self.page.evaluate('''async i => { const a = window.jupyterapp; a.shell.currentWidget.content.activeCellIndex = i; await a.commands.execute('notebook:run-cell'); return a.shell.currentWidget.content.model.cells.get(i).outputs.toJSON().filter(o => o.output_type=='error').map(o => o.evalue) }''', i)==[]  # noqa: E501

    def cell(self, i): return self.page.locator('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell').nth(i)

    def eval(self, expr, code=''):
        "What Python holds, after running `code` there: a value where it can be read, else its repr"
        text = self.lab.eval(self.path, expr, code)
        try: return ast.literal_eval(text)
        except (ValueError, SyntaxError): return text

    def soon(self, expr, value):
        "Wait until Python holds this"
        for _ in range(100):
            if (now := self.eval(expr))==value: return
            self.page.wait_for_timeout(150)
        assert now==value

    def quiet(self): assert not self.outside and not self.noise, (self.outside, self.noise)

    def shut_down(self):
        "End the kernel, as the menu does"
        self.quiet()
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.noise.clear()  # Lab may complain of a connection that closed

    def close(self):
        if self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session !== null"):
            self.shut_down()
        # saved, or it asks
        self.page.evaluate("async () => { const w = window.jupyterapp.shell.currentWidget; await w.context.save(); w.dispose() }")  # noqa: E501
        assert not self.outside

@pytest.fixture
def notebook(lab):
    "Opens notebooks, and closes them when the test is over"
    opened = []
    def make(*cells, **kw):
        opened.append(Notebook(lab, cells, **kw))
        return opened[-1]
    yield make
    for nb in opened: nb.close()

@pytest.fixture(scope='module')
def together(lab):
    "A notebook of all cases, two cells each, so that the story is loaded once"
    nb = Notebook(lab, [STORY, *(c for case in CASES for c in (case.source,'view'))], run=False)
    nb.run_cell(0)
    yield nb
    nb.close()

def cells_of(nb, case):
    "The numbers of a case's cells, run"
    i = 1+2*CASES.index(case)
    for j in (i,i+1): nb.run_cell(j)
    for j in (i,i+1): expect(nb.cell(j).locator(case.shows).first).to_be_visible()
    return i,i+1

@each_case
def test_in_jupyterlab(case, together):
    nb = together
    made,shown = cells_of(nb, case)
    nb.cell(shown).locator(case.click).first.click()
    nb.soon(case.expr, case.value)
    nb.eval('0', case.set)
    sel,text = case.then
    for i in (made,shown): expect(nb.cell(i).locator(sel).first).to_contain_text(text)
    nb.run_cell(made)  # a new view, beside a display of the old one
    expect(nb.cell(made).locator(case.shows).first).to_be_visible()
    nb.run_cell(shown)
    nb.cell(made).locator(case.click).first.click()
    nb.soon(case.expr, case.value)
    expect(nb.cell(made).locator('.spd-gone').first).to_be_hidden()
    nb.quiet()

# as Jupyter Notebook 7 does
LISTENS_FIRST = (
    "() => document.addEventListener('keydown', window.early = e => "
    "window.jupyterapp.commands.processKeydownEvent(e), true)")
CELLS = (
    "() => "
    "{ const n = window.jupyterapp.shell.currentWidget.content; return [n.activeCellIndex, n.mode, n.widgets.length] }")

def test_keys_stay_in_the_view(together):
    "No key pressed in a view moves, adds or deletes cells, whether the notebook hears of it after the view or before"
    nb,page = together,together.page
    def pressed(i):
        "Each kind of element that takes keys, in the view of cell `i`"
        kinds = [nb.cell(i).locator(f'.spd {kind}').first
            for kind in ('button:enabled', 'input:enabled', 'select', 'textarea', '[tabindex="0"]:not(button)')]
        for e in [e for e in kinds if e.count() and e.is_visible()]:
            nb.cell(i).evaluate('(e, i) => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i }', i)
            before = page.evaluate(CELLS)
            e.focus()
            for key in ('ArrowDown','j','a','d','d'): page.keyboard.press(key)
            yield str(e),before,page.evaluate(CELLS)
    for first in (False, True):
        if first: page.evaluate(LISTENS_FIRST)
        try:
            for case in CASES:
                made,_ = cells_of(nb, case)
                seen = list(pressed(made))
                assert seen and all(a==b for _,a,b in seen), (case.name, first, seen)
        finally:
            if first: page.evaluate("() => document.removeEventListener('keydown', window.early, true)")

def test_in_jupyterlab_without_a_kernel(together):
    "Every view says that its kernel is gone, and stays"
    nb = together
    cells = [(case,i) for case in CASES for i in cells_of(nb, case)]
    for _,i in cells: expect(nb.cell(i).locator('.spd-gone').first).to_be_hidden()
    nb.shut_down()
    for case,i in cells:
        expect(nb.cell(i).locator('.spd-gone').first).to_be_visible()
        expect(nb.cell(i).locator(case.shows).first).to_be_visible()

@pytest.fixture(scope='module')
def story():
    names = {}
    exec(STORY, names)
    return names

@each_case
def test_page_without_python(case, story, browser, tmp_path):
    names = dict(story)
    exec(case.source, names)
    f = names['view'].to_html(tmp_path/'view.html', **names.get('limits', {}))
    page = browser.new_page()
    outside,noise = watched(page, None)
    page.goto(f.as_uri())
    expect(page.locator(case.shows).first).to_be_visible()
    expect(page.locator('.spd-gone')).to_be_hidden()
    if case.page:
        page.locator(case.click).first.click()
        expect(page.locator(case.page[0]).first).to_contain_text(case.page[1])
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(200)
    assert page.evaluate(FITS)
    page.close()
    assert not outside and not noise, (outside, noise)

@each_case
def test_frame_on_a_site(case, story, browser, tmp_path):
    """What a notebook keeps of a view, in a page of another site: announced by its title, drawn, and no wider than a
    phone"""
    names = dict(story)
    exec(case.source, names)
    f = tmp_path/'site.html'
    f.write_text(f'<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><body>{names["view"]._repr_html_()}', encoding='utf-8')  # noqa: E501
    page = browser.new_page(viewport=PHONE)
    outside,noise = watched(page, None)
    page.goto(f.as_uri())
    frame = page.frame_locator('iframe')
    expect(frame.locator(case.shows).first).to_be_visible()
    assert page.locator('iframe').get_attribute('title')==visible(repr(names['view']))
    page.wait_for_timeout(200)
    assert page.evaluate(FITS) and frame.locator('body').evaluate(FITS)
    page.close()
    assert not outside and not noise, (outside, noise)

SITES = [('<html><body data-jp-theme-light="{}">', 'false', 'true'),
    ('<html><body class="quarto-{}">', 'dark', 'light'), ('<html data-bs-theme="{}"><body>', 'dark', 'light'),
    ('<html><body class="vscode-{}">', 'dark', 'light')]

def test_frames_are_as_dark_as_their_site_or_as_the_reader_prefers(browser):
    import torch
    from spd_nb.pickers import HeatmapPicker
    view,page = HeatmapPicker(torch.rand(2, 2)),browser.new_page()
    def dark(start):
        page.set_content(f'<!doctype html>{start}{view._repr_html_()}')
        return page.locator('iframe').evaluate('e => getComputedStyle(e).filter')!='none'
    for system in ('light','dark'):
        page.emulate_media(color_scheme=system)
        assert dark('<html><body>')==(system=='dark')  # a site that says nothing
        for start,d,l in SITES: assert dark(start.format(d)) and not dark(start.format(l)), (system, start)
    page.close()

def test_words_that_the_model_does_not_know_are_marked(story, browser, tmp_path):
    names = dict(story)
    for source in (LENS, STUDIO, DIFF):
        exec(source.replace('text', "'Ida zyzzyva said'"), names)
        page = browser.new_page()
        page.goto(names['view'].to_html(tmp_path/'view.html').as_uri())
        expect(page.locator('.spd-unknown')).to_have_count(1)
        expect(page.locator('.spd-unknown')).to_have_text('<unk>')
        expect(page.locator('.spd-unknown-words')).to_have_text('Unknown to this model, which reads <unk> instead: zyzzyva')  # noqa: E501
        page.close()

HIDDEN = """() => [...document.querySelectorAll('.spd-named')].filter(e => /\\d$/.test(e.textContent) && e.getClientRects().length).map(e => {
    const range = document.createRange(), inside = (a, b, ...sides) => sides.every(([lo, hi]) => a[lo] >= b[lo] - 1 && a[hi] <= b[hi] + 1), x = ['left', 'right'], y = ['top', 'bottom']
    range.selectNodeContents(e.lastChild)
    const number = range.getBoundingClientRect()
    for (let p = e.parentElement; !p.matches('.spd'); p = p.parentElement) if (getComputedStyle(p).overflowX !== 'visible' && !inside(number, p.getBoundingClientRect(), x)) return [e.textContent, p.className]
    return inside(number, e.getBoundingClientRect(), x, y) ? null : [e.textContent, 'itself']
})"""  # Names that end with a number: `null`, or what hides it  # noqa: E501

def test_numbers_of_components_are_never_cut(story, browser, tmp_path):
    import torch
    from spd_nb.pickers import HeatmapPicker
    names = dict(story)
    exec(BROWSER, names)
    names['view'].key = names['quote']
    keys = [f'model.layers.{i}.mlp.down_proj:{c}' for i in (1,11) for c in (7,798)]
    f = write_page(tmp_path/'names.html',
        {'':[names['view'].snapshot(**names['limits']), HeatmapPicker(torch.rand(4, 4), x=keys, y=keys)]})
    page = browser.new_page()
    page.goto(f.as_uri())
    for width in (1200, 700, 420):
        page.set_viewport_size(dict(width=width, height=1600))
        page.locator('.spd-heat').scroll_into_view_if_needed()
        expect(page.locator('.spd-near').first).to_be_visible()
        page.wait_for_timeout(300)
        found = page.evaluate(HIDDEN)
        assert len(found)>=5+8+8 and not any(found), (width, found)
    # copied whole
    assert page.evaluate("() => { getSelection().selectAllChildren(document.querySelector('.spd-near .spd-named')); return getSelection().toString() }") in story['h'].keys  # noqa: E501
    page.close()

def _grouped_and_undone(part, page):
    "In a graph view with two pinned nodes: group them, move the group, unpin it, and undo each of these in one step"
    boxes = part.locator('.spd-box')
    def names(): return boxes.evaluate_all("all => all.map(b => b.dataset.box).sort()")
    def settled(n):
        expect(boxes).to_have_count(n)
        page.wait_for_timeout(400)  # an answer that comes late must not change it
        expect(boxes).to_have_count(n)
        return names()
    two = settled(2)
    for b in two: part.locator(f'.spd-box[data-box="{b}"]').click()
    part.locator('.spd-group').click()
    expect(part.locator('.spd-pinned [role=status]')).to_have_text('Type a name first.')
    part.locator('.spd-group-name').fill('__proto__')
    part.locator('.spd-group').click()
    assert settled(1)==['__proto__']
    where = boxes.first.bounding_box()
    boxes.first.hover()
    page.mouse.down()
    page.mouse.move(where['x']-60, where['y']+40, steps=4)
    page.mouse.up()
    page.wait_for_timeout(400)
    moved = boxes.first.bounding_box()
    assert moved['x']<where['x']-20
    boxes.first.press('Delete')
    settled(0)
    page.keyboard.press('Control+z')
    assert settled(1)==['__proto__'] and abs(boxes.first.bounding_box()['x']-moved['x'])<2
    part.locator('.spd-undo').click()
    assert settled(1)==['__proto__'] and abs(boxes.first.bounding_box()['x']-where['x'])<2
    part.locator('.spd-undo').click()
    assert settled(2)==two
    expect(part.locator('.spd-undo')).to_be_disabled()
    part.locator('.spd-redo').click()
    assert settled(1)==['__proto__']

UNGROUPED = GRAPH.replace(", groups={'<b>pair</b>':best[:2]}", '')

def test_steps_of_a_graph_view_are_undone_in_a_page(story, browser, tmp_path):
    names = dict(story)
    exec(UNGROUPED, names)
    page = browser.new_page(viewport=dict(width=1100, height=1400))
    outside,noise = watched(page, None)
    page.goto(names['view'].to_html(tmp_path/'view.html', most=2, examples=1).as_uri())
    _grouped_and_undone(page.locator('.spd-graph'), page)
    page.close()
    assert not outside and not noise, (outside, noise)

def test_steps_of_a_graph_view_are_undone_in_jupyterlab(notebook):
    nb = notebook(STORY, UNGROUPED)
    part = nb.cell(1).locator('.spd-graph').first
    part.locator('.spd-pins').scroll_into_view_if_needed()
    _grouped_and_undone(part, nb.page)
    nb.soon("(len(view.pinned), list(view.groups))", (2, ['__proto__']))
    nb.quiet()

def _cut_by_hand(part, page):
    "Drag the cut to its end and half back, then move it by keys; what is said, each time"
    svg,said = part.locator('.spd-cluster-curve svg'),part.locator('.spd-cut-said')
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    def at(share): return box['x']+48+share*(box['width']-60),box['y']+60
    page.mouse.move(*at(.3))
    page.mouse.down()
    page.mouse.move(*at(1.2), steps=5)
    expect(said).to_contain_text('1 group after 39 merges')
    page.mouse.move(*at(0), steps=5)
    expect(said).to_contain_text('40 groups after 0 merges')
    page.mouse.move(*at(20/39))
    page.mouse.up()
    expect(said).to_contain_text('20 groups after 20 merges')
    for key in ('ArrowRight','ArrowRight','ArrowLeft','Shift+ArrowLeft'): page.keyboard.press(key)
    expect(said).to_contain_text('29 groups after 11 merges')
    expect(part.locator('[role=slider]')).to_have_attribute('aria-valuenow', '11')

def test_a_cut_is_dragged_in_jupyterlab(notebook):
    "Two displays; groups change while the cut is dragged, and Python has the last cut, with the group that was picked"
    nb = notebook(STORY, CLUSTERS, 'view')
    part,other = (nb.cell(i).locator('.spd-clusters').first for i in (1,2))
    expect(part.locator('[data-group="39"]')).to_have_count(0)
    part.locator('[data-group="3"]').click()
    nb.soon('view.group', 3)
    nb.eval('0', 'first = view.selected_group.keys[0]')
    _cut_by_hand(part, nb.page)
    nb.soon('(view.step, first in view.selected_group, len(view.groups))', (11, True, 29))
    expect(other.locator('.spd-cut-said')).to_contain_text('29 groups after 11 merges')
    for p in (part,other): expect(p.locator('[aria-selected=true]')).to_have_attribute('data-group',
        str(nb.eval('view.group')))
    nb.eval('0', 'view.step = 30')
    for p in (part,other):
        expect(p.locator('.spd-cut-said')).to_contain_text('10 groups')
        expect(p.locator('[aria-selected=true]')).to_have_attribute('data-group', str(nb.eval('view.group')))
    least = part.get_by_role('button', name='least description')
    least.click()
    nb.soon("view.step==view.history['least']", True)
    expect(least).to_have_attribute('aria-pressed', 'true')
    part.locator('.spd-groups').focus()
    nb.page.keyboard.press('Home')
    nb.soon('view.group', 0)
    nb.page.keyboard.press('ArrowDown')
    nb.soon('view.group', 1)
    nb.page.keyboard.press('Escape')
    nb.soon('view.group', None)
    nb.quiet()

def test_a_cut_is_dragged_and_searched_in_a_page(story, browser, tmp_path):
    names = dict(story)
    exec(CLUSTERS, names)
    view,page = names['view'],browser.new_page(viewport=dict(width=1100, height=1400))
    outside,noise = watched(page, None)
    page.goto(view.to_html(tmp_path/'view.html', **names['limits']).as_uri())
    part = page.locator('.spd-clusters')
    _cut_by_hand(part, page)
    key = str(view.merges.keys[7])
    part.get_by_role('searchbox').fill(key)
    # a number that begins with this one is found too
    with_key = [i for i,g in enumerate(view.merges.at(step=11)) if any(key in str(k) for k in g)]
    expect(part.locator('.spd-groups [role=option]')).to_have_count(len(with_key))
    part.locator('.spd-groups [role=option]').first.click()
    expect(part.locator('.spd-group h3')).to_contain_text(f'group {with_key[0]}:')
    part.get_by_role('searchbox').fill('no such thing')
    expect(part.locator('.spd-groups')).to_have_text('No group has such a component.')
    part.locator('.spd-cluster-over').click(position=dict(x=2, y=2))
    expect(part.locator('.spd-group h3')).to_contain_text('component')
    page.close()
    assert not outside and not noise, (outside, noise)

def test_clusterings_with_nothing_to_cut_say_so(browser, tmp_path):
    import numpy as np
    from spd_nb.cluster_picker import ClusterPicker
    from spd_nb.clusters import cluster
    from spd_nb.memberships import Memberships
    page = browser.new_page()
    outside,noise = watched(page, None)
    for n,text in ((1, 'only one component'), (3, 'Nothing was merged')):
        m = Memberships([f'a:{i}' for i in range(n)], np.ones((5, n)))
        view = ClusterPicker(cluster(m, down_to=n, progress=False), m=m if n>1 else None)
        page.goto(view.to_html(tmp_path/f'{n}.html').as_uri())
        expect(page.locator('.spd-clusters')).to_contain_text(text)
        expect(page.locator('.spd-groups [role=option]')).to_have_count(n)
        expect(page.locator('.spd-no-map')).to_have_count(int(n==1))
    page.close()
    assert not outside and not noise, (outside, noise)

def test_typing_keeps_its_letters(notebook):
    "Two displays of each view, and someone who types; what is typed is what Python has, and what both displays show"
    nb = notebook(STORY, LENS, 'view', STUDIO.replace('view', 'studio'), 'studio', BROWSER.replace('view', 'browser'),
        'browser')
    said = 'Tom went to the river. There he met Mia.'
    for first,name in ((1,'view'),(3,'studio')):
        box,other = (nb.cell(i).locator('.spd-prompt') for i in (first,first+1))
        expect(nb.cell(first).locator('.spd-tok').first).to_be_visible()
        box.fill('')
        box.press_sequentially(said, delay=130)
        nb.soon(f'{name}.prompt', said)
        for b in (box,other): expect(b).to_have_value(said)
        # the end of the text
        for i in (first,first+1): expect(nb.cell(i).locator('.spd-tok[aria-selected=true]')).to_contain_text('.')
    box = nb.cell(5).locator('.spd-token-box')
    box.fill('')
    box.press_sequentially(' said', delay=130)
    nb.soon('browser.token', ' said')
    expect(nb.cell(6).locator('.spd-token-box')).to_have_value(' said')
    rows = nb.eval("[r['key'] for r in browser.rows(start=0, n=12, token=' said', sort='pmi')['rows']]")
    expect(nb.cell(5).locator('.spd-line').first).to_have_attribute('data-key', rows[0])
    grid = nb.cell(5).locator('.spd-scroll')
    grid.focus()
    for _ in range(10): nb.page.keyboard.press('ArrowDown')  # faster than answers come
    nb.soon('browser.key', rows[9])
    nb.page.keyboard.press('ArrowUp')
    nb.soon('browser.key', rows[8])
    expect(grid.locator('[aria-selected=true]')).to_have_attribute('data-key', rows[8])
    nb.eval('0', "browser.label = 'says'")  # leaves the other filters as they are
    expect(nb.cell(5).locator('.spd-label-box')).to_have_value('says')
    expect(box).to_have_value(' said')
    nb.soon('browser.token', ' said')
    nb.quiet()

def test_what_cannot_be_answered_is_said_and_greyed(notebook):
    nb = notebook(STORY, STUDIO, BROWSER.replace('view', 'browser'))
    writes,studio = nb.cell(1).locator('.spd-write-token'),nb.cell(1)
    expect(writes).to_be_visible()
    writes.fill('no such token')
    writes.press('Enter')
    expect(studio.locator('.spd-error')).to_contain_text('is no token of this vocabulary')
    expect(studio.locator('.spd-stale-preview')).to_be_visible()
    nb.eval('0', 'view.changes = []')  # Python is heard after an error
    expect(studio.locator('.spd-cards')).to_contain_text('No component is edited yet')
    expect(studio.locator('.spd-note')).to_have_text('')
    nb.cell(2).locator('.spd-label-box').fill('(')
    expect(nb.cell(2).locator('.spd-error')).to_contain_text('no regular expression')
    nb.cell(2).locator('.spd-line').first.click()
    nb.page.wait_for_timeout(300)
    # another answer does not take it away
    expect(nb.cell(2).locator('.spd-error')).to_contain_text('no regular expression')
    nb.quiet()

def test_text_errors_and_questions_while_a_cell_runs(notebook):
    nb = notebook(COUNTER, 'time.sleep(1.5); during = view.n')
    expect(nb.cell(0).locator('.label')).to_have_text('<b>as text</b>')
    nb.cell(0).locator('.wrong').click()
    expect(nb.cell(0).locator('.spd-error')).to_contain_text('greater than or equal to 1, got -1')
    assert nb.eval('view.n')==0
    nb.start(1)
    nb.page.wait_for_timeout(300)
    nb.cell(0).locator('.add').click()
    nb.soon('view.n', 2)
    assert nb.eval('(during, view.answered)')==(0, True)  # by the main thread, whichever heard it and when
    nb.page.wait_for_timeout(300)
    assert nb.eval('view.updates')==[]  # no second message after an answer that changed something

def test_a_closed_view_says_so_and_stays_readable(notebook):
    nb = notebook(COUNTER, 'view')
    nb.cell(0).locator('.add').click()
    nb.soon('view.n', 2)
    assert nb.eval('repr(view)', 'view.close()')=='Counter(closed)'
    for i in (0,1):
        expect(nb.cell(i).locator('.spd-gone')).to_contain_text('This view is closed')
        nb.cell(i).locator('.add').click()
        expect(nb.cell(i).locator('.n')).to_have_text('2')
    nb.run_cell(0)
    expect(nb.cell(0).locator('.n')).to_have_text('0')
    expect(nb.cell(0).locator('.spd-gone')).to_be_hidden()
    nb.cell(0).locator('.add').click()
    nb.soon('view.n', 2)
    nb.quiet()

# Names that try to be markup, scripts or formulas

@pytest.fixture(scope='module')
def hostile(story, tmp_path_factory): return opened(copied(tmp_path_factory.mktemp('hostile')/LABELS[1]), story['dm'])

ODD = (
    "[...document.querySelectorAll('*')].filter(e => ['IMG', 'I', 'B'].includes(e.tagName) && "
    "e.textContent.includes('pwned') && e.children.length || [...e.attributes].some(a => "
    "a.name.startsWith('on'))).map(e => e.outerHTML.slice(0, 80))")

def unharmed(page):
    assert page.evaluate('typeof window.pwned')=='undefined'
    assert page.evaluate(ODD)==[] and page.locator('img').count()==0

def shown(part, texts): # as they are written, with lines broken anywhere
    assert not [t for t in map(visible, texts)
        if ''.join(t.split()) not in ''.join(part.inner_text().split())], part.inner_text()[:400]

def walk(part, name):
    "Do with a view what people do: point, click, follow, press keys"
    clicks = dict(browser=['.spd-near','[data-row="1"]','.spd-detail button >> nth=1','.spd-detail button >> nth=3'],
        lens=['.spd-tok >> nth=3','.spd-cell:enabled >> nth=0'], studio=['.spd-code-button','.spd-tok >> nth=2'],
        monitor=['.spd-losses button >> nth=0','.spd-losses button >> nth=18'], heat=['canvas'],
        pareto=['.spd-point >> nth=4','.spd-point >> nth=0'],
        diff=['[data-prompt="0"][data-position="5"]','[data-prompt="1"][data-position="0"]'],
        graph=['.spd-kind-1.spd-node:not(.spd-out) >> nth=2','.spd-edge','.spd-pin','.spd-box','.spd-ungroup',
        '.spd-undo'], qk=['.spd-pair-value','.spd-pair-name:enabled','.spd-pair-value >> nth=3'],
        clusters=['.spd-groups [role=option] >> nth=5','.spd-cluster-over','.spd-jump','.spd-member-key',
        '.spd-cluster-curve svg'],
        match=['.spd-match-row[role=option] >> nth=3','.spd-match-site >> nth=1','.spd-match-jump >> nth=0',
        '.spd-match-row[role=option] >> nth=1'])
    for sel in clicks[name]:
        part.locator(sel).first.hover(force=True)
        part.locator(sel).first.click(force=True)
        part.page.wait_for_timeout(60)
    part.page.keyboard.press('ArrowRight')
    part.page.keyboard.press('Enter')

HOSTILE = '''
import sys
sys.path.insert(0, {tests!r})
from hostile import LABELS, PROMPT, QUOTE, STORY, TEXTS, opened, views
import torch
torch.set_num_threads(1)
from spd_nb.model import load
dm = load(STORY)
h = opened({path!r}, dm)
made = views(h, dm, LABELS)
'''

def test_hostile_names_in_jupyterlab(hostile, notebook):
    nb = notebook(HOSTILE.format(tests=str(ROOT/'tests'), path=str(hostile.path)), "made['browser']", "made['lens']",
        "made['studio']", "h", "h.component(QUOTE)", "h.lens(QUOTE)")
    for i,name in enumerate(('browser','lens','studio'), 1):
        cell = nb.cell(i)
        expect(cell.locator(f'.spd-{name}')).to_be_visible()
        expect(cell.locator('.spd-token').first).to_be_visible()
        walk(cell, name)
        expect(cell.locator('.spd-error')).to_have_count(0)
        assert set(cell.locator('.spd-token').all_text_contents())<={visible(t) or '∅' for t in hostile.texts}
        assert nb.page.evaluate('typeof window.pwned')=='undefined'
    for i,label in enumerate(LABELS[:4]): # each label, as a search finds it
        nb.eval('0', f"made['browser'].label = re.escape({label!r})" if i
            else f"import re; made['browser'].label = re.escape({label!r})")
        expect(nb.cell(1).locator('.spd-col-input_label, .spd-col-output_label').filter(has_text=visible(label)).first).to_be_visible()  # noqa: E501
    # faster than it reads
    for t in (TEXTS[1], 'constructor', '__proto__'): nb.eval('0', f"made['lens'].prompt = {t!r}")
    expect(nb.cell(2).locator('.spd-prompt-tokens .spd-tok > span:first-child').last).to_have_text('__proto__')
    assert nb.eval("made['lens'].prompt")=='__proto__'
    for i in (4,5,6):
        assert 'pwned' in nb.cell(i).locator('.jp-RenderedHTMLCommon').first.inner_text()
        assert nb.cell(i).locator('.MathJax, mjx-container, .jp-RenderedHTMLCommon script, .jp-RenderedHTMLCommon img').count()==0  # noqa: E501
    assert nb.page.evaluate('typeof window.pwned')=='undefined'
    nb.quiet()

def test_hostile_names_in_a_page(hostile, story, browser, tmp_path):
    made,more = views(hostile, story['dm'], LABELS),tables(hostile, story['dm'], LABELS)
    f = write_page(tmp_path/'all.html',
        {**{f'{n} {LABELS[i]}':v.snapshot(**LIMITS.get(n, {})) for i,(n,v) in enumerate(made.items())}, **more,
        **figures(LABELS)}, LABELS[0])
    page = browser.new_page(viewport=dict(width=1200, height=900))
    outside,noise = watched(page, None)
    page.goto(f.as_uri())
    for i,name in enumerate(made):
        part = page.locator('.part').nth(i)
        part.scroll_into_view_if_needed()
        expect(part.locator(f'.spd-{name}')).to_be_visible()
        page.wait_for_timeout(200)
        walk(part, name)
        expect(part.locator('.spd-error')).to_have_count(0)
        assert set(part.locator('.spd-token').all_text_contents())<={visible(t) or '∅' for t in hostile.texts}
        unharmed(page)
        for width in (1200,400):
            page.set_viewport_size(dict(width=width, height=900))
            page.wait_for_timeout(150)
            assert part.evaluate(
                "e => e.scrollWidth <= e.clientWidth + 1 && document.documentElement.scrollWidth <= "
                "innerWidth"), (name, width)
        page.set_viewport_size(dict(width=1200, height=900))
    part = page.locator('.part')
    own = hostile.run(PROMPT)[0]
    shown(part.nth(3), LABELS)
    for t in ('__proto__','constructor'):
        part.nth(1).locator('select').select_option(t)
        expect(part.nth(1).locator('.spd-prompt-tokens')).to_contain_text(t)
    part.nth(1).locator('select').select_option(PROMPT)
    expect(part.nth(1).locator('.spd-prompt-tokens')).to_contain_text(visible(hostile.texts[own[0]]))
    shown(part.nth(1).locator('.spd-prompt-tokens'), [hostile.texts[i] for i in own])
    shown(part.nth(6), [hostile.texts[i] for i in own]+LABELS)
    for i,name in enumerate(more):
        if name in ('edit','report','run','projection','plan','generations'):
            shown(part.nth(len(made)+i), [t for t in LABELS if t!='\n'])
    for i in range(len(made)+len(more), part.count()):
        part.nth(i).scroll_into_view_if_needed()
        expect(part.nth(i).locator('.main-svg').first).to_be_visible(timeout=15_000)
        assert 'pwned' in part.nth(i).locator('svg').first.text_content()
        part.nth(i).hover()
        unharmed(page)
    page.wait_for_timeout(300)
    unharmed(page)
    page.close()
    assert not outside and not noise, (outside, noise)

# A run of the real thing

RUN = '''
import tempfile, torch
from spd_nb.initialisation import aligned
from spd_nb.model import decompose
from spd_nb.toys import TMS
from spd_nb.train import fit
torch.set_num_threads(1)
toy,path = TMS(5, 2, seed=0).eval(),tempfile.mkdtemp()
dm = decompose(toy, {'linear*':20}, tied={'linear2':'linear1'}, init=aligned)
'''

def notebook_theme(page, name):
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', { theme: `JupyterLab ${name}` })", name)  # noqa: E501
    page.wait_for_selector(f"body[data-jp-theme-name='JupyterLab {name}']", state='attached')

def test_a_run_is_watched_stopped_and_kept(notebook):
    """The monitor draws while the cell runs, its button ends the run after a step, and what it showed stays without
    a kernel"""
    nb = notebook(RUN, "run = fit(dm, toy.batches(64), steps=500_000, every=20, path=path)", run=False)
    cell = nb.cell(1)
    nb.run_cell(0)
    nb.start(1)
    expect(cell.locator('.spd-sites')).to_contain_text('linear2', timeout=15_000)
    before = cell.locator('.spd-head strong').inner_text()
    expect(cell.locator('.spd-head strong')).not_to_have_text(before, timeout=5000)
    assert cell.locator('.spd-chart path').count()==4
    layerwise = cell.locator('.spd-losses button').nth(2)
    layerwise.click()
    expect(layerwise).to_have_attribute('aria-pressed', 'false')
    assert cell.locator('.spd-chart path').count()==3
    cell.locator('.stop').click()
    expect(cell.locator('.stop')).to_be_disabled()
    frame = cell.frame_locator('iframe')
    expect(frame.locator('.spd-head strong')).to_contain_text('Stopped at step', timeout=10_000)
    assert nb.eval(
        'run.step<run.steps and run.step==dm.training_run["stopped_at"] and torch.equal(dm(x := '
        'torch.rand(3,5)), toy(x))') is True
    at = nb.eval('run.step')
    again = (
        "run = fit(dm, toy.batches(64), steps=500_000, every=20, path=path, resume=True, progress=False, "
        "callbacks=[lambda l: l.stop()])")
    assert nb.eval('run.history[0]["step"]', again)==0 and nb.eval('run.step')>at
    nb.shut_down()
    frame.locator('.spd-losses button').first.click()
    expect(frame.locator('.spd-losses button').first).to_have_attribute('aria-pressed', 'false')
    expect(frame.locator('.spd-sites')).to_be_visible()
    iframe = cell.locator('iframe')
    # it goes with the notebook, whatever the system prefers
    for theme,system,turned in (('Dark','light','invert(0.93)'),('Light','dark','none')):
        notebook_theme(nb.page, theme)
        nb.page.emulate_media(color_scheme=system)
        assert turned in iframe.evaluate('e => getComputedStyle(e).filter')
        assert frame.locator('body').evaluate('e => getComputedStyle(e).backgroundColor')=='rgb(255, 255, 255)'
    nb.page.emulate_media(color_scheme='light')
