"""Edit the shipped story model and measure what it does: `make editing`, or
   python tools/editing.py                    (all of it, into data/results/editing*.csv; about ten minutes on two cores)
   python tools/editing.py emoticons lora     (some of it)
Components are chosen on some stories and reported on others. Both are fresh, and heroes in places that training never
had are told apart."""  # noqa: E501
import argparse
from functools import cache
from pathlib import Path
import pandas as pd, torch
from spd_nb.core import atomic
from spd_nb.edit import ablated, u_replaced
from spd_nb.eval import single_ablations, without_masks
from spd_nb.export import baked
from spd_nb.ground_truth import auc
from spd_nb.harvest import Harvest
from spd_nb.hooks import hooked
from spd_nb.keys import Key
from spd_nb.learn import fit_u, write_token
from spd_nb.lora import lora
from spd_nb.masks import Mask
from spd_nb.measures import kl_pq
from spd_nb.model import load
from spd_nb.places import Places, says, windows
from spd_nb.scoring import shortlist, held_out
from spd_nb.stories import MOUTHS, stories, story_rows, vocabulary
from spd_nb.sweeps import density_matched, select
from spd_nb.tradeoff import generations, measure

root = Path(__file__).resolve().parent.parent
RESULTS = root/'data'/'results'
IDS,TEXTS = {t:i for i,t in enumerate(vocabulary())},vocabulary()
CHOOSE,ON,ELSEWHERE,TEACH = 701,702,703,704 # seeds of the stories to choose on, to report on (twice), and to learn from
dm = load(root/'data'/'story')
h = Harvest(root/'data'/'story'/'harvest', dm)
DOWN = 'model.layers.1.mlp.down_proj'

@cache
def rows_of(n, seed, held_out=False): return story_rows(n, 128, seed=seed, held_out=held_out)
def toks_of(rows): return torch.tensor([[IDS[t.text] for t in r] for r in rows])
def before(rows, *roles): return torch.tensor([[t.role in roles for t in r[1:]]+[False] for r in rows])
def told(n, seed, *roles, held_out=False):
    rows = rows_of(n, seed, held_out)
    return Places(toks_of(rows), before(rows, *roles))
def words(*roles): return sorted({IDS[t.text] for r in rows_of(400, 99) for t in r if t.role in roles})
def in_speech(rows):
    "Positions whose next token is inside quotation marks, or one of them"
    def one(r):
        inside,marks = False,[]
        for t in r[1:]:
            inside = inside or t.role=='quote_open'
            marks.append(inside)
            inside = inside and t.role!='quote_close'
        return marks+[False]
    return torch.tensor([one(r) for r in rows])

HE = dict(roles=('pron_m','poss_m','obj_m'), tokens=[IDS[t] for t in (' he',' He',' him',' his',' His')])
SHE = [IDS[t] for t in (' she',' She',' her',' Her')]
BEHAVIOURS = dict(pronouns=HE, quotes=dict(roles=('quote_open',), tokens=[IDS[' "']]),
    nature=dict(roles=('nature',), tokens=words('nature')), morals=dict(roles=('moral',), tokens=words('moral')))

def judged(edit, roles, tokens, held_out=False, n=96, **kw):
    "As `measure`, on the stories to report on"
    rows = rows_of(n, ELSEWHERE, held_out)
    domains = {'speech':in_speech(rows)&~before(rows, *roles), 'no speech':~in_speech(rows)&~before(rows, *roles)}
    return measure(dm, edit, told(n, ON, *roles, held_out=held_out), tokens,
        told(n, ELSEWHERE, *roles, held_out=held_out), groups=dict(she=SHE), domains=domains, **kw)

def keep(name, df):
    "Write a table of results"
    with atomic(RESULTS/name) as f: df.to_csv(f, index=False, float_format='%.5g')
    print(f'{name}: {len(df)} rows', flush=True)

def with_intervals(m, keys=('change','near_kl','elsewhere_kl','ppl_elsewhere','ppl_anywhere')):
    return m.row()|{f'{k} {end}':m.table[end][k] for k in keys for end in ('low','high')}

# choosing components

def chosen(roles, tokens, n=6, weight=10., candidates=60, rows=24, nats=False):
    """Components whose removal takes most of some tokens' probability at some roles, at the least cost elsewhere
    (nats, times `weight`), on the stories to choose on"""
    p = told(rows, CHOOSE, *roles)
    def both():
        logp = dm(p.toks)[:,:-1].log_softmax(-1)
        nll = -logp.gather(-1, p.toks[:,1:,None])[...,0]
        there = logp[p.at[:,:-1]][:,tokens].logsumexp(-1)
        return dict(effect=there.mean() if nats else there.exp().mean(), elsewhere=nll[~p.at[:,:-1]].mean())
    with torch.no_grad():
        base = {k:v.item() for k,v in both().items()}
        def cost():
            now = both()
            effect = now['effect']-base['effect'] if nats else now['effect']/base['effect']-1
            return effect.item()+weight*max(0., now['elsewhere'].item()-base['elsewhere'])
        alone = single_ablations(dm, both, progress=False)
    first = (alone.effect/(1 if nats
        else base['effect'])+weight*alone.elsewhere.clip(lower=0)).nsmallest(candidates).index
    return select(dm, cost, first, n, progress=False)

# experiments, each a table

def masks_or_weights():
    "The same components out by masks and by weights: with what all components miss kept, and without"
    rows = []
    for name,keys in dict(pronouns=list(chosen(**HE).key), quotes=[f'{DOWN}:80']).items():
        out,p = baked(dm, ablated(dm, keys)),told(32, ON)
        kept = without_masks(dm, keys)
        ones = {s:Mask(kept[s].mask if s in kept else torch.ones(C)) for s,C in dm.C.items()}
        prompts = [p.toks[i:i+1,:20] for i in range(8)]
        with torch.no_grad():
            logp = out(p.toks).logits.double().log_softmax(-1)
            edit = kl_pq(dm(p.toks).double().log_softmax(-1), logp).mean().item()
            for how,masks in dict(delta_kept=kept, no_delta=ones).items():
                with dm.masked(masks):
                    gap = kl_pq(dm(p.toks).double().log_softmax(-1), logp).mean().item()
                    said = [dm.target.generate(x, max_new_tokens=40, do_sample=False) for x in prompts]
                same = sum(torch.equal(a, out.generate(x, max_new_tokens=40, do_sample=False))
                    for a,x in zip(said, prompts))
                rows.append(dict(experiment=name, masks=how, n=len(keys), kl_from_weights=gap, kl_of_edit=edit,
                    ratio=edit/max(gap, 1e-300), same_texts=same, of_texts=len(prompts)))
    keep('editing_masks.csv', pd.DataFrame(rows))

def output_filter(tokens, wanted, roles, **kw):
    """The cheapest rival: lower the logits of some tokens at the output, everywhere by the same amount, until the
    effect is `wanted`"""
    def make(bias):
        return lambda: hooked(dm.target, {'lm_head':lambda x,
            out: out.index_add(-1, torch.tensor(tokens), torch.full((*out.shape[:-1], len(tokens)), -bias))})
    low,high = 0.,40.
    for _ in range(14):
        mid = (low+high)/2
        low,high = (low,mid) if judged(make(mid), roles, tokens, n=32, resamples=1)['change']<wanted else (mid,high)
    return judged(make(high), roles, tokens, **kw)

def floor(roles, tokens, wanted, n=96):
    """Relative change of perplexity that no edit can go below, if it leaves all other positions as they are: the
    probability there, all in all `1+wanted` of what it was, spread so that its logarithms lose least"""
    p = told(n, ON, *roles)
    with torch.no_grad(): logp = dm(p.toks)[:,:-1].log_softmax(-1)
    at = p.at[:,:-1]
    named = logp[at][:,tokens].exp().sum(-1).double()
    goal,low,high = (1+wanted)*named.mean(),0.,1.
    for _ in range(50):  # the same probability everywhere, but nowhere more than there was
        mid = (low+high)/2
        low,high = (mid,high) if named.clamp(max=mid).mean()<goal else (low,mid)
    return torch.expm1((named/named.clamp(max=high)).log().sum()/at.numel()).item()

def behaviour(name, roles, tokens, ns=(1,2,3,4,6)):
    "Suppress one behaviour: more and more components, gated, on held-out pairs, and random components"
    found = chosen(roles, tokens)
    rows = []
    def put(edit, m, keys=(), **more):
        rows.append(dict(behaviour=name, edit=edit, n=len(keys), keys=' '.join(keys), **more)|with_intervals(m))
    for n in ns:
        keys = list(found.key[:n])
        put('ablated', judged(ablated(dm, keys), roles, tokens), keys)
        put('gated', judged(ablated(dm, keys, ci_threshold=.1), roles, tokens), keys)
        put('held-out pairs', judged(ablated(dm, keys), roles, tokens, held_out=True), keys)
    if name=='quotes':
        by_output,by_input = (shortlist(h, ' "', held_out(h, stories(8, 128, seed=CHOOSE), 4), side, n=8,
            progress=False).index for side in ('output','input'))
        for how,names,sizes in (('by output PMI',by_output,(1,2)), ('by input PMI',by_input,(1,3,6))):
            for n in sizes: put(how, judged(ablated(dm, list(names[:n])), roles, tokens), list(names[:n]))
        put('both kinds of quotation', judged(ablated(dm, [f'{DOWN}:80', f'{DOWN}:116']), roles, tokens),
            [f'{DOWN}:80', f'{DOWN}:116'])
    best = next((r for r in rows if r['edit']=='ablated' and r['change']<-.9), rows[3*len(ns)-3])
    put('output filter', output_filter(tokens, best['change'], roles))
    rows.append(dict(behaviour=name, edit='floor', n=0, keys='', change=best['change'],
        ppl_anywhere=floor(roles, tokens, best['change'])))
    for i,c in enumerate(density_matched(best['keys'].split(), h.components.density)):
        put('random', judged(ablated(dm, c), roles, tokens, n=48, resamples=1), c, draw=i)
    return rows

def suppression():
    "Pronouns, quotes, nature words and morals"
    df = pd.DataFrame([r for name,b in BEHAVIOURS.items() for r in behaviour(name, **b)])
    random = df[df.edit=='random'].drop(columns=['keys','draw'])
    spread = random.groupby('behaviour',
        sort=False)[['change','elsewhere_kl','ppl_elsewhere']].agg(['mean','min','max'])
    spread.columns = [' '.join(c) for c in spread.columns]
    keep('editing_controls.csv',
        spread.join(random.groupby('behaviour').n.agg(components='first', draws='size')).reset_index())
    keep('editing_suppress.csv', df[df.edit!='random'].drop(columns='draw'))

def target_tokens():
    """The letter that has a role of its own, and the most frequent token that is no mouth and whose unembedding has
    a cosine below .4 to every other"""
    E = torch.nn.functional.normalize(dm.target.get_output_embeddings().weight, dim=1)
    alone = ((E@E.T).fill_diagonal_(-1).amax(1)<.4).tolist()
    return ['o', next(TEXTS[i] for i in h._totals.times.sort_values(ascending=False).index if alone[i]
        and TEXTS[i] not in MOUTHS)]

def emoticon(edit, token):
    "The measures of an edit that should make a token follow the eyes of emoticons"
    m = judged(edit, ('emo_mouth',), [IDS[token]])
    rows = rows_of(96, ELSEWHERE)
    colons = torch.tensor([[t.text==':' and t.role!='emo_eyes' for t in r] for r in rows])
    with torch.no_grad(), edit: after = dm(toks_of(rows)).softmax(-1)[...,IDS[token]][colons].mean().item()
    return with_intervals(m, ('p_after','near_kl','elsewhere_kl'))|dict(other_colons=after)

def emoticons():
    "One write vector, no examples: both forms, two tokens, many strengths"
    seen,eyes = told(24, CHOOSE).toks,f'{DOWN}:130'
    rows = [dict(method='write vector', token=token, form=form,
        scale=scale)|emoticon(u_replaced(dm, DOWN, 130, write_token(dm, eyes, token, scale, seen, form)), token)
            for token in target_tokens() for form in ('replacement','addition') for scale in SCALES]
    keep('editing_write.csv', pd.DataFrame(rows))

def learned():
    "The same by LoRA of rank one, and by learned write vectors"
    rows,teach = [],windows(told(400, TEACH, 'emo_mouth'))
    for token in target_tokens():
        goal = says(IDS[token])
        for n,weight,lr,seed in [(n,w,lr,s) for n in (10,len(teach.toks)) for w in (.1,1.,10.,100.)
                for lr in (1e-3,1e-2) for s in range(3)]:
            some = teach.some(n, seed)
            e = lora(dm, DOWN, some, goal, weight=weight, lr=lr, seed=seed, batch=min(64, n), progress=False)
            rows.append(dict(method='LoRA', token=token, n=n, weight=weight, lr=lr, seed=seed)|emoticon(e, token))
        for n,seed in [(n,s) for n in (1,4,10) for s in range(3)]:
            some = teach.some(n, seed)
            rows.append(dict(method='learned write vector', token=token, n=n, weight=1., lr=1e-2,
                seed=seed)|emoticon(fit_u(dm, f'{DOWN}:130', some, goal, steps=100, lr=1e-2, seed=seed,
                batch=min(8, n), progress=False), token))
    keep('editing_learned.csv', pd.DataFrame(rows))

def written(n=40, new=60):
    "What is written, counted: continuations of held-out beginnings, greedy and drawn"
    starts = [''.join(t.text for t in r[1:next(i for i,t in enumerate(r) if i>8 and t.text=='.')+1])
        for r in rows_of(n, 705)]
    rows = []
    for name,(keys,tokens) in dict(pronouns=(list(chosen(**HE).key[:4]),HE['tokens']),
            quotes=([f'{DOWN}:80'],[IDS[' "']]),
            both_kinds_of_quotation=([f'{DOWN}:80',f'{DOWN}:116'],[IDS[' "']])).items():
        for gated in (False,True):
            df = generations(dm, ablated(dm, keys, ci_threshold=.1 if gated else None), starts, n=new,
                tokens=tokens).table
            for how,d in df.groupby(df.how=='greedy'):
                rows.append(dict(behaviour=name, n=len(keys), gated=gated, how='greedy' if how else 'drawn',
                    texts=len(d), before=d.count_before.sum(), after=d.count_after.sum(),
                    change=d.count_after.sum()/d.count_before.sum()-1))
    keep('editing_written.csv', pd.DataFrame(rows))

SCALES = (.25,.5,.75,1.,1.1,1.2,1.25,1.3,1.4,1.5,1.75,2.,2.5,3.,4.)

def enough(token, least=.93, key=f'{DOWN}:130'):
    "The weakest replacement that says a token often enough, on the stories to choose on; `None` where none does"
    p,seen = told(32, CHOOSE, 'emo_mouth'),told(24, CHOOSE).toks
    for scale in SCALES:
        with torch.no_grad(), u_replaced(dm, *Key.parse(key), write_token(dm, key, token, scale, seen)):
            if dm(p.toks).softmax(-1)[p.at][:,IDS[token]].mean()>=least: return scale

def eyes_of(candidates=('o_proj','down_proj')):
    """The component of the last block whose importance tells the eyes of emoticons from everything else best, on the
    stories to choose on, and its AUC"""
    rows = rows_of(64, CHOOSE)
    eyes = torch.tensor([t.role=='emo_eyes' for r in rows for t in r])[:,None]
    with torch.no_grad(): ci = dm.ci(toks_of(rows)).lower
    scores = {Key(s, c):v for s,g in ci.items() if s.split('.')[2]=='1' and s.endswith(candidates)
        for c,v in enumerate(auc(g.flatten(0,1), eyes)[:,0].tolist())}
    best = max(scores, key=scores.get)
    return best,scores[best]

def others():
    "Quotations, pronouns and emoticons again, chosen anew in each decomposition of `make story` that is there"
    global dm
    shipped,rows = dm,[]
    try:
        for path in sorted((root/'runs'/'story').glob('*/saved')):
            if path.parent.name.startswith('stories260K'): continue
            dm = load(path)
            for name in ('quotes','pronouns'):
                found = chosen(**BEHAVIOURS[name], candidates=40)
                for n in (1,3,6):
                    m = judged(ablated(dm, list(found.key[:n])), **BEHAVIOURS[name], resamples=1)
                    rows.append(dict(run=path.parent.name, experiment=name, n=n, keys=' '.join(found.key[:n]),
                        change=m['change'], elsewhere_kl=m['elsewhere_kl'], ppl_elsewhere=m['ppl_elsewhere']))
            key,score = eyes_of()
            row = dict(run=path.parent.name, experiment='emoticons', n=1, keys=str(key), auc=score)
            try: scale = enough('o', key=key)
            except ValueError: scale = None  # it fires with both signs, or never on these stories
            if scale:
                m = judged(u_replaced(dm, *key, write_token(dm, key, 'o', scale, told(24, CHOOSE).toks)),
                    ('emo_mouth',), [IDS['o']], resamples=1)
                row |= dict(scale=scale, p_after=m['p_after'], near_kl=m['near_kl'], elsewhere_kl=m['elsewhere_kl'])
            rows.append(row)
            keep('editing_runs.csv', pd.DataFrame(rows))
    finally: dm = shipped

def summarised():
    "What was wanted beside what was seen, from the other tables"
    masks,supp,write,learn,random,text = (pd.read_csv(RESULTS/f'editing_{n}.csv')
        for n in ('masks','suppress','write','learned','controls','written'))
    rows = []
    def put(experiment, measure, value, wanted=None, low=None, high=None, **more):
        met = (None if wanted is None else bool(value<=float(wanted[2:])) if wanted[:2]=='<='
            else bool(value>=float(wanted[2:])))
        rows.append(dict(experiment=experiment, measure=measure, wanted=wanted, value=value, low=low, high=high,
            met=met)|more)
    def of(r, experiment, k, wanted=None, measure=None, **more):
        put(experiment, measure or k, r[k], wanted, r.get(f'{k} low'), r.get(f'{k} high'), **more)
    for r in masks.itertuples():
        what = f'{r.experiment}, {r.masks.replace("_"," ")}'
        put('masks against weights', f'KL between them, {what}', r.kl_from_weights, '<=1e-8' if r.masks=='delta_kept'
            else '<=.005')
        if r.masks=='delta_kept':
            put('masks against weights', f'share of greedy texts that are the same, {what}', r.same_texts/r.of_texts,
                '>=1')
        else: put('masks against weights', f'KL of the edit over KL between them, {what}', r.ratio, '>=25')
    def pick(behaviour, edit, **more):
        d = supp[(supp.behaviour==behaviour)&(supp.edit==edit)]
        for k,v in more.items(): d = d[d[k]==v]
        return d
    he = pick('pronouns', 'ablated')
    n = int(he[he.change<=-.9].n.min())
    r,gated = pick('pronouns', 'ablated', n=n).iloc[0],pick('pronouns', 'gated', n=n).iloc[0]
    of(r, 'pronouns', 'change', '<=-.9', n=n)
    of(r, 'pronouns', 'ppl_elsewhere', '<=.06', 'perplexity of all other tokens', n=n)
    of(r, 'pronouns', 'ppl_anywhere', '<=.06', 'perplexity of all tokens, he, him and his too', n=n)
    put('pronouns', 'perplexity of all tokens, the least that an edit with this effect costs if it leaves the other tokens as they are', pick('pronouns', 'floor').ppl_anywhere.iloc[0])  # noqa: E501
    of(pick('pronouns', 'output filter').iloc[0], 'pronouns', 'ppl_anywhere',
        measure='perplexity of all tokens, with the words made unlikely at the output instead')
    put('pronouns', 'gated: effect kept', gated.change/r.change, '>=.85', n=n)
    put('pronouns', 'gated: cost left, KL elsewhere', gated.elsewhere_kl/r.elsewhere_kl, '<=.65', n=n)
    of(pick('pronouns', 'held-out pairs', n=n).iloc[0], 'pronouns', 'change',
        measure='change, heroes in places that training never had', n=n)
    for r in he.itertuples():
        put('dose-response', 'he, him, his', r.change, n=r.n)
        put('dose-response', 'she, her',
            he[he.n==r.n]['change she'].iloc[0], n=r.n)
    r,wrong = pick('quotes', 'by output PMI', n=1).iloc[0],pick('quotes', 'by input PMI', n=6).iloc[0]
    of(r, 'quotes', 'change', '<=-.85', 'change, component chosen by output PMI', n=1)
    put('quotes', 'perplexity outside of speech', r['ppl no speech'], '<=.01', n=1)
    put('quotes', 'perplexity in speech', r['ppl speech'], n=1)
    of(wrong, 'quotes', 'change', measure='change, components chosen by input PMI', n=6)
    put('quotes', 'KL elsewhere: by input PMI over by output PMI', wrong.elsewhere_kl/r.elsewhere_kl, '>=3')
    for token in write.token.unique():
        r = write[(write.token==token)&(write.form=='replacement')&(write.scale==enough(token))].iloc[0]
        what = dict(token=token, scale=r.scale)
        of(r, 'emoticon eyes rewritten', 'p_after', '>=.92', 'P(token) at eyes', **what)
        of(r, 'emoticon eyes rewritten', 'near_kl', '<=.005', 'KL(clean‖edited) near', **what)
        put('emoticon eyes rewritten', 'KL(edited‖clean) near', r.near_kl_back, '<=.005', **what)
        of(r, 'emoticon eyes rewritten', 'elsewhere_kl', '<=.004', 'KL(clean‖edited) elsewhere', **what)
        put('emoticon eyes rewritten', 'KL(edited‖clean) elsewhere', r.elsewhere_kl_back, '<=.004', **what)
        put('emoticon eyes rewritten', 'P(token) after other colons', r.other_colons, '<=.01', **what)
        for n,d in learn[(learn.token==token)&(learn.method=='LoRA')].groupby('n'):
            means = d.groupby(['weight','lr'])[['p_after','elsewhere_kl']].mean()
            best = means[means.p_after>=r.p_after].nsmallest(1, 'elsewhere_kl').reset_index().iloc[0]
            put('LoRA', 'KL(clean‖edited) elsewhere, mean of three seeds, the cheapest setting that is as effective',
                best.elsewhere_kl, token=token, n=int(n), weight=best.weight)
            put('LoRA', 'P(token) at eyes, of that one', best.p_after, token=token, n=int(n), weight=best.weight)
    for b in BEHAVIOURS:
        d = pick(b, 'ablated')
        r = (d[d.change<=-.85] if (d.change<=-.85).any() else d.nsmallest(1, 'change')).iloc[0]
        of(r, 'difficulty', 'change', measure=f'{b}: change', n=int(r.n))
        of(r, 'difficulty', 'ppl_elsewhere', measure=f'{b}: perplexity of other tokens', n=int(r.n))
        c = random[random.behaviour==b].iloc[0]
        put('controls', f'{b}: change by random components of like density', c['change mean'], low=c['change min'],
            high=c['change max'], n=int(c.components))
    for r in text[text.how=='drawn'].itertuples():
        put('written texts',
            f'{r.behaviour.replace("_"," ")}{", gated" if r.gated else ""}: change of their number, drawn', r.change,
            n=r.n)
    return pd.DataFrame(rows)

def summary(): keep('editing.csv', summarised())

if __name__=='__main__':
    made = dict(masks=masks_or_weights, suppression=suppression, emoticons=emoticons, lora=learned, written=written,
        others=others, summary=summary)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', nargs='*', help=', '.join(made))
    for name in p.parse_args().what or made: made[name]()
