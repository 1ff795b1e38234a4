"Places and goals on the edges: every place counts once, odd tokenizers, and losses at their limits"
import copy
import pytest, torch
from hypothesis import given, settings, strategies as st
from spd_nb.model import decompose, load
from spd_nb.places import Places, avoids, before, says, token_id, windows, with_next
from spd_nb.stories import story_tokenizer, vocabulary
from spd_nb.toys import TMS

ROW = torch.arange(10)[None]

@pytest.fixture(scope='module')
def dm(): return load('story')

@pytest.fixture
def pair(dm): return windows(before(dm, [3,4,9], ROW), around=2, pad=99)

@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=4), st.integers(0, 7))
def test_each_place_counts_once(at, around):
    at = torch.tensor(at)
    if not at.any(): return
    numbers = torch.arange(at.numel()).view(at.shape)
    w = windows(Places(numbers, at), around, pad=-1)
    counted = w.toks[w.counts].tolist()
    assert sorted(w.toks[w.at].tolist())==numbers[at].tolist()
    assert len(counted)==len(set(counted)) and not (w.at&~w.counts).any()

def test_a_place_is_before_its_token(dm): assert before(dm, 4, ROW).at.nonzero().tolist()==[[0,3]]

def test_places_are_counted(pair): assert repr(pair)=='Places(2 rows of 5 tokens: 3 places, 6 other positions)'

def test_a_window_does_not_count_what_the_rows_do_not():
    assert windows(Places(ROW, ROW==2, ROW<4), around=2).counts.int().tolist()==[[1,1,1,1,0]]

def test_some_rows_are_drawn_without_replacement(pair):
    assert pair.some(2, seed=1).counts.sum()==pair.counts.sum()
    assert len({tuple(pair.some(1, seed=s).toks[0].tolist()) for s in range(8)})==2
    with pytest.raises(ValueError, match='`n` is 3, but there are only 2 rows'): pair.some(3)

def test_places_are_bool_of_the_shape_of_the_text():
    with pytest.raises(ValueError,
            match=r'`at` is bool of the shape of `toks`, N S; got bool \(1, 9\) beside \(1, 10\)'):
        Places(ROW, ROW[:,1:]==3)
    with pytest.raises(ValueError, match='`counts` is bool'): Places(ROW, ROW==3, ROW)
    with pytest.raises(ValueError, match='no place'): windows(Places(ROW, ROW<0))

def test_the_next_token_is_given_as_text_or_id(dm, pair):
    i = vocabulary().index(' he')
    as_text = with_next(dm, ' he', pair)
    assert torch.equal(as_text.toks, with_next(dm, i, pair).toks) and as_text.toks.tolist()==[[0,1,2,i,i],[6,7,8,i,99]]
    assert pair.toks.tolist()==[[0,1,2,3,4],[6,7,8,9,99]] and torch.equal(as_text.at,
        pair.at) and torch.equal(as_text.counts, pair.counts)

def test_tokens_out_of_the_vocabulary_are_refused(dm):
    with pytest.raises(ValueError, match='no token -1'): token_id(dm, -1)
    with pytest.raises(ValueError, match='ids go from 0'): token_id(dm, len(vocabulary()))
    with pytest.raises(TypeError, match='TMS is no language model'):
        token_id(decompose(TMS(5, 2).eval(), 'linear1', C=3), 0)

def test_a_text_of_several_tokens_is_refused(dm):
    plain,twice = story_tokenizer(),copy.copy(story_tokenizer())
    twice.batch_decode = lambda *a, **k: [t.replace(' she', ' he') for t in plain.batch_decode(*a, **k)]
    with pytest.raises(ValueError, match='all read; give the id'): token_id(dm, ' he', twice)

def test_goals_are_means_of_finite_losses():
    logp = torch.tensor([[.25,.75]]).log()
    assert says(0)(logp.repeat(3, 1)).item()==pytest.approx(torch.tensor(4.).log().item(), abs=1e-6)
    assert avoids(0)(torch.tensor([[1.,0]]).log()).isfinite()
    assert avoids(0,1)(torch.tensor([[.25,.25,.5]]).log()).item()==pytest.approx(torch.tensor(2.).log().item(),
        abs=1e-6)
