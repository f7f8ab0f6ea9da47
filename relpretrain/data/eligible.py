"""Which samples a stream may draw: those with something for it, and not on the exclusion list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.config import Stream
from relpretrain.data.exclusion import Exclusion
from relpretrain.data.index import ShardIndex
from relpretrain.errors import ConfigError

Rows = dict[str, dict[str, list[NDArray[np.int64]]]]
"""Rows of the index of each shard, by stream and dataset."""


def eligible_rows(
    streams: Mapping[str, Stream],
    shards: Mapping[str, Mapping[str, Sequence[ShardIndex]]],
    exclusion: Exclusion | None = None,
) -> tuple[Rows, dict[str, int]]:
    """Rows that may be drawn, and how many samples of each dataset are excluded by their image's id.

    Raises:
        ConfigError: If the list leaves a stream nothing of a dataset.
    """
    rows: Rows = {
        name: {dataset: [index.eligible(stream.kind) for index in shards[name][dataset]] for dataset in stream.datasets}
        for name, stream in streams.items()
    }
    if exclusion is None:
        return rows, {}
    listed: dict[tuple[str, Path], NDArray[np.bool_]] = {}
    for name, datasets in rows.items():
        for dataset, found in datasets.items():
            had = sum(map(len, found))
            for number, index in enumerate(shards[name][dataset]):
                place = dataset, index.path
                if place not in listed:
                    listed[place] = np.array([exclusion.reason(i) is not None for i in index.image_ids], bool)
                found[number] = found[number][~listed[place][found[number]]]
            if had and not sum(map(len, found)):
                raise ConfigError(
                    f"Stream {name!r}, dataset {dataset!r}: all {had:,} samples are on the exclusion list."
                )
    excluded: Counter[str] = Counter()
    for (dataset, _), mask in listed.items():
        excluded[dataset] += int(mask.sum())
    return rows, dict(excluded)
