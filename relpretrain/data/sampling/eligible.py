"""How many samples a stream may draw from each shard: those with annotations of its kind, by the manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.manifest import ShardEntry
from relpretrain.kinds import Need

Counts = dict[str, dict[str, NDArray[np.int64]]]
"""Eligible rows of each shard, by stream and dataset."""

_MISSING: dict[Need, str] = {
    "captions": "without caption",
    "regions": "without an entity with a box",
    "graphs": "without relation",
    "boxed_graphs": "without a relation between two boxes",
}


def eligible_counts(
    streams: Mapping[str, Stream], shards: Mapping[str, Mapping[str, Sequence[ShardEntry]]]
) -> tuple[Counts, dict[tuple[str, str], dict[str, int]]]:
    """Count the rows that each stream may draw.

    Args:
        streams: The streams by name.
        shards: What the shards hold, by stream and dataset.

    Returns:
        The counts, and how many samples are never drawn, by stream and dataset, and by reason.
    """
    counts: Counts = {}
    never_drawn: dict[tuple[str, str], dict[str, int]] = {}
    for name, stream in streams.items():
        counts[name] = {}
        for dataset in stream.datasets:
            entries = shards[name][dataset]
            counts[name][dataset] = np.array([entry.eligible[stream.need] for entry in entries], np.int64)
            lacking = sum(entry.samples for entry in entries) - int(counts[name][dataset].sum())
            never_drawn[name, dataset] = {_MISSING[stream.need]: lacking} if lacking else {}
    return counts, never_drawn
