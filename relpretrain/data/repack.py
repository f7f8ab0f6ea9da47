"""Reading the samples of existing shards, ours or img2dataset's, as the sample format."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from relpretrain.data.index import RawSample, ShardIndex, captions_of, scan
from relpretrain.data.shards import local_copy
from relpretrain.scene_graph import GraphError, SceneGraph
from relpretrain.sources.common import clean_captions, make_record, probe_image


class PackedSample(NamedTuple):
    """A sample as a shard holds it."""

    key: str
    image: bytes
    extension: str
    record: dict[str, Any]


def read_shards(
    shards: Sequence[str],
    dropped: Counter[str],
    source: str | None = None,
    shuffle: int | None = None,
    max_samples: int | None = None,
) -> Iterator[PackedSample]:
    """Read the samples of shards in order, or mixed.

    Images stay as they are, byte for byte; records get the keys of the sample format and lose all others.

    Args:
        shards: Paths or addresses.
        dropped: Counts what was left out, by reason.
        source: Name of the source for samples that carry none; by default their shard's name.
        shuffle: Seed of a random order over all samples; None keeps the order. All shards are then scanned first.
        max_samples: Stop after so many samples.

    Raises:
        ValueError: If a file is no tar.
    """
    rows = ((index, row) for index in _scan(shards, dropped) for row in range(len(index)))
    if shuffle is not None:
        listed = list(rows)
        rows = (listed[i] for i in np.random.default_rng(shuffle).permutation(len(listed)))
    samples = (_sample(index.read(row), source or index.name, dropped) for index, row in rows)
    return islice((sample for sample in samples if sample is not None), max_samples)


def _scan(shards: Sequence[str], dropped: Counter[str]) -> Iterator[ShardIndex]:
    for shard in shards:
        path = local_copy(shard)
        index = scan(path, path.stem)  # not the stored index: packing writes nothing beside what it reads
        dropped.update(problem.reason for problem in index.problems)
        yield index


def _sample(raw: RawSample, source: str, dropped: Counter[str]) -> PackedSample | None:
    file = probe_image(io.BytesIO(raw.image), dropped)
    if file is None:
        return None
    record = json.loads(raw.json or b"{}")
    captions = clean_captions(captions_of(record, (raw.txt or b"").decode(errors="replace")), dropped)
    try:
        graph = SceneGraph.from_json(record, file.width, file.height)
    except GraphError as error:
        dropped[error.reason] += 1
        return None
    image_id = str(record.get("image_id") or record.get("key") or raw.key)
    new = make_record(image_id, str(record.get("source") or source), file, captions=captions, **graph.to_json())
    return PackedSample(raw.key, raw.image, file.extension, new)
