"""Measuring edits on the edges: text that only partly counts, intervals of nothing, generation settings, and what is
refused"""
from dataclasses import replace
import numpy as np, pytest, torch
from transformers import GenerationConfig
from spd_nb.data import prompt_ids
from spd_nb.edit import ablated
from spd_nb.tokenizers import tokenizer_of
from spd_nb.model import decompose, load
from spd_nb.places import Places
from spd_nb.stories import story_rows, vocabulary
from spd_nb.texts import decoded
from spd_nb.toys import TMS
from spd_nb.tradeoff import changes_heatmap, draws, generations, interval, measure, shift, token_changes

DOWN = 'model.layers.1.mlp.down_proj'
QUOTE = f'{DOWN}:80'
IDS = {t:i for i,t in enumerate(vocabulary())}
SHE = [IDS[' she'],IDS[' She']]
RIVER = 'One sunny day Tom went to the river.'

def stories(n, seed, *roles):
    rows = story_rows(n, 128, seed=seed)
    return Places(torch.tensor([[IDS[t.text] for t in r] for r in rows]),
        torch.tensor([[t.role in roles for t in r[1:]]+[False] for r in rows]))

@pytest.fixture(scope='module')
def dm(): return load('story')

@pytest.fixture(scope='module')
def gone(dm): return ablated(dm, QUOTE)

@pytest.fixture(scope='module')
def on(): return stories(24, 33, 'quote_open')

@pytest.fixture(scope='module')
def other(): return stories(24, 34, 'quote_open')

@pytest.fixture(scope='module')
def m(dm, gone, on, other): return measure(dm, gone, on, ' "', other, groups={'she':SHE}, resamples=20)

@pytest.fixture(scope='module')
def text(): return stories(40, 37).toks[5,:60]

@pytest.fixture(scope='module')
def changes(dm, gone, text): return token_changes(dm, gone, text)

def surrounded(places, near):
    out = torch.zeros_like(places.at)
    for r,t in places.at.nonzero().tolist(): out[r,max(0,t-near):t+near+1] = True
    return out

def test_losses_are_of_the_tokens_that_come(dm, gone, on):
    with torch.no_grad(): p = dm(on.toks[:1])[0].double().log_softmax(-1)
    before = shift(dm, gone, on.toks[:1]).nll_before[0]
    torch.testing.assert_close(before[:-1], -p[:-1].gather(-1, on.toks[0,1:,None])[:,0].float(), rtol=0, atol=1e-4)

def test_an_interval_of_nothing_is_not_a_number():
    assert interval(np.array([1.,np.nan,2.,2.]))==(1.,2.,2.)
    assert np.isnan(interval(np.array([np.nan,1.,2.]))).all()

def test_draws_have_a_seed(): assert (draws(30, 2, seed=1)[1:]!=draws(30, 2)[1:]).any()

def test_groups_are_sums_of_probabilities(dm, m, other):
    with torch.no_grad(): p = dm(other.toks).softmax(-1)[...,SHE].sum(-1)
    torch.testing.assert_close(m.elsewhere.before['she'], p, rtol=0, atol=1e-5)
    comes = torch.isin(other.toks[:,1:], torch.tensor(SHE))
    assert m['p she']==pytest.approx(p[:,:-1][comes].mean().item(), abs=1e-6)

def test_perplexity_is_of_the_mean_loss(m, on, other):
    worse = (m.elsewhere.nll_after-m.elsewhere.nll_before)[:,:-1]
    assert m['ppl_elsewhere']==pytest.approx(worse[~other.at[:,:-1]].mean().expm1().item(), abs=1e-5)
    assert m['ppl_target']==pytest.approx((m.on.nll_after-m.on.nll_before)[on.at].mean().expm1().item(), rel=1e-4)

def test_a_place_at_the_end_of_what_counts_has_no_loss(dm, gone, on, other):
    upto = (torch.arange(128)<=int(on.at.nonzero()[0,1])).expand(on.at.shape)  # the first place is the last that counts
    inner = measure(dm, gone, replace(on, at=on.at&upto, counts=upto), ' "', other, near=200, resamples=2)
    assert inner.table.n['ppl_target']==int((on.at[:,:-1]&upto[:,1:]).sum())
    assert inner.table.n['near_kl']==int((upto&~on.at)[(on.at&upto).any(1)].sum())

def test_near_is_a_number_of_tokens(dm, gone, on, other, m):
    nearer = measure(dm, gone, on, ' "', other, near=3, resamples=20, seed=7)
    assert nearer['near_kl']==pytest.approx(m.on.kl[surrounded(on, 3)&~on.at].mean().item(), abs=1e-6)
    assert nearer.table.low['p_before']!=m.table.low['p_before']

def test_two_measures_cannot_have_one_name(dm, gone, on, other):
    with pytest.raises(ValueError, match="two groups or domains are called '1'"):
        measure(dm, gone, on, ' "', other, groups={'1':' the', 1:' a'}, resamples=2)

def test_there_must_be_a_place(dm, gone, other):
    with pytest.raises(ValueError, match='no place in this text'):
        measure(dm, gone, replace(other, at=other.at&False), 0, other)

def test_a_measured_name_is_shown_as_text(m):
    odd = m._replace(table=m.table.rename(index={'p she':'<script>alert(1)</script>"$x$'}))._repr_html_()
    assert '<script>' not in odd and '$' not in odd and 'alert(1)' in odd

def test_changes_are_named_with_both_probabilities(dm, gone, text, changes):
    at,compared = int(changes.kl.argmax()),shift(dm, gone, text[None], {'“':[IDS[' "']]})
    p,q = (f'{of["“"][0,at]:.3f}' for of in (compared.before, compared.after))
    assert changes.changes[at].startswith(f"' \"' {p} → {q}\n")
    assert changes.kl_back[at]==pytest.approx(compared.kl_back[0,at].item(), abs=1e-5)

def test_as_many_changes_are_named_as_asked_for(dm, gone, text, changes):
    assert token_changes(dm, gone, text, top=1).changes[int(changes.kl.argmax())].count('\n')==0
    assert token_changes(dm, ablated(dm, []), text).changes.tolist()==['']*60

def test_a_heatmap_shows_the_divergence(changes):
    fig = changes_heatmap(changes, zmax=3.)
    assert list(fig.data[0].marker.color)==list(changes.kl) and fig.layout.coloraxis.cmax==3.

def test_draws_of_text_have_a_seed(dm, gone):
    table = generations(dm, gone, RIVER, n=30, samples=2).table
    assert generations(dm, gone, RIVER, n=30, seed=1).table.after[1]==table.after[2]!=table.after[1]

def test_every_token_written_is_counted(dm, gone):
    assert generations(dm, gone, RIVER, n=5, samples=0, tokens=list(range(len(IDS)))).table.count_after.tolist()==[5]

def test_a_low_temperature_is_greedy(dm, gone):
    cold = generations(dm, gone, RIVER, n=30, temperature=1e-3).table.after
    assert cold[0]==cold[1]

def test_a_toy_cannot_generate():
    tiny = decompose(TMS(5, 2).eval(), 'linear1', C=3)
    with pytest.raises(TypeError, match='TMS has no `generate`'): generations(tiny, ablated(tiny, 'linear1:0'), ['a'])

def greedily(dm, x, n):
    with torch.no_grad():
        for _ in range(n): x = torch.cat([x, dm(x)[:,-1:].argmax(-1)], 1)
    return x[0].tolist()

@pytest.fixture(scope='module')
def start(dm): return prompt_ids(tokenizer_of(dm.target), RIVER)

@pytest.fixture(scope='module')
def usual(dm, gone): return generations(dm, gone, RIVER, n=20).table

@pytest.mark.parametrize('own',
    [dict(repetition_penalty=1.5), dict(do_sample=True, top_p=.05, temperature=.1), dict(min_p=.9), dict(typical_p=.1),
    dict(no_repeat_ngram_size=1), dict(bad_words_ids='next'), dict(suppress_tokens='next'), dict(forced_eos_token_id='next'), dict(num_beams=3),  # noqa: E501
    dict(min_new_tokens=40), dict(max_length=3), dict(stop_strings=['a']), dict(num_return_sequences=2, do_sample=True),
    dict(return_dict_in_generate=True)], ids=lambda own: next(iter(own)))
def test_generation_settings_of_a_checkpoint_are_ignored_and_kept(dm, gone, start, usual, own, monkeypatch):
    following = greedily(dm, torch.tensor([start]), 1)[-1]
    spelled = dict(bad_words_ids=[[following]], suppress_tokens=[following], forced_eos_token_id=following)
    own = {k:spelled[k] if v=='next' else v for k,v in own.items()}
    monkeypatch.setattr(dm.target, 'generation_config', GenerationConfig(**dm.target.generation_config.to_dict()|own))
    kept = dm.target.generation_config.to_dict()
    table = generations(dm, gone, RIVER, n=20).table
    assert (table.before[0], table.after[1])==(usual.before[0], usual.after[1])
    assert dm.target.generation_config.to_dict()==kept

def test_greedy_text_takes_the_most_likely_token(dm, start, usual):
    assert usual.before[0]==decoded(tokenizer_of(dm.target), greedily(dm, torch.tensor([start]), 20)[len(start):])
