"""A batch in parts is the batch: its losses, its gradients and its negatives, with less kept for the backward pass."""

import copy
import dataclasses

import pytest
import torch

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.errors import ConfigError
from relpretrain.features import Features
from relpretrain.objectives import ITC, ITM, MLM, language
from relpretrain.training.micro_batch import MicroBatched
from relpretrain.types import Pairs
from tests.objectives.standin import BOXES, captions, graphs, regions, texts
from tests.training import test_syncs

SIZES = {"text_layers": 1, "fusion_layers": 2, "image_size": 32, "vocab_size": 20, "patch_size": 16, "vision_depth": 2}
SWIN = {"text_layers": 1, "fusion_layers": 2, "image_size": 32, "vocab_size": 20, "patch_size": 2, "window_size": 4}
BACKBONES = {
    "albef": lambda dropout: ALBEF("tiny", momentum=0.9, queue_size=16, dropout=dropout, **SIZES),
    "xvlm": lambda dropout: XVLM("tiny", dropout=dropout, **SIZES),
    "swin": lambda dropout: XVLM("tiny", vision="swin", dropout=dropout, drop_path=0.0, **SWIN),
}


def step(module, batch):
    images = torch.randn(len(batch.images), 3, 32, 32, generator=torch.Generator().manual_seed(1))
    loss = module.training_step(dataclasses.replace(batch, images=images))
    loss.backward()
    module.on_before_optimizer_step(None)
    outputs = module.last[1]
    numbers = {f"{name} {part}": value.detach() for name, o in outputs.items() for part, value in o.parts.items()}
    numbers |= {name: value for o in outputs.values() for name, value in o.metrics.items()}
    return numbers, {name: p.grad for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("make", [lambda: captions(5), regions, graphs])
@pytest.mark.parametrize("name", BACKBONES)
def test_losses_and_gradients_are_those_of_the_whole_batch(monkeypatch, name, make):
    whole = test_syncs.module(BACKBONES[name](0.0))
    parts = copy.deepcopy(whole)
    parts.micro_batch = 2
    expected = step(whole, make())
    monkeypatch.setattr(language, "POSITIONS", 2)
    for wanted, found in zip(expected, step(parts, make()), strict=True):
        assert set(wanted) == set(found)
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_a_part_meets_the_same_dropout_again():
    """Else the gradient would be that of another network: here it is the slope of the loss itself."""
    model, text = BACKBONES["xvlm"](0.3).double(), captions(4).pairs.text
    weight, numbers = model.text.layers[0].up.weight, torch.randn(4, 6, model.text.norm.weight.numel()).double()

    def loss():
        torch.manual_seed(3)
        return (MicroBatched(model, 2).encode_text(text.input_ids, text.attention_mask) * numbers).sum()

    loss().backward()
    step = 1e-5 * torch.randn_like(weight)
    with torch.no_grad():
        weight += step
        above = loss()
        weight -= 2 * step
        below = loss()
    torch.testing.assert_close(above - below, 2 * (weight.grad * step).sum(), rtol=1e-4, atol=0)


def test_less_is_kept_for_the_backward_pass():
    def kept(wrap):
        model, batch, sizes = BACKBONES["xvlm"](0.0), captions(16), {}
        batch.images = torch.ones(16, 3, 32, 32)
        features = Features(wrap(model), batch, [batch.pairs], torch.Generator())
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = sum(objective.term(features.view(batch.pairs)).loss for objective in (ITC(), ITM(), MLM()))
        assert loss.requires_grad
        return sum(size for place, size in sizes.items() if place not in own)

    assert kept(lambda model: MicroBatched(model, 2)) < kept(lambda model: model) / 3


def test_regions_are_encoded_in_parts_as_well():
    """Of many regions as little is kept as of few, and the host makes all tables before the batch leaves it."""

    def kept(rows):
        module, batch = test_syncs.module(BACKBONES["xvlm"](0.0)), regions()
        batch.objectives, batch.images = ("vma",), torch.ones(2, 3, 32, 32)
        sixteen = [0, 1, 2, 3] * 4
        batch.pairs = Pairs(texts(16), *(batch.pairs.image_index[sixteen], torch.arange(16), BOXES[sixteen]))
        module.micro_batch, sizes = rows, {}
        own = {p.untyped_storage().data_ptr() for p in module.parameters()}
        batch = module.on_before_batch_transfer(batch, 0)
        vision = module.backbone.vision

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        seen = []
        for block in vision.trunk.blocks:
            block.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[:-1].numel()))
        features = Features(module._model, batch, [batch.pairs])
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            found = features.images
        assert found.region_tokens.shape[0] == int(batch.regions.packing.mask.sum())
        return max(seen), sum(size for place, size in sizes.items() if place not in own)

    (widest, small), (all_at_once, large) = kept(2), kept(None)
    assert widest <= 2 * 5 < all_at_once
    assert small < large / 3


def test_no_part_is_refused():
    module = test_syncs.module(BACKBONES["xvlm"](0.0))
    with pytest.raises(ConfigError, match="micro_batch=0"):
        type(module)(module.backbone, dict(module.objectives.items()), micro_batch=0)
