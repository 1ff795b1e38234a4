"Runs that jobs of SLURM make in `tests/test_slurm.py`"
import time
from spd_nb.model import decompose
from spd_nb.objectives import spd_losses
from spd_nb.toys import TMS

def arguments(seed:int, pause:float=0., C:int=6):
    "A run of 60 steps, with a pause after each row of the history"
    if seed==4: raise ValueError('there is no data for seed 4')
    toy = TMS(5, 2, seed=0).eval()
    dm = decompose(toy, {'linear*':C}, tied={'linear2':'linear1'}, seed=seed)
    def wait(learner): time.sleep(pause)
    return dict(dm=dm, batches=toy.batches(32), losses=spd_losses(), steps=60, every=5, save_every=20, seed=seed,
        callbacks=[wait] if pause else [])
