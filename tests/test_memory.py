"Counts that do not fit into memory: what is said, and that doing as it says helps"
import subprocess, sys
import pytest

resource = pytest.importorskip('resource', reason='limits of memory are POSIX')

CODE = """
import logging, resource, sys, torch, warnings
logging.getLogger('transformers').setLevel(logging.ERROR)
from pathlib import Path
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from spd_nb.harvest import harvest
from spd_nb.model import decompose
torch.set_num_threads(1)
model = LlamaForCausalLM(LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=40_000, max_position_embeddings=64)).eval()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({f'w{i}':i for i in range(97)}, unk_token='w0')), unk_token='w0')
dm = decompose(model, 'model.layers.*.mlp.*', C=400)
batches = [torch.randint(97, (4,16)) for _ in range(2)]
run = lambda name, **kw: harvest(dm, batches, Path(sys.argv[1])/name, tokenizer=tokenizer, examples=4, progress=False, **kw)
held = int(Path('/proc/self/statm').read_text(encoding='utf-8').split()[0])*resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held+1050*2**20, resource.RLIM_INFINITY))
try: run('whole')
except RuntimeError as e: print(e)
print(run('part', sites=dm.sites[:1]))
"""  # noqa: E501

@pytest.mark.skipif(sys.platform!='linux', reason='reads /proc')
def test_counts_that_do_not_fit(tmp_path):
    done = subprocess.run([sys.executable, '-c', CODE, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode==0, done.stderr
    said,part = done.stdout.strip().splitlines()
    assert said.startswith(
        'out of memory: counts of 2,400 components and 40,000 tokens take 1.18 GB on cpu; some `sites` at a '
        'time'), said
    assert '400 components' in part
