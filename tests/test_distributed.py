"""Two gloo ranks with half the batch each against one process with all of it."""

import dataclasses

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from relpretrain.distributed import gather, gather_sizes, mean_over_ranks, touch
from relpretrain.features import Features
from relpretrain.objectives import ITC, MLM, MRC
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import Pairs, TextBatch
from tests import two_ranks
from tests.objectives.standin import StandIn, captions, graphs

SPLIT = 2  # of five pairs, rank 0 has two and rank 1 three


class Step(torch.nn.Module):
    """A model and an objective in one module, as DDP wants it."""

    def __init__(self, objective):
        super().__init__()
        self.model, self.objective = StandIn(), objective
        objective.attach(self.model)

    def forward(self, batch):
        loss = self.objective(Features(self.model, batch, self.objective.views(batch))).loss
        return touch(loss, self.parameters())


def rows(pairs, keep, shift=0):
    text = TextBatch(*(getattr(pairs.text, f.name)[keep] for f in dataclasses.fields(TextBatch)))
    boxes = None if pairs.boxes is None else pairs.boxes[keep]
    return Pairs(text, pairs.image_index[keep] - shift, pairs.text_ids[keep], boxes)


def share_of_captions(rank):
    batch = captions(5)
    batch.pairs.text.labels[4, 2] = batch.pairs.text.ids[4, 2]  # ranks differ in masked words, too
    if rank is None:
        return batch
    keep = slice(0, SPLIT) if rank == 0 else slice(SPLIT, 5)
    return dataclasses.replace(
        batch,
        images=batch.images[keep],
        image_ids=batch.image_ids[keep],
        pairs=rows(batch.pairs, keep, keep.start),
    )


def share_of_graphs(rank):
    batch = graphs(relations=("on", "under", "on"))
    if rank is None:
        return batch
    keep = slice(0, 2) if rank == 0 else slice(2, 4)
    triplets = [0, 2] if rank == 0 else [1]
    return dataclasses.replace(
        batch,
        images=batch.images[rank : rank + 1],
        image_ids=batch.image_ids[rank : rank + 1],
        pairs=rows(batch.pairs, slice(rank, rank + 1), rank),
        entities=rows(batch.entities, keep, rank),
        subjects=batch.subjects[triplets] - keep.start,
        objects=batch.objects[triplets] - keep.start,
        relations=tuple(batch.relations[t] for t in triplets),
    )


def step(kind):
    torch.manual_seed(3)
    if kind == "mrc":
        return Step(MRC(RelationVocabulary(["on", "under"]))), share_of_graphs
    return Step({"itc": ITC, "mlm": MLM}[kind]()), share_of_captions


def gradients(module):
    found = ((name.removeprefix("module."), p.grad) for name, p in module.named_parameters())
    return {name: torch.zeros(()) if grad is None else grad for name, grad in found}


def on_a_rank(rank):
    results = {}
    for kind in ("itc", "mlm", "mrc"):
        single, share = step(kind)
        model = DistributedDataParallel(single, find_unused_parameters=False)
        for _ in range(2):  # a parameter left out of the first step would stop the second
            model.zero_grad()
            loss = model(share(rank))
            loss.backward()
        results[kind] = (float(loss.detach()), gradients(model))
    uneven = gather(torch.full((rank + 1, 2), float(rank)), gather_sizes(rank + 1, torch.device("cpu")))
    results["gathered"] = uneven[:, 0].tolist()
    return results


@pytest.fixture(scope="module")
def ranks():
    return two_ranks.run(on_a_rank)


@pytest.mark.parametrize("kind", ["itc", "mlm", "mrc"])
def test_values_and_gradients_equal_one_process(ranks, kind):
    model, share = step(kind)
    loss = model(share(None))
    loss.backward()
    assert sum(result[kind][0] for result in ranks) / 2 == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, expected in gradients(model).items():
        for result in ranks:
            torch.testing.assert_close(result[kind][1][name], expected.expand_as(result[kind][1][name]))


def test_rows_are_gathered_in_rank_order(ranks):
    assert [result["gathered"] for result in ranks] == [[0.0, 1.0, 1.0]] * 2


def test_one_process_needs_no_group():
    value = torch.randn(3, 2, requires_grad=True)
    assert gather(value, gather_sizes(3, value.device)) is value
    assert float(mean_over_ranks(torch.tensor(6.0), 3)) == 2.0
    assert float(mean_over_ranks(torch.tensor(0.0), 0)) == 0.0


def test_touch_changes_neither_value_nor_gradient():
    used, idle = torch.nn.Parameter(torch.tensor(2.0)), torch.nn.Parameter(torch.tensor(5.0))
    loss = touch(used * 3, [used, idle])
    loss.backward()
    assert float(loss.detach()) == 6.0
    assert float(used.grad) == 3.0
    assert idle.grad is None
