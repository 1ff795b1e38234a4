"Sweeps on the edges: fronts with gaps, doses, greedy selection and controls, and what is refused"
import numpy as np, pandas as pd, pytest
from spd_nb.edit import ablated
from spd_nb.keys import SiteError
from spd_nb.model import decompose
from spd_nb.grids import grid
from spd_nb.sweeps import density_matched, dose_response, front, select, sweep_edits
from spd_nb.toys import TMS

DENSITY = pd.Series({f's:{c}':.02*(1+c%7) for c in range(40)})

@pytest.fixture
def dm(): return decompose(TMS(5, 2, seed=0).eval(), 'linear1', C=6, seed=1)

KEYS = [f'linear1:{c}' for c in range(6)]
COSTS = pd.DataFrame(dict(m=['a']*4+['b'], cost=[1.,2,3,2,9], effect=[.1,.5,.4,np.nan,.9]))

def test_rows_without_a_number_are_on_no_front():
    assert front(pd.DataFrame(dict(cost=[np.nan,1.], effect=[1.,.5])), 'cost', 'effect').cost.tolist()==[1.]
    with pytest.raises(ValueError, match="none of the 1 rows has a finite 'cost'"):
        front(COSTS.iloc[3:4], 'cost', 'effect')

def test_a_group_without_a_name_has_a_front():
    assert front(COSTS.assign(m=['a']*4+[None]), 'cost', 'effect', group='m').index.tolist()==[0,1,4]

def test_a_front_has_a_better_side():
    assert front(COSTS, 'cost', 'effect', y_better='low').cost.tolist()==[1]
    with pytest.raises(Exception, match="'lo'"): front(COSTS, 'cost', 'effect', x_better='lo')

def test_a_setting_is_not_a_measure(dm):
    with pytest.raises(ValueError, match="'a' is a setting and a measure"):
        sweep_edits(lambda a: ablated(dm, []), grid(a=[1]), lambda e: dict(a=2), progress=False)

def test_a_dose_has_so_many_components(dm):
    with pytest.raises(ValueError, match='`n` is 6, but only 1 different'): dose_response(dm, [KEYS[0]]*2, lambda e: {})

def test_as_many_are_selected_as_there_are(dm):
    with pytest.raises(ValueError, match='`n` is 0, and 6 different'): select(dm, lambda: 1., KEYS, n=0)
    with pytest.raises(ValueError, match='`n` is 9, and 6 different'): select(dm, lambda: 1., KEYS, n=9)
    with pytest.raises(ValueError, match='`n` is 3, and 2 different'):
        select(dm, lambda: 1., [KEYS[0],KEYS[0],KEYS[1]], n=3, progress=False)

def test_a_cost_is_a_number(dm):
    with pytest.raises(ValueError, match='not a finite number'):
        select(dm, lambda: float('nan'), KEYS, n=1, progress=False)

def test_controls_are_other_components_once_each():
    flat = pd.Series(.1, [f's:{c}' for c in range(4)])
    assert all(sorted(c)==['s:2','s:3'] for c in density_matched(['s:0','s:1'], flat, draws=9))

def test_controls_are_the_nearest_by_factor():
    assert density_matched(['s:0'], pd.Series({'s:0':.1,'s:1':.03,'s:2':.18}), draws=9, pool=1)==[['s:2']]*9

def test_controls_have_a_seed_and_a_number():
    controls = density_matched(['s:0','s:1'], DENSITY, draws=6)
    assert len(controls)==6 and controls==density_matched(['s:0','s:1'], DENSITY,
        draws=6)!=density_matched(['s:0','s:1'], DENSITY, draws=6, seed=1)

def test_a_component_that_never_fires_has_no_controls():
    with pytest.raises(SiteError, match='never fires'): density_matched(['s:0'], pd.Series({'s:0':0.,'s:1':.1}))
    with pytest.raises(SiteError, match='nowhere:3'): density_matched(['nowhere:3'], DENSITY)
    with pytest.raises(ValueError, match='2 different components cannot be drawn from 1'):
        density_matched(['s:0','s:1'], DENSITY, pool=1)
