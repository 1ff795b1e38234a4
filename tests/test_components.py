"`components` and `initialisation`: the forward pass is a sum of outer products for sizes of all kinds"
import torch
from fastcore.test import test_close as assert_close
from hypothesis import given, settings, strategies as st
from torch import nn
from spd_nb.components import delta
from spd_nb.core import seeded
from spd_nb.initialisation import aligned, components_like, gaussian

@settings(deadline=None, database=None, derandomize=True, max_examples=30)
@given(*[st.integers(1, 5)]*5, st.integers(0, 99))
def test_sum_of_outer_products(batch, seq, d_in, d_out, C, seed):
    with seeded(seed):
        m = nn.Linear(d_in, d_out).double()
        cs = components_like(m, C, (gaussian,aligned)[seed%2])
        x = torch.randn(batch, seq, d_in).double()
        mask = torch.rand(batch, seq, C).double()
    assert_close(cs(x, mask), torch.einsum('bsi,ic,bsc,co->bso', x, cs.V, mask, cs.U), eps=1e-9)
    assert_close(cs(x)+x@delta(m, cs).T+m.bias, m(x), eps=1e-9)
