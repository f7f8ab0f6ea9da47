"""Two gloo ranks with half the batch each against one process with all of it."""

import dataclasses
from unittest import mock

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from relpretrain import distributed
from relpretrain.distributed import attach_unused_parameters, gather, gather_sizes, mean_over_ranks
from relpretrain.features import Features
from relpretrain.objectives import BOX, ITC, MLM, MRC, VMA, VSG, MultiPositive, RelationTagger, RelationUnits, TextFoil
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training.micro_batch import MicroBatched
from relpretrain.types import Foils, Pairs, TextBatch, Units
from tests import two_ranks
from tests.objectives.standin import StandIn, captions, graphs, regions, with_foils, with_units

SPLIT = 2  # of five pairs, rank 0 has two and rank 1 three


class Step(torch.nn.Module):
    """A model and objectives in one module, as DDP wants it."""

    def __init__(self, *objectives, rows=None):
        super().__init__()
        self.rows = rows  # at a time
        self.model, self.objectives = StandIn(), torch.nn.ModuleList(objectives)
        for objective in objectives:
            objective.attach(self.model)

    def forward(self, batch):
        model = self.model if self.rows is None else MicroBatched(self.model, self.rows)
        features = Features(model, batch, [pairs for o in self.objectives for pairs in o.views(batch)])
        return sum(
            attach_unused_parameters(objective(features).loss, self.parameters()) for objective in self.objectives
        )


def rows(pairs, keep, shift=0):
    names = ("input_ids", "attention_mask", "masked_input_ids", "labels")
    text = TextBatch(*(getattr(pairs.text, name)[keep] for name in names))
    boxes = None if pairs.boxes is None else pairs.boxes[keep]
    whole = None if pairs.whole is None else pairs.whole[keep]
    weights = None if pairs.weights is None else pairs.weights[keep]
    return Pairs(text, pairs.image_index[keep] - shift, pairs.text_keys[keep], boxes, whole, weights)


def share_of_captions(rank):
    batch = captions(5)
    batch.pairs.text.labels[4, 2] = batch.pairs.text.input_ids[4, 2]  # ranks differ in masked words, too
    if rank is None:
        return batch
    keep = slice(0, SPLIT) if rank == 0 else slice(SPLIT, 5)
    return dataclasses.replace(
        batch,
        images=batch.images[keep],
        image_ids=batch.image_ids[keep],
        pairs=rows(batch.pairs, keep, keep.start),
    )


def share_of_foils(of):
    """Captions with foils of the given rows; a rank has those of its own rows."""

    def share(rank):
        whole = with_foils(share_of_captions(None), of, kinds=(0, 1, 1)[: len(of)])
        if rank is None:
            return whole
        first = 0 if rank == 0 else SPLIT
        keep = torch.tensor([j for j, row in enumerate(of) if (row >= SPLIT) == bool(rank)], dtype=torch.long)
        foils = dataclasses.replace(
            whole.foils,
            pairs=rows(whole.foils.pairs, keep, first),
            of=whole.foils.of[keep] - first,
            slot=whole.foils.slot[keep],
            kinds=whole.foils.kinds[keep],
        )
        return dataclasses.replace(share_of_captions(rank), foils=foils)

    return share


def share_of_units(foils_of, per_image=(2, 3, 1, 0, 1)):
    """Captions with units of the given numbers, and foils of some; a rank has those of its own images."""

    def share(rank):
        whole = with_units(share_of_captions(None), per_image, foils_of)
        if rank is None:
            return whole
        first, units = (0 if rank == 0 else SPLIT), whole.units
        keep = torch.tensor([u for u, i in enumerate(units.pairs.image_index.tolist()) if (i >= SPLIT) == bool(rank)])
        have = [f for f, u in enumerate(foils_of) if u in keep.tolist()]
        of = torch.tensor([keep.tolist().index(foils_of[f]) for f in have], dtype=torch.long)
        false = rows(units.foils.pairs, torch.tensor(have, dtype=torch.long), first)
        foils = Foils(false, of, torch.zeros_like(of), torch.zeros_like(of))
        own = Units(rows(units.pairs, keep.long(), first), units.slot[keep.long()], foils)
        return dataclasses.replace(share_of_captions(rank), units=own)

    return share


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


def nothing_known_on_rank_0(rank):
    """Rank 0's triplets are outside the vocabulary; as in the data module, it then has no entities."""
    batch = share_of_graphs(rank)
    if rank is None:
        return dataclasses.replace(batch, relations=("unheard of", "under", "unheard of"))
    if rank == 1:
        return batch
    empty = torch.zeros(0, dtype=torch.long)
    nobody = rows(batch.entities, slice(0, 0))
    return dataclasses.replace(batch, entities=nobody, subjects=empty, objects=empty, relations=())


def negatives_on_rank_1(rank):
    batch = share_of_graphs(rank)
    return dataclasses.replace(batch, relations=tuple("" if name == "under" else name for name in batch.relations))


def no_words_masked_on_rank_0(rank):
    batch = share_of_captions(rank)
    batch.pairs.text.labels[: 0 if rank == 1 else SPLIT] = -100
    return batch


def no_pairs_on_rank_0(make):
    def share(rank):
        batch = make()
        return dataclasses.replace(batch, pairs=rows(batch.pairs, slice(0, 0))) if rank == 0 else batch

    return share


def weighted_captions(rank):
    """Texts count by their confidence; together less than one."""
    batch = share_of_captions(rank)
    keep = {None: slice(None), 0: slice(0, SPLIT), 1: slice(SPLIT, None)}[rank]
    batch.pairs.weights = torch.tensor([0.1, 0.3, 0.0, 0.2, 0.05])[keep]
    return batch


def weighted_graphs(rank):
    batch = share_of_graphs(rank)
    triplets = {None: [0, 1, 2], 0: [0, 2], 1: [1]}[rank]
    return dataclasses.replace(batch, weights=torch.tensor([0.2, 0.3, 0.1])[triplets])


def weights_on_rank_1(rank):
    """Rank 0 has no triplet, and so no weight."""
    batch = nothing_known_on_rank_0(rank)
    weights = torch.tensor([0.5, 0.3, 0.5])[{None: [0, 1, 2], 0: [], 1: [1]}[rank]]
    return dataclasses.replace(batch, weights=weights)


def images_on_rank_0(rank):
    """Rank 0 has nothing but image-level rows, rank 1 one of them."""
    batch = regions()
    batch.pairs.whole = torch.tensor([True, True, True, False])
    keep = {None: slice(None), 0: slice(0, 2), 1: slice(2, None)}[rank]
    return dataclasses.replace(batch, pairs=rows(batch.pairs, keep))


def step(kind):
    torch.manual_seed(3)
    if kind in KINDS:
        return Step(*KINDS[kind][0], rows=1 if "in parts" in kind else None), KINDS[kind][1]
    head = RelationTagger if kind.startswith("tagger") else MRC
    return Step(head(RelationVocabulary(["on", "under"]))), GRAPHS[kind]


KINDS = {
    "itc": ([ITC()], share_of_captions),
    "mlm": ([MLM()], share_of_captions),
    "itc and mlm, in parts": ([ITC(), MLM()], share_of_captions),
    "itc and mlm, weighted": ([ITC(), MLM()], weighted_captions),
    "mlm, none on one rank": ([MLM()], no_words_masked_on_rank_0),
    "itc, none on one rank": ([ITC()], no_pairs_on_rank_0(captions)),
    "vsg, none on one rank": ([VSG()], no_pairs_on_rank_0(graphs)),
    "vma, none on one rank": ([VMA(itm=0.0)], no_pairs_on_rank_0(regions)),
    "box, none on one rank": ([BOX()], no_pairs_on_rank_0(regions)),
    "foils": (
        [TextFoil(sites=dict.fromkeys(("itc_columns", "itc_row", "itm", "text_text"), 1.0))],
        share_of_foils((0, 0, 2)),
    ),
    "units": ([RelationUnits()], share_of_units((0, 2, 3, 5))),
    "units, none on one rank": ([RelationUnits()], share_of_units((0,), (2, 1, 0, 0, 0))),
    "several positives": ([MultiPositive()], share_of_units((0, 2, 3, 5))),
    "several positives, none on one rank": ([MultiPositive()], share_of_units((0,), (2, 1, 0, 0, 0))),
    "foils, focal": ([TextFoil(loss="focal")], share_of_foils((0, 3, 2))),
    "foils, none at all": ([TextFoil(sites={"itc_row": 1.0, "itm": 1.0, "text_text": 1.0})], share_of_foils(())),
    "foils, none on one rank": ([TextFoil(preset="ce_clip", loss="ce")], share_of_foils((0, 0, 1))),
    "foils by matching, none on one rank": ([TextFoil(sites={"itm": 1.0})], share_of_foils((0, 0, 1))),
    "vma and box, images on one rank": ([VMA(itm=0.0), BOX()], images_on_rank_0),
}
GRAPHS = {
    "mrc": share_of_graphs,
    "mrc, none on one rank": nothing_known_on_rank_0,
    "mrc, weighted": weighted_graphs,
    "mrc, weighted, none on one rank": weights_on_rank_1,
    "tagger": share_of_graphs,
    "tagger, negatives alone on one rank": negatives_on_rank_1,
    "tagger, none on one rank": nothing_known_on_rank_0,
}
NAMES = [*KINDS, *GRAPHS]


def gradients(module):
    found = ((name.removeprefix("module."), p.grad) for name, p in module.named_parameters())
    return {name: torch.zeros(()) if grad is None else grad for name, grad in found}


def margins(batch):
    """Those of CE-CLIP's hinge after a batch."""
    objective = TextFoil(sites={"itc_row": 1.0}, loss="adaptive_rank")
    objective(Features(StandIn(), batch, objective.views(batch)))
    return objective.thresholds


def on_a_rank(rank):
    results = {}
    for kind in NAMES:
        single, share = step(kind)
        # Every parameter is a bucket, so that their order among the collectives of ITC shows.
        model = DistributedDataParallel(single, find_unused_parameters=False, bucket_cap_mb=1e-6)
        for _ in range(2):  # a parameter left out of the first step would stop the second
            model.zero_grad()
            loss = model(share(rank))
            loss.backward()
        results[kind] = (float(loss.detach()), gradients(model))
    # Where the devices' collectives cannot take the CPU's tensors, sizes go through a group of their own.
    distributed._host_group.cache_clear()
    with mock.patch.object(distributed.dist, "get_backend_config", return_value="cuda:nccl"):
        results["sizes"] = gather_sizes(rank + 1)
        results["group"] = distributed._host_group(distributed.dist.group.WORLD) is not distributed.dist.group.WORLD
    distributed._host_group.cache_clear()
    results["margins"] = margins(share_of_foils((0, 3, 2))(rank))
    uneven = gather(torch.full((rank + 1, 2), float(rank)), gather_sizes(rank + 1))
    results["gathered"] = uneven[:, 0].tolist()
    return results


@pytest.fixture(scope="module")
def ranks():
    return two_ranks.run(on_a_rank)


@pytest.mark.parametrize("kind", NAMES)
def test_values_and_gradients_equal_one_process(ranks, kind):
    model, share = step(kind)
    loss = model(share(None))
    loss.backward()
    assert sum(result[kind][0] for result in ranks) / 2 == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, expected in gradients(model).items():
        for result in ranks:
            torch.testing.assert_close(result[kind][1][name], expected.expand_as(result[kind][1][name]))


def test_margins_of_foils_are_those_of_the_joint_batch(ranks):
    for result in ranks:
        torch.testing.assert_close(result["margins"], margins(share_of_foils((0, 3, 2))(None)))


def test_rows_are_gathered_in_rank_order(ranks):
    assert [result["gathered"] for result in ranks] == [[0.0, 1.0, 1.0]] * 2


def test_sizes_are_told_among_the_cpus(ranks):
    assert [(result["sizes"], result["group"]) for result in ranks] == [([1, 2], True)] * 2


def test_one_process_needs_no_group():
    value = torch.randn(3, 2, requires_grad=True)
    assert gather(value, gather_sizes(3)) is value
    assert float(mean_over_ranks(torch.tensor(6.0), 3)) == 2.0
    assert float(mean_over_ranks(torch.tensor(0.0), 0)) == 0.0


def test_touch_changes_neither_value_nor_gradient():
    used, idle = torch.nn.Parameter(torch.tensor(2.0)), torch.nn.Parameter(torch.tensor(5.0))
    loss = attach_unused_parameters(used * 3, [used, idle])
    loss.backward()
    assert float(loss.detach()) == 6.0
    assert float(used.grad) == 3.0
    assert idle.grad is None


def test_what_was_tied_may_be_changed_in_place():
    used, idle = torch.nn.Parameter(torch.tensor(2.0)), torch.nn.Parameter(torch.tensor(5.0))
    loss = attach_unused_parameters(used * 3, [used, idle])
    loss /= 4
    loss.backward()
    assert float(used.grad) == 0.75
