"""Decomposed models and saves under odd input: layouts of single positions, compiled targets, mixed precision,
damaged and moved folders"""
import re, shutil, threading, warnings
from collections import OrderedDict
from contextlib import chdir
from functools import partial
import pytest, torch
from torch import nn
from seals import rewritten
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM
from spd_nb.ci import ScalarCI
from spd_nb.sigmoids import lower_leaky_linear
from spd_nb.initialisation import aligned
from spd_nb.identity import with_identity
from spd_nb.display import as_html
from spd_nb.lms import StoryLM
from spd_nb.masks import Mask
from spd_nb.model import decompose, load, save
from spd_nb.targets import find_target, fingerprint, reference
from spd_nb.toys import TMS, ResidMLP

HOSTILE = '<script>alert(1)</script></style>"\'$x$\n'

@pytest.fixture
def toy(): return TMS(5, 2, seed=0).eval()

@pytest.fixture
def dm(toy): return decompose(toy, {'linear*':7}, tied={'linear2':'linear1'}, init=aligned)

@pytest.fixture
def saved(dm, tmp_path): return save(dm, tmp_path/'toy')

# ---- what is shown

def opened(dm, text):
    "A block of something that looks like an edit with this description"
    edit = type('Looks', (), dict(dm=dm, __repr__=lambda self: text))()
    return dm.hooked({}, owner=edit)

def test_names_and_verdicts_are_shown_as_text():
    site = HOSTILE.replace('/', '')
    odd = decompose(nn.Sequential(OrderedDict({site:nn.Linear(3, 2)})).eval(), '*', C=4)
    odd.training_run = dict(stopped_at=HOSTILE, steps=9)
    odd.report = dict(verdict=HOSTILE, checks=[dict(name=HOSTILE, verdict='<b>')])
    with opened(odd, HOSTILE): html = odd._repr_html_()
    assert set(re.findall('<([a-z]+)', html))=={'table','thead','tbody','tr','th','td','span'} and '$' not in html
    assert [html.count(as_html(h)) for h in (HOSTILE, site)]==[4,1]

def test_an_edit_is_shown_while_it_is_open(dm):
    with opened(dm, 'an edit'): assert '>open edit<' in dm._repr_html_()
    assert 'open edit' not in dm._repr_html_()

# ---- audits and layouts

class Turned(nn.Module):
    "Its site sees positions before rows"
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
    def forward(self, x):
        return self.a(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (x.shape[1], x.shape[0])).transpose(0, 1)

def test_a_batch_of_one_position_is_audited_again_with_a_longer_one():
    turned,x = decompose(Turned().eval(), 'a', C=5),torch.rand(3, 7, 4)
    turned.clean(x[:,:1])
    assert turned.ci(x).lower['a'].shape==(3,7,5) and turned.seats['a'].layout=='(S B)'

SITE = 'transformer.wpe'

@pytest.fixture
def positions():
    "GPT-2's position embedding, read once for all rows"
    torch.manual_seed(0)
    gpt = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=11, n_positions=6)).eval()
    return decompose(gpt, SITE, C=9),torch.randint(11, (3,5))

def test_positions_read_once_for_all_rows_have_importances_in_every_row(positions):
    dm,toks = positions
    assert dm.seats[SITE].layout=='1 S' and dm.ci(toks).lower[SITE].shape==(3,5,9)
    with dm.masked({SITE:Mask(torch.ones(9), torch.ones(()))}):
        assert torch.allclose(dm(toks), dm.target(toks).logits, atol=1e-5)

def test_positions_read_once_for_all_rows_can_be_removed_from_one_row(positions):
    dm,toks = positions
    row = torch.zeros(3, 5, dtype=torch.bool)
    row[1] = True
    with dm.masked({SITE:Mask(torch.zeros(9))}, lambda m: {SITE:row}):
        gone = (dm(toks)-dm.clean(toks).out).abs().amax(-1)>1e-6
    assert torch.equal(gone, row)

def test_positions_may_be_given_or_shifted_by_padding(positions):
    dm,toks = positions
    shifted = dict(input_ids=toks, position_ids=torch.tensor([[0,0,0,1,2]]*3))  # as rows with padding on the left have
    assert dm.ci(shifted).lower[SITE].shape==(3,5,9)
    left = dict(input_ids=torch.cat([torch.zeros(3, 1, dtype=int), toks], 1),
        attention_mask=(torch.arange(6)>0).long().expand(3, -1))
    assert torch.allclose(dm.ci(left).lower[SITE][:,1:], dm.ci(toks).lower[SITE], atol=1e-5)  # as the rows alone

def test_any_number_but_0_in_an_attention_mask_is_text(positions):
    dm,toks = positions
    marks = torch.ones_like(toks)
    marks[0,-2:] = 0
    assert torch.equal(dm.clean(dict(input_ids=toks, attention_mask=2*marks)).text, marks>0)
    assert dm.clean(dict(input_ids=toks, attention_mask=marks*0+1)).text is None

class Bypassed(nn.Module):
    "Uses the weight of `att.out_proj` without calling it"
    def __init__(self):
        super().__init__()
        self.att,self.out = nn.MultiheadAttention(8, 2, batch_first=True),nn.Linear(8, 3)
    def forward(self, x): return self.out(self.att(x, x, x, need_weights=False)[0])

NOT_CALLED = "cannot decompose 'att.out_proj', which is never called, but its weight is used"

def test_a_bypassed_site_is_refused_before_a_block_can_do_nothing_unnoticed():
    h = torch.rand(2, 5, 8)
    with pytest.raises(LookupError, match=NOT_CALLED): decompose(Bypassed().eval(), '*', C=9, batch=h)
    dm = decompose(Bypassed().eval(), '*', C=9)
    with pytest.raises(LookupError, match=NOT_CALLED):
        with dm.masked({'att.out_proj':Mask(torch.zeros(9))}): dm.target(h)

def test_other_sites_of_such_a_model_are_fine():
    h = torch.rand(2, 5, 8)
    dm = decompose(Bypassed().eval(), 'out', C=9)
    assert dm.seats is None and dm(h).shape==(2,5,3) and dm.seats['out'].layout=='B S'
    assert list(dm.audit(h))==['out']

class Twice(nn.Module):
    "Runs one layer twice and another never"
    def __init__(self):
        super().__init__()
        self.a,self.b = nn.Linear(3, 3),nn.Linear(3, 3)
    def forward(self, x): return self.a(self.a(x))

@pytest.mark.parametrize('site,error', [('a', "'a', which runs 2 times in one forward pass"), ('b', "'b' never ran")])
def test_a_site_runs_once_in_a_forward_pass(site, error):
    with pytest.raises(LookupError, match=error): decompose(Twice().eval(), site, C=4).clean(torch.rand(2, 3))

def test_a_single_row_is_no_batch_for_a_toy(dm):
    dm.clean(torch.rand(4, 5))
    with pytest.raises(TypeError, match=re.escape('a batch of shape (5,) is a single row')): dm.clean(torch.rand(5))
    with pytest.raises(TypeError, match=re.escape('a batch of shape (3,) is a single row')):
        decompose(nn.Sequential(nn.Linear(3, 4)).eval(), '*', C=5)(torch.rand(3))

def test_the_input_of_a_layer_can_be_decomposed(toy):
    wide,x = with_identity(toy, 'linear2'),toy.batches(4)[0]
    assert torch.equal(wide(x), toy(x))
    assert torch.equal(decompose(wide, 'linear2.identity', C=3).clean(x).inputs['linear2.identity'], toy.linear1(x))

# ---- compiled and scripted targets: hooks come and go unnoticed there

@pytest.fixture
def plain(): return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()

def test_a_compiled_target_is_refused(plain):
    with pytest.raises(LookupError, match="'_orig_mod.0' lies in a compiled OptimizedModule"):
        decompose(torch.compile(plain, backend='eager'), '*', C=5)(torch.rand(2, 3))

def test_a_target_compiled_later_is_refused(plain):
    dm = decompose(plain, '*', C=5, batch=torch.rand(2, 3))
    plain.compile(backend='eager')
    with pytest.raises(LookupError, match="'0' lies in a compiled Sequential"):
        with dm.masked({'0':Mask(torch.zeros(5))}): pass
    with pytest.raises(LookupError, match="'0' lies in a compiled Sequential"): dm.clean(torch.rand(2, 3))

@pytest.mark.filterwarnings('ignore:The .grad attribute')  # the compiler looks there itself
def test_a_compiled_copy_of_a_target_sees_masks_where_they_hold(plain):
    x = torch.rand(2, 3)
    dm = decompose(plain, '*', C=5, batch=x)
    compiled,before = torch.compile(plain, backend='eager'),plain(x)
    torch.testing.assert_close(compiled(x), before)
    for n in range(3):
        with dm.masked({'0':Mask(torch.full((5,), float(n)))}):
            here,there = [compiled(x)],[]
            t = threading.Thread(target=lambda: there.append(compiled(x)))
            t.start()
            t.join()
            torch.testing.assert_close(here[0], plain(x))
            assert not torch.allclose(here[0], before)
            torch.testing.assert_close(there[0], before)
        torch.testing.assert_close(compiled(x), before)

def test_a_compiled_site_is_refused(plain):
    plain[2].compile(backend='eager')
    with pytest.raises(LookupError, match="'2' lies in a compiled Linear"):
        decompose(plain, '*', C=5)(torch.rand(2, 3))

def test_a_scripted_target_is_refused():
    with warnings.catch_warnings(action='ignore'): scripted = torch.jit.script(nn.Sequential(nn.Linear(3, 2)).eval())
    with pytest.raises(TypeError, match='decompose the module it was made from'): decompose(scripted, '0', C=5)

# ---- saves

def mixed():
    toy = TMS(5, 2)
    toy.linear1.double()
    return toy

@pytest.mark.parametrize('make',
    [lambda: TMS(5, 2).half(), lambda: ResidMLP(6, 20, 4).bfloat16(), lambda: TMS(5, 2, identity=True).double(),
    lambda: StoryLM(d=8, d_mlp=16, layers=1).bfloat16(), mixed], ids=['half','bfloat16','double','story','mixed'])
def test_toys_and_story_models_keep_their_precision(make, tmp_path):
    target = make().eval()
    folder = save(decompose(target, '*linear*' if isinstance(target, TMS) else '*mlp*', C=10), tmp_path/'saved')
    assert fingerprint(load(folder).target)==fingerprint(target)
    assert {p.dtype for p in find_target(reference(target)).parameters()}=={next(target.parameters()).dtype}

def test_components_keep_their_precision(tmp_path):
    exact = decompose(TMS(5, 2).eval(), 'linear1', C=7).double()
    back = load(save(exact, tmp_path/'double'))
    for p,q in zip(back.trainable_parameters(), exact.trainable_parameters(), strict=True):
        assert p.dtype==torch.float64 and torch.equal(p, q)

def test_a_toy_that_was_changed_is_passed_to_load(toy, tmp_path):
    wide = with_identity(toy, 'linear2')
    folder = save(decompose(wide, 'linear2.identity', C=3), tmp_path/'wide')
    with pytest.raises(ValueError, match="do not fit a model built from {'kind': 'tms'"): load(folder)
    assert load(folder, target=wide).sites==['linear2.identity']

class Awkward(nn.Module):
    "State that cannot be saved, which a target may have"
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 3)
    def forward(self, x): return self.a(x)
    def get_extra_state(self): return dict(steps=3, amax=[torch.ones(2)])
    def set_extra_state(self, state): pass

def test_a_target_may_have_any_state(tmp_path):
    target = Awkward().eval()
    assert load(save(decompose(target, 'a', C=4), tmp_path/'awkward'), target=target).C==dict(a=4)

def test_a_model_and_its_decomposition_move_together(tmp_path):
    small = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=30, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2)).eval()
    small.save_pretrained(tmp_path/'project'/'model')
    with chdir(tmp_path/'project'):
        relative = decompose(GPTNeoXForCausalLM.from_pretrained('model').eval(), '*dense', C=9)
    save(relative, tmp_path/'project'/'decomposition')
    (tmp_path/'project').rename(tmp_path/'moved')
    moved = tmp_path/'moved'
    there = str((moved/'model').resolve())
    with pytest.raises(ValueError, match=f'from {re.escape(repr(there))}, a folder; nothing was opened there'):
        load(moved/'decomposition')
    assert load(moved/'decomposition', trust=True).target.config.name_or_path==there
    shutil.rmtree(moved/'model')
    with pytest.raises(OSError, match='Pass the original model as `target`'):
        load(moved/'decomposition', trust=True)
    assert load(moved/'decomposition', target=small).sites==['gpt_neox.layers.0.attention.dense']

def test_functions_of_the_package_keep_their_arguments(dm, tmp_path):
    x = torch.rand(4, 5)
    dm.ci_fn,dm.lower = ScalarCI(dm.components, hidden=3),partial(lower_leaky_linear, slope=.2)
    back = load(save(dm, tmp_path/'sloped'))
    assert back.new_ci(back.components).sites['linear1'].w1.shape==(3,7)
    assert torch.equal(back.ci(x).lower['linear1'], dm.ci(x).lower['linear1'])

@pytest.mark.parametrize('f', [nn.Sigmoid(), lambda x: x.sigmoid()], ids=['object','lambda'])
def test_a_function_without_a_name_is_passed_to_load(f, toy, tmp_path):
    x = torch.rand(4, 5)
    dm = decompose(toy, 'linear1', C=7, lower=f)
    folder = save(dm, tmp_path/'nameless')
    with pytest.raises(ValueError, match='cannot import'): load(folder, trust=True)
    assert torch.equal(load(folder, lower=f).ci(x).lower['linear1'], dm.ci(x).lower['linear1'])

# ---- damage

def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no decomposition in'): load(tmp_path/'nothing')
    with pytest.raises(FileNotFoundError, match='there are apd_5-2, induction, resid_1, spd_5-2, story'): load('storry')

@pytest.mark.parametrize('file,change,error', [
    ('components.safetensors', lambda b,folder: b[:-1], 'components.safetensors is damaged'),
    ('components.safetensors', lambda b,folder: (folder/'ci.safetensors').read_bytes(),
        'not the one that decomposition.json describes'),
    ('decomposition.json', lambda b,folder: (rewritten(folder/'decomposition.json', schema_version=2)/
        'decomposition.json').read_bytes(), 'schema version 2'),
    ('decomposition.json', lambda b,folder: b[:-2], 'decomposition.json is damaged')],
    ids=['truncated','swapped','future','json'])
def test_damage_is_named(file, change, error, saved):
    (saved/file).write_bytes(change((saved/file).read_bytes(), saved))
    with pytest.raises(ValueError, match=error): load(saved)

def test_a_save_that_comes_while_large_files_are_read_is_not_mixed_in(toy, tmp_path, monkeypatch):
    from spd_nb import integrity, model
    monkeypatch.setattr(integrity, 'WHOLE', 100)
    monkeypatch.setattr(integrity, '_BLOCK', 16)
    ours = [decompose(toy, 'linear*', C=4, seed=i) for i in (0, 1)]
    path,read = save(ours[0], tmp_path/'one'),model.read_trained
    def late(*a):
        monkeypatch.setattr(model, 'read_trained', read)
        components = read(*a).components
        save(ours[1], path)
        return read(*a)._replace(components=components)  # the old components, and the new importance function
    monkeypatch.setattr(model, 'read_trained', late)
    dm = load(path)
    assert torch.equal(dm.at('linear1').V, ours[1].at('linear1').V)
    assert all(torch.equal(a, b) for a,b in zip(dm.ci_fn.parameters(), ours[1].ci_fn.parameters()))
