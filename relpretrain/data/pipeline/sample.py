"""The forms that a sample takes between its shard and its texts, each made of the one before."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from relpretrain.scene_graph import Entity, SceneGraph


class Record(NamedTuple):
    """The annotations of a sample, parsed and not yet checked.

    Args:
        key: Where it comes from, as "dataset/shard/key".
        image_id: Identity of the image within its source.
        source: Name of the annotation source.
        captions: Texts about the whole image.
        content: The sample's JSON.
    """

    key: str
    image_id: str
    source: str
    captions: list[str]
    content: dict[str, Any]


class Decoded(NamedTuple):
    """The pixels of a sample, perhaps decoded smaller, (3, height, width), uint8; its width and height as stored."""

    image: Tensor
    stored_size: tuple[int, int]


@dataclass(frozen=True)
class Sample:
    """An image with captions, entities and a scene graph (docs/reference/sample_format.md), checked.

    Args:
        key: Where it comes from, as "dataset/shard/key".
        image: Its pixels, (3, height, width), uint8.
        image_id: Identity of the image within its source.
        source: Name of the annotation source.
        captions: Texts about the whole image.
        graph: Entities and relations; boxes in pixels of `image`.
        caption_weights: How often each caption is drawn, relative to the others; None for all alike.
        cut: Things of which augmentation has left a little in the picture, without boxes; they are not in `graph`.
    """

    key: str
    image: Tensor
    image_id: str
    source: str = ""
    captions: list[str] = field(default_factory=list)
    graph: SceneGraph = field(default_factory=SceneGraph)
    caption_weights: list[float] | None = None
    cut: tuple[Entity, ...] = ()


class Augmented(NamedTuple):
    """A sample after augmentation.

    Args:
        pixels: The augmented image, (3, size, size), uint8.
        sample: The sample with its boxes in these pixels; its `image` is the one before augmentation.
        lost: Entities and triplets that were dropped, by reason.
    """

    pixels: Tensor
    sample: Sample
    lost: Counter[str]
