"Messages that are no calls, updates that would set traits, and what a notebook keeps of a view"
from html import unescape
from typing import Annotated
import pytest
from pydantic import Field
from traitlets import Int
from spd_nb.pages import page
from spd_nb.widgets import View, browser_callable

class Counter(View):
    n = Int(0).tag(sync=True)
    @browser_callable
    def add(self, by:Annotated[int, Field(ge=1, le=10)]):
        self.n += by
        return self.n/3

@pytest.fixture
def view():
    v,sent = Counter(),[]
    v.send,v.sent = sent.append,sent
    return v

@pytest.mark.parametrize('question,why', [
    (dict(id=1, ask='add', args=dict(by=True)), 'valid integer'), (dict(id=1, ask='add', args=dict(by=1, more=2)),
        'unexpected'),
    (dict(id=1, ask='__init__', args={}),
        "cannot be asked '__init__'"), (dict(id=1, ask='add', args={'by':{'\u202e<script>':1}}), 'valid integer'),
    *((odd, '') for odd in (None, 'add', [1], dict(ask=['add']), dict(ask='add', args=[1]),
    dict(ask='add', args=dict(by=1), extra=0)))], ids=repr)
def test_what_is_no_valid_call_is_refused(question, why, view):
    view._handle_custom_msg(question, [])
    assert why in view.sent[0]['error'] and view.n==0 and len(view.sent)==1

@pytest.mark.parametrize('state',
    [dict(n=5), dict(n='1'), dict(n=None), dict(n=0, more=2), dict(_esm=''), dict(layout=''), [], ['n'], None, 'n'],
    ids=repr)
def test_updates_set_nothing(state, view):
    view._handle_msg(dict(content=dict(data=dict(method='update', state=state, buffer_paths=[])), buffers=[]))
    assert view.n==0 and view.sent==[dict(id=None, error='a front end asks, and only Python sets what it shows')]

def test_a_frame_is_drawn_light_and_a_file_as_the_reader_prefers(view):
    assert 'style="color-scheme: light"' in unescape(view._repr_html_()) and 'style="color-scheme: light"' not in page({'':[view]})  # noqa: E501
