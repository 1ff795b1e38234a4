"What is committed agrees with itself: shipped decompositions give the numbers in the table, and old saves open"
import sys
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from spd_nb.autointerp import evidence_label
from spd_nb.edit import ablated, u_replaced
from spd_nb.learn import write_token
from spd_nb.eval import without_masks
from spd_nb.ground_truth import columns
from spd_nb.harvest import Harvest
from spd_nb.lms import by_role
from spd_nb.model import load
from spd_nb.stories import story_rows
from spd_nb.tables import Tables

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT/'tools'))
import apd, editing, story, toys

TABLE = pd.read_csv(ROOT/'data'/'results'/'toys.csv')
SHIPPED = sorted({p.name for p in (ROOT/'data'/'toys').iterdir()}-{'apd_5-2','spd_5-2','vpd_5-2'})

@pytest.mark.parametrize('name', SHIPPED)
def test_a_shipped_decomposition_gives_the_numbers_of_its_row(name):
    row = TABLE[(TABLE.experiment==name)&(TABLE.seed==0)].iloc[0]
    now = toys.measured(load(ROOT/'data'/'toys'/name), 0)
    for k in ('accuracy/only','accuracy/without','mmcs','ml2r','off','r','slope','identity_error','dense_error'):
        if k in now: assert now[k]==pytest.approx(row[k], rel=2e-3, abs=1e-4), k
    for k,v in now.items():
        if k.startswith(('alive/','fires/')): assert v==row[k], k

def test_the_shipped_apd_gives_the_numbers_of_its_row():
    row = pd.read_csv(ROOT/'data'/'results'/'apd.csv').set_index(['toy','seed']).loc['tms_5-2', 0]
    now = apd.figures(load(ROOT/'data'/'toys'/'apd_5-2'), 0)
    for k,v in now.items(): assert v==pytest.approx(row[k], rel=2e-3, abs=1e-6), k
    assert now['mmcs']>=.998 and abs(now['ml2r']-.893)<=.02

def test_a_wrong_number_of_components_in_use_is_wrong():
    k = pd.read_csv(ROOT/'data'/'results'/'apd_k.csv').set_index(['k','seed'])
    assert (k.loc[.211].off<.13).all() and (k.loc[.211].ml2r.sub(.893).abs()<.02).all() and len(k.loc[.211])==3
    assert k.off.drop(.211).min()>.3 and len(k.loc[.25])==3

@pytest.mark.parametrize('method', ['SPD','VPD'])
def test_the_shipped_runs_of_two_methods_give_the_numbers_of_their_rows(method):
    course = pd.read_csv(ROOT/'data'/'results'/'apd_methods.csv')
    row = course[(course.method==method)&(course.seed==0)].iloc[-1]
    dm,other = load(ROOT/'data'/'toys'/f'{method.lower()}_5-2'),load(ROOT/'data'/'toys'/'apd_5-2')
    assert torch.equal(dm.target.linear1.weight, other.target.linear1.weight)
    found = columns(dm.target.linear1.weight, dm.at('linear1'), above=.1)
    assert (found.cos.mean(), found.ratio.mean(), found.off.max())==pytest.approx(tuple(row[['live_mmcs','live_ml2r',
        'off']]), rel=2e-3)

def test_the_three_methods_find_the_five_features():
    course = pd.read_csv(ROOT/'data'/'results'/'apd_methods.csv')
    last = course.groupby(['method','seed']).tail(1).set_index('method')
    assert len(last)==9 and (last.alive==5).all() and (last.distinct==5).all() and last.least_cos.min()>.99
    assert last.off['VPD'].max()<.025 and last.off['APD'].min()>.1 and last.live_ml2r['VPD'].sub(1).abs().max()<.002

def test_scrubbing_a_residual_mlp_is_as_harmless_as_in_the_paper():
    row = pd.read_csv(ROOT/'data'/'results'/'apd_resid.csv').iloc[0]
    read_off = dict(mse_top_k=1.2e-4, mse_scrubbed=2.6e-4, mse_anti_scrubbed=1.35e-3, mse_half_of_the_features=8.5e-4)
    for name,paper in read_off.items(): assert row[name]==pytest.approx(paper, rel=.25), name
    counts = pd.read_csv(ROOT/'data'/'results'/'apd_resid_scrub.csv')
    assert (counts[['top_k','scrubbed','anti_scrubbed','half_of_the_features']].sum()==16*256).all()

def test_which_price_of_importances_keeps_components_to_their_column():
    found = TABLE.set_index('experiment')
    cheap = found.loc['tms_5-2_later_b2e-03']
    assert len(cheap)==5 and cheap.off.max()<=.05 and cheap.mmcs.min()>.9999 and (cheap['alive/linear1']==5).all()
    assert cheap.identity_error.sum()<=1 and found.off['tms_5-2_later'].min()>.045
    assert found.off['tms_5-2_later_then_1e-03'].max()<.012 and found['alive/linear1']['tms_5-2_later_b1e-03'].min()>5

def test_components_in_use_do_not_depend_on_the_sigmoid():
    used = TABLE.set_index('experiment')['fires/layers.0.mlp_out']
    assert used['resid_1_b1e-04']==used['resid_1_b1e-04_ste']==84 and used['resid_1_b1e-04_later']==87
    assert used[['resid_1_b1e-03','resid_1_b1e-03_ste']].tolist()==[86,88] and used['resid_1_b1e-04_p1']==70

def test_facts_have_components_and_are_lost_without_them():
    facts = TABLE[TABLE.experiment=='memorising'].set_index('seed')
    assert len(facts)==2 and (facts.recalled==24).all() and (facts['own/linear2']==24).all()
    assert (facts['own/linear1']>=19).all() and (facts['facts/kept']<=2/24+1e-6).all()
    assert (facts['facts/others_kept']==1).all() and (facts['facts/random_kept']==1).all()
    assert (facts['facts/others_change']<.05*facts['facts/change']).all()

def test_rows_are_of_known_experiments_and_have_figures():
    assert not TABLE.duplicated(['experiment','seed']).any()
    for r in TABLE.itertuples():
        assert r.experiment in toys.EXPERIMENTS
        assert r.steps==toys.EXPERIMENTS[r.experiment]['steps']
        if r.experiment=='induction': continue
        with np.load(ROOT/'data'/'results'/'toys'/f'{r.experiment}-{r.seed}.npz') as z:
            assert any(k.startswith('ci/') for k in z)

@pytest.mark.parametrize('folder', sorted((ROOT/'tests'/'fixtures').glob('schema_*')), ids=lambda p: p.name)
def test_saves_of_every_schema_open(folder):
    dm = load(folder)
    assert dm.C=={'linear1':7, 'linear2':7}
    assert dm.at('linear2').U.data_ptr()==dm.at('linear1').V.data_ptr()
    assert dm.history[-1]['step']==29 and dm.training_run['losses']['sparsity']['p']==1.
    assert dm.ci(dm.target.batches(6)[0]).lower['linear1'].shape==(6,7)

STORIES = pd.read_csv(ROOT/'data'/'results'/'story.csv', index_col='experiment')

@pytest.fixture(scope='module')
def story_dm(): return load(ROOT/'data'/'story')

def test_the_shipped_story_decomposition_gives_the_numbers_of_its_row(story_dm):
    now,row = story.measured(story_dm, story.told(8, 77, True), ladder=(20,)),STORIES.loc['converged']
    for k,v in now.items(): assert v==pytest.approx(row[k], rel=.05 if k.startswith('pgd') else 2e-3, abs=1e-5), k
    assert story_dm.report['verdict']==row.verdict

def test_the_story_model_is_as_good_as_its_table_says(story_dm):
    roles = pd.read_csv(ROOT/'data'/'results'/'story_target_roles.csv', index_col='role')
    assert roles.gap['all']<=.03
    assert by_role(story_dm.target, story_rows(32, 128, seed=4)).gap['all']==pytest.approx(roles.gap['all'], abs=.015)

def test_single_components_do_to_roles_what_the_table_says(story_dm):
    table = pd.read_csv(ROOT/'data'/'results'/'story_sharpness.csv', index_col='role')
    judge = story.chances(story_dm, 602)
    with torch.no_grad():
        base = judge()
        for r in ('pron_m','quote_open','emo_eyes'):
            assert base[f'P {r}'].item()==pytest.approx(table.P[r], rel=1e-3)
            with story_dm.masked(without_masks(story_dm, table['keys'][r].split()[:1])): now = judge()
            assert (now[f'P {r}']/base[f'P {r}']-1).item()==pytest.approx(table.change_1[r], rel=1e-2, abs=1e-3)

def test_story_rows_are_of_known_runs():
    assert set(STORIES.index)<=set(story.RUNS) and {'converged',
        *(f'sparsity_{s:.0e}' for s in (5e-4, 1e-3, 2e-3, 4e-3, 8e-3))}<=set(STORIES.index)
    for name,r in STORIES.iterrows():
        assert r.steps==story.RUNS[name]['steps'] and r.sparsity==story.RUNS[name]['sparsity']

# evidence

@pytest.fixture(scope='module')
def shipped(story_dm): return Harvest(ROOT/'data'/'story'/'harvest', story_dm)

def test_the_shipped_harvest_is_of_the_shipped_decomposition(shipped):
    assert shipped.manifest['tokens']>=200_000 and sum(f.stat().st_size for f in shipped.path.iterdir())<10e6
    assert shipped.labels.frame('evidence').index.tolist()==shipped.components.index[shipped.components.firings>0].tolist()  # noqa: E501

def test_shipped_labels_follow_from_the_shipped_evidence(shipped):
    labels = shipped.labels.frame('evidence')
    for key in labels.index[::97]:
        assert labels.loc[key, ['input_label','output_label',
            'output_tokens']].to_dict().items()<=evidence_label(shipped.component(key)).items()

def carrying(table, share=.7):
    """Right labels among components that carry a role: at 70 % of the places where they fire (or of what follows) it
    is the same, and no filler"""
    some = table[(table.share>=share)&(table.role!='plain')]
    return {side:(len(g), (g.said==g.role).mean(), (g.said_input==g.role).mean()) for side,g in some.groupby('side')}

def test_evidence_labels_name_the_role(shipped):
    table = pd.read_csv(ROOT/'data'/'results'/'story_labels.csv')
    found = carrying(table)
    assert found['output'][0]>100 and found['output'][1]>=.9 and found['input'][1]>=.9
    assert found['output'][2]<.1  # what the input side says of the output
    now = story.graded_labels(shipped, shipped.labels.frame('evidence'))
    assert now.key.tolist()==table.key.tolist() and (now.said==table.said).all() and np.allclose(now.share,
        table.share, atol=2e-3)

# edits

RESULTS = ROOT/'data'/'results'

def test_the_table_of_edits_follows_from_those_it_sums_up():
    now,kept = editing.summarised(),pd.read_csv(RESULTS/'editing.csv')
    assert kept[['experiment','measure','wanted']].fillna('').equals(now[['experiment','measure','wanted']].fillna(''))
    np.testing.assert_allclose(kept.value, now.value, rtol=1e-4)

def test_edits_reach_what_was_wanted_but_for_what_the_log_says():
    table = pd.read_csv(RESULTS/'editing.csv')
    assert set(table.measure[table.met.eq(False)])=={'perplexity of all tokens, he, him and his too',
        'gated: cost left, KL elsewhere'}

def test_edits_do_what_their_rows_say():
    dm,rows = editing.dm,pd.read_csv(RESULTS/'editing_suppress.csv')
    for behaviour,edit in (('quotes','ablated'), ('pronouns','gated')):
        r = rows[(rows.behaviour==behaviour)&(rows.edit==edit)].iloc[0]
        now = editing.judged(ablated(dm, r['keys'].split(), ci_threshold=.1 if edit=='gated' else None),
            **editing.BEHAVIOURS[behaviour], resamples=1)
        for k in ('change','near_kl','elsewhere_kl','ppl_anywhere'):
            assert now[k]==pytest.approx(r[k], rel=1e-2, abs=1e-4), k
    write = pd.read_csv(RESULTS/'editing_write.csv')
    r = write[(write.token=='o')&(write.form=='addition')&(write.scale==1.2)].iloc[0]
    new_u = write_token(dm, f'{editing.DOWN}:130', 'o', 1.2, editing.told(24, editing.CHOOSE).toks, 'addition')
    now = editing.judged(u_replaced(dm, editing.DOWN, 130, new_u), ('emo_mouth',), [editing.IDS['o']], resamples=1)
    for k in ('p_after','near_kl','elsewhere_kl_back'): assert now[k]==pytest.approx(r[k], rel=1e-2, abs=1e-4), k
    assert set(write.token)==set(editing.target_tokens())

def test_results_on_graphs_say_what_the_log_says():
    edges,removal,induction = (pd.read_csv(RESULTS/f'circuits_{n}.csv') for n in ('edges','removal','induction'))
    assert len(edges)==20 and edges.edges.sum()==38_378 and (edges.relative<1e-5).all()
    removal = removal.set_index('distance')
    assert removal.rank_correlation.round(2).tolist()==[.94,.77,.68,.84] and (removal.shuffled<.2).all()
    assert induction['seed 0'].round(2).tolist()==[1,1,1,1,.25,.84,.84]
    assert induction['seed 1'].round(2).tolist()==[1,1,1,1,.22,.92,.92]

def test_results_on_circuits_say_what_the_log_says():
    "Thirty circuits hold under attack, as many random nodes do not, and what the log says of the others"
    t = pd.read_csv(RESULTS/'circuits.csv')
    assert t.groupby('role').size().to_dict()==dict.fromkeys(('quote','he','name','emoticon','moral','nature'), 5)
    share = t[['pgd_160','pgd_320','random_nodes_160','top_160','ci_only_160','everything_160']].div(t.model, axis=0)
    assert share.pgd_160.min()>=.5 and round(share.pgd_160.min(), 3)==.506
    assert (share.pgd_320-share.pgd_160).abs().max()<.02
    assert round(share.random_nodes_160.max(), 4)==.0023 and share.everything_160.max()<3e-7
    assert ((share.top_160>=.5).sum(), (share.top_160>=share.pgd_160).sum(), (share.ci_only_160>=.5).sum())==(24, 14, 7)
    assert (t.nodes.min(), t.nodes.max(), t.alive.min(), t.alive.max())==(8, 56, 190, 835)
    assert .83<=t.overlap.min() and t.overlap.count()==6
    sizes = pd.read_csv(RESULTS/'circuits_sizes.csv')
    assert sizes.groupby(['role','learned']).sparsity.nunique().eq(6).all()
    attacked = sizes[sizes.learned=='attacked'].set_index(['role','sparsity'])
    some = [('quote', 3.), ('he', .3), ('name', .1), ('moral', 1.), ('emoticon', 3.)]
    assert attacked.nodes.loc[some].tolist()==[7,14,22,18,13]
    assert attacked.pgd_160.loc[[('he', .3), ('name', .1), ('moral', 1.)]].max()<.5<attacked.pgd_160['quote',3.]

def test_results_on_clusters_say_what_the_log_says():
    "Toys whose mechanisms are known, groups of the story model, and the time of a merge"
    every = pd.read_csv(RESULTS/'mechanisms_toys.csv')
    assert every.largest_shuffled[every.known_across>0].max()<=.33
    for threshold in (.01, .1):
        toys = every[every.threshold==threshold].set_index(['toy','alpha','cut'])
        for name in ('tms_5-2','tms_5-2-id','tms_40-10'):
            r = toys.loc[name, 3., 'zero']
            assert (r['rand'], r['across'], r['mixed'])==(1, r['known'], 0)
        at_1 = toys.xs((1., 'zero'), level=('alpha','cut'))
        assert (at_1['rand']['tms_5-2'], at_1.groups['tms_5-2-id'], at_1.groups['tms_40-10'])==(1, 4, 20)
        told = toys.xs('known number', level='cut')
        assert told['rand']['tms_5-2'].eq(1).all() and told['rand']['tms_40-10'].eq(1).all()
        r = toys.loc['resid_1', 3., 'zero']
        assert (r['components'], r['common'], r['mixed'], r['groups'])==(100, 50, 0, 101 if threshold==.01 else 103)
    two = every[every.toy=='resid_2'].set_index(['threshold','cut','alpha']).sort_index()
    assert two['rand'].loc[.1, 'zero'].round(2).tolist()==[.11,.24,.89,.99,1] and two['rand'].loc[.01].max()<.1
    assert two.largest_shuffled.max()<.03 and two.loc[(.1, 'zero', 3.), ['across','known_across']].tolist()==[98,98]
    story = pd.read_csv(RESULTS/'mechanisms_story.csv').set_index(['what','alpha'])
    found,chance = story.loc['found'],story.loc['shuffled']
    assert found.groups.tolist()==[19,53,119,236,409]
    assert found.jaccard_within.round(2).tolist()==[.08,.19,.36,.56,.78]
    assert found.never.round(2).tolist()==[.5,.39,.2,.07,.01]
    assert chance.jaccard_within.max()<.07 and found.jaccard_between.max()<.01
    assert (found.across[10.], found.several[10.])==(163, 176)
    speed = pd.read_csv(RESULTS/'mechanisms_speed.csv')
    assert speed.ms_per_merge.between(1.4, 2.6).all()

def test_what_mechanisms_carry():
    "What removing the best mechanism, component, set of components and random groups does to each role"
    d = pd.read_csv(RESULTS/'mechanisms_roles.csv').set_index('role')
    half = {c:set(d.index[d[c]<=-.5]) for c in ('change','change_component','change_best','largest_random')}
    assert [len(half[c]) for c in ('change','change_component','change_best','largest_random')]==[23,13,22,2]
    assert half['largest_random']=={'emo_eyes','nature'} and half['change_component']<half['change']
    assert half['change']-half['change_component']=={'pron_m','pron_f','poss_m','emark','emo_mouth','sayverb','hour',
        'place','thing','glad'}
    better = d.change-d.change_best
    assert ((better<-.05).sum(), (better>.05).sum())==(6, 8)
    assert d.change[['poss_f','moral','stretch']].round(2).tolist()==[-.08,-.22,-.42]
    assert d[['cost','cost_random']].median().round(3).tolist()==[.015,.047]

def test_what_fine_tuning_changed():
    "Which components hold the change of a rule, and random groups of them"
    d = pd.read_csv(RESULTS/'mechanisms_finetune.csv').set_index(['how','role'])
    best = d.ranks.str.split().str[0].astype(int)
    assert best['SGD'].to_dict()==dict(emo_mouth=1, pron_m=6, quote_open=1, nature=158, sayverb=3)
    assert best['AdamW'].to_dict()==dict(emo_mouth=4, pron_m=4, quote_open=10, nature=23, sayverb=4)
    assert d.ranks['SGD','emo_mouth']=='1 2 3 4'
    found = d.held>d.largest_random
    assert list(found.index[~found])==[('SGD','pron_m'),('SGD','nature'),('AdamW','nature')]
    assert d.held_top_10.between(.003, .008).all()

def test_what_other_seeds_find():
    "Similarity with partners in three other runs, what chance gives, the carriers of roles, and what ships"
    d = pd.read_csv(RESULTS/'mechanisms_stability.csv').set_index(['by','other'])
    runs,untrained = d.drop('untrained', level='other'),d.xs('untrained', level='other')
    assert runs.components.eq(681).all() and runs.mixed_5.eq(0).all() and untrained.share_9.eq(0).all()
    want = dict(weights=[.056,.046,.047,.5,.49,.44], firing=[.235,.22,.206,.72,.72,.72],
        effect=[.294,.251,.247,.71,.72,.68])
    for by,shares in want.items():
        r = runs.loc[by]
        assert [*r.share_9.round(3),*r.share_5.round(2)]==shares
    assert untrained.share_5.round(2).to_dict()==dict(weights=0, firing=.01, effect=.05)
    every = pd.read_parquet(RESULTS/'mechanisms_stability.parquet')
    again = every.groupby(['by','other']).similarity.agg(lambda x: (x>=.9).mean())
    pd.testing.assert_series_equal(again, runs.share_9.sort_index(), check_names=False, check_dtype=False, rtol=1e-3)
    ships = Tables(RESULTS.parent/'story'/'harvest').stability
    firing = every[every.by=='firing'].groupby('key').similarity.mean()
    np.testing.assert_allclose(ships.stability, firing[ships.index], rtol=1e-6)
    assert (set(ships.runs), set(ships.by), len(ships))==({3}, {'firing'}, 681)
    roles = pd.read_csv(RESULTS/'mechanisms_stability_roles.csv')
    by_role = roles.groupby('role')[['weights','firing','effect']].mean()
    assert by_role.median().round(2).tolist()==[.68,.83,.91]
    here = pd.read_csv(RESULTS/'mechanisms_roles.csv').set_index('role').change_component<=-.5
    both = roles.assign(half=roles.change_best<=-.5).groupby('role').half.all()
    assert (here.sum(), set(here.index[here])-set(both.index[both]))==(13, {'name','colon_time'})
