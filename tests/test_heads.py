"Attention through components: odd inputs, and models that compute attention in other ways"
from pathlib import Path
import pandas as pd, pytest, torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from spd_nb.attention import CutRun, attentions
from spd_nb.heads import BIAS, DELTA, head_norms, head_scores, ov_pairs, qk_on, qk_pairs
from spd_nb.keys import SiteError
from spd_nb.lms import load_lm
from spd_nb.model import decompose, load
from spd_nb.toys import TMS, InductionHead
from goodfire import LlamaSimpleMLP

STORIES = Path(__file__).parents[1].resolve().parent/'shared/targets/stories260K'

class Small(nn.Module):
    "One layer of attention of two heads over token ids, with steps that a test can change"
    def __init__(self, qkv=False, scores=lambda s: s, after=lambda o: o, norm=lambda q: q, mask=None):
        super().__init__()
        torch.manual_seed(0)
        self.e,self.o,self.scores,self.after = nn.Embedding(11, 6),nn.Linear(8, 6),scores,after
        self.norm,self.mask = norm,mask
        if qkv: self.qkv = nn.Linear(6, 24)
        else: self.q,self.k,self.v = (nn.Linear(6, 8) for _ in range(3))

    def forward(self, toks):
        x = self.e(toks)
        q,k,v = (rearrange(a, 'B S (h d) -> B h S d', h=2) for a in
            (self.qkv(x).chunk(3, -1) if hasattr(self, 'qkv') else (self.q(x), self.k(x), self.v(x))))
        if self.mask is not None: a = F.scaled_dot_product_attention(self.norm(q), k, v, attn_mask=self.mask, scale=.3)
        else:
            later = torch.ones(q.shape[-2], q.shape[-2]).triu(1)*-1e4
            a = (self.scores(self.norm(q)@k.mT*.3)+later).softmax(-1)@v
        return self.o(self.after(rearrange(a, 'B h S d -> B S (h d)')))

TOKS = [3,1,4,1,5]

def small(sites='*', **kw):
    sites = ['q','k','v','o'] if sites=='*' else sites
    return decompose(Small(**kw).eval(), sites, C=5)

def evidence(dm, mean_ci=.5):
    return pd.DataFrame([dict(key=f'{s}:{c}', mean_ci=mean_ci, fired_mean=1.) for s,C in dm.C.items()
        for c in range(C)])

def off(on):
    "How far the sum over pairs is from the model's scores"
    return (torch.einsum('tnd,smd->ts', on.q, on.k)-on.scores).abs().max().item()

@pytest.fixture(scope='module')
def story(): return load('story')

def test_a_prompt_of_one_token_has_no_pairs(story):
    with pytest.raises(ValueError, match='one token attends to itself only'): qk_on(story, [5], 0, 0)

def test_an_empty_prompt_is_refused(story):
    with pytest.raises(ValueError, match='no tokens in an empty prompt'): qk_on(story, '', 0, 0)

@pytest.mark.parametrize('head', [-1,2])
def test_unknown_head_says_how_many_there_are(head):
    with pytest.raises(ValueError, match=f'no head {head} in layer 0, which has 2, 0 to 1'):
        qk_on(small(), TOKS, 0, head)

def test_a_site_that_is_no_query_names_those_that_are():
    with pytest.raises(SiteError, match="'k' writes no queries; these do: q"): qk_on(small(), TOKS, 'k', 0)
    with pytest.raises(SiteError, match="'q' writes no values; these do: v"):
        ov_pairs(dm := small(), evidence(dm), 'q')

def test_a_site_that_is_not_there_names_the_nearest(story):
    with pytest.raises(SiteError, match='did you mean model.layers.0.self_attn.q_proj'):
        qk_on(story, [5,6], 'model.layers.0.self_attn.qproj', 0)

def test_unknown_layer_says_how_many_there_are():
    with pytest.raises(ValueError, match='no layer 1: Small has 1 with attention, 0 to 0'): qk_pairs(dm := small(),
            evidence(dm), 1)

def test_a_matrix_that_is_not_decomposed_is_named():
    with pytest.raises(SiteError, match='the keys of layer 0 come from k, which is not decomposed'):
        qk_on(small(['q','o']), TOKS, 0, 0)
    with pytest.raises(SiteError, match='the outputs of layer 0 are read by o, which is not decomposed'):
        ov_pairs(dm := small(['q','v']), evidence(dm))

def test_a_model_without_attention():
    with pytest.raises(TypeError, match='no attention found in Sequential'):
        head_scores(nn.Sequential(nn.Embedding(50, 4), nn.Linear(4, 50)).eval())
    with pytest.raises(TypeError, match='this batch has none'): attentions(TMS().eval(), torch.rand(2, 5))
    with pytest.raises(TypeError, match='has no embedding'): head_scores(TMS().eval())

def test_no_component_is_alive():
    with pytest.raises(ValueError, match="no component of 'q' has a mean importance above 0.01; the largest is 0.005"):
        qk_pairs(dm := small(), evidence(dm, .005))

def test_components_of_another_model():
    with pytest.raises(ValueError, match='q:0 is not among the 8 `components`'):
        qk_pairs(small(), evidence(decompose(TMS().eval(), dict(linear1=4, linear2=4))))

def test_offsets_of_no_distance():
    dm = small()
    assert set(qk_pairs(dm, evidence(dm), offsets=0).offset)=={0}
    with pytest.raises(ValueError, match='at least 0, got -1'): qk_pairs(dm, evidence(dm), offsets=-1)

def test_offsets_end_with_the_context():
    from transformers import LlamaConfig, LlamaForCausalLM
    lm = LlamaForCausalLM(LlamaConfig(vocab_size=20, hidden_size=16, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=6)).eval()
    dm = decompose(lm, '*self_attn*', C=3)
    assert set(qk_pairs(dm, evidence(dm)).offset)==set(range(6))

def test_scores_with_a_soft_cap_are_refused():
    dm = small(scores=lambda s: (3*s).tanh())
    with pytest.raises(ValueError, match='not linear in queries and keys'): qk_on(dm, TOKS, 0, 0)
    assert head_scores(dm, half=4).previous.between(0, 1).all()

def test_a_norm_of_queries_is_refused():
    dm = small(norm=lambda q: F.rms_norm(q, (4,)))
    with pytest.raises(ValueError, match="queries are not a linear function of what 'q' writes"): qk_on(dm, TOKS, 0, 0)

def test_a_constant_that_is_added_to_queries_counts_as_bias():
    dm = small(norm=lambda q: q+2)
    on = qk_on(dm, TOKS, 0, 1)
    assert off(on)<1e-5
    plain = qk_on(small(), TOKS, 0, 1)
    assert torch.allclose(on.q-plain.q, torch.eye(7)[-1][None,:,None].double()*2*.3, atol=1e-6)

def test_a_gate_after_the_heads_is_refused():
    dm = small(after=lambda o: o*o.sigmoid())
    with pytest.raises(ValueError, match="'o' reads the heads through a gate"): ov_pairs(dm, evidence(dm))

def test_one_matrix_for_queries_keys_and_values():
    dm = small(['qkv','o'], qkv=True)
    on = qk_on(dm, TOKS, 'qkv', 1)
    assert off(on)<1e-5 and on.names[0]==on.names[1]==[*(f'qkv:{c}' for c in range(5)), DELTA, BIAS]
    assert len(qk_pairs(dm, evidence(dm), offsets=2))==2*5*5*3 and len(ov_pairs(dm, evidence(dm)))==2*5*5
    with pytest.raises(ValueError, match="`kind` of 'qkv' is query or key or value, got None"): head_norms(dm, 'qkv')
    parts = sum((head_norms(dm, 'qkv', kind)**2).sum(axis=1) for kind in ('query','key','value'))
    cs = dm.at('qkv')
    assert torch.allclose(torch.tensor(parts.to_numpy()), (cs.V.norm(dim=0)*cs.U.norm(dim=1)).detach()**2, rtol=1e-4)

def test_norms_of_a_site_at_no_attention(story):
    with pytest.raises(SiteError, match='is at no attention'): head_norms(story, 'model.layers.0.mlp.up_proj')
    with pytest.raises(ValueError, match="`kind` of 'q' is query, got 'key'"): head_norms(small(), 'q', 'key')

@pytest.mark.parametrize('kind', ['bool','added'])
def test_masks_are_part_of_the_pattern(kind):
    "A window of two positions"
    seen = torch.ones(5, 5).tril().triu(-1)>0
    mask = seen if kind=='bool' else torch.zeros(5, 5).masked_fill(~seen, torch.finfo(torch.float32).min)
    dm = small(mask=mask)
    on = qk_on(dm, TOKS, 0, 1)
    assert off(on)<1e-5 and torch.equal(on.pattern>0, seen)
    assert len(on.pairs(None))==9*7*7

def test_scale_and_mask_of_attention_that_is_written_out():
    on,fused = qk_on(small(), TOKS, 0, 1),qk_on(small(mask=torch.ones(5, 5).tril()>0), TOKS, 0, 1)
    assert torch.allclose(on.scores, fused.scores, atol=1e-6) and torch.allclose(on.pattern, fused.pattern, atol=1e-6)

def test_interventions_do_not_change_what_is_asked():
    from spd_nb.edit import ablated
    dm = small()
    want = qk_on(dm, TOKS, 0, 1).scores
    with ablated(dm, [f'q:{c}' for c in range(5)]): assert torch.equal(qk_on(dm, TOKS, 0, 1).scores, want)

def test_nothing_is_left_on_the_model():
    dm = small()
    before = {k:v.clone() for k,v in dm.target.state_dict().items()}
    qk_pairs(dm, evidence(dm))
    assert not any(m._forward_hooks for m in dm.target.modules())
    assert all(torch.equal(v, before[k]) for k,v in dm.target.state_dict().items())
    assert all(p.grad is None for p in dm.parameters())

@pytest.mark.parametrize('pairs', ['q:1', [('q:1',)], [('q:1','k:1',2)], ['q:1','k:1','k:2']])
def test_what_is_no_pair(pairs):
    with pytest.raises(ValueError, match='a pair is'): qk_on(small(), TOKS, 0, 0).without(pairs)

def test_a_pair_with_query_and_key_exchanged():
    with pytest.raises(SiteError, match="no query 'k:1' in layer 0 head 0"):
        qk_on(small(), TOKS, 0, 0).without(('k:1','q:1'))

def test_pairs_of_a_position_that_is_not_there():
    with pytest.raises(ValueError, match='no position 5 in 5 tokens'): qk_on(small(), TOKS, 0, 0).pairs(position=5)

def test_random_tokens_that_do_not_fit():
    with pytest.raises(ValueError): head_scores(Small().eval(), half=12)  # 11 tokens, each said once in a half
    with pytest.raises(ValueError, match='at least 2'): head_scores(Small().eval(), half=1)

def test_half_precision(story):
    dm = decompose(InductionHead(8, 3, 2, d=12, d_head=4).eval().bfloat16(), {'blocks.*':5})
    on = qk_on(dm, [1,2,3], 1, 0)
    assert off(on)<.02*on.scores.abs().max()

def test_tokens_are_text_in_html(story):
    on = qk_on(small(), TOKS, 0, 0)
    on.tokens = ['<b>']*5
    assert '<b>' not in on._repr_html_()

def hf(kind, **kw):
    import transformers as tf
    torch.manual_seed(0)
    sizes = dict(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    return getattr(tf, f'{kind}ForCausalLM')(getattr(tf, f'{kind}Config')(**sizes, **kw)).eval()

WIDE = dict(intermediate_size=40)

@pytest.mark.parametrize('impl', ['sdpa','eager'])
@pytest.mark.parametrize('model', ['grouped','biases','partial','interleaved'])
def test_models_of_transformers(model, impl):
    "Grouped queries; biases; rotary positions of half of a head; one matrix whose heads are interleaved"
    kw = dict(grouped=('Llama', dict(num_key_value_heads=2)), biases=('Qwen2', dict(num_key_value_heads=2)),
        partial=('Phi', {}), interleaved=('GPTNeoX', {}))[model]
    lm = hf(kw[0], **kw[1], **WIDE, attn_implementation=impl)
    dm = decompose(lm, ['*attention*' if model=='interleaved' else '*self_attn*'], C=7)
    assert attentions(dm).heads.tolist()==[4,4]
    assert all(off(qk_on(dm, [*range(9)], 1, h))<1e-6 for h in range(4))
    strengths = qk_pairs(dm, evidence(dm), 0).groupby('offset').strength.std()
    assert strengths.nunique()==17 and len(ov_pairs(dm, evidence(dm), 1))==4*7*7

def test_learned_positions_and_a_fused_matrix():
    "GPT-2, whose matrices are Conv1D"
    from transformers import GPT2Config, GPT2LMHeadModel
    torch.manual_seed(0)
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0,
        eos_token_id=0)).eval()
    dm = decompose(lm, ['*c_attn','*attn.c_proj'], C=7)
    assert off(qk_on(dm, [*range(9)], 1, 2))<1e-6
    df = qk_pairs(dm, evidence(dm), 0)
    assert df.groupby(['head','query','key'], observed=True).strength.std().max()<1e-6
    assert len(head_scores(lm))==8

def test_the_authors_model_in_plain_torch():
    torch.manual_seed(0)
    lm = LlamaSimpleMLP().eval()
    dm = decompose(lm, '*attn*', C=6)
    assert off(qk_on(dm, [*range(9)], 'h.1.attn.q_proj', 3))<1e-5

def test_a_trained_llama_with_grouped_queries():
    if not STORIES.exists(): pytest.skip('stories260K is not here')
    lm = load_lm(STORIES)
    dm = decompose(lm.model, '*self_attn*', C=20)
    on = qk_on(dm, [1,403,407,261,378,432,383,281,446], 2, 5)
    assert off(on)<1e-5*max(1, on.scores.abs().max())
    call = CutRun(lm.model, torch.tensor([[1,403,407,261,378,432,383,281,446]])).calls[2]
    assert call.q.shape[1]==8 and torch.equal(call.k[0,4], call.k[0,5])  # two query heads read one key head
    df = head_scores(lm.model, bos=1)
    assert len(df)==40 and df.previous.max()>3*df.previous_uniform[0]

def test_large_vocabularies_and_few_rows():
    toy = InductionHead(vocab=5000, half=3, gap=2, d=12, d_head=4).eval()
    assert len(head_scores(toy, half=6, rows=1, vocab=7))==2
