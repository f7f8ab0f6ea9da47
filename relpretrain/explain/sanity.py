"""Do maps depend on what a model has learned? With a random top layer they must change (Adebayo et al., 2018)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from relpretrain.backbones.encoders import Encoders
from relpretrain.backbones.initial import init_weights
from relpretrain.explain.maps.texts import text_maps
from relpretrain.explain.maps.watching import Model, checked


def agreement(
    model: Model, image: Image.Image, texts: Sequence[str], layer: int | None = None, seed: int = 0
) -> list[float]:
    """How alike the maps of texts are with and without the weights of the last fusion layer.

    Args:
        model: What `relpretrain.load` returned; it stays as it is.
        image: The image.
        texts: Texts about it.
        layer: The layer that is watched, see `maps.watching.fusion_layer`.
        seed: Of the random weights.

    Returns:
        For each text the correlation of its words' maps, (words * patches), with those of a model whose last fusion
        layer has new random weights: 1 says that they do not depend on that layer; NaN where a map is constant.
    """
    before = text_maps(model, image, texts, layer)
    with random_top(checked(model), seed):
        after = text_maps(model, image, texts, layer)
    return [_correlation(one.maps, other.maps) for one, other in zip(before, after, strict=True)]


@contextmanager
def random_top(backbone: Encoders, seed: int = 0) -> Iterator[None]:
    """Put a layer of random weights in the place of the last fusion layer, and the own one back afterwards."""
    layers: Any = backbone.fusion.layers
    own = layers[-1]
    other = copy.deepcopy(own)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        cpu = other.cpu()
        init_weights(cpu, backbone.config.init_std)
        layers[-1] = cpu.to(next(own.parameters()).device)
    try:
        yield
    finally:
        layers[-1] = own


def _correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten().double(), other.flatten().double()]))[0, 1])
