"""The way of one sample from its shard to an example: functions that take one form of it and return the next."""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image
from torch import Tensor

from relpretrain.data.pipeline.collate import Example, TextWriter
from relpretrain.data.pipeline.sample import Augmented, Decoded, Record, Sample
from relpretrain.data.pipeline.transforms import augment, normalise
from relpretrain.data.sampling.exclusion import Exclusion, phash
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.record import captions_of, declared_size, texts_of
from relpretrain.data.shards.row_index import RawSample, ShardIndex
from relpretrain.errors import BadSample
from relpretrain.kinds import Kind
from relpretrain.pixels import to_rgb
from relpretrain.scene_graph import GraphError, SceneGraph
from relpretrain.sources.common.values import identity

PART = "part: "
"""Beginning of the reasons for which parts of a sample, not the sample, were lost."""

EXCLUDED = "excluded"
"""Beginning of the reasons for which a sound sample is left out on purpose."""

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)  # what Pillow raises on broken files


def parse(raw: RawSample, dataset: str, index: ShardIndex) -> Record:
    """Parse the JSON and the captions of a sample.

    Args:
        raw: Its bytes, as `index.read` gives them.
        dataset: Name of its dataset.
        index: Index of its shard.

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


def decode(image: bytes, size: int, min_scale: float = 1.0) -> Decoded:
    """Decode an image file to RGB, a JPEG at the smallest scale from which no crop must be enlarged.

    Args:
        image: The file's bytes.
        size: Side of the image that the model sees, in pixels.
        min_scale: Smallest fraction of the area that a crop keeps.

    Raises:
        BadSample: If it is no image, damaged, or of more pixels than Pillow accepts.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadSample("decompression_bomb", str(error)) from None
    except _BROKEN as error:
        raise BadSample("not_an_image", str(error).partition(" <")[0]) from None  # without the buffer's address
    width, height = opened.size
    # A crop's shorter side is at least sqrt(3/4 of its area): its sides' ratio is at most 4/3.
    scale = size / min(width, height, math.sqrt(0.75 * min_scale * width * height))
    try:
        if opened.format == "JPEG" and scale < 0.5:
            opened.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
        opened.load()
        return Decoded(to_rgb(opened), (width, height))
    except _BROKEN as error:
        raise BadSample("truncated_image", str(error)) from None


def check(record: Record, decoded: Decoded, kind: Kind, exclusion: Exclusion | None = None) -> Sample:
    """Check a sample's annotations against its image.

    Args:
        record: The annotations.
        decoded: The image.
        kind: Type of the batches that the sample is for; for captions its graph is not looked at.
        exclusion: Images to leave out by their perceptual hashes.

    Raises:
        BadSample: If the image is excluded, or the graph malformed or of an image of another size.
    """
    if exclusion is not None and exclusion.phashes and (reason := exclusion.reason("", phash(decoded.image))):
        raise BadSample(reason)
    graph = SceneGraph()
    if kind != "captions":
        (width, height), image = decoded.stored_size, decoded.image
        graph = read_graph(record, width, height)
        if image.size != decoded.stored_size:
            graph = graph.resize(image.width / width, image.height / height)
    return Sample(record.key, decoded.image, record.image_id, record.source, record.captions, graph)


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
    """The way of a stream's samples: read, parse, decode, check, augment, normalise, write texts.

    Args:
        stream: The stream.
        size: Side of the image that the model sees, in pixels.
        writer: Of the stream's texts.
        exclusion: Images to leave out by their perceptual hashes; those listed by id are never scheduled.
        normalise: Makes the model's input, (3, size, size), of augmented pixels, (size, size, 3) in [0, 255].
    """

    def __init__(
        self,
        stream: Stream,
        size: int,
        writer: TextWriter,
        exclusion: Exclusion | None = None,
        normalise: Callable[[np.ndarray], Tensor] = normalise,
    ) -> None:
        self.stream = stream
        self.size = size
        self.writer = writer
        self.exclusion = exclusion
        self.normalise = normalise

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
        return augment(check(record, decoded, self.stream.kind, self.exclusion), self.size, self.stream, rng)

    def write(self, augmented: Augmented, rng: np.random.Generator) -> Example:
        """Normalise an augmented sample's pixels, and write its texts.

        Raises:
            BadSample: If it has nothing that the stream is about.
        """
        example = self.writer(self.normalise(augmented.pixels), augmented.sample, rng)
        return replace(example, lost=[*augmented.lost, *example.lost])
