"The edit studio: changes and their code, effects, curves, and what is refused"
import pytest, torch
from hostile import QUOTE, STORY
from messages import caller
from spd_nb.edit import ablated, scaled, u_replaced
from spd_nb.harvest import Harvest
from spd_nb.learn import write_token
from spd_nb.measures import FIRES
from spd_nb.model import load
from spd_nb.display import visible
from spd_nb.places import before
from spd_nb.stories import stories
from spd_nb.studio import Change, EditStudio, code_of, edit_of
from spd_nb.tradeoff import measure

EYES,PROMPT = 'model.layers.1.mlp.down_proj:130','Ida went to the farm. She got a letter:'
OUT,MOUTH = Change(key=QUOTE, factor=0., token='', strength=1.),Change(key=EYES, factor=1., token='o', strength=1.2)

@pytest.fixture(scope='module')
def h(): return Harvest(STORY/'harvest', load(STORY))

@pytest.fixture
def studio(h): return EditStudio(h, text=stories(24, 100, seed=5, held_out=True)[0], keys=[QUOTE], prompt=PROMPT)

@pytest.fixture
def ask(studio): return caller(studio)

@pytest.mark.parametrize('gate', [False,True])
@pytest.mark.parametrize('changes',
    [[OUT], [MOUTH], [OUT|dict(factor=1.5), OUT|dict(key='model.layers.1.mlp.down_proj:116')]],
    ids=['scaled','written','two scaled'])
def test_code_makes_the_same_edit(changes, gate, h):
    dm,toks = h.dm,stories(2, 60, seed=3)[0]
    def edited(e):
        with torch.no_grad(), e: return dm(toks)
    names = dict(dm=dm, h=h, scaled=scaled, u_replaced=u_replaced, write_token=write_token, edit_of=edit_of)
    torch.testing.assert_close(edited(edit_of(h, changes, gate)), edited(eval(code_of(changes, gate), names)),
        atol=1e-6, rtol=0)
    assert (f'ci_threshold={FIRES})' in code_of(changes, True)) or len(changes)>1

def test_effects_at_a_position(h, studio, ask):
    r = ask('preview', prompt=PROMPT, changes=[OUT], gate=True, at=2)
    with torch.no_grad(): p = h.dm.clean(h.run(PROMPT)[0][None]).out[0,2].softmax(-1)
    assert (r['at'], studio.gate)==(2, True)
    assert abs(max(a for _,a,_ in r['next'])-p.max().item())<1e-4

def test_next_tokens_before_and_after(h, ask):
    r,x = ask('preview', prompt=PROMPT, changes=[OUT], gate=False),h.run(PROMPT)[0][None]
    with torch.no_grad(): p = h.dm.clean(x).out[0,-1].softmax(-1)
    with torch.no_grad(), ablated(h.dm, [QUOTE]): q = h.dm(x)[0,-1].softmax(-1)
    ids = {visible(t):i for i,t in enumerate(h.texts)}
    for t,a,b in r['next']: assert abs(a-p[ids[t]].item())<1e-3 and abs(b-q[ids[t]].item())<1e-3
    assert visible(h.texts[int(q.argmax())]) in [t for t,*_ in r['next']] and visible(h.texts[int(q.argmax())])!=' "'

def test_unknown_words_are_named(ask):
    assert ask('preview', prompt=PROMPT, changes=[OUT], gate=False)['unknown']==[]
    assert ask('preview', prompt='Ida zyzzyva', changes=[], gate=False, follow=True)['unknown']==[[2,' zyzzyva']]

def test_a_display_that_follows_changes_nothing(studio, ask):
    ask('preview', prompt='Tom said', changes=[], gate=True, follow=True)
    assert (studio.prompt, studio.changes, studio.gate)==(PROMPT, [OUT], False)

def test_a_factor_beyond_the_curve_widens_it(ask):
    assert ask('dose', prompt=PROMPT, changes=[OUT|dict(factor=4.)], gate=False, which=0)['x'][-1]==4
    assert 'none is number 1' in ask('dose', prompt=PROMPT, changes=[OUT], gate=False, which=1)

def test_curve_of_a_written_token_rises(ask):
    m = ask('dose', prompt=PROMPT+' "See you:', changes=[MOUTH], gate=False, which=0)
    mouths = next(c['p'] for c in m['curves'] if c['name']=='o')
    assert mouths[0]<.7 and mouths[-1]>.9

def test_a_curve_passes_through_the_whole_edit(ask):
    text = PROMPT+' "See you:'
    both = ask('dose', prompt=text, changes=[OUT,MOUTH], gate=False, which=0)
    edited = next(b for t,_,b in ask('preview', prompt=text, changes=[OUT,MOUTH], gate=False)['next'] if t=='o')
    assert abs(next(c['p'] for c in both['curves'] if c['name']=='o')[both['x'].index(0.)]-edited)<1e-3

def test_measures_are_those_of_measure(h, studio, ask):
    rows,places = ask('measure', prompt=PROMPT, changes=[OUT], gate=False, token=' "'),before(h.dm, ' "', studio.text)
    assert {r['measure']:r['value'] for r in rows}['change']==float(f"{studio.measured['change']:.5g}")
    want = measure(h.dm, ablated(h.dm, [QUOTE]), places, h.token_ids(' "'), places, resamples=1)['p_before']
    assert abs(rows[0]['value']-want)<1e-4
    rare = next(t for i,t in enumerate(h.texts) if t[:1]==' ' and i not in set(studio.text.flatten().tolist()))
    assert 'never comes' in ask('measure', changes=[OUT], gate=False, token=rare)
    assert 'no text to measure on' in caller(EditStudio(h, keys=[QUOTE]))('measure', changes=[OUT], gate=False,
        token='a')

def test_finds_components_by_token(h, ask):
    assert [f['key'] for f in ask('find', token=' "')]==list(h.by_token(' "').index[:8])

@pytest.mark.parametrize('changes,why', [([OUT|dict(factor=9.)], 'less than or equal to 4'),
    ([OUT|dict(factor='0')], 'valid number'), ([OUT|dict(more=1)], 'not permitted'),
    ([OUT|dict(key='nowhere:1')], 'nowhere'),
    ([MOUTH|dict(token='nonsense token')], 'is no token'), ([OUT,OUT], 'changed twice'),
    ([MOUTH|dict(strength=0.)], 'greater than 0'), ('x', 'valid list')], ids=str)
def test_impossible_changes_are_refused(changes, why, studio, ask):
    assert why in ask('preview', prompt=PROMPT, changes=changes, gate=False)
    assert studio.changes==[OUT]

def test_impossible_texts_and_gates_are_refused(ask):
    assert 'at least 1' in ask('preview', prompt='', changes=[], gate=False) and 'valid boolean' in ask('preview',
        prompt='a', changes=[], gate=1)

def test_code_without_arguments_is_the_studios(studio, ask):
    assert ask('code', prompt=PROMPT, changes=[OUT],
        gate=False)==studio.code()==f'from spd_nb.edit import scaled\nedit = scaled(dm, {{{QUOTE!r}: 0.0}})'

def test_the_code_runs_as_it_is_given(h, studio):
    "Imports included: what a reader pastes below `dm` and `h` is the edit"
    made = dict(dm=h.dm, h=h)
    exec(studio.code([MOUTH, OUT], False), made)
    assert {str(k) for k in made['edit'].keys}=={EYES, QUOTE}

def test_a_page_holds_what_calls_answer(studio, ask):
    kept = studio.snapshot().state['kept']
    assert studio.snapshot_state()==studio.snapshot().state
    for t in (2,-1):
        at = t%len(kept['next'])
        assert kept['next'][t]==ask('preview', prompt=PROMPT, changes=[OUT], gate=False, at=at)['next']
        assert kept['doses'][0][t]==ask('dose', prompt=PROMPT, changes=[OUT], gate=False, which=0, at=at)
