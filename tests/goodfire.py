"""A small run of the authors' own torch code, read by plain torch: not part of the repository, so tests may skip it"""
import json
from pathlib import Path
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import load_file
from torch import nn
from spd_nb.components import Components, SiteDict
from spd_nb.model import Decomposed
from spd_nb.toys import rotary

HERE = Path(__file__).parents[1].resolve().parent/'shared/targets/goodfire'
RUN = 'llama_simple_mlp'

def fixture_or_skip(name):
    "A file of the run; skips the test where it is absent"
    if not (path := HERE/name).exists(): pytest.skip(f'the authors\' run is not here: {name}')
    return path

def expected(name): return json.loads(fixture_or_skip(name).read_text(encoding='utf-8'))

class Attention(nn.Module):
    "Causal attention with rotary positions and shared keys and values"
    def __init__(self, d, heads, groups):
        super().__init__()
        self.heads,self.groups,width = heads,groups,d//heads
        self.q_proj,self.o_proj = nn.Linear(d, d, bias=False),nn.Linear(d, d, bias=False)
        self.k_proj,self.v_proj = (nn.Linear(d, groups*width, bias=False) for _ in range(2))

    def forward(self, x):
        q,k,v = (rearrange(f(x), 'B S (h d) -> B h S d', h=h)
            for f,h in ((self.q_proj, self.heads), (self.k_proj, self.groups), (self.v_proj, self.groups)))
        k,v = (a.repeat_interleave(self.heads//self.groups, 1) for a in (rotary(k, 10_000.), v))
        out = F.scaled_dot_product_attention(rotary(q, 10_000.), k, v, is_causal=True)
        return self.o_proj(rearrange(out, 'B h S d -> B S (h d)'))

class MLP(nn.Module):
    def __init__(self, d, wide):
        super().__init__()
        self.c_fc,self.down_proj = nn.Linear(d, wide, bias=False),nn.Linear(wide, d, bias=False)
    def forward(self, x): return self.down_proj(F.gelu(self.c_fc(x), approximate='tanh'))

class Block(nn.Module):
    def __init__(self, d, heads, groups, wide):
        super().__init__()
        self.rms_1,self.rms_2 = nn.RMSNorm(d, 1e-6),nn.RMSNorm(d, 1e-6)
        self.attn,self.mlp = Attention(d, heads, groups),MLP(d, wide)
    def forward(self, x):
        x = x+self.attn(self.rms_1(x))
        return x+self.mlp(self.rms_2(x))

class LlamaSimpleMLP(nn.Module):
    def __init__(self, vocab=97, d=32, heads=4, groups=2, wide=64, layers=2):
        super().__init__()
        self.wte = nn.Embedding(vocab, d)
        self.h = nn.ModuleList(Block(d, heads, groups, wide) for _ in range(layers))
        self.ln_f = nn.RMSNorm(d, 1e-6)
    def forward(self, x):
        r = self.wte(x)
        for block in self.h: r = block(r)
        return self.ln_f(r)@self.wte.weight.T

class TheirCI(nn.Module):
    "Their importance function: a bidirectional transformer over the inputs of all sites"
    def __init__(self, state, names, Cs, heads=2):
        super().__init__()
        self.state,self.names,self.Cs,self.heads = state,names,Cs,heads
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, reads, acts, text=None):
        s = {k.removeprefix('ci_fn._global_ci_fn.'):v for k,v in self.state.items()}
        eps = torch.finfo(torch.float32).eps
        def norm(x): return F.rms_norm(x, x.shape[-1:], eps=eps)
        x = torch.cat([norm(reads[n]) for n in self.names], -1)@s['_input_projector.W']+s['_input_projector.b']
        for b in range(2):
            def at(name): return s[f'_blocks.{b}.{name}']
            q,k,v = (rearrange(norm(x)@at(f'attn.{n}_proj.weight').T, 'B S (h d) -> B h S d', h=self.heads)
                for n in 'qkv')
            a = F.scaled_dot_product_attention(rotary(q, 10_000.), rotary(k, 10_000.), v)
            x = x+rearrange(a, 'B h S d -> B S (h d)')@at('attn.out_proj.weight').T
            x = x+F.gelu(norm(x)@at('mlp.0.W')+at('mlp.0.b'))@at('mlp.2.W')+at('mlp.2.b')
        pre = x@s['_output_head.W']+s['_output_head.b']
        return dict(zip(self.names, pre.split(self.Cs, -1)))

def opened():
    "The decomposition and its target"
    target = LlamaSimpleMLP()
    weights = load_file(fixture_or_skip(f'{RUN}/t-0f000001_safetensors/model_step_100.safetensors'))
    target.load_state_dict(weights)
    state = torch.load(fixture_or_skip(f'{RUN}/s-0f000001/model_20.pth'), weights_only=True)
    prefix = '_components.'
    names = [k.removeprefix(prefix).removesuffix('.V') for k in state if k.startswith(prefix) and k.endswith('.V')]
    components = SiteDict({n.replace('-', '.'):Components(state[f'{prefix}{n}.V'], state[f'{prefix}{n}.U'])
        for n in names})
    order = sorted(components.keys())
    ci = TheirCI({k:v for k,v in state.items() if k.startswith('ci_fn')}, order, [components[n].C for n in order])
    return Decomposed(target.eval().requires_grad_(False), components, ci)

_LAYERS = {'attn.q':'attn.q_proj', 'attn.k':'attn.k_proj', 'attn.v':'attn.v_proj', 'attn.o':'attn.o_proj',
    'mlp.up':'mlp.c_fc', 'mlp.down':'mlp.down_proj'}

def site_of(name):
    "Their canonical name of a layer, `0.mlp.up`, as our site; inputs and outputs as ours"
    if name=='embed': return '/token'
    if name=='output': return '/logit'
    block,_,part = name.partition('.')
    return f'h.{block}.{_LAYERS[part]}'
