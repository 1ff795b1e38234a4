"What users without a type checker are told when they pass one thing for another"
import subprocess, sys

SCRIPT = '''
import numpy as np, pandas as pd, spd_nb as spd
from spd_nb.clusters import by_rank, cluster, plan_clusters, within
from spd_nb.cluster_picker import ClusterPicker
from spd_nb.compare import match, weight_change
from spd_nb.match_view import MatchView
from spd_nb.mechanisms import Mechanisms, adjusted_rand, moved, quality, shuffled, supernodes
from spd_nb.memberships import Memberships
dm = spd.load('tms_5-2')
m = Memberships([f'linear1:{i}' for i in range(10)], np.eye(30, dtype=bool)[:,:10])
merges = cluster(m, progress=False)
groups,pairs = merges.zero(),match(dm, dm)
for said,f in {
    "`m` takes Memberships, got Decomposed; `memberships` gives one": lambda: cluster(dm),
    "`m` takes Memberships, got ndarray": lambda: cluster(m.bits),
    "`m` takes Memberships, got Merges": lambda: plan_clusters(merges),
    "call it, as in `choose=within()`": lambda: cluster(m, choose=within),
    "call it, as in `choose=by_rank()`": lambda: cluster(m, choose=by_rank),
    "`cheapest`, `within()` or `by_rank()`, got 'cheapest'": lambda: cluster(m, choose='cheapest'),
    "`groups` takes Mechanisms, got Merges; `merges.zero()`": lambda: quality(merges, m),
    "`m` takes Memberships, got Merges; `memberships`": lambda: quality(groups, merges),
    "`groups` takes Mechanisms, got list": lambda: shuffled([['linear1:0']]),
    "`like` takes Memberships, got Decomposed": lambda: shuffled(groups, dm),
    "`a` takes Mechanisms, got Merges": lambda: adjusted_rand(merges, groups),
    "`b` takes Mechanisms, got Merges": lambda: moved(groups, merges),
    "`groups` takes Iterable, got Merges; clusters have theirs at a cut": lambda: Mechanisms(merges),
    "`g` takes Graph, got Match": lambda: supernodes(groups, pairs),
    "`merges` takes Merges, got Mechanisms; `cluster` gives one": lambda: ClusterPicker(groups),
    "`m` takes Memberships, got ndarray; ": lambda: ClusterPicker(merges, m=m.bits),
    "`h` takes Harvest, got Memberships; `harvest` makes one, and": lambda: ClusterPicker(merges, m),
    "`match` takes Match, got DataFrame": lambda: MatchView(pairs.frame),
    "`h` takes Harvest, got Decomposed": lambda: MatchView(pairs, dm),
    "decompositions are matched, got TMS": lambda: match(dm, dm.target),
    "`by` is a likeness": lambda: match(dm, dm, 'weights'),
    "`dm` takes Decomposed, got TMS": lambda: weight_change(dm.target, dm.target),
}.items():
    try: f()
    except TypeError as e: assert said in str(e), (said, str(e))
    else: raise AssertionError(f'not refused: {said}')
'''

def test_each_mixup_is_named():
    done = subprocess.run([sys.executable, '-c', SCRIPT], capture_output=True, text=True)
    assert not done.returncode, done.stderr
