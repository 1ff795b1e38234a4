"The short forms of the attacks on what is promised; `python tests/attacks.py all` runs the long ones"
import os
import pytest
import attacks

posix = pytest.mark.skipif(os.name!='posix', reason='sends signals that Windows does not have')

def test_threads_run_a_model_each_in_its_own_way():
    found = attacks.threads(calls=200)
    assert not found['wrong'] and not found['errors'] and not found['hooks'], found

def test_tasks_keep_their_blocks_to_themselves():
    found = attacks.tasks(calls=60)
    assert not found['wrong'] and not found['hooks'], found

@posix
def test_interrupts_leave_no_hook():
    found = attacks.interrupts(times=200)
    assert not found['left'] and not found['wrong'], found

def test_damaged_files_are_noticed_and_named():
    for kind,found in attacks.flips(flips=4).items(): assert not found['bad'] and found['damages']>30, (kind, found)
