"Targets other than causal language models: what a save names is what `load` opens"
import json
import pytest, torch
import transformers as hf
from spd_nb.model import decompose, find_target, fingerprint, load, reference, save

hf.logging.set_verbosity_error()
BERT = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20, vocab_size=37, max_position_embeddings=12)
VIT = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20, image_size=8, patch_size=4)
T5 = dict(vocab_size=37, d_model=16, d_kv=8, d_ff=20, num_layers=1, num_heads=2)
CLIP = dict(vocab_size=37, hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=12, projection_dim=8)
MODELS = [(hf.BertForSequenceClassification, hf.BertConfig(**BERT, num_labels=3), '*intermediate.dense'),
    (hf.BertModel, hf.BertConfig(**BERT), '*intermediate.dense'),
    (hf.BertForMaskedLM, hf.BertConfig(**BERT), '*intermediate.dense'),
    (hf.ViTForImageClassification, hf.ViTConfig(**VIT, num_labels=5), 'classifier'),
    (hf.ViTModel, hf.ViTConfig(**VIT), 'pooler.dense'),
    (hf.T5ForConditionalGeneration, hf.T5Config(**T5, decoder_start_token_id=0), 'encoder*DenseReluDense.wi'),
    (hf.T5EncoderModel, hf.T5Config(**T5), '*DenseReluDense.wi'),
    (hf.CLIPTextModel, hf.CLIPTextConfig(**CLIP), '*mlp.fc1'),
    (hf.CLIPTextModelWithProjection, hf.CLIPTextConfig(**CLIP), '*mlp.fc1'),
    (hf.LlamaForSequenceClassification, hf.LlamaConfig(vocab_size=37, hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0), '*up_proj')]

def made(cls, config, folder):
    torch.manual_seed(0)
    cls(config).save_pretrained(folder)
    return cls.from_pretrained(folder).eval()

@pytest.mark.parametrize('cls,config,sites', MODELS, ids=lambda m: getattr(m, '__name__', ''))
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_a_save_opens_with_the_class_it_was_made_of(cls, config, sites, dtype, tmp_path):
    model = made(cls, config, tmp_path/'model').to(dtype)
    dm = decompose(model, sites, C=4)
    back = load(save(dm, tmp_path/'saved'))
    assert type(back.target) is cls and fingerprint(back.target)==fingerprint(model)
    assert back.C==dm.C and not back.target.training

def test_a_head_that_the_checkpoint_lacks_is_not_drawn_at_random(tmp_path):
    made(hf.BertModel, hf.BertConfig(**BERT), tmp_path/'model')
    model = hf.BertForSequenceClassification.from_pretrained(tmp_path/'model').eval()
    folder = save(decompose(model, 'classifier', C=2), tmp_path/'saved')
    with pytest.raises(ValueError, match='has no weights for classifier.bias, classifier.weight.*Pass the original model as `target`'): load(folder)
    assert load(folder, target=model).sites==['classifier']
    model.save_pretrained(tmp_path/'whole')
    assert load(folder, target=hf.BertForSequenceClassification.from_pretrained(tmp_path/'whole').eval()).sites==['classifier']

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
    with pytest.raises(ValueError, match='is not a model of transformers'): find_target(dict(kind='hf', model=name, name='x', revision=None, dtype='float32'))

def test_a_reference_of_an_earlier_save_opens_a_causal_model(tmp_path):
    model = made(hf.LlamaForCausalLM, hf.LlamaConfig(vocab_size=37, hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2), tmp_path/'model')
    folder = save(decompose(model, '*up_proj', C=4), tmp_path/'saved')
    about = json.loads((folder/'decomposition.json').read_text())
    del about['target']['model'], about['output']
    (folder/'decomposition.json').write_text(json.dumps(about))
    assert type(load(folder).target) is hf.LlamaForCausalLM

class Awkward(torch.nn.Module):
    "A counter and a scale without axes, as batch norm and learnt temperatures have"
    def __init__(self, spec=None):
        super().__init__()
        self.a,self.b,self.bn,self.scale = torch.nn.Linear(5, 6),torch.nn.Linear(6, 3),torch.nn.BatchNorm1d(6),torch.nn.Parameter(torch.tensor(2.))
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
