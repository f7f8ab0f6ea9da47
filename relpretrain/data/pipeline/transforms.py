"""Images to tensors, and augmentation that keeps boxes, relations and captions true."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from relpretrain.data.pipeline.randaugment import rand_augment
from relpretrain.data.pipeline.sample import Augmented, Sample
from relpretrain.data.sampling.stream import Stream
from relpretrain.pixels import to_rgb
from relpretrain.scene_graph import Box, FlipRefused, SceneGraph, mentions_side

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""Statistics of CLIP's training images, as in the official ALBEF and X-VLM code."""

MAX_ASPECT = 4 / 3
"""Largest ratio of sides, either way, of a random crop."""

COLOR_STRENGTH = 0.3
"""How far brightness, contrast and saturation move from 1, either way."""

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601


def to_tensor(
    image: Image.Image, size: int, mean: Sequence[float] = IMAGE_MEAN, std: Sequence[float] = IMAGE_STD
) -> Tensor:
    """Prepare an image for evaluation: squashed to a square with bicubic interpolation, and normalised.

    Returns:
        (3, size, size), float32.
    """
    return normalise(_resized(to_rgb(image), None, size), mean, std)


def augment(sample: Sample, size: int, stream: Stream, rng: np.random.Generator) -> Augmented:
    """Augment a sample for training: a random resized crop, a horizontal flip and a colour jitter.

    What is said of the image stays true. Boxes follow the image; entities and triplets that a crop cuts away are
    dropped and counted; a flip exchanges left and right in relations, and is not done where a caption, a label or a
    relation speaks of a side in a way that cannot be exchanged. A crop that would leave a graph sample without a
    triplet, or a region sample without an entity, gives way to the whole image.

    Args:
        sample: What to augment.
        size: Side of the square that comes out, in pixels.
        stream: Whose `kind`, `min_scale`, `flip` and `color` are used.
        rng: Where all choices are drawn from.
    """
    image = to_rgb(sample.image)
    width, height = image.size
    whole = Box(0.0, 0.0, float(width), float(height))
    area = _random_box(width, height, stream.min_scale, rng) if stream.min_scale < 1 else whole
    graph, dropped = sample.graph.crop(area)
    if _material(stream, sample.graph) and not _material(stream, graph):
        area, (graph, dropped) = whole, sample.graph.crop(whole)
    graph = graph.resize(size / area.width, size / area.height)
    pixels = _resized(image, area, size)
    if rng.random() < stream.flip and not any(map(mentions_side, sample.captions)):
        with contextlib.suppress(FlipRefused):
            graph, pixels = graph.flip(float(size)), pixels[:, ::-1]
    if stream.color == "randaugment":
        pixels = rand_augment(pixels, rng, shape=stream.kind == "captions")
    elif stream.color:
        pixels = _jitter(pixels, rng)
    return Augmented(pixels, replace(sample, graph=graph), dropped)


def _material(stream: Stream, graph: SceneGraph) -> int:
    """How much of what the stream is about a graph holds."""
    return {"captions": 0, "regions": len(graph.entities), "graphs": len(graph.relations)}[stream.kind]


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


def _resized(image: Image.Image, area: Box | None, size: int) -> np.ndarray:
    """Resize a part of an RGB image to (size, size, 3), uint8."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=area))


def _jitter(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast and saturation: together one linear map of the colours, float32 in [0, 255]."""
    brightness, contrast, saturation = rng.uniform(1 - COLOR_STRENGTH, 1 + COLOR_STRENGTH, 3).astype(np.float32)
    colours = pixels.reshape(-1, 3).astype(np.float32)
    grey = float(colours.mean(0) @ _GREY)
    to_grey = np.repeat(_GREY[:, None], 3, axis=1)
    change = (brightness * contrast) * (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * to_grey)
    changed: np.ndarray = colours @ change
    changed += np.float32(brightness * (1 - contrast) * grey)
    return changed.clip(0, 255, out=changed).reshape(pixels.shape)


def normalise(pixels: np.ndarray, mean: Sequence[float] = IMAGE_MEAN, std: Sequence[float] = IMAGE_STD) -> Tensor:
    """Normalise pixels (height, width, 3) in [0, 255] to a tensor (3, height, width), float32."""
    scale, shift = _colours(tuple(mean), tuple(std))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(torch.float32).mul_(scale).sub_(shift)


def to_image(pixels: np.ndarray) -> Image.Image:
    """An image of pixels (height, width, 3) in [0, 255], rounded to whole numbers."""
    return Image.fromarray(pixels.round().astype(np.uint8))


@functools.lru_cache
def _colours(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """What [0, 255] is multiplied by, and what is then taken away, each (3, 1, 1)."""
    scale = torch.tensor([1 / (255 * s) for s in std]).view(3, 1, 1)
    return scale, torch.tensor([m / s for m, s in zip(mean, std, strict=True)]).view(3, 1, 1)
