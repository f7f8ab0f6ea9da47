"""The way of one sample from its shard to an example: functions that take one form of it and return the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from relpretrain.data.pipeline.images import CLIP_NORMALISATION, decode, to_image
from relpretrain.data.pipeline.sample import Augmented, Decoded, Record, Sample
from relpretrain.data.pipeline.text_writer import Example, TextWriter
from relpretrain.data.pipeline.transforms import augment
from relpretrain.data.sampling.exclusion import Exclusion, phash
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.record import caption_weights_of, captions_of, declared_size, texts_of
from relpretrain.data.shards.row_index import RawSample, ShardIndex
from relpretrain.errors import BadSample
from relpretrain.kinds import Kind
from relpretrain.scene_graph import GraphError, SceneGraph
from relpretrain.sources.common.values import identity
from relpretrain.types import Normalisation

PART = "part: "
"""Beginning of the reasons for which parts of a sample, not the sample, were lost."""

EXCLUDED = "excluded"
"""Beginning of the reasons for which a sound sample is left out on purpose."""


class Shard(Protocol):
    """What `parse` asks of a sample's shard, such as a `ShardIndex`."""

    @property
    def name(self) -> str:
        """Its name without folder and ending."""
        ...

    @property
    def path(self) -> Path:
        """Where it is."""
        ...


def parse(raw: RawSample, dataset: str, index: Shard) -> Record:
    """Parse the JSON and the captions of a sample.

    Args:
        raw: Its bytes, as `index.read` gives them.
        dataset: Name of its dataset.
        index: Its shard, or the index of it.

    Raises:
        BadSample: If they cannot be parsed.
    """
    try:
        content, txt = texts_of(raw.json, raw.txt)
        captions = captions_of(content, txt)
    except BadSample:
        raise
    except ValueError as error:
        raise BadSample("malformed_json", str(error)) from None
    key = f"{dataset}/{index.name}/{raw.key}"
    # Two downloads in one dataset may have shards of one name, in folders of their own.
    image_id = identity(content.get("image_id")) or f"{index.path.parent.name}/{key}"
    return Record(key, image_id, str(content.get("source") or dataset), captions, content)


def check(
    record: Record, decoded: Decoded, kind: Kind, exclusion: Exclusion | None = None, graph: bool | None = None
) -> Sample:
    """Check a sample's annotations against its image.

    Args:
        record: The annotations.
        decoded: The image.
        kind: Type of the batches that the sample is for.
        exclusion: Images to leave out by their perceptual hashes.
        graph: Whether its graph is looked at (`Stream.reads_graph`); None for yes, except for captions.

    Raises:
        BadSample: If the image is excluded, the graph malformed or of an image of another size, or the captions'
            weights malformed.
    """
    if exclusion is not None and exclusion.phashes and (reason := exclusion.reason("", phash(to_image(decoded.image)))):
        raise BadSample(reason)
    read = SceneGraph()
    if graph or (graph is None and kind != "captions"):
        (width, height), (rows, columns) = decoded.stored_size, decoded.image.shape[1:]
        read = read_graph(record, width, height)
        if (columns, rows) != (width, height):
            read = read.resize(columns / width, rows / height)
    try:
        weights = None if kind == "graphs" else caption_weights_of(record.content, record.captions)
    except ValueError as error:
        raise BadSample("malformed_caption_weights", str(error)) from None
    return Sample(record.key, decoded.image, record.image_id, record.source, record.captions, read, weights)


def read_graph(record: Record, width: int, height: int) -> SceneGraph:
    """Read the scene graph of a record whose image is stored with this width and height.

    Raises:
        BadSample: If the record says another size, or the graph is malformed.
    """
    if (said := declared_size(record.content, width, height)) != (width, height):
        raise BadSample("size_differs", f"record says {said}, the image has {width, height}")
    try:
        return SceneGraph.from_json(record.content, width, height)
    except GraphError as error:
        raise BadSample(error.reason, str(error)) from None


class Pipeline:
    """The way of a stream's samples: read, parse, decode, check, augment, write texts.

    Args:
        stream: The stream.
        size: Side of the image that the model sees, in pixels.
        writer: Of the stream's texts.
        exclusion: Images to leave out by their perceptual hashes; those listed by id are never scheduled.
        normalisation: What the batch is to be normalised by, on the device; None without any.
        host: Makes a host's input, (3, size, size), of augmented pixels, (3, size, size), in place of normalisation.

    `note` is told each sample before it is read: data workers put theirs there.
    """

    note: Callable[[str], None]

    def __init__(
        self,
        stream: Stream,
        size: int,
        writer: TextWriter,
        exclusion: Exclusion | None = None,
        normalisation: Normalisation | None = CLIP_NORMALISATION,
        host: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.stream = stream
        self.size = size
        self.writer = writer
        self.exclusion = exclusion
        self.normalisation = normalisation if host is None else None
        self.host = host
        self.note = _pass

    def __call__(
        self, dataset: str, index: ShardIndex, row: int, rng: np.random.Generator
    ) -> tuple[Example | None, list[str]]:
        """Make an example of a sample in a shard.

        Args:
            dataset: Name of its dataset.
            index: Index of its shard.
            row: Its row there.
            rng: All random choices come from here.

        Returns:
            The example, or None if the sample is bad; and the reasons for which it or parts of it were lost.
        """
        self.note(f"{dataset}/{index.place(row)}")
        try:
            raw = index.read(row)
            record = parse(raw, dataset, index)
            decoded = decode(raw.image, self.size, self.stream.min_scale)
            example = self.write(self.augment(record, decoded, rng), rng)
        except BadSample as error:
            return None, [error.reason]
        return example, [PART + reason for reason in example.lost]

    def augment(self, record: Record, decoded: Decoded, rng: np.random.Generator) -> Augmented:
        """Check a sample and augment it.

        Raises:
            BadSample: If its annotations are malformed, or its image is excluded.
        """
        sample = check(record, decoded, self.stream.kind, self.exclusion, self.stream.reads_graph)
        return augment(sample, self.size, self.stream, rng)

    def write(self, augmented: Augmented, rng: np.random.Generator) -> Example:
        """Write the texts of an augmented sample.

        Raises:
            BadSample: If it has nothing that the stream is about.
        """
        image = augmented.pixels if self.host is None else self.host(augmented.pixels)
        example = self.writer(image, augmented.sample, rng)
        example.lost = [*augmented.lost, *example.lost]
        example.normalisation = self.normalisation
        return example


def _pass(place: str) -> None:
    """Take no note."""
