"""Which samples a stream may draw: those with annotations of its kind that are not on the exclusion list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import ConfigError
from relpretrain.kinds import Kind

Rows = dict[str, dict[str, list[NDArray[np.int64]]]]
"""Row numbers of each shard's index, by stream and dataset."""


_MISSING: dict[Kind, str] = {"captions": "without caption", "regions": "without entity", "graphs": "without relation"}


def eligible_rows(
    streams: Mapping[str, Stream],
    shards: Mapping[str, Mapping[str, Sequence[ShardIndex]]],
    exclusion: Exclusion | None = None,
) -> tuple[Rows, dict[tuple[str, str], dict[str, int]]]:
    """Find the rows that each stream may draw.

    Args:
        streams: The streams by name.
        shards: Indexes of the shards, by stream and dataset.
        exclusion: Images to leave out by their ids; hashes are compared later, when images are decoded.

    Returns:
        The rows, and how many samples are never drawn, by stream and dataset, and by reason.

    Raises:
        ConfigError: If all samples of a dataset are on the exclusion list.
    """
    rows: Rows = {}
    never_drawn: dict[tuple[str, str], dict[str, int]] = {}
    listed: dict[Path, NDArray[np.bool_]] = {}
    for name, stream in streams.items():
        rows[name] = {}
        for dataset in stream.datasets:
            indexes = shards[name][dataset]
            found = [index.eligible(stream.kind) for index in indexes]
            had = sum(map(len, found))
            if exclusion is not None:
                for index in indexes:
                    if index.path not in listed:
                        listed[index.path] = np.array([exclusion.reason(i) is not None for i in index.image_ids], bool)
                found = [of[~listed[index.path][of]] for of, index in zip(found, indexes, strict=True)]
            kept = sum(map(len, found))
            if had and not kept:
                raise ConfigError(
                    f"Stream {name!r}, dataset {dataset!r}: all {had:,} samples are on the exclusion list."
                )
            reasons = {_MISSING[stream.kind]: sum(map(len, indexes)) - had, "on the exclusion list": had - kept}
            never_drawn[name, dataset] = {reason: count for reason, count in reasons.items() if count}
            rows[name][dataset] = found
    return rows, never_drawn
