"What is committed agrees with itself: shipped decompositions give the numbers in the table, and old saves open"
import sys
from pathlib import Path
import numpy as np, pandas as pd, pytest
from spd_nb.model import load

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT/'tools'))
import toys

TABLE = pd.read_csv(ROOT/'data'/'results'/'toys.csv')
SHIPPED = sorted(p.name for p in (ROOT/'data'/'toys').iterdir())

@pytest.mark.parametrize('name', SHIPPED)
def test_a_shipped_decomposition_gives_the_numbers_of_its_row(name):
    row = TABLE[(TABLE.experiment==name)&(TABLE.seed==0)].iloc[0]
    now = toys.measured(load(ROOT/'data'/'toys'/name), 0)
    for k in ('accuracy/only','accuracy/without','mmcs','ml2r','off','r','slope','identity_error','dense_error'):
        if k in now: assert now[k]==pytest.approx(row[k], rel=2e-3, abs=1e-4), k
    for k,v in now.items():
        if k.startswith(('alive/','fires/')): assert v==row[k], k

def test_rows_are_of_known_experiments_and_have_figures():
    assert not TABLE.duplicated(['experiment','seed']).any()
    for r in TABLE.itertuples():
        assert r.experiment in toys.EXPERIMENTS
        assert r.steps==toys.EXPERIMENTS[r.experiment]['steps']
        if r.experiment=='induction': continue
        with np.load(ROOT/'data'/'results'/'toys'/f'{r.experiment}-{r.seed}.npz') as z: assert any(k.startswith('ci/') for k in z)

@pytest.mark.parametrize('folder', sorted((ROOT/'tests'/'fixtures').glob('schema_*')), ids=lambda p: p.name)
def test_saves_of_every_schema_open(folder):
    dm = load(folder)
    assert dm.C=={'linear1':7, 'linear2':7}
    assert dm.at('linear2').U.data_ptr()==dm.at('linear1').V.data_ptr()
    assert dm.history[-1]['step']==29 and dm.training_run['losses']['sparsity']['p']==1.
    assert dm.ci(dm.target.batches(6)[0]).lower['linear1'].shape==(6,7)
