"""Augmentation that keeps boxes, relations and captions true."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from relpretrain.data.pipeline.images import resized
from relpretrain.data.pipeline.randaugment import rand_augment
from relpretrain.data.pipeline.sample import Augmented, Sample
from relpretrain.data.sampling.stream import Stream
from relpretrain.errors import BadSample
from relpretrain.scene_graph import MIN_VISIBLE, Box, Entity, FlipRefused, SceneGraph, mentions_side

MAX_ASPECT = 4 / 3
"""Largest ratio of sides, either way, of a random crop."""

COLOR_STRENGTH = 0.3
"""How far brightness, contrast and saturation move from 1, either way."""

EXCLUDED_BY_CONFIDENCE = "excluded_by_confidence"
"""Reason for which a graph sample is left out that has no triplet as sure as its stream asks for."""

_GREY = torch.tensor([0.299, 0.587, 0.114])  # luma of ITU-R BT.601


def augment(sample: Sample, size: int, stream: Stream, rng: np.random.Generator) -> Augmented:
    """Augment a sample for training: a random resized crop, a horizontal flip and a colour jitter.

    What is said of the image stays true. Boxes follow the image; entities and triplets that a crop cuts away are
    dropped and counted; a flip exchanges left and right in relations, and is not done where a caption, a label or a
    relation speaks of a side in a way that cannot be exchanged. A crop that would leave a graph sample without a
    triplet, or a region sample without an entity, gives way to the whole image. Before all that, triplets of less
    confidence than the stream asks for are left out.

    Args:
        sample: What to augment.
        size: Side of the square that comes out, in pixels.
        stream: Whose `kind`, `boxed`, `min_confidence`, `min_scale`, `flip` and `color` are used, and whether it makes
            foils, units or mirror images, for which `Sample.cut` is found.
        rng: Where all choices are drawn from.

    Raises:
        BadSample: If no triplet is as sure as the stream asks for ("excluded_by_confidence").
    """
    sample, doubted = _sure(sample, stream)
    height, width = sample.image.shape[1:]
    whole = Box(0.0, 0.0, float(width), float(height))
    area = _random_box(width, height, stream.min_scale, rng) if stream.min_scale < 1 else whole
    graph, dropped = sample.graph.crop(area, size=(size, size))
    if _material(stream, sample.graph) and not _material(stream, graph):
        area, (graph, dropped) = whole, sample.graph.crop(whole, size=(size, size))
    pixels = resized(sample.image, area, size)
    if rng.random() < stream.flip and not any(map(mentions_side, sample.captions)):
        with contextlib.suppress(FlipRefused):
            graph, pixels = graph.flip(float(size)), pixels.flip(2)
    if stream.color == "randaugment":
        pixels = rand_augment(pixels, rng, shape=stream.kind == "captions" and not stream.blocks_per_text)
    elif stream.color:
        pixels = _jitter(pixels, rng)
    cut = _cut(sample.graph, area) if stream.asks_what_is_true else ()
    return Augmented(pixels, replace(sample, graph=graph, cut=cut), dropped + doubted)


def _cut(graph: SceneGraph, area: Box) -> tuple[Entity, ...]:
    """The entities that reach into a part of the image, and of which too little does for the part's graph."""
    shares = ((e, e.box.clip(area).area / e.box.area) for e in graph.entities if e.box is not None)
    return tuple(replace(entity, box=None) for entity, share in shares if 0 < share < MIN_VISIBLE)


def _sure(sample: Sample, stream: Stream) -> tuple[Sample, Counter[str]]:
    """The sample without the triplets that are too doubtful for the stream, and how many these are."""
    graph = sample.graph.confident(stream.min_confidence)
    doubted = len(sample.graph.relations) - len(graph.relations)
    if stream.kind != "graphs" or not doubted:
        return sample, Counter()
    sample = replace(sample, graph=graph)
    if not _material(stream, graph):
        raise BadSample(EXCLUDED_BY_CONFIDENCE, f"no relation of a confidence of {stream.min_confidence:g}")
    return sample, Counter(relation_below_confidence=doubted)


def _material(stream: Stream, graph: SceneGraph) -> int:
    """How much of what the stream is about a graph holds."""
    if stream.need == "regions":
        return sum(entity.box is not None for entity in graph.entities)
    return {"captions": 0, "graphs": len(graph.relations), "boxed_graphs": len(graph.boxed_pairs())}[stream.need]


def _random_box(width: int, height: int, min_scale: float, rng: np.random.Generator) -> Box:
    """A box of random area, aspect ratio and place, in whole pixels."""
    for _ in range(10):
        area = width * height * rng.uniform(min_scale, 1.0)
        aspect = math.exp(rng.uniform(-1.0, 1.0) * math.log(MAX_ASPECT))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return Box(float(x), float(y), float(x + w), float(y + h))
    return Box(0.0, 0.0, float(width), float(height))


def _jitter(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast and saturation: together one linear map of the colours."""
    brightness, contrast, saturation = rng.uniform(1 - COLOR_STRENGTH, 1 + COLOR_STRENGTH, 3).tolist()
    colours = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    grey = torch.tensordot(_GREY, colours, 1)  # (height, width)
    offset = brightness * (1 - contrast) * float(grey.mean()) + 0.5  # half, for `to` rounds down
    grey.mul_(brightness * contrast * (1 - saturation)).add_(offset)
    return colours.mul_(brightness * contrast * saturation).add_(grey).clamp_(0, 255).to(torch.uint8)
