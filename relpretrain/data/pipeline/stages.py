"""The way of one sample from its shard to a batch, as a list of named stages."""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from relpretrain.data.pipeline.collate import Example, TextWriter
from relpretrain.data.pipeline.sample import Sample
from relpretrain.data.pipeline.transforms import augment
from relpretrain.data.sampling.exclusion import Exclusion, phash
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.row_index import RawSample, ShardIndex, captions_of, declared_size, texts_of
from relpretrain.errors import BadSample
from relpretrain.pixels import to_rgb
from relpretrain.scene_graph import GraphError, SceneGraph
from relpretrain.sources.common.values import identity

PART = "part: "
"""Beginning of the reasons for which parts of a sample, not the sample, were lost."""

EXCLUDED = "excluded"
"""Beginning of the reasons for which a sound sample is left out on purpose."""


@dataclass
class Work:
    """A sample on its way; each stage fills in more.

    Args:
        dataset: Name of its dataset.
        index: Index of its shard.
        row: Its row there.
        rng: All its random choices come from here.
        lost: Reasons for which parts of it were dropped.
    """

    dataset: str
    index: ShardIndex
    row: int
    rng: np.random.Generator
    lost: list[str] = field(default_factory=list)
    raw: RawSample | None = None
    record: dict[str, Any] = field(default_factory=dict)
    captions: list[str] = field(default_factory=list)
    image: Image.Image | None = None
    stored_size: tuple[int, int] = (0, 0)
    sample: Sample | None = None
    tensor: Tensor | None = None
    example: Example | None = None

    @property
    def place(self) -> str:
        """Where the sample is, as "shard/key"."""
        return f"{self.index.name}/{self.index.keys[self.row]}"


Stage = Callable[[Work], None]


def read(work: Work) -> None:
    """Read the sample's bytes."""
    work.raw = work.index.read(work.row)


def parse(work: Work) -> None:
    """Read its JSON and captions."""
    assert work.raw is not None
    try:
        work.record, txt = texts_of(work.raw.json, work.raw.txt)
        work.captions = captions_of(work.record, txt)
    except BadSample:
        raise
    except ValueError as error:
        raise BadSample("malformed_json", str(error)) from None


@dataclass
class Decode:
    """Decode the image, a JPEG at the smallest scale from which no crop must be enlarged.

    Args:
        size: Side of the image that the model sees, in pixels.
        min_scale: Smallest share of the area that a crop keeps.
    """

    size: int
    min_scale: float

    def __call__(self, work: Work) -> None:
        """Decode to RGB."""
        assert work.raw is not None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                image = Image.open(io.BytesIO(work.raw.image))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise BadSample("decompression_bomb", str(error)) from None
        except _BROKEN as error:
            raise BadSample("not_an_image", str(error)) from None
        work.stored_size = image.size
        width, height = image.size
        # A crop's shorter side is at least sqrt(3/4 of its area): its sides' ratio is at most 4/3.
        shortest = min(width, height, math.sqrt(0.75 * self.min_scale * width * height))
        scale = self.size / shortest
        try:
            if image.format == "JPEG" and scale < 0.5:
                image.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
            image.load()
            work.image = to_rgb(image)
        except _BROKEN as error:
            raise BadSample("truncated_image", str(error)) from None


@dataclass
class Exclude:
    """Leave out images whose perceptual hash is on a list.

    Args:
        exclusion: The list.
    """

    exclusion: Exclusion

    def __call__(self, work: Work) -> None:
        """Compare the decoded image."""
        assert work.image is not None
        reason = self.exclusion.reason("", phash(work.image))
        if reason is not None:
            raise BadSample(reason)


_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)  # what Pillow raises on broken files


def check_captions(work: Work) -> None:
    """Make the sample; its graph is left alone."""
    work.sample = _sample(work, SceneGraph())


def check_graph(work: Work) -> None:
    """Make the sample with its graph, checked against the image."""
    width, height = work.stored_size
    said = declared_size(work.record, width, height)
    if said != work.stored_size:
        raise BadSample("size_differs", f"record says {said}, the image has {work.stored_size}")
    try:
        graph = SceneGraph.from_json(work.record, width, height)
    except GraphError as error:
        raise BadSample(error.reason, str(error)) from None
    assert work.image is not None
    if work.image.size != work.stored_size:
        graph = graph.resize(work.image.width / width, work.image.height / height)
    work.sample = _sample(work, graph)


def _sample(work: Work, graph: SceneGraph) -> Sample:
    assert work.image is not None
    key = f"{work.dataset}/{work.place}"
    return Sample(
        key=key,
        image=work.image,
        # Two downloads in one dataset may have shards of one name, in folders of their own.
        image_id=identity(work.record.get("image_id")) or f"{work.index.path.parent.name}/{key}",
        source=str(work.record.get("source") or work.dataset),
        captions=work.captions,
        graph=graph,
    )


@dataclass
class Augment:
    """Augment image, boxes and relations together; lost entities and triplets are noted.

    Args:
        size: Side of the image that the model sees, in pixels.
        stream: What it says of cropping, flipping and colours.
    """

    size: int
    stream: Stream

    def __call__(self, work: Work) -> None:
        """Turn the image into a tensor."""
        assert work.sample is not None
        work.tensor, work.sample, dropped = augment(work.sample, self.size, self.stream, work.rng)
        work.lost += [PART + reason for reason in dropped]


@dataclass
class Write:
    """Draw, tokenise and mask the texts.

    Args:
        writer: How.
    """

    writer: TextWriter

    def __call__(self, work: Work) -> None:
        """Make the example."""
        assert work.tensor is not None
        assert work.sample is not None
        work.example = self.writer(work.tensor, work.sample, work.rng)
        work.lost += [PART + reason for reason in work.example.lost]


class Pipeline:
    """The stages of one stream.

    Args:
        stream: The stream.
        size: Side of the image that the model sees, in pixels.
        writer: Of the stream's texts.
        exclusion: Images to leave out by their hashes; ids are left out of the plan already.
    """

    def __init__(self, stream: Stream, size: int, writer: TextWriter, exclusion: Exclusion | None = None) -> None:
        self.stages: list[tuple[str, Stage]] = [
            ("read", read),
            ("parse", parse),
            ("decode", Decode(size, stream.min_scale)),
            *([("exclude", Exclude(exclusion))] if exclusion is not None and exclusion.phashes else []),
            ("check", check_captions if stream.kind == "captions" else check_graph),
            ("augment", Augment(size, stream)),
            ("text", Write(writer)),
        ]

    def __call__(self, work: Work) -> tuple[Example | None, list[str]]:
        """Lead a sample through the stages.

        Returns:
            The example, or None if the sample is bad; and the reasons for which it or parts of it were lost.
        """
        try:
            for _, stage in self.stages:
                stage(work)
        except BadSample as error:
            return None, [error.reason]
        return work.example, work.lost
