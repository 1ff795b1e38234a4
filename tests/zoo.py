"""Small models of many kinds, each a constructor: causal language models of `transformers`, other models, and hand-made
modules with a trap in them.

Every constructor gives the same weights each time. Sizes differ: 3 rows of 7 positions, 160 tokens, width 32
(hand-made ones: 23 tokens, width 8).
"""
import dataclasses, warnings
from collections.abc import Callable
from typing import NamedTuple
import torch, torch.fx, torch.utils.checkpoint
import torch.nn.functional as F
from torch import nn
from torch.nn import Embedding, Linear

ROWS,STEPS,VOCAB = 3,7,160

class Case(NamedTuple):
    "A model to be built, and a batch for it"
    make:Callable        # Gives the model, the same each time
    x:object             # What it reads: a tensor, or a dict of tensors
    causal:bool=False    # Token ids to next-token logits, where a position sees those before it only?
    fine:tuple=()        # Sites with nothing wrong about them: these must not be refused
    scale:Callable=lambda m: float(getattr(m, 'embed_scale', 1.)) # How often a site's weight goes into its output

def drawn(*shape, seed=0, vocab=None):
    "Numbers, or ids when there is a vocabulary"
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=gen) if vocab is None else torch.randint(3, vocab, shape, generator=gen)

@torch.no_grad()
def stirred(model, gain=1.):
    "Random weights, large enough that every site matters: models begin with small ones, zeros and ones"
    gen = torch.Generator().manual_seed(1)
    for name,p in sorted(model.named_parameters(), key=lambda np: np[0]):
        noise = torch.randn(p.shape, generator=gen).to(p.dtype)
        # those of a recurrence, which would not be stable
        if 'A_log' in name or 'time_decay' in name or 'recurrent_param' in name: continue
        if p.ndim>1: p.copy_(noise*gain/p[0].numel()**.5)
        else: p.add_(.1*noise)
    return model.eval()

def hf(name, config=None, gain=1., **sizes):
    "A model of `transformers` from its configuration"
    def make():
        import transformers
        made = getattr(transformers, config
            or name.replace('ForCausalLM','Config').replace('LMHeadModel','Config'))(**sizes)
        torch.manual_seed(0)
        return stirred(getattr(transformers, name)(made), gain)
    return make

# causal language models

SIZES = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8,
    vocab_size=VOCAB, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, pad_token_id=2)
EXPERTS = dict(num_experts=4, num_local_experts=4, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)
DEEPSEEK = dict(EXPERTS, q_lora_rank=12, kv_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8,
    head_dim=4, num_key_value_heads=4,
    n_group=1, topk_group=1, n_shared_experts=1, first_k_dense_replace=1)
GROUPED = dict(EXPERTS, n_group=1, topk_group=1, n_shared_experts=1, first_k_dense_replace=1)
SEQ2SEQ = dict(d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
    encoder_ffn_dim=48, decoder_ffn_dim=48)

def lm(name, config=None, without=(), **sizes):
    return Case(hf(name, config, **({k:v for k,v in SIZES.items() if k not in without}|sizes)),
        drawn(ROWS, STEPS, vocab=150), causal=True)

LANGUAGE_MODELS = dict(
    gpt2=lm('GPT2LMHeadModel'),
    gpt_neo=lm('GPTNeoForCausalLM', attention_types=[[['global','local'],1]], window_size=4),
    gpt_neox=lm('GPTNeoXForCausalLM'),
    gptj=lm('GPTJForCausalLM', rotary_dim=4),
    opt=lm('OPTForCausalLM', ffn_dim=48, word_embed_proj_dim=32),
    bloom=lm('BloomForCausalLM'),
    llama=lm('LlamaForCausalLM'),
    llama_tied=lm('LlamaForCausalLM', tie_word_embeddings=True),
    mistral=lm('MistralForCausalLM'),
    mixtral=lm('MixtralForCausalLM', **EXPERTS),
    qwen2=lm('Qwen2ForCausalLM'),
    qwen3=lm('Qwen3ForCausalLM'),
    qwen2_moe=lm('Qwen2MoeForCausalLM', **EXPERTS, shared_expert_intermediate_size=24),
    qwen3_moe=lm('Qwen3MoeForCausalLM', **EXPERTS),
    qwen3_next=lm('Qwen3NextForCausalLM', **EXPERTS, shared_expert_intermediate_size=24,
        layer_types=['linear_attention','full_attention'],
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8),
    gemma=lm('GemmaForCausalLM'),
    gemma2=lm('Gemma2ForCausalLM', query_pre_attn_scalar=8, sliding_window=4),
    gemma3=lm('Gemma3ForCausalLM', 'Gemma3TextConfig'),
    vaultgemma=lm('VaultGemmaForCausalLM'),
    phi=lm('PhiForCausalLM'),
    phi3=lm('Phi3ForCausalLM'),
    phimoe=lm('PhimoeForCausalLM', **EXPERTS),
    falcon=lm('FalconForCausalLM', without=('head_dim',)),
    falcon_mamba=lm('FalconMambaForCausalLM', state_size=4),
    mamba=lm('MambaForCausalLM', state_size=4),
    mamba2=lm('Mamba2ForCausalLM', num_heads=8, head_dim=8, state_size=4, n_groups=2, chunk_size=4),
    jamba=lm('JambaForCausalLM', **EXPERTS, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
        expert_layer_offset=1, mamba_d_state=4,
        mamba_dt_rank=4, use_mamba_kernels=False),
    zamba2=lm('Zamba2ForCausalLM', layers_block_type=['mamba','hybrid'], n_mamba_heads=2, mamba_d_state=4,
        adapter_rank=4, chunk_size=4),
    bamba=lm('BambaForCausalLM', mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=4, mamba_expand=2,
        mamba_chunk_size=4,
        attn_layer_indices=[1]),
    lfm2=lm('Lfm2ForCausalLM', layer_types=['conv','full_attention'], block_auto_adjust_ff_dim=False),
    rwkv=lm('RwkvForCausalLM', context_length=64, attention_hidden_size=32),
    recurrent_gemma=lm('RecurrentGemmaForCausalLM', num_hidden_layers=3, lru_width=32, attention_window_size=4,
        conv1d_width=4),
    olmo=lm('OlmoForCausalLM'),
    olmo2=lm('Olmo2ForCausalLM'),
    olmo3=lm('Olmo3ForCausalLM'),
    olmoe=lm('OlmoeForCausalLM', **EXPERTS),
    stablelm=lm('StableLmForCausalLM'),
    starcoder2=lm('Starcoder2ForCausalLM'),
    gpt_bigcode=lm('GPTBigCodeForCausalLM'),
    codegen=lm('CodeGenForCausalLM', rotary_dim=4, n_ctx=64),
    cohere=lm('CohereForCausalLM'),
    cohere2=lm('Cohere2ForCausalLM'),
    deepseek_v2=lm('DeepseekV2ForCausalLM', **DEEPSEEK),
    deepseek_v3=lm('DeepseekV3ForCausalLM', **DEEPSEEK),
    granite=lm('GraniteForCausalLM'),
    granitemoe=lm('GraniteMoeForCausalLM', **EXPERTS),
    granitemoeshared=lm('GraniteMoeSharedForCausalLM', **EXPERTS, shared_intermediate_size=24),
    nemotron=lm('NemotronForCausalLM'),
    persimmon=lm('PersimmonForCausalLM'),
    xglm=lm('XGLMForCausalLM', d_model=32, num_layers=2, attention_heads=4, ffn_dim=48),
    biogpt=lm('BioGptForCausalLM'),
    ctrl=lm('CTRLLMHeadModel', n_embd=32, dff=48, n_layer=2, n_head=4, n_positions=64),
    openai_gpt=lm('OpenAIGPTLMHeadModel'),
    bart_decoder=lm('BartForCausalLM', **SEQ2SEQ),
    whisper_decoder=lm('WhisperForCausalLM', **SEQ2SEQ, max_target_positions=64),
    bert_decoder=lm('BertLMHeadModel', 'BertConfig', is_decoder=True),
    electra_decoder=lm('ElectraForCausalLM', is_decoder=True, embedding_size=20),
    modernbert_decoder=lm('ModernBertDecoderForCausalLM'),
    minimax=lm('MiniMaxForCausalLM', **EXPERTS, block_size=4),
    glm=lm('GlmForCausalLM'),
    glm4=lm('Glm4ForCausalLM'),
    glm4_moe=lm('Glm4MoeForCausalLM', **GROUPED),
    ernie4_5=lm('Ernie4_5ForCausalLM'),
    smollm3=lm('SmolLM3ForCausalLM'),
    dots1=lm('Dots1ForCausalLM', **GROUPED),
    arcee=lm('ArceeForCausalLM'),
    apertus=lm('ApertusForCausalLM'),
    helium=lm('HeliumForCausalLM'),
    mpt=lm('MptForCausalLM', d_model=32, n_heads=4, n_layers=2, max_seq_len=64, expansion_ratio=2),
    exaone4=lm('Exaone4ForCausalLM', sliding_window=4),
    gpt_oss=lm('GptOssForCausalLM', **EXPERTS, sliding_window=4),
    diffllama=lm('DiffLlamaForCausalLM'),
    doge=lm('DogeForCausalLM'),
    nanochat=lm('NanoChatForCausalLM'),
)

# Families of transformers 5.23 that are not here, and why: RoFormer, BigBird, MegatronBert and the other decoders made
# of BERT repeat `bert_decoder`; Zamba ties layers that two layers do not have; xLSTM's plain kernels refuse small
# heads; Dbrx, Youtu and LongcatFlash fail in their own code at these sizes; XLNet and Reformer predict permuted or
# chunked text; Moshi, NemotronH and FalconH1 have parts whose sizes no configuration makes small.

# other models

BERT = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64)
PATCHES = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=16,
    patch_size=4)
TOKENS,MASK = drawn(ROWS, STEPS, vocab=150),torch.ones(ROWS, STEPS, dtype=torch.long)
BOTH = dict(input_ids=TOKENS, decoder_input_ids=TOKENS[:,:5])
IMAGE = drawn(ROWS, 3, 16, 16)
WAVES = dict({k:v for k,v in BERT.items() if k!='max_position_embeddings'}, conv_dim=[12,12], conv_stride=[5,4],
    conv_kernel=[5,4],
    num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)

def reads(x, name, config, **sizes): return Case(hf(name, config, **sizes), x)

def _whisper_encoder():
    from transformers import WhisperConfig, WhisperModel
    torch.manual_seed(0)
    sizes = dict(vocab_size=VOCAB, num_mel_bins=16, max_source_positions=7, pad_token_id=0, bos_token_id=1,
        eos_token_id=2)
    return stirred(WhisperModel(WhisperConfig(**SEQ2SEQ, **sizes)).encoder)

OTHER_MODELS = dict(
    bert_masked=reads(TOKENS, 'BertForMaskedLM', 'BertConfig', **BERT),
    distilbert_masked=reads(TOKENS, 'DistilBertForMaskedLM', 'DistilBertConfig', vocab_size=VOCAB, dim=32,
        hidden_dim=48, n_layers=2, n_heads=4),
    mobilebert_masked=reads(TOKENS, 'MobileBertForMaskedLM', 'MobileBertConfig', **BERT, embedding_size=20,
        intra_bottleneck_size=16),
    bert_sequence=reads(TOKENS, 'BertForSequenceClassification', 'BertConfig', **BERT, num_labels=4),
    bert_tokens=reads(TOKENS, 'BertForTokenClassification', 'BertConfig', **BERT, num_labels=4),
    bert_encoder=reads(dict(input_ids=TOKENS, attention_mask=MASK), 'BertModel', 'BertConfig', **BERT),
    mpnet_encoder=reads(TOKENS, 'MPNetModel', 'MPNetConfig', **BERT),
    llama_sequence=reads(TOKENS, 'LlamaForSequenceClassification', 'LlamaConfig', **SIZES, num_labels=4),
    t5=reads(BOTH, 'T5ForConditionalGeneration', 'T5Config', vocab_size=VOCAB, d_model=32, d_kv=8, d_ff=48,
        num_layers=2, num_heads=4,
        decoder_start_token_id=0),
    bart=reads(BOTH, 'BartForConditionalGeneration', 'BartConfig', **SEQ2SEQ, vocab_size=VOCAB,
        max_position_embeddings=64),
    vit=reads(dict(pixel_values=IMAGE), 'ViTForImageClassification', 'ViTConfig', **PATCHES, num_labels=4),
    vit_encoder=reads(IMAGE, 'ViTModel', 'ViTConfig', **PATCHES),
    deit=reads(dict(pixel_values=IMAGE), 'DeiTForImageClassification', 'DeiTConfig', **PATCHES, num_labels=4),
    swin=reads(dict(pixel_values=IMAGE), 'SwinForImageClassification', 'SwinConfig', image_size=16, patch_size=2,
        embed_dim=8, depths=[2,2], num_heads=[2,4],
        window_size=4, num_labels=4),
    segformer=reads(dict(pixel_values=IMAGE), 'SegformerForSemanticSegmentation', 'SegformerConfig',
        num_encoder_blocks=2, depths=[1,1], sr_ratios=[2,1],
        hidden_sizes=[8,12], patch_sizes=[3,3], strides=[2,2], num_attention_heads=[2,4], mlp_ratios=[2,2],
        decoder_hidden_size=16, num_labels=4),
    yolos=reads(dict(pixel_values=IMAGE), 'YolosForObjectDetection', 'YolosConfig',
        **(PATCHES|dict(image_size=[16,16])), num_detection_tokens=5, num_labels=4),
    clip=reads(dict(input_ids=TOKENS, pixel_values=IMAGE), 'CLIPModel', 'CLIPConfig',
        text_config=dict(BERT, projection_dim=16),
        vision_config=dict(PATCHES, projection_dim=16), projection_dim=16),
    whisper_encoder=Case(_whisper_encoder, drawn(ROWS, 16, 14)),
    wav2vec2=reads(dict(input_values=drawn(ROWS, 160)), 'Wav2Vec2ForCTC', 'Wav2Vec2Config', **WAVES),
)

# hand-made modules: sequences of vectors (3 7 8), of ids (3 7), and rows of vectors (3 8)

SEQ,IDS,VEC = drawn(ROWS, STEPS, 8),drawn(ROWS, STEPS, vocab=23),drawn(ROWS, 8)
act = torch.tanh

class Net(nn.Module):
    "Modules by name, and a function that calls them"
    def __init__(self, run, **modules):
        super().__init__()
        self.run = run
        for name,m in modules.items(): setattr(self, name, m)
    def forward(self, x): return self.run(self, x)

class Layers(nn.Module):
    "Two layers, for what a lambda cannot go through"
    def __init__(self):
        super().__init__()
        self.a,self.b = Linear(8, 10),Linear(10, 5)
    def forward(self, x): return self.b(torch.tanh(self.a(x)))

def built_as(make):
    "A constructor that gives the same weights each time"
    def seeded():
        torch.manual_seed(0)
        return make()
    return seeded

def built(make): return built_as(lambda: make().eval()) # as one that is used, not trained

def net(run, x=SEQ, fine=(), scale=None, **modules):
    "A case of a `Net`; `modules` are constructors"
    make = built(lambda: Net(run, **{k:f() for k,f in modules.items()}))
    return Case(make, x, fine=fine, **({} if scale is None else dict(scale=scale)))

def lin(i, o, **kw): return lambda: Linear(i, o, **kw)
def emb(n, d, **kw): return lambda: Embedding(n, d, **kw)

def two(run=lambda m,x: m.b(act(m.a(x))), a=lin(8, 10), b=lin(10, 5), x=SEQ, fine=('b',), scale=None, **more):
    "A case of two layers, `a` the special one"
    return net(run, x, fine, scale, a=a, b=b, **more)

def ids(run, x=IDS, fine=('out',), scale=None, emb=emb(23, 8), out=lin(8, 23), **more):
    "A case of an embedding, and a head `out`"
    return net(run, x, fine, scale, emb=emb, out=out, **more)

class ScaledLinear(Linear):
    def forward(self, x): return 3*super().forward(x)

class ClampedLinear(Linear):
    def forward(self, x): return super().forward(x).clamp(-.5, .5)

class NormedLinear(Linear):
    def forward(self, x): return super().forward(F.layer_norm(x, x.shape[-1:]))

class TupleLinear(Linear):
    def forward(self, x): return super().forward(x),self.bias

class OffsetEmbedding(Embedding):
    "Reads another row than it is asked for, as OPT's positions do"
    def forward(self, x): return super().forward(x+2)

class ScaledEmbedding(Embedding):
    "Its scale is a number, as XGLM's is"
    embed_scale = 2.5
    def forward(self, x): return super().forward(x)*self.embed_scale

class Doubled(nn.Module):
    "A parametrization"
    def forward(self, w): return 2*w

class Buffered(nn.Module):
    "A matrix that is a buffer, as quantised layers keep theirs"
    def __init__(self):
        super().__init__()
        self.in_features,self.out_features,self.bias = 8,10,None
        self.register_buffer('weight', torch.randn(10, 8)/3)
    def forward(self, x): return F.linear(x, self.weight)

class KeywordsOnly(Layers):
    def forward(self, *, features): return super().forward(features)

class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a,self.b,self.c = Linear(8, 10),Linear(6, 10),Linear(10, 5)
    def forward(self, left, right): return self.c(act(self.a(left)+self.b(right)))

@dataclasses.dataclass
class Answer:
    first:torch.Tensor
    second:torch.Tensor

class Experts3D(nn.Module):
    "Experts as one parameter of three axes, as in newer mixture models"
    def __init__(self):
        super().__init__()
        self.up,self.gate = nn.Parameter(torch.randn(3, 8, 8)/3),Linear(8, 3)
    def forward(self, x): return torch.einsum('...e,...i,eio->...o', self.gate(x).softmax(-1), x, self.up)

class Routed(nn.Module):
    "Experts that see only some rows, and one that sees none"
    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([Linear(8, 8) for _ in range(3)])
    def forward(self, x):
        out,flat = torch.zeros_like(x).flatten(0,-2),x.flatten(0,-2)
        choice = (flat[:,0]>0).long()
        for i,e in enumerate(self.experts):
            if (choice==i).any(): out[choice==i] = e(flat[choice==i])
        return out.view(x.shape)

class Factor(nn.Module):
    "A parameter without axes"
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.tensor(1.5))
    def forward(self, x): return self.p*x

def _parametrized():
    m = Linear(8, 10)
    nn.utils.parametrize.register_parametrization(m, 'weight', Doubled())
    return m

def _old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return nn.utils.weight_norm(Linear(8, 10))

def _shared():
    a = Linear(8, 8)
    return Net(lambda m,x: m.c(m.b(act(m.a(x)))), a=a, b=a, c=Linear(8, 5))

def _tied():
    m = Net(lambda m,x: m.head(m.mid(m.emb(x))), emb=Embedding(23, 8), mid=Linear(8, 8), head=Linear(8, 23, bias=False))
    m.head.weight = m.emb.weight
    return m

def _lora():
    from peft import LoraConfig, get_peft_model
    return stirred(get_peft_model(Layers(), LoraConfig(r=2, target_modules=['a'], init_lora_weights=False)))

def _own_hook():
    m = Layers()
    m.a.register_forward_hook(lambda m,args,out: out*2)
    return m

def _own_pre_hook():
    m = Layers()
    m.a.register_forward_pre_hook(lambda m,args: (args[0]*2,))
    return m

def _quantised():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        a = torch.ao.quantization.quantize_dynamic(nn.Sequential(Linear(8, 10)))
    return Net(lambda m,x: m.b(act(m.a(x))), a=a, b=Linear(10, 5))

def _part_in_training():
    m = Net(lambda m,x: m.b(m.drop(act(m.a(x)))), a=Linear(8, 10), drop=nn.Dropout(.5), b=Linear(10, 5)).eval()
    m.drop.train()
    return m

def _half_inside(m, x):
    with torch.autocast('cpu', torch.bfloat16): return m.b(act(m.a(x)))

def _other_forward():
    m = Layers()
    m.a.forward = lambda x: F.linear(x, m.a.weight)*2
    return m

def _compile(m):
    m.compile(backend='eager')
    return m

def compiled(f):
    "What `f` makes of two layers, run once so that it has been compiled"
    def make():
        torch._dynamo.reset()
        m = f(Layers().eval())
        with torch.no_grad(): m(SEQ)
        return m
    return built(make)

def _without_gradients(context, f, x):
    with context(): return f(x).clone()

def _checkpointed(reentrant):
    def run(m, x):
        x = x.clone().requires_grad_() if reentrant else x
        return torch.utils.checkpoint.checkpoint(lambda h: m.b(act(m.a(h))), x, use_reentrant=reentrant)
    return run

def _overwriting(m, x):
    h = x.clone()
    y = m.a(h)
    h.mul_(2)
    return m.b(act(y+h[...,:1]))

def _traced(m):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # torch calls it deprecated
        return torch.jit.trace(m, SEQ)

def _scripted(m):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.jit.script(m)

parametrizations = nn.utils.parametrizations

TRAPS = {
    'plain': two(fine=('a','b')),
    'rows without positions': two(x=VEC, fine=('a','b')),
    'no bias': two(a=lin(8, 10, bias=False), fine=('a','b')),

    # which module does the work
    'a module that is called twice': two(lambda m,x: m.b(m.a(act(m.a(x)))), a=lin(8, 8), b=lin(8, 5)),
    'one module under two names': Case(built(_shared), SEQ, fine=('c',)),
    'a head that reads the weight of the embedding': ids(lambda m,x: F.linear(m.out(m.emb(x)), m.emb.weight),
        out=lin(8, 8)),
    'a weight that is read directly too': two(lambda m,x: m.b(act(m.a(x))+x@m.b.weight), a=lin(8, 5), b=lin(5, 8),
        fine=('a',)),
    'a weight that is read directly only': two(lambda m,x: m.b(act(F.linear(x, m.a.weight, m.a.bias)))),
    'a tied head': Case(built(_tied), IDS, fine=('mid',)),
    'called by keyword': two(lambda m,x: m.b(act(m.a(input=x))), fine=('a','b')),
    'called through its forward': two(lambda m,x: m.b(act(m.a.forward(x)))),
    'a forward that is replaced': Case(built(_other_forward), SEQ, fine=('b',)),
    'a hook of its own': Case(built(_own_hook), SEQ, fine=('b',)),
    'a pre-hook of its own': Case(built(_own_pre_hook), SEQ, fine=('b',)),
    'MultiheadAttention': two(lambda m,x: m.b(m.a(x, x, x)[0]), lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        lin(8, 5)),
    'MultiheadAttention, sequence first': two(lambda m,x: m.b(m.a(*[x.transpose(0,1)]*3)[0]).transpose(0,1),
        lambda: nn.MultiheadAttention(8, 2), lin(8, 5)),
    'TransformerEncoderLayer': two(lambda m,x: m.b(m.a(x)),
        lambda: nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), lin(8, 5)),
    'TransformerEncoderLayer, '
    'sequence '
    'first': two(lambda m,x: m.b(m.a(x.transpose(0,1)).transpose(0,1)), lambda: nn.TransformerEncoderLayer(8, 2, 12),
        lin(8, 5)),
    'an LSTM': two(lambda m,x: m.b(m.a(x)[0]), a=lambda: nn.LSTM(8, 6, batch_first=True), b=lin(6, 5)),
    'a module that never runs': two(spare=lin(8, 4), fine=('a','b')),
    'an output that nothing uses': two(lambda m,x: (m.unused(x), m.b(act(m.a(x))))[1], unused=lin(8, 4),
        fine=('a','b')),
    'torch.compile': Case(compiled(lambda m: torch.compile(m, backend='eager')), SEQ),
    'model.compile': Case(compiled(_compile), SEQ),
    'a compiled part': Case(compiled(lambda m: nn.Sequential(torch.compile(m, backend='eager'), Linear(5, 4))), SEQ,
        fine=('1',)),
    'traced': Case(built(lambda: _traced(Layers().eval())), SEQ),
    'a traced part': Case(built(lambda: nn.Sequential(_traced(Layers().eval()), Linear(5, 4))), SEQ, fine=('1',)),
    'torch.fx': Case(built(lambda: torch.fx.symbolic_trace(Layers())), SEQ, fine=('a','b')),
    'vmap inside': two(lambda m,x: m.b(torch.vmap(lambda h: act(m.a(h)))(x))),
    'dynamically quantised': Case(built(_quantised), SEQ, fine=('b',)),
    'scripted': Case(built(lambda: _scripted(Layers().eval())), SEQ),
    'DataParallel': Case(built(lambda: nn.DataParallel(Layers())), SEQ),
    'a LoRA on it': Case(built(_lora), SEQ, fine=('base_model.model.b',)),

    # what is computed: not `W x + b`
    'weight norm': two(a=lambda: parametrizations.weight_norm(Linear(8, 10))),
    'weight norm of old': two(a=_old_weight_norm),
    'spectral norm': two(a=lambda: parametrizations.spectral_norm(Linear(8, 10))),
    'spectral norm of old': two(a=lambda: nn.utils.spectral_norm(Linear(8, 10))),
    'a parametrized weight': two(a=_parametrized),
    'a Linear that scales its output': two(a=lambda: ScaledLinear(8, 10), scale=lambda m: 3.
        if isinstance(m, ScaledLinear) else 1.),
    'a Linear that clamps its output': two(a=lambda: ClampedLinear(8, 10)),
    'a Linear that normalises its input': two(a=lambda: NormedLinear(8, 10)),
    'a Linear that gives a tuple': two(lambda m,x: m.b(act(m.a(x)[0])), a=lambda: TupleLinear(8, 10)),
    'an embedding with an offset': ids(lambda m,x: m.out(m.emb(x-2)), emb=lambda: OffsetEmbedding(23, 8)),
    'an embedding with a number as scale': ids(lambda m,x: m.out(m.emb(x)), emb=lambda: ScaledEmbedding(23, 8)),
    'padding_idx': ids(lambda m,x: m.out(m.emb(x)), emb=emb(23, 8, padding_idx=4), fine=('emb','out')),
    'max_norm': ids(lambda m,x: m.out(m.emb(x)), emb=emb(23, 8, max_norm=1.)),
    'sparse gradients': ids(lambda m,x: m.out(m.emb(x)), emb=emb(23, 8, sparse=True)),
    'ids of 32 bits': ids(lambda m,x: m.out(m.emb(x)), x=IDS.int(), fine=('emb','out')),
    'EmbeddingBag': ids(lambda m,x: m.out(m.emb(x)), emb=lambda: nn.EmbeddingBag(23, 8)),
    'Bilinear': two(lambda m,x: m.b(act(m.a(x, x))), a=lambda: nn.Bilinear(8, 8, 10)),
    'LayerNorm over two axes': two(lambda m,x: m.b(m.a(x)), a=lambda: nn.LayerNorm((7,8)), b=lin(8, 5)),
    'one output': two(lambda m,x: m.b(act(m.a(x))).squeeze(-1), b=lin(10, 1), fine=('a','b')),
    'a convolution': two(lambda m,x: m.b(act(m.a(x.transpose(1,2))).transpose(1,2)),
        a=lambda: nn.Conv1d(8, 6, 3, padding=1), b=lin(6, 5)),
    'experts in three axes': two(lambda m,x: m.b(m.a(x)), a=Experts3D, b=lin(8, 5), fine=('a.gate','b')),
    'a buffer as weight': two(a=Buffered),

    # where in the batch its rows belong
    'rows of B*S': two(lambda m,x: m.b(act(m.a(x.flatten(0,1)))).view(*x.shape[:2], 5), fine=('a','b')),
    'rows of S*B': two(lambda m,x: m.b(act(m.a(x.transpose(0,1).flatten(0,1)))).view(x.shape[1], -1, 5).transpose(0,1),
        fine=('a','b')),
    'sequence first inside': two(lambda m,x: m.b(act(m.a(x.transpose(0,1)))).transpose(0,1), fine=('a','b')),
    'B 1 S': two(lambda m,x: m.b(act(m.a(x[:,None])))[:,0], fine=('a','b')),
    'heads': two(lambda m,x: m.b(act(m.a(x.unflatten(-1, (2,4)))).flatten(2)), a=lin(4, 6), b=lin(12, 5)),
    'heads before positions': two(lambda m,
        x: m.b(act(m.a(x.unflatten(-1, (2,4)).transpose(1,2))).transpose(1,2).flatten(2)), a=lin(4, 6), b=lin(12, 5)),
    'the last position only': ids(lambda m,x: m.out(act(m.emb(x))[:,-1]), fine=('emb','out')),
    'a pooled output': two(lambda m,x: m.b(act(m.a(x)).mean(1)), fine=('a','b')),
    'positions as one row': ids(lambda m,x: m.out(m.emb(x)+m.pos(torch.arange(x.shape[1])[None])), pos=emb(9, 8),
        fine=('emb','out')),
    'positions without a batch': ids(lambda m,x: m.out(m.emb(x)+m.pos(torch.arange(x.shape[1]))), pos=emb(9, 8),
        fine=('emb','out')),
    'rows in another order': two(lambda m,x: m.b(act(m.a(x.flip(0))).flip(0))),
    'positions in another order': two(lambda m,x: m.b(act(m.a(x.flip(1))).flip(1))),
    'every second position': two(lambda m,x: m.b(act(m.a(x[:,::2]))).repeat_interleave(2, 1)[:,:x.shape[1]], fine=()),
    'a loop over positions': two(lambda m,x: torch.stack([m.b(act(m.a(x[:,i]))) for i in range(x.shape[1])], 1),
        fine=()),
    'chunks of the batch': two(lambda m,x: torch.cat([m.b(act(m.a(h))) for h in x.split(2)]), fine=()),
    'experts that see some rows': two(lambda m,x: m.b(m.a(x)), a=Routed, b=lin(8, 5)),

    # how it is run
    'the input is overwritten later': two(_overwriting, fine=()),
    'the output is overwritten': two(lambda m,x: m.b(m.a(x).relu_()), fine=('a','b')),
    'no_grad inside': two(lambda m,x: m.b(act(_without_gradients(torch.no_grad, m.a, x)))),
    'inference_mode inside': two(lambda m,x: m.b(act(_without_gradients(torch.inference_mode, m.a, x).clone()))),
    'a detached output': two(lambda m,x: m.b(act(m.a(x)).detach())),
    'checkpointed': two(_checkpointed(False), fine=()),
    'checkpointed, reentrant': two(_checkpointed(True), fine=()),
    'dropout': two(lambda m,x: m.b(m.drop(act(m.a(x)))), drop=lambda: nn.Dropout(.5), fine=('a','b')),
    'autocast inside': two(_half_inside, fine=()),
    'a part in training mode': Case(built_as(_part_in_training), SEQ),
    'the batch is overwritten': two(lambda m,x: m.b(act(m.a(x.add_(.5)))), fine=()),
    'noise in each run': two(lambda m,x: m.b(act(m.a(x))+.1*torch.randn(10)), fine=()),
    'batch norm': two(lambda m,x: m.b(m.norm(m.a(x))), x=VEC, norm=lambda: nn.BatchNorm1d(10), fine=('a','b')),
    'a scale without axes': two(lambda m,x: m.b(act(m.factor(m.a(x)))), factor=Factor, fine=('a','b')),
    'a skip around': two(lambda m,x: m.skip(x)+m.b(act(m.a(x))), b=lin(10, 8), skip=nn.Identity, fine=('a','b')),

    # what goes in and comes out
    'a dict': two(lambda m,x: dict(out=m.b(act(m.a(x))), hidden=x), fine=()),
    'a dict with logits': two(lambda m,x: dict(logits=m.b(act(m.a(x))), hidden=x), fine=('a','b')),
    'whole numbers': two(lambda m,x: m.b(act(m.a(x))).argmax(-1), fine=()),
    'a list': two(lambda m,x: [m.b(act(m.a(x))), x], fine=('a','b')),
    'a dataclass': two(lambda m,x: Answer(m.b(act(m.a(x))), x), fine=()),
    'keyword arguments only': Case(built(KeywordsOnly), dict(features=SEQ), fine=('a','b')),
    'two inputs': Case(built(TwoInputs), dict(left=SEQ, right=drawn(ROWS, STEPS, 6, seed=1)), fine=('a','b','c')),
    'complex weights': two(lambda m,x: m.b(act(m.a(x.to(torch.complex64)).abs())), a=lin(8, 10, dtype=torch.complex64)),
    'float64': two(a=lin(8, 10, dtype=torch.float64), b=lin(10, 5, dtype=torch.float64), x=SEQ.double(),
        fine=('a','b')),
    'bfloat16': two(a=lin(8, 10, dtype=torch.bfloat16), b=lin(10, 5, dtype=torch.bfloat16), x=SEQ.bfloat16(),
        fine=('a','b')),
    'float16': two(a=lin(8, 10, dtype=torch.float16), b=lin(10, 5, dtype=torch.float16), x=SEQ.half(), fine=('a','b')),
    'two types': two(lambda m,x: m.b(act(m.a(x)).bfloat16()).float(), b=lin(10, 5, dtype=torch.bfloat16),
        fine=('a','b')),
}
