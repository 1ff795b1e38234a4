"Counts on the edges of what they hold: carries, blocks, padding, empty tables"
import torch, torch.nn.functional as F
import numpy as np, pytest
from spd_nb.firings import carry_over, list_firings, pair_counts
from spd_nb.pmi import component_table, token_table
from spd_nb.stats import Examples, Stats, load_stats, save_stats, tickets

C,VOCAB,SCALE = {'a.up':3, 'a.down':4},11,torch.tensor([3.,1,2,1,.5,3,4])

def made_up(i, B=2, S=5):
    "The arguments of `Stats.update` for a batch"
    gen = torch.Generator().manual_seed(100+i)
    toks = torch.randint(VOCAB, (B,S), generator=gen)
    ci = {s:torch.rand(B, S, n, generator=gen)*torch.rand(n, generator=gen) for s,n in C.items()}
    acts = {s:torch.randn(B, S, n, generator=gen) for s,n in C.items()}
    return i, toks, ci, acts, (torch.randn(B, S, VOCAB, generator=gen)*3).softmax(-1), SCALE

def counted(which):
    s = Stats(C, VOCAB, examples=6, window=1)
    for i in which: s.update(*made_up(i))
    return s

def test_a_carry_leaves_less_than_2_to_the_16():
    low,high = torch.tensor([-2.**16, 2.**16-2**-36, 3.*2**16+.5], dtype=torch.float64),{}
    carry_over(low, high, 'x')
    assert (low.tolist(), high['x'].tolist())==([0, 2**16-2**-36, .5], [-2.**16, 0, 3.*2**16])
    carry_over(low, high, 'y')
    assert list(high)==['x']

def test_a_carry_also_where_only_a_negative_sum_is_large():
    low,high = torch.tensor([-3.*2**16-.5, 1.], dtype=torch.float64),{}
    carry_over(low, high, 'x')
    assert (low.tolist(), high['x'].tolist())==([-.5, 1.], [-3.*2**16, 0.])

def test_pairs_of_more_components_than_one_block():
    on = torch.rand(70, 40, generator=torch.Generator().manual_seed(2))<.3
    got = torch.cat([F.pad(b, (0,0,0,70-len(b))) for _,b in pair_counts(on, list_firings(on))], 1)
    assert torch.equal(got.triu(), (on.float()@on.float().T).triu())

def test_tickets_of_another_batch_are_others():
    n = torch.arange(20_000)
    assert not np.isin(tickets(1, n[:1], n[:1]), tickets(0, 2**n[:32], 0*n[:32])).any()

def test_example_windows_are_empty_beyond_the_row():
    gen = torch.Generator().manual_seed(3)
    drawn = Examples(4, k=8, window=2)
    for i in range(6):
        toks = torch.randint(50, (2,5), generator=gen)
        ci = torch.rand(4, 10, generator=gen)*torch.tensor([1.,.5,.101,.05])[:,None]
        drawn.update(i, list_firings(ci>.1), toks, ci, torch.randn(4, 10, generator=gen))
    comp,place = drawn.drawn()
    assert len(comp) and (drawn.arrays['toks'][comp,place]<0).any()
    assert all((drawn.arrays[k][drawn.arrays['toks']<0]==0).all() for k in ('ci','act'))
    assert (drawn.arrays['ci'][comp,place,2]>.0999).all()

def test_examples_need_a_window():
    with pytest.raises(ValueError, match='at least 0 tokens'): Examples(4, window=-1)

def test_negative_importances_and_zero_activations_add_nothing():
    i,toks,cis,acts,*rest = made_up(0)
    zero = {k:0*a for k,a in acts.items()}
    s = Stats(C, VOCAB)
    s.update(i, toks, {k:g-1 for k,g in cis.items()}, zero, *rest)
    assert (s.sums['ci'].abs().sum().item(), s.sums['positive'].sum().item())==(0, 0)
    s = Stats(C, VOCAB)
    s.update(i, toks, cis, zero, *rest)
    assert s.sums['positive'].sum().item()==0

def test_a_sum_has_seen_the_batches_of_both(): assert (counted([0])+counted([2])).seen=={0,2}

def test_output_masses_on_the_edge_of_one_double():
    s = counted([0])
    s.sums['output'][:] = 2**16-2.**-36
    s.update(*made_up(1))
    assert torch.equal(s.output, counted([1]).output+2**16-2.**-36)
    s.update(*made_up(2))
    assert s.high=={}
    s._room['output'] = (0,None)
    s.update(*made_up(3))
    assert list(s.high)==['output/0']
    torch.testing.assert_close(s.output-2**16, counted([1,2,3]).output, atol=1e-9, rtol=0)

def ones(B, S):
    return torch.zeros(B, S,
        dtype=torch.long),{'a':torch.ones(B, S, 2)*torch.tensor([1,0])},{'a':torch.ones(B, S, 2)},torch.ones(B, S,
        70),torch.ones(2)

def test_one_batch_of_more_positions_than_a_double_takes_exactly():
    s = Stats({'a':2}, 70)
    for i in range(3): s.update(i, *ones(2, 40_000))
    assert torch.equal(s.output, torch.tensor([240_000.,0]).double()[:,None].expand(2, 70))
    assert torch.equal(s.total('mass'), torch.full((70,), 240_000., dtype=torch.float64))
    assert s.total('act').tolist()==[240_000.]*2
    assert sorted(s.high)==['act','act_sq','ci','fired_act','fired_sq','mass','output/0','output/1']

def test_batches_that_are_too_large_and_numbers_that_are_too_high():
    s,(toks,ci,acts,p,scale) = Stats({'a':2}, 70),ones(1, 1)
    wide = [x.expand(4097, 4096, *x.shape[2:]) for x in (toks, ci['a'], acts['a'], p)]
    with pytest.raises(ValueError, match='has 16,781,312 positions'):
        s.update(9, wide[0], {'a':wide[1]}, {'a':wide[2]}, wide[3], scale)
    with pytest.raises(ValueError, match='0 to 2,147,483,647, got 2147483648'):
        s.update(2**31, toks, ci, acts, p, scale)

def test_examples_stand_where_the_text_is_also_behind_padding():
    left,(_,ids,imp,*_),padded = torch.tensor([[False]*2+[True]*3, [True]*5]),made_up(1),counted([])
    padded.update(*made_up(1), text=left)
    (who,place),kept = padded.examples.drawn(),padded.examples.arrays
    at = kept['at'][who,place]
    assert left.flatten()[at].all()
    assert np.array_equal(kept['toks'][who,place,1], ids.flatten()[at].numpy())
    flat = torch.cat([g.flatten(0,1).T for g in imp.values()])
    np.testing.assert_allclose(kept['ci'][who,place,1], flat[who,at].numpy(), atol=1e-3)

def test_a_loaded_count_knows_its_batches(tmp_path):
    save_stats(counted(range(3)), tmp_path/'counts')
    again,_ = load_stats(tmp_path/'counts')
    with pytest.raises(ValueError, match='batch 1 has been counted'): again.update(*made_up(1))

def test_tables_are_sorted_by_side_token_and_component():
    table = token_table(counted(range(4)), top=VOCAB, least=0.)
    assert len(table) and table.equals(table.sort_values(['side','token','comp'], ignore_index=True))

def test_more_components_than_are_looked_at_together():
    big = Stats({'a':600}, VOCAB, examples=1)
    big.sums['tokens'] += 10
    big.sums['count'][-1] = big.sums['input'][-1,0] = 3
    assert token_table(big, least=0.).comp.tolist()==[599]

def test_rare_tokens_are_listed_by_gain_only():
    s = Stats({'a':1}, 4)
    s.sums['count'] += 12
    s.sums['input'] += torch.tensor([6,1,5,0])
    s.sums['tokens'] += torch.tensor([20,1,15,64])
    assert (token_table(s, top=1).token.tolist(), token_table(s, top=1, least=1e9).token.tolist())==([0,2], [0])

def test_largest_activation_and_importance_of_a_component():
    row = component_table(counted(range(4))).set_index('key').loc['a.down:2']
    a = 3*torch.cat([made_up(i)[3]['a.down'][...,2].flatten() for i in range(4)])
    g = torch.cat([made_up(i)[2]['a.down'][...,2].flatten() for i in range(4)])
    want = [a.max().item(), g.max().item(), a[g>.1].std(unbiased=False).item()]
    np.testing.assert_allclose([row.act_max, row.max_ci, row.fired_sd], want, atol=1e-5)

def test_a_component_that_never_fires_has_density_0(): assert (component_table(Stats(C, VOCAB)).density==0).all()
