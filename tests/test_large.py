"Past one machine's memory: shards do what copies do, and hold and send what `planning` computes"
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path
import processes, pytest, torch
from spd_nb.adversary import PersistentPGD, each
from spd_nb.ci import TransformerCI
from spd_nb.dist import launch, together
from spd_nb.edit import u_replaced
from spd_nb.export import baked
from spd_nb.learner import Learner
from spd_nb.lms import vocab_of
from spd_nb.losses import cosine, faithfulness
from spd_nb.masks import constant_masks, stochastic_masks
from spd_nb.model import decompose, load, save
from spd_nb.objectives import ci_masked, faithful, hidden, spd_losses, stochastic, vpd_losses
from spd_nb.objectives import local as local_loss
from spd_nb.planning import kept_bytes, parameter_counts, plan, share_of_run
from spd_nb.shards import is_shard, local
from spd_nb.toys import TMS
from spd_nb.train import fit

pytestmark = pytest.mark.skipif(sys.platform!='linux' or not torch.distributed.is_available(), reason='needs gloo')

KINDS = 'spd','each','transformer'  # of `processes.KINDS`; `python tests/processes.py all 4 shard` tries all of them

def measured(dm):
    "A callback of `evaluate`, which reads parameters"
    return dict(norm=dm.at(dm.sites[0]).V.norm(), shards=float(any(map(is_shard, dm.parameters()))))

said = []

def reader(learner):
    "A callback that reads a parameter, which is called in the first process alone"
    try: learner.dm.deltas()
    except RuntimeError as e: said.append(str(e))

# large enough that the headers of messages do not count
def model(rows=8):
    dm = decompose(processes.Net(d=64).eval(), list('abu'), C=1024, batch=processes.tokens()[0],
        ci=partial(TransformerCI, d=32, blocks=1, heads=2))
    return dm,processes.tokens(rows=rows),vpd_losses(faith=1., adversary=PersistentPGD(scope=each))

def learner(rows=8):
    dm,data,losses = model(rows)
    return Learner(dm, data, losses, 10, 1e-3, cosine)

def written():
    "Bytes that this process has written, to sockets too, by the kernel's count"
    counts = Path('/proc/self/io').read_text(encoding='utf-8').splitlines()
    return int(next(line for line in counts if line.startswith('wchar'))[7:])

def alive(dm, opt):
    "Bytes of tensors that stay between steps, each storage once"
    lists = dict(target=[*dm.target.parameters(), *dm.target.buffers()], components=dm.components.parameters(),
        importances=dm.ci_fn.parameters(), gradients=[p.grad for p in dm.trainable_parameters()],
        moments=[m for s in opt.state.values() for k,m in s.items() if k!='step'])
    def stored(tensors):
        storages = [local(t.detach()).untyped_storage() for t in tensors]
        return sum({s._cdata:s.nbytes() for s in storages}.values())
    return {k:stored(v) for k,v in lists.items()}

def simulated(shard):
    "What a process really holds and sends in a step"
    torch.manual_seed(0)
    l = learner()
    if shard: l.shard()
    l.train_step()
    kept = None if shard else kept_bytes(l)
    together()
    start = written()
    l.train_step()
    sent = written()-start
    return sent,alive(l.dm, l.opt),kept

def work(path, stopped, begun):
    "What the tests compare, so that processes are launched once"
    processes.run(path, KINDS, shard=True)
    processes.run(stopped, ['each'], stop=2, shard=True)
    processes.run(begun, ['transformer'], resume=True, shard=True)
    with processes.doubles():
        dm,data,losses = processes.KINDS['toy']()
        run = fit(dm, data, losses, steps=4, path=path/'evaluated', evaluate=measured, evaluate_every=2, every=1,
            callbacks=[reader], progress=False, shard=True)
        after = [p.detach().clone() for p in dm.parameters()]
    return run.history,said,after,{s:simulated(s) for s in (False, True)}

@pytest.fixture(scope='module')
def one(tmp_path_factory):
    path = tmp_path_factory.mktemp('one')
    processes.run(path, KINDS)
    return path

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    path,stopped,begun = (tmp_path_factory.mktemp(k) for k in ('two','stopped','begun'))
    processes.run(begun, ['transformer'], stop=2)
    return path,stopped,launch(work, 2, path, stopped, begun),begun

@pytest.mark.parametrize('kind', KINDS)
def test_two_processes_with_shards_train_as_one_does(one, two, kind):
    assert processes.difference(one/kind, two[0]/kind)<1e-9

def test_a_run_goes_on_without_shards(one, two):
    "Two processes with shards began it; one ends it"
    processes.run(two[1], ['each'], resume=True)
    assert processes.difference(one/'each', two[1]/'each')<1e-9

def test_a_run_goes_on_with_shards(one, two):
    "One process began it; two with shards end it"
    assert processes.difference(one/'transformer', two[3]/'transformer')<1e-9

def test_evaluations_read_shards_and_afterwards_the_model_is_whole(two):
    history,_,after,_ = two[2]
    measures = [r for r in history if 'norm' in r]
    assert [r['step'] for r in measures]==[0,2,3] and all(r['shards']==1 for r in measures)
    saved = load(two[0]/'evaluated')
    def sums(tensors): return sorted(p.double().sum().item() for p in tensors)
    assert sums(saved.parameters())==pytest.approx(sums(after))
    assert not any(map(is_shard, after))

def within(found, computed, share): return abs(found-computed)<=share*computed

def check(found, n):
    torch.manual_seed(0)
    l = learner()
    l.train_step()
    counts = parameter_counts(l)
    for shard,(sent,held,kept) in found.items():
        computed = share_of_run(l.dm, n, shard, counts, gloo=True)
        kinds = [computed.memory[k] for k in ('target','components','importance function','gradients','moments')]
        assert [*held.values()]==kinds, (shard, held, kinds)
        assert within(sent, sum(computed.sent.values()), .03), (shard, sent, computed.sent)
        if kept is not None:
            p = plan(*model(), sample=1, processes=n)
            assert within(kept, p.shares[0].memory['activations'], .03), (kept, p.shares[0])

def test_two_processes_hold_and_send_what_is_computed(two):
    "Tensors that stay are equal to the byte, sent bytes but for the headers of messages"
    check(two[2][3], 2)

def sizes(): return {s:simulated(s) for s in (False, True)}

def test_four_processes_hold_and_send_what_is_computed():
    check(launch(sizes, 4), 4)

def test_a_callback_that_reads_a_shard_does_not_wait_for_ever(two):
    said = two[2][1]
    assert len(said)==4 and all('only this one reads it here' in e for e in said)

def test_what_cannot_be_sharded_says_so_before_processes_start(tmp_path):
    target = TMS(5, 2).eval()
    def start(rows=8, sites='*', tied={}, **kw):
        dm = decompose(target, sites, C=4, batch=torch.rand(2, 5), tied=tied, twice=bool(tied))
        fit(dm, [torch.rand(rows, 5)], spd_losses(), steps=1, path=tmp_path/'run', progress=False, shard=True, **kw)
    with pytest.raises(ValueError, match='this is one; give `processes`'): start()
    with pytest.raises(ValueError, match='7 rows do not divide among 2 processes'): start(7, processes=2)
    with pytest.raises(ValueError, match='give `compile` or `shard`, not both'): start(processes=2, compile=True)
    tied = dict(linear2='linear1')
    with pytest.raises(ValueError, match="'linear2' is tied with `twice`"): start(processes=2, tied=tied)

def apart(a, b): return ((a.double()-b.double()).norm()/b.double().norm()).item()

@pytest.fixture(scope='module')
def targets():
    "The story model with weights rounded to bfloat16, in bfloat16 and in float32, with the same components"
    story = load('story')
    def of(dtype):
        target = deepcopy(story.target).bfloat16().to(dtype).eval()
        dm = decompose(target, story.C, story.new_ci, lower=story.lower)
        dm.components.load_state_dict(story.components.state_dict())
        dm.ci_fn.load_state_dict(story.ci_fn.state_dict())
        return dm
    half,full = of(torch.bfloat16),of(torch.float32)
    return half,full,torch.randint(5, vocab_of(full.target), (4, 16), generator=processes.seeded())

def test_a_target_in_bfloat16_is_off_by_rounding_alone(targets):
    half,full,x = targets
    assert {p.dtype for p in half.trainable_parameters()}=={torch.float32}
    for s,d in half.deltas().items(): assert torch.equal(d, full.deltas()[s])
    assert faithfulness(half.deltas())==faithfulness(full.deltas())
    a,b = half.ci(x),full.ci(x)
    assert all(0<apart(a.pre[s], b.pre[s])<.02 for s in b.pre)
    with torch.no_grad():
        for masks in (constant_masks(b.lower), stochastic_masks(b.lower, delta=True)):
            with half.masked(masks), full.masked(masks): assert apart(half(x), full(x))<.02
        site,u = 'model.layers.1.mlp.down_proj',torch.ones(full.at('model.layers.1.mlp.down_proj').d_out)
        with u_replaced(half, site, 3, u) as one, u_replaced(full, site, 3, u) as other: edited = one(x),other(x)
        assert apart(*edited)<.02 and apart(edited[1], full(x))>.02
        whole = baked(half, u_replaced(half, site, 3, u))(x)[0]
        assert {p.dtype for p in half.target.parameters()}=={torch.bfloat16}
        assert apart(whole, edited[0])<.02

@pytest.mark.parametrize('loss', [faithful, ci_masked, stochastic, hidden, local_loss])
def test_losses_of_a_target_in_bfloat16_are_in_float32(targets, loss):
    *dms,x = targets
    def value(dm):
        torch.manual_seed(0)
        one = Learner(dm, [x], dict(loss=(1., loss)), 10, 0., cosine)
        found = one.train_step()[0]['loss']
        assert found.dtype==torch.float32
        return found,torch.cat([p.grad.flatten() for p in dm.components.parameters()])
    (a,da),(b,db) = map(value, dms)
    assert apart(a, b)<.02 and apart(da, db)<.1

def test_a_decomposition_of_a_target_in_bfloat16_is_saved_and_goes_on(targets, tmp_path):
    half,_,x = targets
    fit(half, [x], steps=2, path=tmp_path/'run', progress=False)
    for path in (tmp_path/'run', save(half, tmp_path/'save')):
        again = load(path)
        assert {p.dtype for p in again.target.parameters()}=={torch.bfloat16}
        for p,q in zip(half.parameters(), again.parameters()): assert torch.equal(p, q)
    fit(again, [x], steps=2, path=tmp_path/'more', warm=2, progress=False)
