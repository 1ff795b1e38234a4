"The two runs of an edit side by side: numbers against logits, arguments that are refused, tokens that look like markup"
import json
from copy import copy
import pytest, torch
from hostile import QUOTE, STORY
from messages import caller
from spd_nb.diff import EditDiff
from spd_nb.edit import ablated
from spd_nb.export import baked
from spd_nb.model import load
from spd_nb.pages import page
from spd_nb.stories import story_tokenizer, vocabulary
from spd_nb.tradeoff import generations

PROMPTS = ['One sunny day Tom went to the river.', 'Mia was a shy girl. Her aunt took her to the park. Her aunt said,',
    'Tom had a red ball. He got a letter: "See you at the park:)" Tom was happy.']

@pytest.fixture(scope='module')
def dm(): return load(STORY)

@pytest.fixture(scope='module')
def gone(dm): return ablated(dm, [QUOTE])

@pytest.fixture
def quiet(dm, gone): return EditDiff(dm, gone, PROMPTS, n=1)

def test_next_tokens_agree_with_the_logits(dm, gone, quiet):
    ids = {t:i for i,t in enumerate(vocabulary())}
    x = torch.tensor([[ids['<eos>'],*story_tokenizer()(PROMPTS[1], add_special_tokens=False).input_ids]])
    t = quiet.texts[1]
    assert min(t['kl'])>=0 and quiet.zmax==1
    with torch.no_grad():
        p = dm(x)[0].softmax(-1)
        with gone: q = dm(x)[0].softmax(-1)
    for i,some in enumerate(t['next']):
        likely = torch.maximum(p, q)[i].topk(8).indices
        assert [o[0] for o in some]==[vocabulary()[j] for j in likely]
        torch.testing.assert_close(torch.tensor([o[1:] for o in some]), torch.stack([p[i,likely], q[i,likely]], 1),
            atol=1e-4, rtol=0)

def test_lengths_are_as_asked(dm, gone, quiet):
    assert ''.join(s for s,_ in EditDiff(dm, gone, PROMPTS[0], n=5).texts[0]['after'])==generations(dm, gone,
        PROMPTS[0], n=5, samples=0).table.after[0]
    quiet.prompt = 1
    assert EditDiff(dm, gone, PROMPTS[1:2], top=3, n=2).selected.index.tolist()==quiet.selected.index[:3].tolist()
    assert len(EditDiff(dm, gone, ['Tom'], n=1, top=10**6).selected)==len(vocabulary())

def test_an_unknown_word_is_named(dm, gone):
    assert EditDiff(dm, gone, 'Tom zyzzyva', n=1).texts[0]['unknown']==[[2,' zyzzyva']]

def test_edits_by_importance_and_edited_models(dm, gone):
    gated = EditDiff(dm, ablated(dm, [QUOTE], ci_threshold=.1), PROMPTS[1:2], n=5)
    assert gated.selected.change[' "']<-.5
    same = EditDiff(dm, baked(dm, gone), PROMPTS[1:2], n=1)
    assert (len(same.texts), same.about)==(1, type(dm.target).__name__)

@pytest.mark.parametrize('args,why', [(dict(prompt=3, position=0), 'no prompt 3; there are 3 (0 to 2)'),
    (dict(prompt=0, position=-1), 'greater than or equal to 0'), (dict(prompt='0', position=0), 'valid integer')],
    ids=repr)
def test_calls_for_other_tokens_are_refused(args, why, quiet):
    was = quiet.prompt,quiet.position
    assert why in caller(quiet)('pick', **args) and (quiet.prompt, quiet.position)==was

def test_positions_go_with_their_prompt(quiet):
    ask,last = caller(quiet),len(quiet.texts[2]['tokens'])
    assert f'no position {last}; there are {last}' in ask('pick', prompt=2, position=last)
    assert ask('pick', prompt=2, position=last-1) is None and (quiet.prompt, quiet.position)==(2, last-1)
    with pytest.raises(ValueError, match=f'no position {last}'): quiet.position = last
    quiet.prompt = 1  # opens where the KL is largest
    assert quiet.position==len(quiet.texts[1]['tokens'])-1

@pytest.mark.parametrize('args,why',
    [(dict(top=0), '`top` must be at least 1, got 0'), (dict(n=0), '`n` must be at least 1, got 0')], ids=repr)
def test_wrong_numbers_are_refused(args, why, dm, gone):
    with pytest.raises(ValueError, match=why): EditDiff(dm, gone, PROMPTS, **args)

def test_beginnings_of_texts(dm, gone):
    headless = copy(story_tokenizer())
    headless.bos_token = None
    with pytest.raises(ValueError, match='an empty text has no tokens'): EditDiff(dm, gone, [''], tokenizer=headless)
    assert EditDiff(dm, gone, ['Tom'], n=1, tokenizer=headless).texts[0]['tokens']==[' Tom']
    assert EditDiff(dm, gone, [''], n=1).texts[0]['tokens']==['<eos>']

def test_tokens_that_look_like_markup_stay_text(dm, gone, tmp_path):
    nasty,plain = copy(story_tokenizer()),story_tokenizer()
    evil = {' "':'</script><script>alert(1)</script>', ':':'\u202e', ' Tom':'<b>'}
    nasty.batch_decode = lambda *a, **k: [s if s[1:] not in evil else s[0]+evil[s[1:]]
        for s in plain.batch_decode(*a, **k)]
    nasty.decode = lambda *a, **k: plain.decode(*a, **k).replace(' "', '<script>alert(2)</script>\u202e')
    bad = EditDiff(dm, gone, ['Tom went to the river and said:'], n=20, tokenizer=nasty)
    state = json.dumps(bad.snapshot_state(), ensure_ascii=False, allow_nan=False)
    assert '⟨202E⟩' in state and '\u202e' not in state and '</script><script>alert(1)</script>' in state
    html = bad.to_html(tmp_path/'d.html').read_text(encoding='utf-8')
    assert 'alert(2)' in html and '<script>alert' not in html and '\u202e' not in html
    assert html==page({'':[bad]}, repr(bad))

def test_the_table_holds_the_largest_kl(quiet):
    for t in quiet._texts: assert f'>{max(t["kl"]):.4g}<' in quiet.plain_html()
