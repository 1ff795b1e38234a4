"Labels at their edges: odd evidence, answers that are almost labels, and the order of questions"
import json, tempfile
from pathlib import Path
from types import SimpleNamespace as NS
import pandas as pd, pytest, torch
from spd_nb.autointerp import LABEL_SCHEMA, dual_view, evidence_label, label, label_evidence, parse_label
from spd_nb.harvest import Component, Harvest
from spd_nb.tables import Example
from spd_nb.llm import Answer

GOOD = dict(input_label='a', output_label='b', description='c', reasoning='d', confidence=.5)
SAID,DRAFT = json.dumps(GOOD),json.dumps(GOOD|dict(input_label='draft'))

def side(*rows):
    return pd.DataFrame([dict(token=i, text=t, pmi=v, precision=p, recall=.5, firings=9.)
        for i,(t,p,v) in enumerate(rows)],
        columns='token text pmi precision recall firings'.split())

class FakeHarvest(Harvest):
    "A harvest of whatever a test gives it"
    components = labels = manifest = component = None
    def __init__(self, **kw):
        self.path = Path(tempfile.mkdtemp())
        for k,v in kw.items(): setattr(self, k, v)

C = Component('a.b:1', {}, side((':',.97,4.), (',',.02,.5)), side((')',.6,4.), ('D',.2,4.), (' the',.05,.1)), [], None,
    None)

def with_output(*rows): return evidence_label(C._replace(output=side(*rows)))

def test_no_more_tokens_are_named_than_asked_for():
    assert with_output(*[(n,.12,4.) for n in 'abcdefg'])['output_tokens']==[0,1,2,3,4]

def test_tokens_of_little_gain_are_not_named():
    assert with_output(('a',.6,4.), ('b',.1,1.))['output_label']=='predicts “a” after “:”'

def test_a_class_is_named_by_its_most_frequent_members():
    assert with_output(('x',.02,4.), ('y',.05,3.9),
        ('z',.03,3.95))['output_label']=='predicts words like “y”, “z”, “x” after “:”'
    many = with_output(*[(n,.06-i*.005,4.) for i,n in enumerate('abcdefg')])
    assert many['output_label']=='predicts words like “a”, “b”, “c”, “d”, “e” after “:”'

def test_a_class_leaves_out_single_rare_tokens():
    assert with_output(('odd',.001,9.), ('Tom',.05,4.), ('Ida',.04,3.9), ('and',.2,1.2))['output_tokens']==[1,2]

def test_three_inputs_are_no_condition():
    three = side((':',.3,4.), (';',.3,4.), ('!',.3,4.))
    assert evidence_label(C._replace(input=three))['output_label']=='predicts “)” or “D”'

def test_no_evidence_makes_an_empty_label():
    empty = dict(input_label='', output_label='', input_tokens=[], output_tokens=[], confidence=0.)
    assert evidence_label(C._replace(input=side(), output=side()))==empty

def test_invisible_characters_are_written_as_codes():
    assert evidence_label(C._replace(input=side(('\n\u202e',.9,4.))))['input_label']=='fires on “⟨202E⟩”'

def test_components_that_never_fire_get_no_label():
    kept = []
    labels = NS(of=lambda k: [], extend=kept.extend, frame=lambda s: pd.DataFrame(index=[r['key'] for r in kept]))
    h = FakeHarvest(components=pd.DataFrame(dict(firings=[2,0]), index=['a.b:1','a.b:2']), component=lambda k: C,
        labels=labels)
    assert label_evidence(h).index.tolist()==['a.b:1']

def test_the_prompt_shows_both_sides_and_both_views():
    e = Example([1,2,3], ['a','b','c'], torch.tensor([.5,0.,0.]).numpy(), torch.zeros(3).numpy(), 0)
    said = dual_view(C._replace(stats=dict(density=.1), examples=[e],
        writes=pd.Series(range(20,0,-1), list('abcdefghijklmnopqrst'))))
    assert '":": 97.0% of firings, PMI 4.0' in said and '"a", "b"' in said
    assert said.index('<<a>>bc')<said.index('a<<b>>c') and said.index('")": 60.0%')<said.index('":": 97.0%')

@pytest.mark.parametrize('text', [f'It is {{he}}.\n{SAID}\nSo {{it}} is.', DRAFT+'</think>'+SAID, '{'*50+SAID+'{'*50])
def test_a_label_is_found_among_other_braces(text): assert parse_label(text)==GOOD

def test_braces_and_tags_inside_a_field_are_text():
    odd = GOOD|dict(reasoning='{d} </think> e\n}')
    assert parse_label(json.dumps(odd))==odd

@pytest.mark.parametrize('written,value', [('0.5',.5), (' 80% ',.8), ('.5',.5), ('1',1.), (None,None)])
def test_confidence_may_be_written_as_text(written, value):
    assert parse_label(json.dumps(GOOD|dict(confidence=written)))['confidence']==value

@pytest.mark.parametrize('bad', [-1, True, '80', 'high', float('nan'), 2])
def test_confidence_is_between_0_and_1(bad):
    with pytest.raises(ValueError, match="'confidence' is "): parse_label(json.dumps(GOOD|dict(confidence=bad)))

def test_only_the_two_labels_are_required():
    short = parse_label('{"input_label": "a\nb", "output_label": "c"}')
    assert short==dict(input_label='a\nb', output_label='c', description='', reasoning='',
        confidence=None) and [*short]==LABEL_SCHEMA['required']

@pytest.mark.parametrize('text', ['I cannot', SAID[:-9], f'<think>{DRAFT}</think>', '{"a":'*20_000])
def test_what_is_no_label_is_refused(text):
    with pytest.raises(ValueError, match='not a JSON object'): parse_label(text)

def test_a_draft_in_unfinished_reasoning_is_no_label():
    with pytest.raises(ValueError, match='ends inside its reasoning'): parse_label(f'<think>{DRAFT} or')

def test_the_busiest_components_are_labelled_first():
    asked = []
    async def ask(prompt, shape):
        asked.append(prompt)
        return Answer(SAID, 1000, 50)
    h = FakeHarvest(components=pd.DataFrame(dict(firings=[1,3,0,2]), index=['a.b:0','a.b:1','a.b:2','a.b:3']),
        manifest=dict(decomposition='', data='', tokens=''),
        component=lambda k,n: C._replace(key=k), labels=NS(of=lambda k: [], append=lambda *a,**kw: None))
    label(h, ask, None, lambda c: c.key, concurrency=1, progress=False)
    assert asked==['a.b:1','a.b:3','a.b:0']

def test_a_label_at_the_second_try_is_no_failure():
    answers = iter(['Well,', SAID])
    h = FakeHarvest(components=pd.DataFrame(dict(firings=[1]), index=['a.b:0']),
        manifest=dict(decomposition='', data='', tokens=''),
        component=lambda k,n: C._replace(key=k), labels=NS(of=lambda k: [], append=lambda *a,**kw: None))
    done = label(h, lambda prompt, shape: Answer(next(answers), 1, 1), None, lambda c: c.key, progress=False)
    assert done.failed=={} and done.tokens_in==2
