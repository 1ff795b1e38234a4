"What views and monitors keep, and for how long: by themselves, and in a real kernel that runs cells again"
import gc, json, os, sys
from pathlib import Path
from weakref import ref
import pytest
from hostile import LABELS, STORY, copied, opened, views
from spd_nb.model import load
from spd_nb.pickers import HeatmapPicker
from spd_nb.widgets import View

ROOT = Path(__file__).parent.parent
# every view, and something that it answers
ASKED = dict(browser='rows', lens='read', studio='preview', monitor='stop', heat='pick', pareto='pick', diff='pick',
    graph='says', qk='read', clusters='cut', match='pick')

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A model and its harvest, in a dict that is their only variable"
    dm = load(STORY)
    return dict(dm=dm, h=opened(copied(tmp_path_factory.mktemp('harvest')/'h'), dm))

def test_every_view_closes(made):
    "Closed views hold nothing, and say so"
    some = views(made['h'], made['dm'], LABELS)
    assert set(some)==set(ASKED)
    for name,v in some.items():
        kind = type(v).__name__
        for _ in range(2): v.close()
        held = [o for o in gc.get_referents(v) if not isinstance(o, type) and o]
        assert not held and isinstance(v, View), (name, held)
        assert repr(v)==f'{kind}(closed)'
        assert list(v._repr_mimebundle_()[0])==['text/plain','text/html'] and 'closed' in v._repr_html_()
        for asked in (ASKED[name], 'snapshot', 'selected', 'layout'):
            with pytest.raises(RuntimeError, match=f'this {kind} is closed; make a new one'): getattr(v, asked)
        with pytest.raises(RuntimeError, match=f'this {kind} is closed'): v.key = ''

def test_every_view_ends_with_its_variable(made):
    "Without a cycle that a later collection would have to find, and with its connection"
    from ipywidgets.widgets.widget import _instances
    some,open_now = views(made['h'], made['dm'], LABELS),len(_instances)
    gc.collect()
    gc.disable()
    try:
        ends = {k:ref(v) for k,v in some.items()}
        some.clear()
        assert [k for k,r in ends.items() if r() is not None]==[]
    finally: gc.enable()
    assert len(_instances)<=open_now-2*len(ASKED) # each and its layout

def test_the_last_views_let_go_of_model_and_harvest(made):
    dm,h = (ref(made.pop(k)) for k in ('dm','h'))
    gc.collect()
    assert (dm(), h())==(None, None)

class Foreign:
    "A connection of a notebook that has a registry of its own, as marimo's"
    comm_id,ends = 'foreign',0
    def on_msg(self, f): self.hears = f
    def send(self, data, **kwargs): self.sent = data
    def close(self): self.ends += 1

def test_where_nothing_says_what_is_shown_a_view_lives_until_it_is_closed():
    from ipywidgets.widgets.widget import _instances
    view = HeatmapPicker([[0.,1.]])
    comm = view.comm = Foreign()
    view = ref(view)
    gc.collect()
    question = dict(id=1, ask='pick', args=dict(row=0, column=1))
    comm.hears(dict(content=dict(data=dict(method='custom', content=question)), buffers=[]))
    assert view().cell==(0, 1) and comm.sent['content']['id']==1
    view().close()
    assert repr(view())=='HeatmapPicker(closed)' and comm.ends==1 and 'foreign' not in _instances
    assert comm.sent['state']==dict(_closed=True)

# A real kernel

class Kernel:
    "A kernel that is told, as by JupyterLab, which cell it runs"
    def __init__(self):
        from jupyter_client.manager import KernelManager
        self.manager = KernelManager(kernel_name='python3')
        self.manager.kernel_spec.argv[0] = sys.executable
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
        self.manager.start_kernel(env=dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1'))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(60)
        self.cells = set()

    def _send(self, kind, content, metadata=None):
        "The messages that answer one, until the kernel is idle again"
        msg = self.client.session.msg(kind, content, metadata=metadata)
        self.client.shell_channel.send(msg)
        found = []
        while True:
            m = self.client.get_iopub_msg(timeout=100)
            if m['parent_header'].get('msg_id')!=msg['header']['msg_id']: continue
            found.append(m)
            if m['msg_type']=='status' and m['content']['execution_state']=='idle': return found

    def run(self, code, cell, fails=False):
        "Run a cell, which fails or not; its outputs"
        self.cells.add(cell)
        found = self._send('execute_request', dict(code=code, silent=False, store_history=True, user_expressions={},
            allow_stdin=False, stop_on_error=False), dict(cellId=cell))
        errors = [m['content']['traceback'] for m in found if m['msg_type']=='error']
        assert bool(errors)==fails, errors
        return [m['content'] for m in found if m['msg_type'] in ('execute_result','display_data','stream')]

    def value(self, expr, cell='value'):
        printed = self.run(f'print(json.dumps({expr}))', cell)
        return json.loads(''.join(o['text'] for o in printed if o.get('name')=='stdout'))

    def ask(self, model, what, **args):
        "What a view answers to its front end"
        data = dict(method='custom', content=dict(id=1, ask=what, args=args))
        found = self._send('comm_msg', dict(comm_id=model, data=data))
        return next((m['content']['data']['content'] for m in found if m['msg_type']=='comm_msg' and
            m['content']['comm_id']==model and m['content']['data']['method']=='custom'), None)

    def models(self):
        "The widgets that a notebook finds when its page is loaded again, with their states"
        self._send('comm_open', dict(comm_id='control', target_name='jupyter.widget.control', data={}),
            dict(version='1.0.0'))
        found = self._send('comm_msg', dict(comm_id='control', data=dict(method='request_states')))
        states, = (m['content']['data']['states'] for m in found if m['msg_type']=='comm_msg')
        self._send('comm_close', dict(comm_id='control', data={}))
        return states

    def clear(self):
        "Empty all cells and delete what they made"
        for cell in [*self.cells]: self.run('0', cell)
        self.run('for k in {*globals()}-known: del globals()[k]', 'clear')

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

START = f'''
import comm, gc, tempfile, torch
from pathlib import Path
torch.set_num_threads(1)
from ipywidgets.widgets.widget import _instances
from spd_nb.browser import ComponentBrowser
from spd_nb.harvest import Harvest
from spd_nb.learner import Learner
from spd_nb.lens import PromptLens
from spd_nb.model import Decomposed, decompose, load
from spd_nb.monitor import TrainingMonitor
from spd_nb.studio import EditStudio
from spd_nb.toys import TMS
from spd_nb.train import fit
from spd_nb.widgets import View
def live():
    "Live objects by kind"
    gc.collect()
    kinds = dict(learners=Learner, models=Decomposed, harvests=Harvest, views=View)
    n = {{k:sum(issubclass(type(o), c) for o in gc.get_objects()) for k,c in kinds.items()}}
    return n|dict(widgets=len(_instances), comms=len(comm.get_comm_manager().comms))
def resident():
    "MB in memory"
    import psutil
    return psutil.Process().memory_info().rss/2**20
def story():
    dm = load({str(STORY)!r})
    return dm,Harvest({str(STORY/'harvest')!r}, dm)
import json
known = None
known = {{*globals(), 'k'}}
'''
# 14 MB of components, gradients and moments, so that twenty that are kept would be noticed
FIT = '''
toy = TMS(600, 120, seed=0).eval()
dm = decompose(toy, {'linear*':600}, tied={'linear2':'linear1'})
run = fit(dm, toy.batches(32), steps=2, warm=0, path=tempfile.mkdtemp())
'''
NOTHING = dict(learners=0, models=0, harvests=0, views=0, widgets=0, comms=0)
MADE = ('ComponentBrowser(h)', "PromptLens(h, prompt='Tom said')", "EditStudio(h, prompt='Tom said')")

@pytest.fixture(scope='module')
def started():
    pytest.importorskip('ipykernel', reason='no ipykernel')
    pytest.importorskip('psutil', reason='no psutil')
    k = Kernel()
    try:
        k.run(START, 'start')
        yield k
    finally: k.close()

@pytest.fixture
def kernel(started):
    yield started
    started.clear()
    assert started.value('live()')==NOTHING

@pytest.mark.parametrize('last', ['', 'run'], ids=['a variable','also the result of the cell'])
def test_a_cell_that_trains_twenty_times(last, kernel):
    "One learner and one model are alive, no monitor is, and memory does not grow after the second run"
    for i in range(20):
        kernel.run(FIT+last, 'fit')
        if i==1: second = kernel.value('resident()')
    assert kernel.value('live()')==NOTHING|dict(learners=1, models=1)
    assert kernel.value('resident()')<second+40

def test_runs_that_fail(kernel):
    "Python keeps the newest in the traceback of its last exception, and nothing keeps the others"
    for _ in range(4): kernel.run(FIT.replace('warm=0', 'warm=0, callbacks=[lambda run: 1/0]'), 'fit', fails=True)
    assert kernel.value("live()['learners']")==1
    kernel.run('1/0', 'fit', fails=True)
    assert kernel.value("live()['learners']")==0

def test_twenty_views_in_a_cell_that_runs_again(kernel):
    "Three kinds, each time of another model: the newest are alive, `Out` has no others, and memory does not grow"
    for i in range(20):
        kernel.run(f"dm,h = story()\ndisplay({', '.join(MADE[:2])})\n{MADE[2]}", 'view')
        if i==1: second = kernel.value('resident()')
    assert kernel.value('live()')==NOTHING|dict(models=1, harvests=1, views=3, widgets=6, comms=6)
    assert kernel.value('[type(o).__name__ for o in Out.values() if isinstance(o, View)]')==['EditStudio']
    assert kernel.value('resident()')<second+40
    for _ in range(4): kernel.run('dm,h = story()\nlast = ComponentBrowser(h)\nlast', 'view')
    assert kernel.value('live()')==NOTHING|dict(models=1, harvests=1, views=1, widgets=2, comms=2)
    kernel.run('last.close()', 'close')
    kernel.run('del dm, h', 'delete')
    assert kernel.value('(live(), repr(last))')==[NOTHING|dict(views=1), 'ComponentBrowser(closed)']

def test_twenty_cells_with_a_view_each(kernel):
    "All of them answer, without a variable, and share a model and a harvest; each is small"
    kernel.run('dm,h = story()', 'story')
    shown = []
    for i in range(20):
        out, = kernel.run(('display(%s)' if i%2 else '%s')%MADE[i%3], f'cell {i}')
        shown.append(out['data']['application/vnd.jupyter.widget-view+json']['model_id'])
        if i==2: third = kernel.value('resident()')
    assert kernel.value('live()')==NOTHING|dict(models=1, harvests=1, views=20, widgets=40, comms=40)
    assert kernel.value('resident()')<third+20
    key = 'model.layers.1.mlp.down_proj:80'
    for model in shown: assert kernel.ask(model, 'detail', key=key)['answer']['key']==key
    states = kernel.models()
    assert set(shown)<=set(states) and all(states[m]['state']['sites'] for m in shown[::3])
    kernel.run('0', 'cell 7') # another cell in its place
    assert kernel.ask(shown[7], 'detail', key=key) is None
    assert kernel.value('live()')==NOTHING|dict(models=1, harvests=1, views=19, widgets=38, comms=38)

def test_a_view_in_two_cells_and_a_variable(kernel):
    kernel.run('dm,h = story()', 'story')
    first, = kernel.run('view = ComponentBrowser(h)\nview', 'a')
    first = first['data']['application/vnd.jupyter.widget-view+json']['model_id']
    kernel.run('view', 'b')
    second, = kernel.run('view = ComponentBrowser(h)\nview', 'a')
    assert kernel.ask(first, 'detail', key='model.layers.1.mlp.down_proj:80')['answer'] # cell b shows it
    assert kernel.value("live()['views']")==2
    kernel.run('view', 'b')
    assert kernel.value("live()['views']")==1
    for cell in 'ab': kernel.run('0', cell)
    assert kernel.value("live()['views']")==1 # the variable
    kernel.run('view', 'a')
    assert kernel.value('[w.model_id for w in _instances.values() if isinstance(w, View)]')==[
        second['data']['application/vnd.jupyter.widget-view+json']['model_id']]

def test_a_monitor_of_ones_own(kernel):
    "It watches several runs, where it was first shown, and holds none of them afterwards"
    shown, = kernel.run('mine = TrainingMonitor()\nmine', 'monitor')
    for _ in range(3): kernel.run(FIT.replace('warm=0', 'warm=0, callbacks=[mine]'), 'fit')
    kernel.run('del run, dm, toy', 'delete')
    assert kernel.value('live()')==NOTHING|dict(views=1, widgets=2, comms=2)
    assert kernel.value("(repr(mine), mine.data['state'])")==['TrainingMonitor(step 2 of 2, finished)', 'finished']
    again, = kernel.run('mine', 'again')
    assert again['data'].keys()==shown['data'].keys()
