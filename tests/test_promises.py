"The short forms of the attacks on what is promised; `python tests/attacks.py all` runs the long ones"
import os, sys
import pytest
import attacks

posix = pytest.mark.skipif(os.name!='posix', reason='sends signals that Windows does not have')

def test_threads_run_a_model_each_in_its_own_way():
    found = attacks.threads(calls=200)
    assert not found['wrong'] and not found['errors'] and not found['hooks'], found

def test_tasks_keep_their_blocks_to_themselves():
    found = attacks.tasks(calls=60)
    assert not found['wrong'] and not found['hooks'], found

forking = pytest.mark.skipif(sys.platform!='linux', reason='forks a process that has loaded torch')

@posix
def test_interrupts_leave_no_hook():
    found = attacks.interrupts(times=200)
    assert not found['left'] and not found['wrong'], found

def test_damaged_files_are_noticed_and_named():
    for kind,found in attacks.flips(flips=4).items(): assert not found['bad'] and found['damages']>30, (kind, found)

@posix
def test_a_stopped_labelling_asks_no_more():
    found = attacks.stopped_labels(times=20)
    assert not found['late'] and not found['alive'] and not found['missing'] and not found['left'], found

@forking
def test_two_processes_share_the_labelling():
    found = attacks.shared_labels(keys=20)
    assert found==dict(codes=[0,0], asked=20, labels=20, left=[]), found

@forking
def test_kills_lose_nothing():
    for kind,found in attacks.kills(training=3, others=3, saves=5).items():
        assert not found['left'] and not found.get('wrong') and not found.get('paid_twice'), (kind, found)

@forking
def test_processes_in_one_folder_mix_nothing():
    for kind,found in attacks.crowds(loads=60).items():
        assert not any(found['codes']) and not found.get('left') and found.get('same', True), (kind, found)
