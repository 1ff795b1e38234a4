"Training with odd losses, streams, padded batches, several kinds of model, and memory that runs out"
from functools import partial
import pytest, torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
import transformers as hf
from spd_nb.ci import SharedCI
from spd_nb.initialisation import aligned
from spd_nb.lms import StoryLM
from spd_nb.losses import constant, cosine
from spd_nb.measures import kl
from spd_nb.model import decompose, load
from spd_nb.objectives import layerwise, preset, smooth_sparse, sparse, spd_losses, vpd_losses
from spd_nb.toys import TMS
from spd_nb.learner import Learner
from spd_nb.train import fit, load_checkpoint, save_checkpoint

toy = TMS(5, 2, seed=0).eval()
def fresh(): return decompose(toy, {'linear*':7}, tied={'linear2':'linear1'}, init=aligned)
def learner(batches, losses=None, dm=None):
    return Learner(dm or fresh(), batches, losses or spd_losses(), steps=2, lr=1e-2, schedule=constant)

# ---- losses

class Odd:
    "A loss with an argument that is a tensor, and a count of its calls"
    def __init__(self): self.n = 0
    def __call__(self, step, w=torch.ones(2)):
        self.n += 1
        return step.ci.upper['linear1'].mean()*w.sum()
    def state_dict(self): return dict(n=self.n)
    def load_state_dict(self, state): self.n = int(state['n'])

def odd():
    return Learner(fresh(), toy.batches(16), dict(odd=(1., Odd()), other=(1., partial(Odd(), w=torch.ones(2)))), 6,
        lr=1e-2, schedule=cosine)

def test_a_loss_may_keep_numbers_besides_tensors_and_is_compared_by_its_text(tmp_path):
    "An argument that JSON cannot hold, and an object without a name of its own, are the same in a second process"
    first,second = odd(),odd()
    first.train_step()
    save_checkpoint(first, tmp_path/'odd.safetensors')
    load_checkpoint(second, tmp_path/'odd.safetensors')
    assert second.losses['odd'][1].n==1
    assert ' at 0x' not in str(second.args)

# ---- batches

class Streamed(IterableDataset):
    def __iter__(self): yield from torch.rand(3, 8, 5)

class StreamedRows(IterableDataset):
    def __iter__(self): yield from torch.rand(24, 5)

@pytest.mark.parametrize('source', [Streamed(), DataLoader(StreamedRows(), batch_size=8)], ids=['stream','loader'])
def test_streams_are_batches(source): assert learner(source).train_step()[1].x.shape==(8,5)

def test_a_data_set_of_rows_is_no_source_of_batches():
    with pytest.raises(TypeError, match='pass a `DataLoader` of it'):
        learner(TensorDataset(torch.rand(8, 5))).train_step()

def test_a_model_of_pixels_has_losses_of_its_own():
    vit = hf.ViTForImageClassification(hf.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=24, image_size=8, patch_size=4)).eval()
    dm = decompose(vit, '*.fc1', C=9)
    step = learner([dict(pixel_values=torch.rand(2, 3, 8, 8), labels=torch.tensor([0,1]))], preset(dm),
        dm).train_step()[1]
    assert step.clean.out.shape==(2,2) and step.positions==2.

# ---- padding

ROWS,MASK = torch.randint(1, 60, (4,7)),torch.ones(4, 7, dtype=torch.long)
MASK[:,5:] = 0

def test_every_loss_takes_a_padded_batch_and_importances_are_those_of_text():
    tale = decompose(StoryLM(d=8, d_mlp=16, layers=1), '*up_proj', C=9, ci=SharedCI)
    losses = vpd_losses(faith=1.)|dict(smooth=(1., smooth_sparse), layers=(1., partial(layerwise, measure=kl)))
    padded = learner([(ROWS, MASK)], losses, tale)
    padded.train_step()
    padded.record_importances(padded.observe())
    assert next(iter(padded.ci.values())).shape==(20,9)

class Towers(nn.Module):
    "Text and image patches, as many of each"
    def __init__(self):
        super().__init__()
        self.text,self.image = nn.Embedding(60, 4),nn.Linear(4, 4)
    def forward(self, input_ids, pixels, attention_mask):
        return self.text(input_ids)*attention_mask[...,None]+self.image(pixels)

def towers(site):
    batch = dict(input_ids=ROWS, pixels=torch.rand(4, 7, 4), attention_mask=MASK)
    return learner([batch], dict(sparsity=(1., sparse)), decompose(Towers().eval(), site, C=9))

def test_a_mask_of_the_text_says_nothing_of_image_patches():
    towers('text').train_step()
    with pytest.raises(ValueError, match="'image' has positions of its own"): towers('image').train_step()

# ---- memory

def greedy(step): raise torch.OutOfMemoryError('CUDA out of memory')
def late(step):
    return greedy(step) if step.dm.training_run.get('full') and not step.recompute else step.ci.upper['linear1'].sum()

def test_a_run_that_is_out_of_memory_goes_on_with_recompute(tmp_path):
    dm,x = fresh(),torch.rand(3, 5)
    def fill(learner): dm.training_run['full'] = learner.step>1
    args = dict(losses=dict(late=(1., late)), steps=4, every=1, save_every=1, path=tmp_path/'late', progress=False)
    with pytest.raises(RuntimeError, match='`resume=True` goes on with it, also with another `recompute`'):
        fit(dm, [x], callbacks=[fill], **args)
    assert load(tmp_path/'late').training_run['stopped_at']==2
    assert fit(dm, [x], resume=True, recompute=True, **args).step==4

def test_other_errors_of_a_loss_are_its_own(tmp_path):
    def wrong(step): raise RuntimeError('something else')
    with pytest.raises(RuntimeError, match='^something else$'):
        fit(fresh(), [torch.rand(3, 5)], dict(wrong=(1., wrong)), steps=1, path=tmp_path/'wrong', progress=False)
