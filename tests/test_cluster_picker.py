"The cluster picker: its front end cuts a history as Python does, whatever was merged with what"
import json, shutil, subprocess
from pathlib import Path
import numpy as np, pytest
from traitlets import TraitError
from messages import caller
from spd_nb.cluster_picker import ClusterPicker
from spd_nb.clusters import Merges
from spd_nb.keys import Key
from spd_nb.memberships import Memberships

ROOT = Path(__file__).parent.parent
CUTS = """
import { groupOf, groupsAfter, members, tree } from './spd_nb/static/cluster_picker.js'
import { readFileSync } from 'node:fs'
const d = JSON.parse(readFileSync(0, 'utf8')), t = tree(d)
console.log(JSON.stringify(Array.from({ length: d.pairs.length + 1 }, (_, s) => {
  const groups = groupsAfter(t, s)
  return {
    groups: groups.map(g => Array.from(members(t, g))), active: groups.map(g => t.active[g]), start: groups.map(g => t.start[g]),
    of: d.order.map((_, c) => groups.indexOf(groupOf(t, s, c))),
  }
})))
"""  # noqa: E501

def random_merges(k, seed, steps, most=9):
    "Random merges, whose small counts leave ties"
    gen,left,pairs = np.random.default_rng(seed),list(range(k)),[]
    for t in range(steps):
        a,b = gen.choice(len(left), 2, replace=False)
        pairs.append([left[a],left[b]])
        left = [g for i,g in enumerate(left) if i not in (a,b)]+[k+t]
    keys = [Key(f's.{i%3}', i) for i in range(k)]
    return Merges(keys, gen.integers(1, most, k), 20, np.array(pairs), gen.integers(1, most, steps), 1.)

@pytest.mark.skipif(shutil.which('node') is None, reason='no node on PATH')
@pytest.mark.parametrize('k,steps', [(1,0), (2,1), (7,0), (9,8), (30,29), (60,41), (90,89)])
@pytest.mark.parametrize('seed', range(3))
def test_the_front_end_cuts_as_python_does(k, steps, seed):
    merges = random_merges(k, seed, steps)
    view = ClusterPicker(merges)
    p = subprocess.run(['node','--input-type=module','--no-warnings','-e',CUTS], input=json.dumps(view.history),
        cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert p.returncode==0, p.stderr
    number = {key:i for i,key in enumerate(merges.keys)}
    cuts = json.loads(p.stdout)
    assert len(cuts)==steps+1
    for step,cut in enumerate(cuts):
        groups = merges.groups_after(step)
        assert cut['groups']==[[number[key] for key in g] for g in groups]
        np.testing.assert_allclose(np.array(cut['active'])/merges.n, [g.density for g in groups])
        assert cut['of']==groups.numbers(merges.keys).tolist()
        order = view.history['order']
        for g,start in zip(cut['groups'], cut['start']): assert sorted(order[start:start+len(g)])==g

def test_what_the_front_end_asks():
    view = ClusterPicker(random_merges(9, 0, 8))
    ask = caller(view)
    assert ask('cut', step=3, group=2) is None and (view.step, view.group)==(3, 2)
    for bad,why in ((dict(step=9, group=None), 'no step 9; there are 9 (0 to 8)'),
            (dict(step=8, group=1), 'no group 1; there are 1 (0 to 0)'),
            (dict(step=-1, group=None), 'greater than or equal to 0'), (dict(step=2), 'group'),
            (dict(step=2.5, group=None), 'valid integer'), (dict(step=2, group='1'), 'valid integer')):
        assert why in ask('cut', **bad) and (view.step, view.group)==(3, 2)
    assert 'no harvest' in ask('detail', key='s.0:0')

@pytest.mark.parametrize('seed', range(4))
def test_a_group_is_followed_and_found_again(seed):
    "Whatever way the cut goes, the group is the one with the component that came first in it when it was picked"
    merges,gen = random_merges(40, seed, 39),np.random.default_rng(seed)
    view = ClusterPicker(merges, step=20)
    view.group = int(gen.integers(20))
    picked = view.selected_group
    for step in gen.integers(0, 40, 12).tolist():
        if gen.random()<.5: view.step = step
        else: view.cut(step=step, group=int(merges.groups_after(step).numbers([picked.keys[0]])[0]))
        assert picked.keys[0] in view.selected_group and view.selected_group in list(merges.groups_after(step))
    view.step = 20
    assert view.selected_group==picked

def test_numbers_of_numpy_are_taken_and_others_refused():
    view = ClusterPicker(random_merges(9, 0, 8))
    view.step,view.group = np.int64(4),np.int32(1)
    assert (view.step, view.group)==(4, 1) and json.dumps(view.snapshot_state())
    for bad in (1.5, '1', None, [1]):
        with pytest.raises((TypeError,TraitError)): view.step = bad
    for bad in (1.5, '1', [1]):
        with pytest.raises((TypeError,TraitError)): view.group = bad
    assert (view.step, view.group)==(4, 1)

def test_memberships_may_be_of_other_text_and_more_components():
    merges = random_merges(6, 0, 5)
    m = Memberships([*reversed(merges.keys), 'other:0'], np.random.default_rng(0).random((70, 7))<.5)
    assert ClusterPicker(merges, m=m).cofiring and not ClusterPicker(merges, m=m).no_map
