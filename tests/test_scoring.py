"Questions about components that fire rarely, densely or alone, and scores by hand"
from collections import Counter
from pathlib import Path
import pytest, torch
from spd_nb.harvest import Harvest
from spd_nb.model import load
from spd_nb.scoring import HeldOut, Question, Text, _cosine, held_out, questions, rule_judge, score
from spd_nb.stories import stories

ROOT = Path(__file__).parent.parent
LABEL = dict(input_label='a', output_label='b')

@pytest.fixture(scope='module')
def h(): return Harvest(ROOT/'data'/'story'/'harvest', load(ROOT/'data'/'story'))

@pytest.fixture(scope='module')
def text(h): return held_out(h, stories(8, 128, seed=77, held_out=True), 3)

@pytest.fixture(scope='module')
def key(h): return h.by_token(' "', min_density=.02).index[0]

@pytest.fixture(scope='module')
def on(h, text, key): return text.on[:,:,h.at(key)]

@pytest.fixture(scope='module')
def places(text):
    "Where the tokens of an excerpt stand in the held-out text"
    rows = [tuple(r) for r in text.toks.tolist()]
    def find(t):
        return [(r,s) for r,row in enumerate(rows) for s in range(len(row)-len(t.tokens)+1)
            if row[s:s+len(t.tokens)]==tuple(t.tokens)]
    return find

def test_excerpts_reach_twelve_tokens_to_both_sides(h, text, key):
    assert max(len(t.tokens) for q in questions(h, text, key, LABEL, 'detection') for t in q.texts)==25

def test_a_component_without_neighbours_has_no_intruders(h, text, key):
    alone = text._replace(on=text.on&(torch.arange(len(h.keys))==h.at(key)))
    assert questions(h, alone, key, LABEL, 'intruder')==[]

def test_texts_whose_answer_is_no_hold_no_firing(h, text, key, on, places):
    no = [t for s in range(5) for q in questions(h, text, key, LABEL, 'detection', n=40, seed=s) if not q.answer
        for t in q.texts]
    assert no and not any(on[r,s:s+len(t.tokens)].any() for t in no for r,s in places(t))

def test_fuzzing_never_asks_about_one_text_in_both_ways(h, text, key):
    qs = questions(h, text, key, LABEL, 'fuzzing', n=20)
    assert not set.intersection(*({tuple(q.texts[0].tokens) for q in qs if q.answer is a} for a in (True,False)))

def test_a_component_that_fires_almost_everywhere_has_no_fuzzing(h, text, key):
    dense = text._replace(on=text.on.clone())
    dense.on[:,:,h.at(key)] = torch.arange(128)%3>0
    assert questions(h, dense, key, LABEL, 'fuzzing')==[]

def test_answers_are_balanced_when_a_component_fires_rarely(h, text):
    few = next(k for k in h.keys if 6<=text.on[:,:,h.at(k)].sum()<=9)
    rare = questions(h, text, few, LABEL, 'detection', n=40)
    assert 0<len(rare)==2*sum(q.answer for q in rare)

def test_fuzzing_marks_firings_or_as_many_other_tokens(h, text, key, on, places):
    qs = questions(h, text, key, LABEL, 'fuzzing', n=40)
    assert qs
    for q in qs:
        t = q.texts[0]
        r,s = places(t)[0]
        assert {bool(on[r,s+m]) for m in t.marks}=={q.answer} and len(t.marks)==on[r,s:s+len(t.tokens)].sum()

def test_half_the_marks_on_named_tokens_are_not_most():
    q = Question('fuzzing', dict(input_tokens=[1], output_tokens=[]), [Text([1,2], ['a','b'], [0,1])], False)
    assert rule_judge(q) is False

def test_cosine_of_a_text_with_itself_is_1(): assert _cosine(Counter([1,1,2]), Counter([1,1,2]))==pytest.approx(1.)

def test_accuracy_is_balanced():
    assert score([Question('detection', {}, [], a) for a in (True,False,False,False)], lambda q: False).score==.5

def test_held_out_text_says_how_much_it_holds():
    assert repr(HeldOut(torch.zeros(2, 3, dtype=int),
        torch.ones(2, 3, 4, dtype=bool)))=='HeldOut(2 rows of 3 tokens; of 4 components, 4 fire at a position)'
