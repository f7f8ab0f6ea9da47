"""Batches that training seldom sees have finite losses and gradients, on our own models."""

import dataclasses

import pytest
import torch

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.backbones.encoders import TEMPERATURE_RANGE
from relpretrain.objectives import BOX, ITC, ITM, MLM, MRC, VMA, VSG
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training import Optimizer, RelationModule
from relpretrain.types import IGNORE, Pairs, TextBatch
from tests.objectives.standin import captions, graphs, regions

MAKE = {"captions": captions, "regions": regions, "graphs": graphs}
CHOSEN = {"captions": ("itc", "itm", "mlm"), "regions": ("vma", "box"), "graphs": ("vsg", "mrc")}


def as_they_are(batch):
    return batch


def duplicates(batch):
    """One image, one text."""
    return _map(batch, lambda tensor: tensor[:1].expand_as(tensor).clone(), image_index=False)


def one_row(batch):
    """One image with its first text; a triplet of it with itself."""
    kept = batch.pairs.image_index == 0
    kept &= kept.cumsum(0) == 1
    changes = {"images": batch.images[:1], "image_ids": batch.image_ids[:1], "pairs": _rows(batch.pairs, kept)}
    if hasattr(batch, "entities"):
        changes |= {"entities": _rows(batch.entities, batch.entities.image_index == 0), "relations": ("on",)}
        changes |= {"subjects": torch.tensor([0]), "objects": torch.tensor([0])}
    return dataclasses.replace(batch, **changes)


def special_tokens_only(batch):
    """Empty texts: [CLS] [SEP], nothing masked."""

    def empty(pairs):
        text, size = pairs.text, (len(pairs), 2)
        ids = torch.tensor([2, 3]).expand(size).clone()
        labels = None if text.labels is None else torch.full(size, IGNORE)
        masked = None if text.masked_input_ids is None else ids.clone()
        return dataclasses.replace(pairs, text=TextBatch(ids, torch.ones(size, dtype=torch.bool), masked, labels))

    changes = {"pairs": empty(batch.pairs)}
    return dataclasses.replace(batch, **changes)


def flat_images(batch):
    return dataclasses.replace(batch, images=torch.zeros_like(batch.images))


def _rows(pairs, kept):
    def of(value):
        return None if value is None else value[kept]

    text = TextBatch(*(of(getattr(pairs.text, field.name)) for field in dataclasses.fields(TextBatch)))
    return Pairs(text, of(pairs.image_index), of(pairs.text_keys), of(pairs.boxes), of(pairs.whole))


def _map(batch, function, image_index):
    def pairs_of(pairs):
        index = pairs.image_index
        return dataclasses.replace(pairs._map(function), image_index=index)

    changes = {"images": function(batch.images), "image_ids": function(batch.image_ids), "pairs": pairs_of(batch.pairs)}
    if hasattr(batch, "entities"):
        changes["entities"] = pairs_of(batch.entities)
    return dataclasses.replace(batch, **changes)


@pytest.fixture(scope="module", params=["ALBEF", "XVLM"])
def module(request):
    torch.manual_seed(0)
    size = {"size": "tiny", "image_size": 32, "vocab_size": 128, "dropout": 0.0}
    own = request.param == "ALBEF"
    backbone = ALBEF(**size, momentum=0.9, queue_size=8) if own else XVLM(**size)
    objectives = {"itc": ITC(), "itm": ITM(), "mlm": MLM(), "vsg": VSG()}
    objectives["mrc"] = MRC(RelationVocabulary(("on", "under", "left of")))
    objectives |= {} if own else {"vma": VMA(), "box": BOX()}
    return RelationModule(backbone, objectives, Optimizer(warmup_steps=0))


@pytest.mark.parametrize("temperature", [None, *TEMPERATURE_RANGE])
@pytest.mark.parametrize("odd", [as_they_are, duplicates, one_row, special_tokens_only, flat_images])
def test_losses_and_gradients_are_finite(module, odd, temperature):
    scale = module.backbone.scale.value
    with torch.no_grad():
        scale.fill_(0.07 if temperature is None else temperature)
    for kind, make in MAKE.items():
        chosen = tuple(name for name in CHOSEN[kind] if name in module.objectives)
        if not chosen:
            continue
        made = make()
        images = torch.nn.functional.interpolate(made.images, size=(32, 32))
        made = dataclasses.replace(made, images=images, objectives=chosen, stream=kind)
        module.zero_grad()
        loss = module.training_step(odd(made))
        assert loss.isfinite(), (kind, {n: float(o.loss.detach()) for n, o in module.last[1].items()})
        loss.backward()
        broken = [n for n, p in module.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        assert not broken, (kind, broken)
        module.on_before_optimizer_step(None)
