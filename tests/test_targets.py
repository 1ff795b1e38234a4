"Targets other than causal language models: what a save names is what `load` opens"
import json, re, subprocess, sys
from functools import partial
import pytest, torch
import transformers as hf
from spd_nb import lms
from spd_nb.core import seeded
from spd_nb.edit import ablated
from spd_nb.eval import report
from spd_nb.harvest import Harvest, harvest
from seals import rewritten
from spd_nb.model import decompose, load, save
from spd_nb.objectives import spd_losses
from spd_nb.stories import stories, story_tokenizer
from spd_nb.targets import find_target, fingerprint, reference
from spd_nb.train import fit

hf.logging.set_verbosity_error()
pytestmark = pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing`:FutureWarning')  # peft asks for it
BERT = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20, vocab_size=37,
    max_position_embeddings=12)
VIT = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20, image_size=8, patch_size=4)
T5 = dict(vocab_size=37, d_model=16, d_kv=8, d_ff=20, num_layers=1, num_heads=2)
CLIP = dict(vocab_size=37, hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2,
    max_position_embeddings=12, projection_dim=8)
MODELS = [(hf.BertForSequenceClassification, hf.BertConfig(**BERT, num_labels=3), '*intermediate.dense'),
    (hf.BertModel, hf.BertConfig(**BERT), '*intermediate.dense'),
    (hf.BertForMaskedLM, hf.BertConfig(**BERT), '*intermediate.dense'),
    (hf.ViTForImageClassification, hf.ViTConfig(**VIT, num_labels=5), 'classifier'),
    (hf.ViTModel, hf.ViTConfig(**VIT), 'pooler.dense'),
    (hf.T5ForConditionalGeneration, hf.T5Config(**T5, decoder_start_token_id=0), 'encoder*DenseReluDense.wi'),
    (hf.T5EncoderModel, hf.T5Config(**T5), '*DenseReluDense.wi'),
    (hf.CLIPTextModel, hf.CLIPTextConfig(**CLIP), '*mlp.fc1'),
    (hf.CLIPTextModelWithProjection, hf.CLIPTextConfig(**CLIP), '*mlp.fc1'),
    (hf.LlamaForSequenceClassification, hf.LlamaConfig(vocab_size=37, hidden_size=16, intermediate_size=20,
    num_hidden_layers=1, num_attention_heads=2, pad_token_id=0), '*up_proj')]

def made(cls, config, folder):
    torch.manual_seed(0)
    cls(config).save_pretrained(folder)
    return cls.from_pretrained(folder).eval()

@pytest.mark.parametrize('cls,config,sites', MODELS, ids=lambda m: getattr(m, '__name__', ''))
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_a_save_opens_with_the_class_it_was_made_of(cls, config, sites, dtype, tmp_path):
    model = made(cls, config, tmp_path/'model').to(dtype)
    dm = decompose(model, sites, C=4)
    back = load(save(dm, tmp_path/'saved'), trust=True)
    assert type(back.target) is cls and fingerprint(back.target)==fingerprint(model)
    assert back.C==dm.C and not back.target.training

def test_a_head_that_the_checkpoint_lacks_is_not_drawn_at_random(tmp_path):
    made(hf.BertModel, hf.BertConfig(**BERT), tmp_path/'model')
    model = hf.BertForSequenceClassification.from_pretrained(tmp_path/'model').eval()
    folder = save(decompose(model, 'classifier', C=2), tmp_path/'saved')
    with pytest.raises(ValueError,
            match='has no weights for classifier.bias, classifier.weight.*Pass the original model as `target`'):
        load(folder, trust=True)
    assert load(folder, target=model).sites==['classifier']
    model.save_pretrained(tmp_path/'whole')
    assert load(folder,
        target=hf.BertForSequenceClassification.from_pretrained(tmp_path/'whole').eval()).sites==['classifier']

class Mine(hf.BertModel):
    "A class of one's own, which a save must not import unasked"

def test_a_subclass_is_imported_only_when_trusted(tmp_path):
    model = made(Mine, hf.BertConfig(**BERT), tmp_path/'model')
    folder = save(decompose(model, '*intermediate.dense', C=4), tmp_path/'saved')
    assert reference(model)['kind']=='import'
    with pytest.raises(ValueError, match='test_targets:Mine, which is not part of spd_nb or transformers'): load(folder)
    assert type(load(folder, trust=True).target) is Mine

@pytest.mark.parametrize('name', ['pipeline','AutoTokenizer','BertConfig','os','no_such_class'])
def test_a_reference_names_models_and_nothing_else(name):
    with pytest.raises(ValueError, match='is not a model of transformers'):
        find_target(dict(kind='hf', model=name, name='x', revision=None, dtype='float32'))

def test_a_model_of_the_hub_is_found_at_the_commit_it_was_opened_at(monkeypatch):
    model,asked = hf.BertModel(hf.BertConfig(**BERT)).eval(),[]
    model.config.name_or_path,model.config._commit_hash = 'someone/bert','abc123'
    ref = reference(model)
    assert (ref['name'], ref['revision'])==('someone/bert', 'abc123')
    monkeypatch.setattr(lms, 'pretrained', lambda *a, **kw: asked.append((*a, kw)) or model)
    assert find_target(ref, trust=True) is model
    assert asked==[(hf.BertModel, 'someone/bert', torch.float32, 'abc123', dict(pickled=False))]
    call = "BertModel.from_pretrained('someone/bert', revision='abc123', dtype=torch.float32).eval()"
    with pytest.raises(ValueError, match=re.escape(call)): find_target(ref)

def test_a_reference_of_an_earlier_save_opens_a_causal_model(tmp_path):
    model = made(hf.LlamaForCausalLM, hf.LlamaConfig(vocab_size=37, hidden_size=16, intermediate_size=20,
        num_hidden_layers=1, num_attention_heads=2), tmp_path/'model')
    folder = save(decompose(model, '*up_proj', C=4), tmp_path/'saved')
    ref = json.loads((folder/'decomposition.json').read_text(encoding='utf-8'))['target']
    del ref['model']
    rewritten(folder/'decomposition.json', target=ref, output=..., files=...)
    assert type(load(folder, trust=True).target) is hf.LlamaForCausalLM

def test_a_part_of_a_model_is_handed_to_load(tmp_path):
    model = made(hf.BertModel, hf.BertConfig(**BERT), tmp_path/'model')
    for part in (model.encoder, model.encoder.layer[0].intermediate):
        folder = save(decompose(part, '*dense', C=4), tmp_path/'saved')
        with pytest.raises(ValueError, match='pass the model itself as `target`'): load(folder)
        with pytest.raises(ValueError, match='cannot build .* without arguments.*pass the model itself as `target`'):
            load(folder, trust=True)
        assert load(folder, target=part).target is part

class Awkward(torch.nn.Module):
    "A counter and a scale without axes, as batch norm and learnt temperatures have"
    def __init__(self, spec=None):
        super().__init__()
        self.a = torch.nn.Linear(5, 6)
        self.b = torch.nn.Linear(6, 3)
        self.bn = torch.nn.BatchNorm1d(6)
        self.scale = torch.nn.Parameter(torch.tensor(2.))
        self.spec = spec
    def forward(self, x): return self.b(torch.relu(self.bn(self.a(x))))*self.scale

@pytest.mark.parametrize('spec', [None, 'a name', dict(kind='tms'), torch.ones(2)], ids=str)
def test_any_module_is_saved_whatever_it_calls_spec(spec, tmp_path):
    model = Awkward(spec).eval()
    dm = decompose(model, ['a','b'], C=4)
    back = load(save(dm, tmp_path/'saved'), target=model)
    assert torch.equal(back.at('a').V, dm.at('a').V) and not (tmp_path/'saved'/'target.safetensors').exists()
    with torch.no_grad(): model.scale.add_(1.)
    with pytest.raises(ValueError, match="weights are not those"): load(tmp_path/'saved', target=model)

class Flat(torch.nn.Module):
    "An importance function of one's own, with an argument and without a `spec`"
    def __init__(self, sites, start):
        super().__init__()
        self.b = torch.nn.ParameterDict({s.replace('.', '-'):torch.full((cs.C,), start) for s,cs in sites.items()})
    def forward(self, reads, acts): return {s:acts[s]*0+self.b[s.replace('.', '-')] for s in acts}

def soft(x): return x.sigmoid()

class Sure(Awkward):
    "Built twice, it has the same weights"
    def __init__(self):
        with seeded(0): super().__init__()

def test_a_class_that_builds_its_weights_opens_by_itself_when_trusted(tmp_path):
    folder = save(decompose(Sure().eval(), 'a', C=4), tmp_path/'saved')
    with pytest.raises(ValueError,
            match='If a call without arguments builds it with the same weights, `trust=True` imports and calls it'):
        load(folder)
    assert type(load(folder, trust=True).target) is Sure

@pytest.mark.parametrize('ci', [partial(Flat, start=.5), lambda sites: Flat(sites, .5)], ids=['partial','lambda'])
def test_parts_of_ones_own_are_fitted_judged_saved_and_opened(ci, tmp_path):
    model = Awkward().eval()
    dm = decompose(model, ['a','b'], ci, C=6, lower=soft)
    batches = [torch.rand(16, 5) for _ in range(3)]
    run = fit(dm, batches, spd_losses(), steps=4, path=tmp_path/'run', progress=False)
    assert report(dm, batches).verdict
    for folder in (run.path, save(dm, tmp_path/'saved')):
        back = load(folder, target=model, ci=ci, lower=soft)
        assert all(torch.equal(a, b) for a,b in zip(back.trainable_parameters(), dm.trainable_parameters()))
        assert torch.equal(back.ci(batches[0]).lower['a'], dm.ci(batches[0]).lower['a'])
        with pytest.raises(ValueError, match='made with ci=.*test_targets:'): load(folder, target=model, lower=soft)
    if isinstance(ci, partial): assert torch.equal(load(folder, target=model, trust=True).ci_fn.b['a'], dm.ci_fn.b['a'])

class Scaled(hf.LlamaForCausalLM):
    "A language model with a scale and a counter without axes, and a `spec` of its own"
    def __init__(self, config):
        super().__init__(config)
        self.scale,self.spec = torch.nn.Parameter(torch.tensor(2.)),'a note of my own'
        self.register_buffer('seen', torch.tensor(3))
        self.post_init()

def test_what_cannot_be_saved_is_refused_before_training(tmp_path):
    class Told(Flat):
        def get_extra_state(self): return 'a text'
        def set_extra_state(self, state): pass
    dm = decompose(Awkward().eval(), 'a', partial(Told, start=.5), C=6)
    with pytest.raises(TypeError, match='_extra_state.* in the state of Told is a str, and only tensors are saved'):
        fit(dm, [torch.rand(4, 5)], spd_losses(), steps=1, path=tmp_path, progress=False)
    assert not dm.training_run

def test_evidence_and_exports_of_a_model_with_a_number_without_axes(tmp_path):
    size = dict(vocab_size=len(story_tokenizer()), hidden_size=16, intermediate_size=20, num_hidden_layers=1,
        num_attention_heads=2)
    lm = made(Scaled, hf.LlamaConfig(**size, tie_word_embeddings=False), tmp_path/'model')
    dm = decompose(lm, '*up_proj', C=20)
    h = harvest(dm, [stories(2, 16)[0]], tmp_path/'harvest', tokenizer=story_tokenizer(), examples=3, progress=False)
    edit = ablated(dm, next(iter(h.keys)))
    for form in ('hf','peft'): assert (edit.export(tmp_path/form, form)/'edit.json').exists()
    assert Harvest(h.path, load(save(dm, tmp_path/'saved'), target=lm)).keys==h.keys

def test_a_reference_is_data_that_needs_no_toy_or_story_model():
    "The page that writes and reads references imports the toys and the story model only to build one"
    code = "import sys, spd_nb.targets; print([m for m in ('spd_nb.toys','spd_nb.lms') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout=='[]\n'
