"""What `export` writes is opened by others: a fresh process that has transformers and peft, and cannot import this
package"""
import json, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
import pytest, torch
import transformers as hf
from peft import PeftModel
from torch import nn
from spd_nb.edit import ablated, scaled, u_replaced
from spd_nb.lms import load_lm
from spd_nb.model import decompose, load
from spd_nb.stories import story_tokenizer

ROOT = Path(__file__).parent.parent
DOWN = 'model.layers.1.mlp.down_proj'

# peft asks transformers for a name that is about to go
pytestmark = [pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing`:FutureWarning'),
    pytest.mark.filterwarnings('ignore:fan_in_fan_out is set')]

FRESH = """
import sys
sys.modules['spd_nb'] = None  # an import of it fails
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
folder,base = sys.argv[1:]
if base:
    from peft import PeftModel
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
else: model = AutoModelForCausalLM.from_pretrained(folder)
tok = AutoTokenizer.from_pretrained(folder)
x = tok('<eos> Ida went to the farm. She got a letter: "See you at the', return_tensors='pt')
print(tok.decode(model.eval().generate(input_ids=x.input_ids, attention_mask=x.attention_mask, max_new_tokens=24, do_sample=False)[0]))
"""  # noqa: E501

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "An edit, where it was exported to, and what the model writes under it"
    dm,tmp,tok = load(ROOT/'data'/'story'),tmp_path_factory.mktemp('exports'),story_tokenizer()
    mouth = dm.target.get_output_embeddings().weight[tok.convert_tokens_to_ids('o')]
    e = u_replaced(dm, DOWN, 130, -1.2*mouth/mouth.norm())+ablated(dm, [f'{DOWN}:80'])
    dm.target.save_pretrained(tmp/'base')
    e.export(tmp/'hf', 'hf', tok)
    e.export(tmp/'peft', 'peft', tok)
    x = tok('<eos> Ida went to the farm. She got a letter: "See you at the', return_tensors='pt')
    def write():
        out = dm.target.generate(x.input_ids, attention_mask=x.attention_mask, max_new_tokens=24, do_sample=False)
        return tok.decode(out[0])
    plain = write()
    with e: return tmp,plain,write()

@pytest.mark.parametrize('form', ['hf','peft'])
def test_a_fresh_process_writes_what_the_context_wrote(made, form):
    tmp,plain,edited = made
    run = subprocess.run([sys.executable, '-c', FRESH, tmp/form, tmp/'base' if form=='peft' else ''],
        capture_output=True, text=True, cwd=tmp)
    assert run.stdout.strip()==edited!=plain, run.stderr

LOGITS = """
import sys
sys.modules['spd_nb'] = None
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
with torch.no_grad(): torch.save(model(torch.arange(24)[None]).logits, sys.argv[2])
"""

@pytest.mark.parametrize('site', ['model.embed_tokens','lm_head'])
def test_an_edit_of_a_tied_weight_is_right_in_a_fresh_process(site, tmp_path):
    "From the refusal, by its own advice, to another process, and back into this package"
    dm = decompose(load(ROOT/'data'/'story').target, {site:8})
    e,x = scaled(dm, {f'{site}:{c}':2. for c in range(8)}),torch.arange(24)[None]
    with e, torch.no_grad(): want = dm(x)
    for form in ('hf','peft'):
        with pytest.raises(ValueError, match='untie=True'): e.export(tmp_path/'tied', form)
    e.export(tmp_path/'own', form='hf', untie=True)
    subprocess.run([sys.executable, '-c', LOGITS, tmp_path/'own', tmp_path/'logits.pt'], check=True, cwd=tmp_path)
    with torch.no_grad():
        for got in (torch.load(tmp_path/'logits.pt'), load_lm(tmp_path/'own').model(x).logits):
            assert (got-want).abs().max()<2e-5<(dm(x)-want).abs().max()

ids = torch.arange(14).view(2, 7)
small = dict(vocab_size=19, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
    max_position_embeddings=16)
t5 = dict(vocab_size=19, d_model=8, d_ff=12, d_kv=4, num_layers=1, num_heads=2, decoder_start_token_id=0)
KINDS = [('BertForSequenceClassification', small, 'bert.*.dense', 'SEQ_CLS'),
    ('BertForSequenceClassification', small, 'classifier', None),
    ('BertForTokenClassification', small, 'bert.*.dense', 'TOKEN_CLS'),
    ('BertForQuestionAnswering', small, 'bert.*.dense', 'QUESTION_ANS'), ('BertForMaskedLM', small,
        '*.transform.dense', None), ('BertModel', small, 'encoder.*.dense', 'FEATURE_EXTRACTION'),
    ('T5ForConditionalGeneration', t5, '*.wi', 'SEQ_2_SEQ_LM'), ('LlamaForCausalLM', small, '*proj', 'CAUSAL_LM'),
    ('GPT2LMHeadModel', dict(vocab_size=19, n_embd=8, n_layer=1, n_head=2, n_positions=16, tie_word_embeddings=False),
    '*', 'CAUSAL_LM')]

@pytest.mark.parametrize('name,config,sites,task', KINDS)
def test_an_adapter_knows_its_kind_of_model(name, config, sites, task, tmp_path):
    "Opened by peft on a saved base, and merged, it answers as the edit does"
    torch.manual_seed(0)
    cls = getattr(hf, name)
    model = cls(cls.config_class(**config)).eval()
    model.save_pretrained(tmp_path/'base')
    batch = dict(input_ids=ids)|(dict(decoder_input_ids=ids[:,:4]) if model.config.is_encoder_decoder else {})
    part = 'start_logits' if 'Question' in name else None
    sites = [s for s in decompose(model, sites, C=3, output=part).sites if s!='transformer.wpe']
    dm = decompose(model, sites, C=6, output=part)
    e = scaled(dm, {f'{s}:{c}':4. for s in sites for c in range(1+len(s)%3)})
    e.export(tmp_path/'adapter', 'peft')
    about = json.loads((tmp_path/'adapter'/'adapter_config.json').read_text(encoding='utf-8'))
    assert about['task_type']==task and about['peft_type']=='LORA'
    there = PeftModel.from_pretrained(cls.from_pretrained(tmp_path/'base'), tmp_path/'adapter').eval()
    with torch.no_grad():
        with e: want = dm(batch)
        effect = (want-dm(batch)).abs().max()
        for m in (there, there.merge_and_unload()):
            out = m(**batch)
            got = out[part or ('logits' if 'logits' in out else 'last_hidden_state')]
            assert (got-want).abs().max()<1e-4*effect+1e-7

def test_an_adapter_of_a_model_of_texts_and_images_passes_both_on(tmp_path):
    "peft's wrapper for features passes token ids and drops pixels, so none is asked for"
    torch.manual_seed(0)
    wide = dict(hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2)
    model = hf.CLIPModel(hf.CLIPConfig(text_config=wide|dict(vocab_size=30, max_position_embeddings=8, bos_token_id=28,
        eos_token_id=29),
        vision_config=wide|dict(image_size=4, patch_size=2), projection_dim=6)).eval()
    model.save_pretrained(tmp_path/'base')
    batch = dict(input_ids=torch.randint(0, 28, (3, 5)), pixel_values=torch.randn(3, 3, 4, 4))
    dm = decompose(model, 'text_model*fc2', C=8, batch=batch, output='logits_per_image')
    e = scaled(dm, {f'{dm.sites[0]}:{c}':9. for c in range(4)})
    e.export(tmp_path/'adapter', 'peft')
    there = PeftModel.from_pretrained(hf.CLIPModel.from_pretrained(tmp_path/'base'), tmp_path/'adapter').eval()
    with torch.no_grad():
        with e: want = dm(batch)
        assert (there(**batch).logits_per_image-want).abs().max()<1e-4*(want-dm(batch)).abs().max()

def test_an_adapter_that_the_model_cannot_run_with_is_refused(tmp_path):
    "Whisper reads how many positions its embedding has, which peft's wrapper does not say; the advice works"
    torch.manual_seed(0)
    sizes = dict(d_model=8, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=12, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=12)
    model = hf.WhisperModel(hf.WhisperConfig(**sizes, vocab_size=30, num_mel_bins=4, max_source_positions=7,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3)).encoder.eval()
    x = torch.randn(3, 4, 14)
    dm = decompose(model, 'embed_positions', C=8, batch=x)
    e = scaled(dm, {'embed_positions:0':9.})
    with pytest.raises(TypeError, match="does not run with an adapter at 'embed_positions'.*form='hf'"):
        e.export(tmp_path/'adapter', 'peft')
    assert not (tmp_path/'adapter').exists()
    with torch.no_grad():
        with e: want = dm(x)
        assert (type(model).from_pretrained(e.export(tmp_path/'whole',
            'hf')).eval()(x).last_hidden_state-want).abs().max()<1e-5<(dm(x)-want).abs().max()

class Asks(hf.PreTrainedModel):
    "Answers otherwise when its layer is wrapped, as a model that asks for a layer's class may"
    config_class = hf.PreTrainedConfig
    def __init__(self, config):
        super().__init__(config)
        self.a = nn.Linear(5, 4)
        self.post_init()
    def forward(self, x): return self.a(x)*(1 if type(self.a) is nn.Linear else 2)

def test_an_adapter_under_which_the_model_answers_otherwise_is_refused(tmp_path):
    torch.manual_seed(0)
    dm = decompose(Asks(hf.PreTrainedConfig()).eval(), 'a', C=6, batch=torch.randn(3, 5))
    with pytest.raises(ValueError, match="gives other outputs with this adapter than under the edit; use `form='hf'`"):
        scaled(dm, {'a:0':3.}).export(tmp_path/'adapter', 'peft')
    assert not (tmp_path/'adapter').exists()

class Nested(hf.PreTrainedModel):
    "Two modules of one name, one inside another"
    config_class = hf.PreTrainedConfig
    def __init__(self, config):
        super().__init__(config)
        self.fc = nn.Linear(5, 5)
        self.inner = nn.ModuleDict(dict(fc=nn.Linear(5, 5), more=nn.ModuleDict(dict(fc=nn.Linear(5, 5)))))
        self.post_init()
    def forward(self, x): return self.inner['more'].fc(self.inner['fc'](self.fc(x)).relu()).relu()

@pytest.mark.parametrize('sites', [['fc'], ['inner.fc'], ['fc','inner.more.fc']])
def test_an_adapter_goes_to_its_sites_only(sites, tmp_path):
    "peft takes the end of a module's name for the module; all of them have other ranks here"
    torch.manual_seed(0)
    model,x = Nested(hf.PreTrainedConfig()).eval(),torch.randn(4, 5)
    dm = decompose(model, sites, C=4)
    e = scaled(dm, {f'{s}:{c}':3. for s in sites for c in range(len(s)%3+1)})
    model.save_pretrained(tmp_path/'base')
    e.export(tmp_path/'adapter', 'peft')
    e.export(tmp_path/'whole')
    there = PeftModel.from_pretrained(Nested.from_pretrained(tmp_path/'base'), tmp_path/'adapter')
    assert sorted(n for n,m in there.base_model.model.named_modules() if hasattr(m, 'base_layer'))==sorted(sites)
    with torch.no_grad():
        with e: want = dm(x)
        for m in (there, Nested.from_pretrained(tmp_path/'whole')):
            assert (m(x)-want).abs().max()<1e-5<(model(x)-want).abs().max()

@pytest.fixture(scope='module')
def without_quotes():
    dm = load(ROOT/'data'/'story')
    return ablated(dm, f'{DOWN}:80')

@pytest.mark.parametrize('figures,kept',
    [(dict(x=float('nan'), y=[1.]), dict(x=None, y=[1.])), (SimpleNamespace(figures=lambda: dict(x=1.)), dict(x=1.))],
    ids=['not a number','an object'])
def test_figures_are_kept_as_strict_json(without_quotes, figures, kept, tmp_path):
    folder = without_quotes.export(tmp_path/'new', figures=figures)
    assert json.loads((folder/'edit.json').read_text(encoding='utf-8'))['figures']==kept

def test_what_cannot_be_exported_leaves_nothing_behind(without_quotes, tmp_path):
    with pytest.raises(ValueError, match='this edit changes nothing'):
        ablated(without_quotes.dm, []).export(tmp_path/'new', 'peft')
    with pytest.raises(TypeError): without_quotes.export(tmp_path/'new', figures=dict(logits=ids))
    with pytest.raises(Exception, match='gguf'): without_quotes.export(tmp_path/'new', 'gguf')
    assert not (tmp_path/'new').exists()
