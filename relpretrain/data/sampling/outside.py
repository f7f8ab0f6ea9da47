"""Relations of the data that MRC's vocabulary lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.manifest import ShardEntry, relation_total
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.scene_graph import Coverage, RelationVocabulary, coverage


def relation_counts(shards: Iterable[ShardIndex]) -> Counter[str]:
    """How often each relation occurs in shards."""
    counts: Counter[str] = Counter()
    for shard in shards:
        counts.update(shard.relation_counts)
    return counts


def vocabulary_of(stream: Stream, objectives: Mapping[str, Any]) -> RelationVocabulary | None:
    """The relation vocabulary of a stream's objectives; None if none of them has one.

    Args:
        stream: The stream.
        objectives: The model's objectives by name.
    """
    found = (getattr(objectives[name], "vocabulary", None) for name in stream.objectives if name in objectives)
    return next((vocabulary for vocabulary in found if isinstance(vocabulary, RelationVocabulary)), None)


def outside(
    streams: Mapping[str, Stream],
    shards: Mapping[str, Mapping[str, Sequence[ShardEntry]]],
    objectives: Mapping[str, Any],
) -> dict[tuple[str, str], Coverage]:
    """How much of each dataset's relations the vocabulary of its stream's objectives covers.

    Args:
        streams: The streams; those without a vocabulary are skipped.
        shards: What the shards hold, by stream and dataset.
        objectives: The model's objectives by name.
    """
    return {
        (name, dataset): coverage(relation_total(entries), vocabulary)
        for name, stream in streams.items()
        if (vocabulary := vocabulary_of(stream, objectives)) is not None
        for dataset, entries in shards[name].items()
    }
