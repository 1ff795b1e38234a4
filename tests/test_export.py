"What `export` writes is opened by others: a fresh process that has transformers and peft, and cannot import this package"
import subprocess, sys
from pathlib import Path
import pytest, torch
from spd_nb.edit import ablated, scaled, u_replaced
from spd_nb.lms import load_lm
from spd_nb.model import decompose, load
from spd_nb.stories import story_tokenizer

ROOT = Path(__file__).parent.parent
DOWN = 'model.layers.1.mlp.down_proj'

# peft asks transformers for a name that is about to go
pytestmark = pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing`:FutureWarning')

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
"""

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "An edit, where it was exported to, and what the model writes under it"
    dm,tmp,tok = load(ROOT/'data'/'story'),tmp_path_factory.mktemp('exports'),story_tokenizer()
    cs = dm.at(DOWN, 130)
    mouth = dm.target.get_output_embeddings().weight[tok.convert_tokens_to_ids('o')]
    e = u_replaced(dm, DOWN, 130, -1.2*mouth/mouth.norm())+ablated(dm, [f'{DOWN}:80'])
    dm.target.save_pretrained(tmp/'base')
    e.export(tmp/'hf', 'hf', tok)
    e.export(tmp/'peft', 'peft', tok)
    x = tok('<eos> Ida went to the farm. She got a letter: "See you at the', return_tensors='pt')
    write = lambda: tok.decode(dm.target.generate(x.input_ids, attention_mask=x.attention_mask, max_new_tokens=24, do_sample=False)[0])
    plain = write()
    with e: return tmp,plain,write()

@pytest.mark.parametrize('form', ['hf','peft'])
def test_a_fresh_process_writes_what_the_context_wrote(made, form):
    tmp,plain,edited = made
    run = subprocess.run([sys.executable, '-c', FRESH, tmp/form, tmp/'base' if form=='peft' else ''], capture_output=True, text=True, cwd=tmp)
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
    with pytest.raises(ValueError, match='untie=True'): e.export(tmp_path/'tied')
    e.export(tmp_path/'own', form='hf', untie=True)
    subprocess.run([sys.executable, '-c', LOGITS, tmp_path/'own', tmp_path/'logits.pt'], check=True, cwd=tmp_path)
    with torch.no_grad():
        for got in (torch.load(tmp_path/'logits.pt'), load_lm(tmp_path/'own').model(x).logits): assert (got-want).abs().max()<2e-5<(dm(x)-want).abs().max()
