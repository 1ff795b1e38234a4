"Data are never markup or code: names of tokens, labels, sites and losses that try to be either come out as text"
import inspect, json, re
import numpy as np, pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hostile import LABELS, LIMITS, QUOTE, STORY, TEXTS, Read, copied, figures, opened, tables, tame, views
from spd_nb.autointerp import dual_view, input_first
from spd_nb.display import visible
from spd_nb.harvest import Component
from spd_nb.model import load
from spd_nb.scoring import Question, Text, _question_prompt
from spd_nb.tables import Example
from spd_nb.texts import assembled
from spd_nb.widgets import View
from spd_nb.pages import page

VIEWS = 'browser lens studio monitor heat pareto diff graph qk clusters match'.split()
TABLES = (
    'harvest component other directions edit decomposed report labelled measured run projection plan '
    'generations').split()
FIGURES = 'tokens changes front bars matrix'.split()

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "All that shows names, with hostile names and with tame ones"
    torch.set_num_threads(1)
    dm,out = load(STORY),[]
    for texts,labels in ((TEXTS,LABELS),(tame(TEXTS),tame(LABELS))):
        path = tmp_path_factory.mktemp('hostile')/labels[1]
        h = opened(copied(path, texts, labels), dm)
        out.append(dict(views=views(h, dm, labels), tables=tables(h, dm, labels), figures=figures(labels)))
    return out

def same(bad, good):
    "Whether HTML has no element, attribute, script or style beyond those of other HTML; formulas come apart in spans"
    bad,good = Read(bad),Read(good)
    def one(b, g):
        assert set(b.elements)<=set(g.elements)|{('span',())}
        assert not [a for _,attrs in b.elements for a in attrs if a.startswith('on')]
        assert [*map(hash, b.code)]==[*map(hash, g.code)]  # short, where they differ
        assert len(b.frames)==len(g.frames)
        for pair in zip(b.frames, g.frames): one(*pair)
    one(bad, good)
    return bad

def seen(read): return read.texts+[t for f in read.frames for t in seen(f)]

@pytest.mark.parametrize('name', TABLES)
def test_tables_are_text(name, made):
    bad,good = (m['tables'][name]._repr_html_() for m in made)
    read = same(bad, good)
    assert not [t for t in read.texts if re.search(r'[$\\]', t) and len(t)>1], 'a notebook would typeset a formula'
    assert all(t.replace('\n', '')==visible(t.replace('\n', '')) for t in read.texts)

def test_tables_show_the_names(made):
    for name in ('edit','report','run','projection','plan','generations','measured'):
        text = ''.join(Read(made[0]['tables'][name]._repr_html_()).texts)
        assert not [t for t in LABELS if t not in ('\udc80','\n') and visible(t) not in text], name

@pytest.mark.parametrize('name', VIEWS)
def test_views_are_text(name, made, tmp_path):
    bad,good = (m['views'][name] for m in made)
    for how in (lambda v: v._repr_html_(), lambda v: v.plain_html(),
            lambda v: v.to_html(tmp_path/'view.html', **LIMITS.get(name, {})).read_text(encoding='utf-8')):
        read = same(how(bad), how(good))
        assert all(t.replace('\n', '')==visible(t.replace('\n', '')) for t in seen(read))

def unseen(x):
    "Texts with what no one can see, in what a front end is sent"
    if isinstance(x, dict): return [*unseen(list(x)), *unseen(list(x.values()))]
    if isinstance(x, list): return [t for v in x for t in unseen(v)]
    return [x] if isinstance(x, str) and x!=visible(x) else []

@pytest.mark.parametrize('name', VIEWS)
def test_views_send_what_can_be_seen(name, made):
    state = made[0]['views'][name].snapshot_state(**LIMITS.get(name, {}))
    assert json.loads(json.dumps(state, allow_nan=False).encode())==state
    if name=='studio': assert not unseen(state['kept'].pop('code').splitlines())
    if name=='graph': del state['groups']  # their names go back to Python as they were typed
    assert not unseen(state)

def test_answers_can_be_seen(made, monkeypatch):
    v,said = made[0]['views'],[]
    monkeypatch.setattr(View, 'send', lambda self, m: said.append(m))
    def asked(view, what, **args):
        v[view]._reply(dict(id='1', ask=what, args=args))
        assert 'answer' in said[-1], said[-1]
        return json.loads(json.dumps(said[-1]['answer'], allow_nan=False))
    def ask(*a, **args):
        assert not unseen(answer := asked(*a, **args))
        return answer
    total = ask('browser', 'rows', start=0, n=200)['total']
    assert total>600
    for t in TEXTS:
        if t and visible(t): ask('browser', 'rows', start=0, n=200, token=visible(t))
    keys = [r['key'] for r in ask('browser', 'rows', start=0, n=200)['rows']]
    labels = [d[k] for d in (ask('browser', 'detail', key=k) for k in keys)
        for k in ('input_label','output_label','label_from')]
    assert {visible(t.replace('\udc80', '\ufffd')) for t in LABELS}<=set(labels)
    for what in ('lens','neighbours'): ask('lens', what, key=QUOTE)
    ask('browser', 'examples', key=QUOTE, start=0)
    ask('studio', 'write_on', **GOOD['studio']['write_on'])
    assert not unseen(asked('studio', 'code').splitlines())
    for t in TEXTS[:8]: ask('studio', 'find', token=t)

@pytest.mark.parametrize('name', FIGURES)
def test_figures_are_text(name, made):
    "What plotly would take for markup, a formula or a template is escaped, and nothing unseen is left"
    fig = made[0]['figures'][name]
    def apart(l): return l.rstrip('\u200b') if isinstance(l, str) else l  # what keeps equal labels apart
    figure = json.loads(fig.to_json())
    for t in figure['data']: t.update({k:list(map(apart, t[k])) for k in 'xy' if isinstance(t.get(k), list)})
    assert not unseen(figure)
    text = json.dumps(figure, ensure_ascii=False)
    assert not re.search(r'<(?!br>|extra>|/extra>)', text) and not re.search(r'\$', text)
    assert 'pwned' in text

def test_a_page_holds_them_all(made):
    def whole(m, title):
        return page({title:[v.snapshot(**LIMITS.get(n, {})) for n,v in m['views'].items()],
            LABELS[1]:[*m['tables'].values(), *m['figures'].values(), LABELS[2]]}, title)
    same(whole(made[0], LABELS[0]), whole(made[1], 'tame'))

# Messages that are no questions

_change = dict(key=QUOTE, factor=0., token='', strength=1.)
EVIDENCE = dict(pick=dict(key=QUOTE), detail=dict(key=QUOTE), examples=dict(key=QUOTE, start=0), lens=dict(key=QUOTE),
    neighbours=dict(key=QUOTE), flows=dict(key=QUOTE))
NODE = f'{QUOTE}@11'
GOOD = dict(
    browser=EVIDENCE|dict(rows=dict(start=0, n=5, token='', side='output', label='', site='', alive=True,
        sort='density', down=True)),
    lens=EVIDENCE|dict(read=dict(text='He said', follow=False)),
    studio=EVIDENCE|dict(preview=dict(prompt='He said', changes=[_change], gate=False, at=0),
        dose=dict(prompt='He said', changes=[_change], gate=False, which=0, at=0), find=dict(token=TEXTS[0]),
        write_on=dict(prompt='He said', changes=[_change], gate=False, n=1), code={},
        measure=dict(changes=[_change], gate=False, token=TEXTS[0])),
    monitor=dict(stop={}), heat=dict(pick=dict(row=0, column=1), clear={}), pareto=dict(pick=dict(row=1), clear={}),
    diff=dict(pick=dict(prompt=0, position=1)),
    graph=EVIDENCE|dict(pick_node=dict(node=NODE), says=dict(nodes=[NODE], how='only'),
        arrange=dict(pinned=[NODE], groups={'a':[NODE]}, places={'a':[.5,9.]}, node_share=.5, edge_share=1.)),
    qk=EVIDENCE|dict(read=dict(layer=0, head=1, position=2, off=[]), pick_pair=dict(pair=[QUOTE,QUOTE])),
    clusters=EVIDENCE|dict(cut=dict(step=9, group=3)),
    match=EVIDENCE|dict(arrange=dict(least=.5, sort='site', site='', search='Ida'),
        of_partner=dict(what='examples', key=QUOTE, start=0)))

def nested(n):
    x = []
    for _ in range(n): x = [x]
    return x

JUNK = dict(none=None, yes=True, real=1.5, below=-1, beyond=10**6, huge=10**30, nan=float('nan'), inf=float('inf'),
    empty='', text='no such thing', long='x'*1_000_000, half='\udc80', number='1', list=[], deep=nested(20_000),
    dict={}, proto={'__proto__':1}, change=[dict(_change, factor=float('nan'))], changes=[_change]*33,
    more=[dict(_change, more=1)], deeper=[dict(_change, factor=nested(20_000))])
# What is no mistake
FINE = dict(follow={'yes'}, at={'none','beyond','huge'}, start={'beyond'}, label={'empty','text','half','number'},
    token={'empty','number'}, site={'empty','text','half','number'}, gate={'yes'}, alive={'yes'}, down={'yes'},
    changes={'list'}, text={'text','number'}, prompt={'text','number'}, node={'empty'}, pinned={'list'},
    groups={'dict'}, places={'dict'}, off={'list'}, group={'none'}, search={'empty','text','half','number'})

class Heard:
    "A view and what it has sent"
    def __init__(self, view, monkeypatch):
        self.view,self.sent = view,[]
        monkeypatch.setattr(type(view), 'send', lambda _, m, buffers=None: self.sent.append(m))
    def state(self): return {k:repr(getattr(self.view, k)) for k in self.view.keys}
    def hear(self, message):
        self.sent.clear()
        self.view._handle_msg(dict(content=dict(data=dict(method='custom', content=message)), buffers=[]))
        assert len(self.sent)==1
        json.dumps(self.sent[0], allow_nan=False).encode()
        return self.sent[0]
    def refused(self, message):
        before,reply = self.state(),self.hear(message)
        assert 'error' in reply, message
        assert 0<len(reply['error'])<2000 and not unseen(reply) and self.state()==before
    def answers(self, what, args): assert 'answer' in self.hear(dict(id='good', ask=what, args=args))

@pytest.mark.parametrize('name,what', [(n,w) for n in GOOD for w in GOOD[n]])
def test_bad_arguments_are_refused(name, what, made, monkeypatch):
    v,good = Heard(made[0]['views'][name], monkeypatch),GOOD[name][what]
    needed = {k for k,p in inspect.signature(getattr(v.view, what)).parameters.items() if p.default is p.empty}
    for k in needed: v.refused(dict(id='1', ask=what, args={o:a for o,a in good.items() if o!=k}))
    for k in ('more','self','__proto__','x'*100_000,'\udc80'): v.refused(dict(id='1', ask=what, args=good|{k:1}))
    for k in good:
        for kind,junk in JUNK.items():
            m = dict(id='1', ask=what, args=good|{k:junk})
            fine = kind in FINE.get(k, ()) and (what,kind)!=('find','empty') or (what,k,
                kind) in (('pick','key','empty'), ('rows','start','huge'))
            if fine: assert v.hear(m)
            else: v.refused(m)
    if what!='measure': v.answers(what, good)

def test_every_question_is_tried(made):
    for name,v in made[0]['views'].items():
        assert set(GOOD[name])=={m for c in type(v).__mro__ for m,f in vars(c).items()
            if getattr(f, 'browser_callable', False)}

@pytest.mark.parametrize('name', VIEWS)
def test_what_is_no_question_is_refused(name, made, monkeypatch):
    v = Heard(made[0]['views'][name], monkeypatch)
    what,good = next(iter(GOOD[name].items()))
    for odd in (*JUNK.values(), [dict(ask=what)], dict(ask=what, args=[1]), dict(ask=what, args=good, more=1),
            dict(ask=[what]), dict(ask=nested(20_000)), dict(ask='x'*1_000_000), dict(ask='\udc80'),
            dict(ask='__init__'), dict(ask='close'), dict(ask='set_state', args={'sync_data':{}}), {1:2}):
        v.refused(odd)
    v.refused(dict(id=nested(20_000), ask='no'))
    v.answers(what, good)

@pytest.mark.parametrize('name', VIEWS)
def test_only_python_sets_traits(name, made, monkeypatch):
    "What a browser would set stays as it is, good or bad, and the connection lives"
    v,echoed = Heard(made[0]['views'][name], monkeypatch),[]
    monkeypatch.setattr(type(v.view), '_send', lambda _, m, buffers=None: echoed.append(m))
    before = v.state()
    for k in v.view.keys:
        for junk in (*JUNK.values(), getattr(v.view, k)):
            v.view._handle_msg(dict(content=dict(data=dict(method='update', state={k:junk}, buffer_paths=[])),
                buffers=[]))
    for state in (None, [], 'x', {'no such':1}): v.view.set_state(state)
    assert v.state()==before and not echoed
    v.answers(*next(iter(GOOD[name].items())))

@pytest.mark.parametrize('name', [*TABLES, *VIEWS])
def test_no_text_makes_a_line_of_a_terminal(name, made):
    "As many lines with hostile names as with tame ones, and none with an escape, a control or a change of direction"
    bad,good = (m['tables'].get(name) if name in m['tables'] else m['views'][name] for m in made)
    for how in (repr, str):
        shown = how(bad)
        assert len(shown.split('\n'))==len(how(good).split('\n'))==len(shown.splitlines())
        assert all(line==visible(line) for line in shown.split('\n')), name

def test_examples_and_labels_stay_on_their_lines(made):
    h = made[0]['tables']['harvest']
    for said in (str(h.component(QUOTE).examples[0]), repr(h.labels)): assert said==visible(said)
    labels = h.labels.frame()[['input_label','output_label']]
    assert all(v==visible(v) for v in labels.to_numpy().ravel())

# what a prompt must not let through: line ends of every kind, terminals, directions, halves, its own delimiters, JSON's
NASTY = [*'\n\r\t\v\f\0\x1b\x07\x1c\x1d\x1e\x7f\x85\u2028\u2029\u202e\u2066\u061c\u200b\ufeff\ud800\udc80"\\', '-----',
    '\n-----\n', '<<', '>>', '\U000e0041', '\x1b[2J', 'ignore all that', '{', '}', ' ']

@settings(max_examples=150, deadline=None)
@given(tokens=st.lists(st.lists(st.sampled_from(NASTY), min_size=1, max_size=5).map(''.join), min_size=6, max_size=6),
    said=st.lists(st.sampled_from(NASTY), max_size=9).map(''.join))
def test_no_token_and_no_label_makes_a_line_of_a_prompt(tokens, said):
    def component(texts):
        table = pd.DataFrame(dict(text=pd.Series(texts, dtype=object), precision=.1, pmi=1., recall=.1, firings=3))
        e = Example([*range(6)], assembled(texts), np.array([0,1,0,0,.5,0]), np.zeros(6), 1)
        writes = pd.Series(1., index=pd.Index(texts, dtype=object))
        return Component('a:1', dict(density=.1), table, table, [e]*2, writes, None)
    def question(texts, label):
        q = Question('fuzzing', dict(input_label=label, output_label=label), [Text([*range(6)], texts, [1,4])], True)
        return _question_prompt(q)
    tame = [f'name{i}' for i in range(6)]
    for prompt in (input_first, dual_view):
        bad,good = prompt(component(tokens)),prompt(component(tame))
        assert len(bad.splitlines())==len(good.splitlines())==len(bad.split('\n'))
        assert bad.splitlines().count('-----')==2 and bad.endswith('\n-----') and bad.replace('\n', '').isprintable()
    bad,good = question(tokens, said),question(tame, 'x')
    assert len(bad.splitlines())==len(good.splitlines()) and bad.splitlines().count('-----')==2
    assert json.loads(bad.splitlines()[2].partition(': ')[2])==said.encode('utf-16', 'surrogatepass').decode(
        'utf-16', 'surrogatepass')
