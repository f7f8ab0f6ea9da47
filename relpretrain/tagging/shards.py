"""Samples of shards as a tagger takes them: the image decoded, the graph checked."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from relpretrain.data.build.output import PackedSample
from relpretrain.data.build.pack_sample import own_graph
from relpretrain.data.shards.record import image_id_of, texts_of
from relpretrain.data.shards.remote import local_copy, name_of
from relpretrain.data.shards.row_index import RawSample, ShardIndex
from relpretrain.errors import BadSample
from relpretrain.pixels import BROKEN, decode
from relpretrain.scene_graph import GraphError, SceneGraph
from relpretrain.sources.common.annotation import probe_image
from relpretrain.sources.common.dropped import Dropped, note


class TagSample(NamedTuple):
    """A sample.

    Args:
        packed: Its image as it is stored, and its record.
        image: The image in RGB.
        graph: Its entities and relations; boxes in pixels of the image.
        identity: Name of the image.
    """

    packed: PackedSample
    image: Image.Image
    graph: SceneGraph
    identity: str


def read_shard(shard: str, dropped: Dropped) -> Iterator[TagSample]:
    """The samples of a shard in their order; what cannot be used is counted.

    Args:
        shard: A path or address.
        dropped: Counts what was left out, by reason.
    """
    index = ShardIndex.scan(local_copy(shard), name_of(shard))
    for problem in index.problems:
        note(dropped, problem.reason, f"{index.name}/{problem.key}")
    for row in range(len(index)):
        lost = Dropped()
        sample = _sample(index.read(row), lost)
        lost.place(f"{index.name}/{index.keys[row]}")
        dropped.include(lost)
        if sample is not None:
            yield sample


def _sample(raw: RawSample, dropped: Dropped) -> TagSample | None:
    file = probe_image(io.BytesIO(raw.image), dropped)
    if file is None:
        return None
    try:
        record, txt = texts_of(raw.json, raw.txt)
        if txt and "captions" not in record:
            record["captions"] = [txt]
        graph = own_graph(record, file)
        image = decode(io.BytesIO(raw.image))
    except (GraphError, BadSample) as error:
        dropped[error.reason] += 1
        return None
    except BROKEN:
        dropped["unreadable_image"] += 1
        return None
    packed = PackedSample(raw.key, raw.image, file.extension, record)
    return TagSample(packed, image, graph, image_id_of(record, raw.key))
