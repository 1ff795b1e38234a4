"""At every site of every model in the zoo, each stage gives the right numbers or refuses with the site and the reason.

`pytest tests/test_zoo.py` checks a few models, `--zoo` all of them (some ten minutes); `python tests/test_zoo.py NAME
...` prints every finding. The oracle builds each model a second time and changes weights there, so it shares no code
with masks, hooks and edits.
"""
import sys, tempfile, traceback, warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
import pytest, torch
from torch import Tensor, nn
from zoo import LANGUAGE_MODELS, OTHER_MODELS, ROWS, STEPS, TRAPS
from spd_nb.ci import ScalarCI, SharedCI, TransformerCI
from spd_nb.keys import match_sites
from spd_nb.edit import ablated, u_replaced
from spd_nb.export import baked
from spd_nb.eval import report
from spd_nb.count import count
from spd_nb.lms import linear_sites, load_lm
from spd_nb.masks import Mask
from spd_nb.model import decompose, load, save
from spd_nb.train import fit
from spd_nb.planning import plan
from spd_nb.objectives import spd_losses, vpd_losses

ZOO = LANGUAGE_MODELS|OTHER_MODELS|TRAPS
C,AT = 6,2 # components per site, the position that is edited
LIMIT = {torch.float32:1e-4, torch.float64:1e-4, torch.bfloat16:6e-2, torch.float16:6e-3}

class Finding(NamedTuple):
    site:str    # Empty where it is of the whole model
    stage:str   # What was tried
    verdict:str # One of those below
    message:str

# right: as the oracle has it; refused: by an error that names the site and says why; unnamed: by one that does not name
# the site; needless: refused, though nothing is wrong with the site; silent: neither right nor refused; crash: an error
# from torch or Python itself

# the oracle

def called(model, x): return model(**{k:v.clone() for k,v in x.items()}) if isinstance(x, dict) else model(x.clone())

def leaves(out):
    "Every tensor of an answer, in its order"
    if isinstance(out, Tensor): return [out]
    if isinstance(out, dict): return [t for v in out.values() for t in leaves(v)]
    if isinstance(out, (tuple,list)): return [t for v in out for t in leaves(v)]
    return [t for v in vars(out).values() for t in leaves(v)] if hasattr(out, '__dict__') else []

def without_parametrization(m):
    "Its weight as an ordinary parameter"
    if nn.utils.parametrize.is_parametrized(m, 'weight'): nn.utils.parametrize.remove_parametrizations(m, 'weight')
    elif hasattr(m, 'weight_g'): nn.utils.remove_weight_norm(m)
    elif hasattr(m, 'weight_orig'): nn.utils.remove_spectral_norm(m)

# `d_out d_in` to the module's own way, and back
def turned(m, W): return W.T if isinstance(m, nn.Embedding) or hasattr(m, 'nf') else W

class Twin:
    "The same model again, whose weights can be changed by hand"
    def __init__(self, case, like):
        self.case,self.model = case,case.make()
        with torch.no_grad(): found = leaves(called(self.model, case.x))
        hits = [i for i,t in enumerate(found) if t.shape==like.shape and off(like, t)<1e-3]
        if not hits:
            raise AssertionError(
                f"the answer of shape {tuple(like.shape)} is none of {[tuple(t.shape) for t in found]}, which the "
                "model gives")
        self.pick = hits[0]

    @torch.no_grad()
    def answer(self): return leaves(called(self.model, self.case.x))[self.pick]

    def weight(self, site):
        m = self.model.get_submodule(site)
        without_parametrization(m)
        return turned(m, m.weight.detach())*self.case.scale(m)

    @torch.no_grad()
    def with_weight(self, site, W, run=None):
        """The answer with another weight at one site, or what `run` makes of the model: other sites keep theirs,
        even if they shared it"""
        m = self.model.get_submodule(site)
        without_parametrization(m)
        old,new = m.weight,turned(m, W).to(m.weight)/self.case.scale(m)
        kept = m._parameters if 'weight' in m._parameters else m._buffers
        kept['weight'] = nn.Parameter(new.contiguous()) if kept is m._parameters else new
        try: return self.answer() if run is None else run(self.model)
        finally: kept['weight'] = old

    @torch.no_grad()
    def with_hook(self, site, f):
        h = self.model.get_submodule(site).register_forward_hook(f, with_kwargs=True)
        try: return self.answer()
        finally: h.remove()

    @torch.no_grad()
    def inputs(self, sites, x):
        seen,handles = {},[]
        def keep(s, m, args, kw, out): seen.setdefault(s, next(iter((*args, *kw.values()))).clone())
        for s in sites:
            handles.append(self.model.get_submodule(s).register_forward_hook(partial(keep, s), with_kwargs=True))
        try: called(self.model, x)
        finally:
            for h in handles: h.remove()
        return seen

def off(a, b):
    "The largest difference, relative to the largest value of `b`"
    if a.shape!=b.shape: return float('inf')
    return ((a.double()-b.double()).abs().max()/b.double().abs().max().clamp(min=1e-30)).item() if a.numel() else 0.

def other(x, change):
    "A batch that differs where `change` says, by other tokens or numbers"
    if isinstance(x, dict): return {k:other(v, change) for k,v in x.items()}
    new = x.clone()
    new[change] = 3+(x[change]+1)%17 if not x.is_floating_point() else x[change]+1.7
    return new

def places(twin, sites, x):
    """By site, the position and the row of the batch that each of its rows belongs to, found by changing the batch;
    left out where that cannot be found"""
    base,found = twin.inputs(sites, x),{}
    def changed(change):
        now = twin.inputs(sites, other(x, change))
        def one(m, a, b):
            if a.shape!=b.shape: return None
            return (a!=b) if isinstance(m, nn.Embedding) else ((a-b).abs()>1e-5*a.abs().max()).any(-1)
        return {s:one(twin.model.get_submodule(s), base[s], now[s]) for s in base}
    by_step,by_row = [changed((slice(None), i)) for i in range(STEPS)],[changed((b,)) for b in range(ROWS)]
    for s in base:
        if any(d[s] is None for d in by_step+by_row): continue
        # step or row, then the rows of the site
        step,row = _step_of(torch.stack([d[s] for d in by_step])),torch.stack([d[s] for d in by_row])
        if row.sum(0).eq(1).all(): found[s] = step,row.float().argmax(0)
        # the same for the whole batch
        elif not row.any() and row[0].numel()==STEPS: found[s] = torch.arange(STEPS).view(row.shape[1:]),None
    return {s:(step,row) for s,(step,row) in found.items() if step is not None}

def _step_of(seen):
    "The step that each row of a site belongs to, from those that change it"
    last = STEPS-1-seen.flip(0).float().argmax(0)
    before = torch.arange(STEPS).view(-1, *[1]*(seen.ndim-1))<=last
    # it sees itself, or itself and those before it
    if seen.sum(0).eq(1).all() or (seen==before).all() and not seen.all(): return last
    # it sees everything, and stands where one expects
    return torch.arange(STEPS).expand(ROWS, STEPS) if seen.shape[1:]==(ROWS,STEPS) else None

# what is tried

SPD = Path(__import__('spd_nb').__file__).parent

def ours(e):
    "Does an error come from a `raise` of the package?"
    last = traceback.extract_tb(e.__traceback__)[-1]
    return Path(last.filename).parent==SPD and 'raise ' in (last.line or '')

def names(e, sites): return [s for s in sites if repr(s) in str(e)] or [s for s in sites if '.' in s and s in str(e)]

def judged(e, sites):
    if isinstance(e, AssertionError): return 'silent'
    return 'crash' if not ours(e) else 'refused' if names(e, sites) or not sites else 'unnamed'

def said(e): return f'{type(e).__name__}: {" ".join(str(e).split())}'

def attempt(findings, site, stage, f):
    "Run `f`, which gives nothing, or what to compare: got, wanted, and how far they may differ"
    try: pairs = list(f() or ())
    except Exception as e: findings.append(Finding(site, stage, judged(e, [site] if site else []), said(e)))
    else:
        def differs(a, b):
            return (f'off by {off(a, b):.2g} of the largest value' if a.shape==b.shape
                else f'shape {tuple(a.shape)}, not {tuple(b.shape)}')
        wrong = [differs(a, b) for a,b,limit in pairs if not off(a, b)<=limit]
        findings.append(Finding(site, stage, 'silent' if wrong else 'right', '; '.join(wrong)))

def accepted(case, findings):
    "Decompose every site that the package lists or picks; those it refuses are left out, one after the other"
    model = case.make()
    listed = linear_sites(model)
    sites = list(dict.fromkeys([*listed.index[listed.why==''], *_picked(model)]))
    def without(s, stage, e):
        findings.append(Finding(s, stage, 'needless' if s in case.fine else judged(e, [s]), said(e)))
        sites.remove(s)
    def tried(stage, f):
        "Run on all sites, and again without those that are refused"
        while sites:
            try: return f(dict.fromkeys(sites, C))
            except Exception as e:
                if not ours(e) or not (named := names(e, sites)): break
                for s in named: without(s, stage, e)
        wrong = {}
        for s in sites: # no site was named, so each alone
            try: f({s:C})
            except Exception as e: wrong[s] = e
        # it is about the model
        if len(wrong)==len(sites) and len({said(e)
                for e in wrong.values()})==1 and ours(e := next(iter(wrong.values()))):
            findings.append(Finding('', stage, 'needless' if case.fine else 'refused', said(e)))
            sites.clear()
        for s,e in wrong.items():
            if s in sites: without(s, stage, e)
        return f(dict.fromkeys(sites, C)) if sites else None
    def first(which): decompose(case.make(), which).clean(case.x)
    def importances(which):
        dm = decompose(case.make(), which)
        with torch.no_grad(): dm.ci(case.x)
        return dm
    tried('decompose', lambda which: decompose(case.make(), which))
    tried('clean', first)
    return tried('importances', importances)

def _picked(model):
    try: return match_sites(model, '*')
    except LookupError: return []

@contextmanager
def folder():
    with tempfile.TemporaryDirectory() as d: yield Path(d)

def sites_right(case, dm, twin, findings):
    "Masks, edits and bakes of each site against changed weights"
    x,base = case.x,twin.answer()
    limit = max(LIMIT.get(t.dtype, 1e-4) for t in (base, *map(twin.weight, dm.sites)))
    ci = {}
    attempt(findings, '', 'importances', lambda: ci.update(dm.ci(x).lower))
    # of the importances' shape, as those of a loss are
    def full(s, mask): return mask.to(ci[s]).expand_as(ci[s]) if s in ci else mask
    def everything(sites): return {s:Mask(full(s, torch.ones(C)), full(s, torch.ones(C))[...,0]) for s in sites}
    def all_whole():
        with dm.masked(everything(dm.sites)): yield dm(x),base,limit
    attempt(findings, '', 'whole', all_whole)
    sequences = isinstance(x, Tensor) and x.shape[:2]==(ROWS,STEPS)
    where = places(twin, dm.sites, x) if sequences else {}
    for n,s in enumerate(dm.sites):
        cs,c,W = dm.at(s),n%C,twin.weight(s)
        V,U = cs.V.detach(),cs.U.detach()
        rank_one,kept_one = torch.outer(U[c], V[:,c]),torch.eye(C)[c].to(V)
        new_u = U[(c+1)%C]*2+U[c].flip(0)
        swapped = twin.with_weight(s, W+torch.outer(new_u-U[c], V[:,c]))
        e = u_replaced(dm, s, c, new_u)
        def whole():
            with dm.masked(everything([s])): yield dm(x),base,limit
        def kept():
            with dm.masked({s:Mask(kept_one)}): yield dm(x),twin.with_weight(s, rank_one),limit
            with dm.masked({s:Mask(full(s, kept_one))}): yield dm(x),twin.with_weight(s, rank_one),limit
        def removed():
            with ablated(dm, f'{s}:{c}'): yield dm(x),twin.with_weight(s, W-rank_one),limit
        def replaced():
            with e: yield dm(x),swapped,limit
        def made(): yield leaves(called(baked(dm, e), x))[twin.pick],swapped,limit
        def untied(): yield leaves(called(baked(dm, e, untie=True), x))[twin.pick],swapped,limit
        def by_hand(here):
            def hook(m, args, kw, out):
                h = next(iter((*args, *kw.values())))
                a = V[:,c][h] if isinstance(m, nn.Embedding) else h.to(V)@V[:,c]
                return out+((here*a)[...,None]*(new_u-U[c])).to(out)
            return twin.with_hook(s, hook)
        def position():
            with u_replaced(dm, s, c, new_u, positions=[AT]): out = dm(x)
            if s in where: yield out,by_hand(where[s][0]==AT),limit
            if case.causal: yield out[:,:AT],base[:,:AT],1e-5
            with u_replaced(dm, s, c, new_u, positions=list(range(STEPS))): yield dm(x),swapped,limit
        def one_row():
            at = torch.zeros(ROWS, STEPS, dtype=torch.bool)
            at[0,AT] = True
            with u_replaced(dm, s, c, new_u, positions=at): out = dm(x)
            if s in where and where[s][1] is not None: yield out,by_hand((where[s][0]==AT)&(where[s][1]==0)),limit
            if case.causal: yield out[1:],base[1:],1e-5
        def shape():
            if not case.causal or s not in ci or s in where and where[s][1] is None: return
            assert ci[s].shape==(ROWS,STEPS,C), f'importances of shape {tuple(ci[s].shape)}, not {(ROWS,STEPS,C)}'
        stages = dict(whole=whole, kept=kept, ablated=removed, replaced=replaced, baked=made, untied=untied,
            shape=shape)
        if sequences: stages |= dict(position=position, row=one_row)
        for stage,f in stages.items(): attempt(findings, s, stage, f)

def fitted(case, dm, findings):
    "Three steps of each loss with each importance function"
    small = dict(ScalarCI=ScalarCI, SharedCI=partial(SharedCI, hidden=8),
        TransformerCI=partial(TransformerCI, d=16, blocks=1, heads=2))
    for kind,ci in small.items():
        for losses in (spd_losses, vpd_losses):
            def run():
                with folder() as d:
                    run = fit(decompose(case.make(), dm.C, ci), [case.x], losses(), steps=3, path=d, every=1,
                        progress=False)
                    assert all(v==v and abs(v)!=float('inf') for row in run.history
                        for v in row.values()), f'{run.history}'
            attempt(findings, '', f'fit {losses.__name__} {kind}', run)

def planned(case, dm, findings):
    "A plan and a report, and opening as a language model"
    def reported():
        r = report(decompose(case.make(), dm.C), [case.x], n=1, ladder=(1,2))
        assert len(r)>5 and all(c.value==c.value for c in r), f'{r}'
    attempt(findings, '', 'plan', lambda: plan(decompose(case.make(), dm.C), [case.x], sample=1) and None)
    attempt(findings, '', 'report', reported)
    if case.causal: attempt(findings, '', 'load_lm', lambda: load_lm(case.make()) and None)

def counted(case, dm, findings):
    "A harvest's counts against counting by hand"
    def run():
        with folder() as d, torch.no_grad(): stats = count(dm, [case.x], d/'counts', progress=False)
        on = torch.cat([dm.ci(case.x).lower[s].flatten(0,1)>.1 for s in dm.sites], 1).double()
        p = dm(case.x).float().softmax(-1).flatten(0,1)
        ids = torch.nn.functional.one_hot(case.x.flatten(), stats.args['vocab']).double()
        sums = stats.sums
        yield sums['count'],on.sum(0),0
        yield sums['input'],on.T@ids,0
        yield sums['together'].triu(),(on.T@on).triu(),0
        yield stats.output,on.T@p.double(),1e-3
    attempt(findings, '', 'harvest', run)

def padded(case, dm, findings):
    "A harvest of padded rows against each row alone"
    for side,here in (('left', slice(0,3)), ('right', slice(4,7))):
        def run():
            mask = torch.ones_like(case.x)
            mask[0,here] = 0
            batch = dict(input_ids=case.x.masked_fill(mask==0, 2), attention_mask=mask)
            alone = [case.x[i:i+1,mask[i]==1] for i in range(ROWS)]
            with folder() as d, torch.no_grad(): stats = count(dm, [batch], d/'counts', progress=False)
            on = torch.cat([torch.cat([dm.ci(x).lower[s][0]>.1 for s in dm.sites], 1) for x in alone]).double()
            yield stats.output,on.T@torch.cat([dm(x)[0].float().softmax(-1) for x in alone]).double(),1e-3
        attempt(findings, '', f'padded {side}', run)

def reopened(case, dm, findings):
    "A decomposition that was saved, and an edited model that was exported, opened again"
    def back():
        with folder() as d: again = load(save(dm, d/'dm'), case.make())
        a,b = dm.ci(case.x),again.ci(case.x)
        return [(b.pre[s], a.pre[s], 1e-6) for s in dm.sites]
    attempt(findings, '', 'save and load', back)

def spoken(case, dm, twin, findings):
    "What the model writes with an edit, with and without a cache"
    def greedy(model, cache):
        return model.generate(case.x, max_new_tokens=4, do_sample=False, use_cache=cache, pad_token_id=2)
    try: able = [cache for cache in (True,False) if greedy(twin.model, cache).shape[1]>STEPS]
    except Exception: return # this model cannot
    for s in dict.fromkeys([dm.sites[0], dm.sites[len(dm.sites)//2], dm.sites[-1]]):
        U,V,W = dm.at(s).U.detach(),dm.at(s).V.detach(),twin.weight(s)
        def said_so():
            for cache in able:
                with u_replaced(dm, s, 0, U[1]*2): got = greedy(dm.target, cache)
                yield got,twin.with_weight(s, W+torch.outer(U[1]*2-U[0], V[:,0]), partial(greedy, cache=cache)),0
        attempt(findings, s, 'generated', said_so)

def exported(case, dm, twin, findings):
    "A checkpoint and an adapter of an edit, opened again"
    if not hasattr(dm.target, 'save_pretrained') or not hasattr(dm.target, 'config') or not hasattr(dm.target,
            'from_pretrained'):
        return
    for s in dict.fromkeys([dm.sites[0], dm.sites[len(dm.sites)//2], dm.sites[-1]]):
        cs,W = dm.at(s),twin.weight(s)
        V,U = cs.V.detach(),cs.U.detach()
        e,new = u_replaced(dm, s, 0, U[1]*2),W+torch.outer(U[1]*2-U[0], V[:,0])
        def checkpoint(untie):
            with folder() as d: model = type(dm.target).from_pretrained(e.export(d/'edited', untie=untie)).eval()
            with torch.no_grad(): return [(leaves(called(model, case.x))[twin.pick], twin.with_weight(s, new), 1e-4)]
        def adapter(merged):
            from peft import PeftModel
            with folder() as d: model = PeftModel.from_pretrained(case.make(), e.export(d/'adapter', 'peft')).eval()
            if merged: model = model.merge_and_unload()
            with torch.no_grad(): return [(leaves(called(model, case.x))[twin.pick], twin.with_weight(s, new), 1e-4)]
        attempt(findings, s, 'exported', partial(checkpoint, False))
        attempt(findings, s, 'exported, untied', partial(checkpoint, True))
        attempt(findings, s, 'adapter', partial(adapter, False))
        attempt(findings, s, 'adapter, merged', partial(adapter, True))

def examined(case):
    "All that is found out about a case"
    findings = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        dm = accepted(case, findings)
        if dm is None: return findings
        with torch.no_grad(): out = dm(case.x)
        twin = None
        def same_answer():
            nonlocal twin
            twin = Twin(case, out)
            dm(case.x) # as people do before they open a block: what was compiled knows of none
        with torch.no_grad():
            attempt(findings, '', 'answer', same_answer)
            if twin is not None: sites_right(case, dm, twin, findings)
        reopened(case, dm, findings)
        if case.causal:
            counted(case, dm, findings)
            padded(case, dm, findings)
        if case.causal and twin is not None: spoken(case, dm, twin, findings)
        if twin is not None: exported(case, dm, twin, findings)
        planned(case, dm, findings)
        fitted(case, dm, findings)
    return findings

FEW = ['plain', 'a head that reads the weight of the embedding', 'MultiheadAttention', 'weight norm',
    'a Linear that clamps its output', 'rows of S*B',
    'the last position only', 'positions as one row', 'model.compile', 'batch norm', 'opt']

def pytest_generate_tests(metafunc):
    if 'name' in metafunc.fixturenames:
        metafunc.parametrize('name', list(ZOO) if metafunc.config.getoption('--zoo') else FEW)

def recover(findings):
    wrong = [f for f in findings if f.verdict not in ('right','refused')]
    assert not wrong, '\n'.join(f'{f.verdict}: {f.stage} {f.site}: {f.message}' for f in wrong)

def test_right_or_refused(name): recover(examined(ZOO[name]))

@pytest.mark.parametrize('trap', ['rows of S*B', 'B 1 S', 'the last position only', 'a pooled output'])
def test_first_batch_of_one_position(trap):
    "What is found out on a batch that cannot tell rows from positions is not believed of the next"
    case,findings = ZOO[trap],[]
    dm = decompose(case.make(), dict.fromkeys(case.fine, C))
    with torch.no_grad():
        dm.clean(case.x[:,:1])
        sites_right(case, dm, Twin(case, dm(case.x)), findings)
    recover(findings)
    assert sum(f.verdict=='right' for f in findings)>=10

def test_tied_components():
    "One set of components stands for a weight and its transpose, and for nothing else"
    case,findings,pair = ZOO['llama_tied'],[],{'model.embed_tokens':C, 'lm_head':C}
    dm = decompose(case.make(), pair, tied={'lm_head':'model.embed_tokens'})
    with torch.no_grad(): sites_right(case, dm, Twin(case, dm(case.x)), findings)
    recover(findings)
    with pytest.raises(ValueError, match='lm_head'): # its embedding is scaled
        decompose(ZOO['gemma'].make(), pair, tied={'lm_head':'model.embed_tokens'})

if __name__=='__main__':
    import logging, time
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    for name in sys.argv[1:] or [*TRAPS, *OTHER_MODELS, *LANGUAGE_MODELS]:
        start = time.time()
        try: found = examined(ZOO[name])
        except Exception as e:
            traceback.print_exc()
            found = [Finding('', 'oracle', 'crash', said(e))]
        for f in found: print(name, *f, sep='\t')
        print(name, '', 'seconds', f'{time.time()-start:.1f}', '', sep='\t', flush=True)
