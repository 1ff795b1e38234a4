"Laws of the data streams, for random seeds and rows"
import torch
from fastcore.test import test_close as close, test_eq as eq, test_ne as ne
from hypothesis import given, settings, strategies as st
from spd_nb.data import Batches, TokenStream, merged_zeros

laws = settings(deadline=None, database=None, derandomize=True)

def three(gen): return torch.rand(3, generator=gen)

@laws
@given(st.integers(0, 2**32-1), st.integers(0, 2**20), st.integers(0, 2**32-1))
def test_another_seed_is_another_stream(s, i, t):
    eq(Batches(three, s)[i], Batches(three, s)[i])
    if s!=t: ne(Batches(three, s)[i], Batches(three, t)[i])

@laws
@given(st.lists(st.lists(st.integers(-1, 1), min_size=3, max_size=3), min_size=1, max_size=9))
def test_merging_zero_rows_is_exact(rows):
    x = torch.tensor(rows).double()
    w = merged_zeros(x)
    def f(x): return (x+.3).cos().prod(1)
    eq(w.weight.sum().item(), len(x))
    eq(sorted(r for r,n in zip(w.x.tolist(), w.weight) for _ in range(int(n))), sorted(x.tolist()))
    close((w.weight*f(w.x)).sum()/w.weight.sum(), f(x).mean(), eps=1e-12)
    assert (w.x==0).all(1).sum()<2

def test_a_last_batch_that_is_not_full_is_left_out():
    docs = [[5,6,7],[8,9],[10],[11,12,13,14],[15]]
    eq([len(b) for b in TokenStream(docs, 3, 4, bos=0)], [3])
