"Readings of texts: components, labels and next tokens at each position, and texts that cannot be read"
import pytest, torch
from hostile import STORY
from messages import caller
from spd_nb.display import visible
from spd_nb.harvest import Harvest
from spd_nb.lens import PromptLens
from spd_nb.model import load

TEXT = 'Ida went to the farm. She got a letter: "See you at the'

@pytest.fixture
def lens(story): return PromptLens(story, prompt=TEXT)

@pytest.fixture(scope='module')
def story(): return Harvest(STORY/'harvest', load(STORY))

@pytest.fixture
def ask(lens): return caller(lens)

@pytest.mark.parametrize('t', [0,7,-1])
def test_next_tokens_and_components_are_the_models(t, lens, ask, story):
    r,dm = ask('read', text=TEXT),lens.dm
    toks,ci = story.run(TEXT)
    with torch.no_grad(): p = dm.clean(toks[None]).out[0,t].softmax(-1)
    assert r['next'][t][0][0]==visible(story.texts[int(p.argmax())])
    assert abs(r['next'][t][0][1]-p.max().item())<1e-4
    assert {(dm.sites[s],c) for s,c,*_ in r['active'][t]}=={(s,int(c)) for s in dm.sites
        for c in (ci[s][t]>.1).nonzero()}

def test_components_have_their_labels(ask, story):
    want = story.by_text(TEXT).query('position==10')
    assert [label for *_,label in ask('read', text=TEXT)['active'][10]]==[visible(o or i)
        for i,o in zip(want.input_label, want.output_label)]

def test_at_most_forty_components_of_a_token(ask):
    r = ask('read', text='Ida went')
    assert r['l0'][2]>40 and len(r['active'][2])==40

def test_calls_that_cannot_be_answered_change_nothing(lens, ask):
    assert 'at least 1 character' in ask('read', text='')
    assert 'context of 256' in ask('read', text='the '*600)
    assert 'valid string' in ask('read', text=3)
    assert lens.prompt==TEXT

def test_a_text_of_the_greatest_length_is_read(lens, ask):
    want,n = ask('read', text=TEXT),len(lens.h.run(TEXT)[0])
    lens.most = n-1
    assert f'has {n} tokens; up to {n-1} are shown' in ask('read', text=TEXT)
    lens.most = n
    assert ask('read', text=TEXT)==want

def test_a_display_that_follows_leaves_the_prompt(lens, ask):
    ask('read', text='He said', follow=True)
    assert lens.prompt==TEXT
    ask('read', text='He said')
    assert lens.prompt=='He said'

def test_the_picked_component_is_kept_in_a_page(lens, ask, story):
    key = story.by_text(TEXT).query('position==10').key.iloc[0]
    ask('pick', key=key)
    state = lens.snapshot_state(keys=[])
    assert lens.selected.key==key and list(state['details'])==[key] and state['prompt']==TEXT
