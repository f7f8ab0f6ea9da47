"""Counts bad samples, and stops a run that has too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from relpretrain.data.pipeline.stages import EXCLUDED, PART
from relpretrain.data.shards.manifest import ShardEntry, place_of_problem
from relpretrain.data.shards.remote import name_of
from relpretrain.distributed import gather_objects, is_distributed
from relpretrain.errors import TooManyBadSamples
from relpretrain.types import Batch

ENOUGH = 200
"""Samples of a dataset before its fraction of bad ones is checked; one epoch if that is less."""

JUDGED_EVERY = 16
"""Batches between two checks with several processes, which then add up their counts (a collective call)."""


class BadSampleTracker:
    """Counts bad samples by dataset, reason and shard; a bad sample and its substitute count as one drawn.

    Args:
        max_bad_fraction: Largest fraction of a dataset's samples that may be bad.
        sizes: Samples per epoch of each dataset.
    """

    def __init__(self, max_bad_fraction: float, sizes: Mapping[str, int] | None = None) -> None:
        self.max_bad_fraction = max_bad_fraction
        self.sizes = dict(sizes or {})
        self.seen: Counter[str] = Counter()
        self.indexed: Counter[tuple[str, str, str]] = Counter()  # dataset, reason, shard
        self.lost: Counter[tuple[str, str, str]] = Counter()
        self.first: dict[tuple[str, str], str] = {}  # one place as an example
        self.bad: Counter[str] = Counter()  # of those seen, by dataset
        self.batches = 0

    def add_entry(self, dataset: str, entry: ShardEntry) -> None:
        """Count the samples that the index of a shard leaves out."""
        name = name_of(entry.shard) if entry.problems else ""
        for reason, number in entry.problems.items():
            self.indexed[dataset, reason, name] += number
            if (dataset, reason) not in self.first:
                self.first[dataset, reason] = place_of_problem(entry, reason)

    def add(self, batch: Batch) -> None:
        """Count a batch, and check the limit: each time on one process, every `JUDGED_EVERY` batches on several.

        A collective call: all processes make it for the same batches, and either all of them raise or none.

        Raises:
            TooManyBadSamples: If a dataset has more bad samples than tolerated.
        """
        self.batches += 1
        self.seen.update(key.split("/", 1)[0] for key in batch.keys)
        for dataset, reason, place in batch.skipped:
            self.lost[dataset, reason, place.split("/", 1)[0]] += 1
            self.first.setdefault((dataset, reason), place)
            self.bad[dataset] += not reason.startswith((PART, EXCLUDED))
        if not is_distributed():
            self._judge(self.seen, self.bad)
        elif self.batches % JUDGED_EVERY == 0:
            everyone = gather_objects((self.seen, self.bad))
            seen, bad = (sum(counts, Counter[str]()) for counts in zip(*everyone, strict=True))
            self._judge(seen, bad)

    def _judge(self, seen: Mapping[str, int], bad: Mapping[str, int]) -> None:
        for dataset in sorted(dataset for dataset, number in bad.items() if number):
            size = self.sizes.get(dataset, 0)
            # After the first epoch by whole epochs: the bad samples of an epoch may all come at its beginning.
            whole = max(seen[dataset], -(-seen[dataset] // size) * size if 0 < size < seen[dataset] else 0)
            enough = seen[dataset] >= min(ENOUGH, size or ENOUGH)
            if enough and bad[dataset] > self.max_bad_fraction * whole:
                raise TooManyBadSamples(self._sentence(dataset, seen[dataset]))

    def _sentence(self, dataset: str, seen: int) -> str:
        """The error line for a dataset, from the counts of all processes: a collective call."""
        everyone = gather_objects((self.lost, self.first))
        lost = sum((counts for counts, _ in everyone), Counter[tuple[str, str, str]]())
        first = {where: place for _, places in reversed(everyone) for where, place in places.items()}
        bad = {k: n for k, n in lost.items() if k[0] == dataset and not k[1].startswith((PART, EXCLUDED))}
        return too_many(dataset, bad, first, seen, self.max_bad_fraction)

    def state(self) -> dict[str, Any]:
        """What was counted in batches, as plain types, for a checkpoint; what an index leaves out is known anew."""
        lost = {(dataset, reason) for dataset, reason, _ in self.lost}
        return {
            "seen": dict(self.seen),
            "bad": dict(self.bad),
            "lost": [[*where, number] for where, number in self.lost.items()],
            "first": [[*where, place] for where, place in self.first.items() if where in lost],
        }

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Go on counting where a checkpoint was, whatever was counted since this process started.

        Args:
            state: What `state` gave; empty for a checkpoint without.
        """
        for counted in (self.seen, self.bad, self.lost):
            counted.clear()
        self.seen.update(state.get("seen", {}))
        self.bad.update(state.get("bad", {}))
        for dataset, reason, shard, number in state.get("lost", []):
            self.lost[dataset, reason, shard] += number
        for dataset, reason, place in state.get("first", []):
            self.first.setdefault((dataset, reason), place)

    def report(self) -> dict[str, dict[str, int]]:
        """Counts of bad samples by dataset and reason."""
        counts: dict[str, dict[str, int]] = {}
        for (dataset, reason, _), number in sorted((self.indexed + self.lost).items()):
            reasons = counts.setdefault(dataset, {})
            reasons[reason] = reasons.get(reason, 0) + number
        return counts

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = []
        for dataset, reasons in self.report().items():
            for reason, number in reasons.items():
                what = "times, in part" if reason.startswith(PART) else "times"
                example = self.first[dataset, reason]
                lines.append(f"{dataset}: {reason.removeprefix(PART)}: {number} {what} (first: {example})")
        return lines


def informed_tracker(
    max_bad_fraction: float,
    sizes: Mapping[tuple[str, str], int],
    shards: Mapping[str, Mapping[str, Sequence[ShardEntry]]],
) -> BadSampleTracker:
    """A tracker that knows of the samples which manifests leave out; once where several streams draw from a shard.

    Args:
        max_bad_fraction: Largest fraction of a dataset's samples that may be bad.
        sizes: Samples per epoch, by stream and dataset.
        shards: What the shards hold, by stream and dataset.
    """
    largest: dict[str, int] = {}
    for (_, dataset), size in sizes.items():
        largest[dataset] = max(size, largest.get(dataset, 0))
    tracker = BadSampleTracker(max_bad_fraction, largest)
    noted = set()
    for datasets in shards.values():
        for dataset, entries in datasets.items():
            for entry in entries:
                if entry.problems and (dataset, entry.shard) not in noted:
                    tracker.add_entry(dataset, entry)
                    noted.add((dataset, entry.shard))
    return tracker


def too_many(
    dataset: str,
    bad: Mapping[tuple[str, str, str], int],
    first: Mapping[tuple[str, str], str],
    seen: int,
    max_bad_fraction: float,
) -> str:
    """The error line for a dataset with too many bad samples, counted by dataset, reason and shard."""
    total = sum(bad.values())
    (_, reason, shard), number = max(bad.items(), key=lambda item: item[1])
    reasons: Counter[str] = Counter()
    for (_, r, _), n in bad.items():
        reasons[r] += n
    counts = ", ".join(f"{r} {n}" for r, n in reasons.most_common())
    return (
        f"Dataset {dataset!r}: {total} of {seen} samples are bad ({100 * total / seen:.1f} %), more than "
        f"max_bad_fraction={max_bad_fraction:g} allows: {counts}. Worst shard: {shard!r} with {number} of {reason} "
        f"(such as {first[dataset, reason]}). Repair or remove it, or raise max_bad_fraction."
    )
