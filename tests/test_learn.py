"Learning on the edges: seeds, batches without a place, what the losses are means of, and what is refused"
from dataclasses import replace
import pytest, torch
from spd_nb.edit import Edit, Patch, ablated, scaled, u_replaced
from spd_nb.learn import boost, firings, fit_edit, fit_scale, fit_u, rivals, write_token
from spd_nb.measures import kl_pq
from spd_nb.model import decompose, load
from spd_nb.places import Places, avoids, says, windows
from spd_nb.stories import story_rows, vocabulary

DOWN = 'model.layers.1.mlp.down_proj'
QUOTE,EYES = f'{DOWN}:80',f'{DOWN}:130'
IDS = {t:i for i,t in enumerate(vocabulary())}

@pytest.fixture(scope='module')
def dm(): return load('story')

@pytest.fixture(scope='module')
def rows(): return story_rows(24, 128, seed=33)

@pytest.fixture(scope='module')
def toks(rows): return torch.tensor([[IDS[t.text] for t in r] for r in rows])

@pytest.fixture(scope='module')
def quoting(rows): return before_role(rows, 'quote_open')

@pytest.fixture(scope='module')
def quiet(toks, quoting): return windows(Places(toks, quoting)).some(16)

@pytest.fixture(scope='module')
def lessons(rows, toks): return windows(Places(toks, before_role(rows, 'emo_mouth'))).some(4)

@pytest.fixture(scope='module')
def one_row(lessons): return lessons.some(1)

@pytest.fixture(scope='module')
def new_u(dm, toks): return write_token(dm, EYES, 'o', 1.2, toks)

def before_role(rows, role): return torch.tensor([[t.role==role for t in r[1:]]+[False] for r in rows])
def own(dm): return dm.at(DOWN).U[130].detach().clone().requires_grad_()
def logp(dm, toks): return dm(toks).log_softmax(-1)
def louder(dm, **where): return lambda f: scaled(dm, {QUOTE:f}, **where)

def test_a_component_never_fires_above_an_importance_of_two(dm, toks): assert firings(dm, EYES, toks, 2.).n==0

def test_a_component_with_positive_activations_writes_along_the_token(dm, toks):
    def glad(k): return (r := firings(dm, k, toks[:8])).n>20 and r.agree==1. and r.mean>0
    key = next(k for k in (f'{DOWN}:{c}' for c in range(160)) if glad(k))
    along = dm.target.get_output_embeddings().weight[IDS['o']]
    assert torch.cosine_similarity(write_token(dm, key, 'o', 1., toks[:8]), along, dim=0).item()==pytest.approx(1.,
        abs=1e-5)

@pytest.mark.parametrize('scale', [0., float('nan')])
def test_a_direction_has_a_length(dm, toks, scale):
    with pytest.raises(ValueError, match='length of a direction'): write_token(dm, EYES, 'o', scale, toks)

def test_a_direction_replaces_or_is_added(dm, toks):
    with pytest.raises(Exception, match='both'): write_token(dm, EYES, 'o', 1., toks, 'both')

@pytest.mark.parametrize('site', ['self_attn.q_proj','mlp.up_proj'])
def test_only_the_residual_stream_has_directions_of_tokens(dm, toks, site):
    with pytest.raises(ValueError, match=f"'model.layers.1.{site}' does not write to the residual stream"):
        write_token(dm, f'model.layers.1.{site}:3', 'o', 1., toks)

def test_a_model_without_an_output_embedding_has_no_directions_of_tokens(dm, toks):
    with pytest.raises(ValueError, match='does not write to the residual stream'):
        rivals(dm, 'model.layers.1.mlp.up_proj:3', 'o', toks)
    headless = decompose(dm.target.model, 'layers.1.mlp.down_proj', C=3)
    with pytest.raises(TypeError, match='no output embedding'): rivals(headless, 'layers.1.mlp.down_proj:1', 3, toks)

def test_the_order_of_examples_has_a_seed(dm, quiet):
    a,b = (fit_scale(dm, QUOTE, quiet, avoids(IDS[' "']), seed=s, batch=4, steps=3, progress=False).about[0]['factors']
        for s in (0,1))
    assert a!=b

def test_positions_of_its_own_in_each_row_cannot_be_learned(dm, lessons, new_u):
    with pytest.raises(ValueError, match='cannot be learned from batches'):
        fit_edit(lambda: u_replaced(dm, DOWN, 130, new_u, positions=lessons.at), [new_u.clone().requires_grad_()],
            lessons, says(0), steps=1, progress=False)

def test_text_needs_places_and_others(dm, toks):
    with pytest.raises(ValueError, match='no place'):
        fit_u(dm, EYES, Places(toks, toks<0), says(IDS['!']), progress=False)
    with pytest.raises(ValueError, match='nothing but places'):
        fit_u(dm, EYES, Places(toks, toks>=0), says(IDS['!']), progress=False)

def test_batches_without_a_place_are_left_out_of_the_goal(dm, toks, quoting):
    first_only = quoting&(torch.arange(24)==quoting.any(1).nonzero()[0])[:,None]
    learned = fit_scale(dm, QUOTE, Places(toks, first_only), avoids(IDS[' "']), batch=1, steps=24, progress=False)
    assert isinstance(learned.about[0]['goal'], float)

def test_every_batch_has_the_rows_that_were_asked_for(dm, toks):
    sizes,f = [],torch.ones(1, requires_grad=True)
    def counting(logp):
        sizes.append(len(logp))
        return says(3)(logp)
    fit_edit(lambda: scaled(dm, {QUOTE:f[0]}), [f], Places(toks[:5], (torch.arange(128)==5).expand(5, -1)), counting,
        batch=2, steps=4, progress=False)
    assert sizes==[2]*4

def test_the_kl_is_of_positions_that_count(dm, one_row, new_u):
    some = replace(one_row, counts=one_row.at|(torch.arange(one_row.toks.shape[1])<5))
    w = 20*new_u
    with u_replaced(dm, DOWN, 130, w), torch.no_grad(): out = logp(dm, some.toks)
    costs = kl_pq(out, dm.clean(some.toks).out.log_softmax(-1))[some.other].mean().item()
    learned = fit_edit(lambda: u_replaced(dm, DOWN, 130, w), [w.requires_grad_()], some, says(IDS['o']), steps=1,
        progress=False)
    assert learned.kl==pytest.approx(costs, rel=1e-4)

def test_three_steps_are_those_of_adamw(dm, one_row):
    v = own(dm)
    opt = torch.optim.AdamW([v], lr=.01, weight_decay=0.)
    for _ in range(3):
        with u_replaced(dm, DOWN, 130, v): loss = says(IDS['!'])(logp(dm, one_row.toks)[one_row.at])
        opt.zero_grad()
        loss.backward()
        opt.step()
    learned = fit_u(dm, EYES, one_row, says(IDS['!']), weight=0., steps=3, lr=.01, progress=False)
    torch.testing.assert_close(learned.patches[DOWN].writes[0], (v-dm.at(DOWN).U[130]).detach(), rtol=0, atol=1e-5)

def test_the_end_is_the_mean_of_twenty_steps(dm, one_row):
    v = own(dm)
    learned = fit_edit(lambda: u_replaced(dm, DOWN, 130, v), [v], one_row, says(IDS['!']), steps=25, lr=.01,
        progress=False)
    assert learned.goal==pytest.approx(sum(h['goal'] for h in learned.history[-20:])/20, abs=1e-6)

def test_no_step_is_recorded_as_nothing(dm, one_row, new_u):
    learned = fit_edit(lambda: u_replaced(dm, DOWN, 130, new_u), [new_u.clone().requires_grad_()], one_row,
        says(IDS['o']), steps=0, progress=False)
    assert learned.history==[] and learned.kl is None
    assert repr(learned._replace(goal=.25,
        steps=3))=='Learning(says: goal 0.25 and KL None nats, after 3 steps on 1 rows)'

def test_what_is_learned_needs_no_gradient(dm, one_row):
    assert not fit_u(dm, EYES, one_row, says(IDS['!']), steps=1, progress=False).patches[DOWN].writes.requires_grad

def test_nothing_is_learned_around_an_open_edit(dm, one_row):
    with ablated(dm, 'model.layers.0.mlp.down_proj:3'), pytest.raises(RuntimeError,
            match="'model.layers.0.mlp.down_proj' has a hook already"):
        fit_u(dm, EYES, one_row, says(IDS['!']), steps=1, progress=False)

def test_the_budget_is_spent_at_positions_that_count(dm, toks, quoting):
    part = Places(toks, quoting, (torch.arange(128)<64).expand(24, -1))
    with scaled(dm, {QUOTE:16.}), torch.no_grad(): out = logp(dm, toks)
    costs = kl_pq(dm.clean(toks).out.log_softmax(-1), out)[part.other].mean().item()
    assert boost(louder(dm), part, 1e9).kl==pytest.approx(costs, abs=1e-4)

def test_strengths_that_were_tried_are_listed_in_order(dm, toks, quoting):
    tried = boost(louder(dm), Places(toks, quoting), .01, tries=3).tried
    assert len(tried)==5 and tried.strength.is_monotonic_increasing

def test_a_boost_needs_a_cost_that_can_be_measured(dm, toks, quoting):
    text = Places(toks, quoting)
    with pytest.raises(ValueError, match='cannot be measured on batches'):
        boost(louder(dm, positions=quoting), text, .01)
    with pytest.raises(ValueError, match='nothing but places'): boost(louder(dm), Places(toks, toks>=0), .01)
    with pytest.raises(ValueError, match='costs'): boost(louder(dm), text, .01, low=8.)
    broken = Patch(torch.full((256,1), float('nan')), torch.ones(1,64), (None,))
    with pytest.raises(ValueError, match='costs nan nats'):
        boost(lambda f: Edit(dm, {DOWN:broken}, [dict(form='broken', of=[DOWN])]), text, .01)
