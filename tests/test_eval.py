"Evaluation of odd decompositions, and what a report shows"
import pytest, torch
from spd_nb.eval import Check, Report, evaluate, mean_over, spectrum
from spd_nb.model import decompose
from spd_nb.toys import TMS

HOSTILE = '<script>alert(1)</script></style>"\'$x$\n'

@pytest.fixture
def evals():
    toy = TMS(5, 2, seed=0).eval()
    return evaluate(decompose(toy, 'linear1', C=7), toy.batches(64), 3)

def test_importances_below_0_count_as_0(evals):
    below = [o._replace(ci=o.ci._replace(lower={s:torch.rand_like(g)-.5 for s,g in o.ci.lower.items()})) for o in evals]
    want = mean_over(lambda o: o.ci.lower['linear1'].clamp(min=0).mean(0), below)
    assert min(o.ci.lower['linear1'].min() for o in below)<0
    assert spectrum(below).mean_ci.tolist()==pytest.approx(want.tolist())

def test_names_and_standards_are_shown_as_text():
    html = Report([Check(HOSTILE, 'pass', 1., HOSTILE)], {})._repr_html_()
    assert '<script>' not in html and '</style>' not in html and '$' not in html and html.count('⏎')==2
