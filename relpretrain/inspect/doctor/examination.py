"""What was found in a dataset: bad samples, sums, repeats, and how its orders mix."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.pipeline.collate import BATCH_TYPES
from relpretrain.data.sampling.outside import relation_counts
from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.find import resolve_shards
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.identity import number_of
from relpretrain.inspect.doctor.counts import Counts
from relpretrain.inspect.doctor.shuffle import Mixing, mixing
from relpretrain.scene_graph import Coverage, RelationVocabulary, coverage

_TAKEN = 50_000  # samples of an epoch whose order is judged
_BATCH = 64  # of the order that is judged where there is no recipe


@dataclass(frozen=True)
class Bad:
    """A sample that cannot be used.

    Args:
        shard: Name of its shard.
        key: Its key.
        streams: The streams, or kinds of batches, that cannot use it; none where the index leaves it out.
        reason: The word by which it is counted.
        field: The part of the sample that is wrong.
        detail: What exactly is wrong.
    """

    shard: str
    key: str
    streams: tuple[str, ...]
    reason: str
    field: str
    detail: str = ""


@dataclass
class Examination:
    """What was found in a dataset.

    Args:
        name: Of the dataset.
        shards: Paths or addresses.
        indexes: Of the shards.
        counts: Sums over its samples, and numbers for each.
        bad: Samples that cannot be used.
        eligible: Samples that have something for a stream, by stream.
        excluded: Further ones that an exclusion list leaves out, by stream.
        parts: How often training would lose part of a sample, by stream and reason.
        vocabulary: That of MRC; None where nothing has one.
        vocabulary_name: What it is called.
    """

    name: str
    shards: list[str]
    indexes: list[ShardIndex]
    counts: Counts = field(default_factory=Counts)
    bad: list[Bad] = field(default_factory=list)
    eligible: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    parts: Counter[tuple[str, str]] = field(default_factory=Counter)
    vocabulary: RelationVocabulary | None = None
    vocabulary_name: str = "MRC's vocabulary"

    @property
    def coverage(self) -> Coverage | None:
        """What the vocabulary has of the relations; None without one."""
        return None if self.vocabulary is None else coverage(relation_counts(self.indexes), self.vocabulary)

    @property
    def samples(self) -> int:
        """All samples, those that the index leaves out included."""
        return sum(len(index) + len(index.problems) for index in self.indexes)

    @property
    def bad_fraction(self) -> float:
        """The worst fraction of samples that cannot be used: of all, or of those that a stream would draw."""
        places = {(bad.shard, bad.key, bad.streams == ()) for bad in self.bad}
        by_stream = Counter(stream for bad in self.bad for stream in bad.streams)
        fractions = [by_stream[name] / count for name, count in self.eligible.items() if count]
        return max(len(places) / max(self.samples, 1), *fractions, 0.0)

    def duplicates(self) -> dict[str, int]:
        """How many samples repeat another one's key, image id or image file."""
        keys = np.array([number_of(key) for index in self.indexes for key in index.keys], np.int64)
        return {
            "key, in another shard": _repeats(keys),
            "image id": _repeats(np.array(self.counts.image_ids)),
            "image file": _repeats(np.array(self.counts.image_bytes)),
            "caption of another image": _repeats(self._caption_pairs()),
        }

    def mixing(self, schedule: BatchSchedule | None) -> dict[str, dict[str, Mixing]]:
        """How often neighbours share something, by order (in the shards, or in which a stream takes them) and trait."""
        counts = self.counts
        captions, numbers = np.array(counts.caption_ids, np.int64), np.array(counts.caption_numbers, np.int64)
        orders: dict[str, NDArray[np.int64] | None] = {"in the shards": None}
        firsts = np.cumsum([0, *map(len, self.indexes)])
        streams = [] if schedule is None else [n for n, s in schedule.streams.items() if self.name in s.datasets]
        for stream in streams:
            assert schedule is not None
            numbers_of = [
                self.shards.index(shard) for shard in resolve_shards(schedule.streams[stream].datasets[self.name])
            ]
            places, need = first_epoch(schedule, stream, self.name), schedule.streams[stream].need
            rows = [index.eligible(need) for index in self.indexes]
            taken = [firsts[numbers_of[shard]] + rows[numbers_of[shard]][row] for shard, row in places]
            orders[f"{stream}, as drawn"] = np.array(taken, np.int64)
        return {
            name: {
                "image id": mixing(np.array(counts.image_ids, np.int64), None, order),
                "source": mixing(np.array(counts.source_ids, np.int64), None, order),
                "caption": mixing(captions, numbers, order),
            }
            for name, order in orders.items()
        }

    def _caption_pairs(self) -> NDArray[np.int64]:
        """Captions, each once for every image that has it."""
        image = np.repeat(np.array(self.counts.image_ids, np.int64), np.array(self.counts.caption_numbers, np.int64))
        pairs = np.stack([np.array(self.counts.caption_ids, np.int64), image], axis=1)
        return np.unique(pairs, axis=0)[:, 0]


def first_epoch(schedule: BatchSchedule, stream: str, dataset: str) -> list[tuple[int, int]]:
    """Shards and eligible rows of a stream's first epoch over a dataset, in the order in which they are taken."""
    size = min(schedule.sizes()[stream, dataset], _TAKEN)
    places: list[tuple[int, int]] = []
    step = 0
    while len(places) < size:
        if schedule.stream_of(step) == stream and schedule.dataset_of(step) == dataset:
            places += [(row.shard, row.row) for row in schedule.rows(step)]
        step += 1
    return places[:size]


def plain_schedule(examination: Examination, seed: int = 0) -> BatchSchedule | None:
    """The schedule of one stream of each kind over a dataset, for use without a recipe; None if no kind has samples."""
    rows = {kind: [len(index.eligible(kind)) for index in examination.indexes] for kind in BATCH_TYPES}
    held = {kind: found for kind, found in rows.items() if sum(found)}
    if not held:
        return None
    streams = {kind: Stream(kind, {examination.name: examination.shards}, _BATCH) for kind in held}
    return BatchSchedule(
        {str(k): s for k, s in streams.items()}, {k: {examination.name: f} for k, f in held.items()}, seed
    )


def _repeats(values: NDArray[np.int64]) -> int:
    """How many values come after an equal one."""
    return len(values) - len(np.unique(values))
