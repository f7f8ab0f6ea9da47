"""A process whose share of a graph batch has nothing for an objective, on every host; and DDP with one process."""

import dataclasses
import datetime
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from relpretrain import add_relation_objectives
from relpretrain.adapters import relation_parameters
from relpretrain.adapters.attach import _tied
from relpretrain.objectives import MRC, VSG
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import Pairs, TextBatch
from tests import two_ranks
from tests.adapters import host_checks as checks
from tests.adapters import lavis, official, test_blip, test_dual, test_lavis, torchmultimodal

HOSTS = {
    **{name: (make, official.texts) for name, make in official.HOSTS.items()},
    **{name: (make, test_dual.texts_for(name)) for name, make in test_dual.HOSTS.items()},
    "BLIP": (test_blip.blip, test_blip.texts),
    "torchmultimodal": (torchmultimodal.ALBEFModelForRetrieval, official.texts),
    "torchmultimodal, similarity": (torchmultimodal.ALBEFModelWithSimilarity, official.texts),
    "LAVIS ALBEF": (lavis.AlbefPretrain, official.texts),
    "LAVIS BLIP": (lavis.BlipPretrain, official.texts),
}


def attached(name):
    """A host with MRC and what it can serve of VSG; MRC comes first, so that its place in the backward pass matters."""
    if name.startswith("openclip"):
        pytest.importorskip("open_clip", reason="needs open_clip_torch, which is not installed")
    make, _ = HOSTS[name]
    host = make()
    torch.manual_seed(5)
    return add_relation_objectives(host, [MRC(RelationVocabulary(["on", "under", "in"])), VSG(itm=0.0)]).eval()


def joint(name):
    """Four images; the triplets of the first two are outside the vocabulary."""
    batch = checks.graph_batch(HOSTS[name][1])
    return dataclasses.replace(batch, relations=("wear", "has", "on", "in"))


def rows(pairs, keep, shift):
    parts = (getattr(pairs.text, f.name) for f in dataclasses.fields(TextBatch))
    text = TextBatch(*(None if part is None else part[keep] for part in parts))
    boxes = None if pairs.boxes is None else pairs.boxes[keep]
    return Pairs(text, pairs.image_index[keep] - shift, pairs.text_keys[keep], boxes)


def share(batch, rank, entities):
    """Two images; rank 0 has no entities, as the data module gives none where no triplet is of the vocabulary."""
    two, four = slice(2 * rank, 2 * rank + 2), slice(4 * rank, 4 * rank + 4)
    if not entities and rank == 0:
        four = slice(0, 0)
    count = 2 if entities or rank else 0
    return dataclasses.replace(
        batch,
        images=batch.images[two],
        image_ids=batch.image_ids[two],
        pairs=rows(batch.pairs, two, 2 * rank),
        entities=rows(batch.entities, four, 2 * rank),
        subjects=torch.tensor([0, 2])[:count],
        objects=torch.tensor([1, 3])[:count],
        relations=batch.relations[two][:count],
    )


@pytest.mark.parametrize("entities", [True, False])
@pytest.mark.parametrize("name", HOSTS)
def test_no_usable_triplet_is_a_zero_that_touches_the_head(name, entities):
    host = attached(name)
    losses = host.relation_losses(share(joint(name), 0, entities))
    assert losses["mrc"].item() == 0
    assert "mrc" not in host.relation_attachment.happened
    assert "vsg_itc" in host.relation_attachment.happened
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in relation_parameters(host))
    assert all(p.grad.isfinite().all() for p in host.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", HOSTS)
def test_no_pairs_are_zeros(name):
    host = attached(name)
    batch = joint(name)
    losses = host.relation_losses(dataclasses.replace(batch, pairs=rows(batch.pairs, slice(0, 0), 0)))
    assert all(losses[part].item() == 0 for part in losses if part.startswith("vsg"))
    assert host.relation_attachment.happened == {"mrc"}
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in host.parameters() if p.grad is not None)


def gradients(host):
    found = ((name, p.grad) for name, p in host.named_parameters())
    return {name: None if grad is None else grad.clone() for name, grad in found}


def names():
    import importlib.util

    there = importlib.util.find_spec("open_clip") is not None
    return [name for name in HOSTS if there or not name.startswith("openclip")]


def on_a_rank(rank):
    found = {}
    for name in names():
        host = attached(name)
        module = DistributedDataParallel(host, bucket_cap_mb=1e-6)
        for _ in range(2):
            host.zero_grad()
            losses = module(share(joint(name), rank, entities=False))
            sum(losses.values()).backward()
        found[name] = {part: loss.item() for part, loss in losses.items()}, gradients(host)
    return found


@pytest.fixture(scope="module")
def ranks():
    return two_ranks.run(on_a_rank)


@pytest.mark.parametrize("name", HOSTS)
def test_one_rank_without_triplets_and_one_with_are_the_joint_batch(ranks, name):
    host = attached(name)
    losses = host.relation_losses(joint(name))
    sum(losses.values()).backward()
    assert losses["mrc"].item() > 0
    for part, loss in losses.items():
        mean = sum(rank[name][0][part] for rank in ranks) / 2
        assert mean == pytest.approx(loss.item(), rel=1e-4, abs=1e-6), part
    for parameter, grad in gradients(host).items():
        for rank in ranks:
            theirs = rank[name][1][parameter]
            if grad is None:
                assert theirs is None or not theirs.any(), parameter
            else:
                torch.testing.assert_close(theirs, grad, rtol=1e-3, atol=1e-5, msg=parameter)


@pytest.fixture
def group_of_one(tmp_path):
    """What `torchrun --nproc_per_node=1` makes."""
    where = {"init_method": f"file://{tmp_path}/rendezvous", "rank": 0, "world_size": 1}
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60), **where)
    yield
    dist.destroy_process_group()


def own_loss(name, module):
    """The host's own loss, called as its training script does."""
    text, images = HOSTS[name][1](4), checks.images()
    ids, mask = text.input_ids, text.attention_mask.long()
    if name in official.HOSTS:
        return sum(official.own_losses(module))
    if name.startswith("LAVIS"):
        return module(test_lavis.samples())["loss"]
    if name.startswith("torchmultimodal"):
        out = module(images, ids, mask, torch.arange(4))
        if isinstance(out, torch.Tensor):
            return out
        return out.sim_i2t.sum() + out.sim_t2i.sum() + out.fused.sum()
    if name in ("clip", "siglip"):
        return module(input_ids=ids, pixel_values=images, attention_mask=mask, return_loss=True).loss
    full = torch.nn.functional.pad(ids, (0, test_dual.CONTEXT - ids.shape[1]))
    image, words, scale = module(images, full)
    return (image @ words.T).sum() * scale


@pytest.mark.parametrize("way", ["one after the other", "together"])
@pytest.mark.parametrize(
    "name", ["ALBEF", "X-VLM (Swin)", "clip", "openclip", "torchmultimodal, similarity", "LAVIS ALBEF"]
)
def test_ddp_with_one_process_trains_by_the_documented_diffs(group_of_one, name, way):
    """Without a tie to the head, DDP says in the second step: "Expected to have finished reduction"."""
    host = attached(name)
    # A copy of buffers between two forward passes would change what the first one's backward pass needs.
    module = DistributedDataParallel(host, broadcast_buffers=way == "one after the other")
    optimizer = torch.optim.SGD(host.parameters(), lr=1e-3)
    for _ in range(2):
        loss = own_loss(name, module)
        if way == "one after the other":
            loss.backward()
            loss = 0
        loss = loss + sum(module(joint(name)).values())
        loss /= 2  # as under accumulation
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@dataclass(frozen=True)
class Output:
    loss: torch.Tensor
    nested: dict


def test_whatever_an_output_is_its_tensors_are_tied():
    head, weight = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(()))
    inner = SimpleNamespace(kept="text", loss=weight * 3)
    output = _tied([Output(weight * 2, {"inner": inner})], [head])[0]
    assert output.nested["inner"].kept == "text"
    for loss in (output.loss, output.nested["inner"].loss):
        reached = {getattr(function, "variable", None) for function, _ in loss.grad_fn.next_functions}
        assert any(variable is head for variable in reached)
