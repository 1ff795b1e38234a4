"Random states of devices that most machines lack"
from unittest.mock import patch
import torch
from spd_nb.core import restore_rng, rng_state

def test_every_device_in_use_has_its_generator_kept_and_restored():
    "Apple's GPU and two of CUDA's are stood in for; what is kept of a device that is not there is left out"
    states = dict(mps=1, cuda=[2,3])
    def set_cuda(s, device): states['cuda'][device] = s
    mps = patch.multiple(torch.mps, get_rng_state=lambda: states['mps'], set_rng_state=lambda s: states.update(mps=s))
    cuda = patch.multiple(torch.cuda, is_initialized=lambda: True, device_count=lambda: 2,
        get_rng_state=lambda i: states['cuda'][i], set_rng_state=set_cuda)
    with mps, cuda, patch.object(torch.backends.mps, 'is_available', return_value=True):
        state = rng_state()
        states.update(mps=9, cuda=[9,9])
        restore_rng(state)
    assert states==dict(mps=1, cuda=[2,3])
    assert list(state)==['cpu','cuda:0','cuda:1','mps']
    restore_rng(rng_state()|dict(mps=1))
