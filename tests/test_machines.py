"What other systems lack: Windows' files and signals, processes that do not fork"
import multiprocessing
from pathlib import Path
import torch
from spd_nb.harvest import count
from spd_nb.model import load
from spd_nb.stats import load_stats
from spd_nb.stories import stories

ROOT = Path(__file__).parent.parent

def counted(dm, batches, path, rank):
    "What a spawned process does"
    torch.set_num_threads(1)
    count(dm, batches, path, n=3, examples=5, rank=rank, world=2, progress=False)

def test_spawned_processes_count_their_shares(tmp_path):
    "macOS, Windows and Python 3.14 do not fork: model and batches are sent pickled"
    dm,batches,context = load(ROOT/'data'/'story'),stories(4, 64, seed=5),multiprocessing.get_context('spawn')
    paths = [tmp_path/f'{rank}' for rank in (0,1)]
    with context.Pool(2) as pool: pool.starmap(counted, [(dm, batches, p, rank) for rank,p in enumerate(paths)])
    shares = [load_stats(p)[0] for p in paths]
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes': products in several threads differ in their last bits
    try: whole = count(dm, batches, tmp_path/'whole', n=3, examples=5, progress=False)
    finally: torch.set_num_threads(before)
    both = shares[0]+shares[1]
    assert [s.seen for s in shares]==[{0,2},{1}] and both.seen==whole.seen
    assert all(torch.equal(v, whole.sums[k]) for k,v in both.sums.items())
