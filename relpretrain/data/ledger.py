"""Keeps account of bad samples, and stops a run that has too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from relpretrain.data.index import ShardIndex
from relpretrain.data.pipeline import EXCLUDED, PART
from relpretrain.errors import TooManyBadSamples
from relpretrain.types import Batch

ENOUGH = 200
"""Samples of a dataset after which the share of bad ones is judged; a whole pass if that is less."""


class Ledger:
    """Bad samples by dataset, reason and shard.

    Args:
        max_bad_fraction: Share of a dataset's samples that may be bad.
        sizes: Samples of each dataset in one pass.
    """

    def __init__(self, max_bad_fraction: float, sizes: Mapping[str, int] | None = None) -> None:
        self.max_bad_fraction = max_bad_fraction
        self.sizes = dict(sizes or {})
        self.seen: Counter[str] = Counter()
        self.indexed: Counter[tuple[str, str, str]] = Counter()  # dataset, reason, shard
        self.lost: Counter[tuple[str, str, str]] = Counter()
        self.first: dict[tuple[str, str], str] = {}  # one place as an example

    def add_index(self, dataset: str, index: ShardIndex) -> None:
        """Count what an index had to leave out."""
        for reason, key in index.problems:
            self.indexed[dataset, reason, index.name] += 1
            self.first.setdefault((dataset, reason), f"{index.name}/{key}")

    def add(self, batch: Batch) -> None:
        """Count a batch.

        Raises:
            TooManyBadSamples: If a dataset of it has more bad samples than tolerated.
        """
        self.seen.update(key.split("/", 1)[0] for key in batch.keys)
        self.add_skipped(batch.skipped)

    def add_skipped(self, skipped: Iterable[tuple[str, str, str]]) -> None:
        """Count what a batch lost; raises as `add`."""
        touched = set()
        for dataset, reason, place in skipped:
            self.lost[dataset, reason, place.split("/", 1)[0]] += 1
            self.first.setdefault((dataset, reason), place)
            if not reason.startswith(PART):
                self.seen[dataset] += 1
                touched.add(dataset)
        for dataset in sorted(touched):
            if self.seen[dataset] >= min(ENOUGH, self.sizes.get(dataset, ENOUGH)):
                self._judge(dataset)

    def _judge(self, dataset: str) -> None:
        bad = {k: n for k, n in self.lost.items() if k[0] == dataset and not k[1].startswith((PART, EXCLUDED))}
        total, seen = sum(bad.values()), self.seen[dataset]
        if total > self.max_bad_fraction * seen:
            raise TooManyBadSamples(too_many(dataset, bad, self.first, seen, self.max_bad_fraction))

    def report(self) -> dict[str, dict[str, int]]:
        """What was lost: counts by dataset and reason."""
        counts: dict[str, dict[str, int]] = {}
        for (dataset, reason, _), number in sorted((self.indexed + self.lost).items()):
            reasons = counts.setdefault(dataset, {})
            reasons[reason] = reasons.get(reason, 0) + number
        return counts

    def lines(self) -> list[str]:
        """The report for a person."""
        lines = []
        for dataset, reasons in self.report().items():
            for reason, number in reasons.items():
                what = "times, in part" if reason.startswith(PART) else "times"
                example = self.first[dataset, reason]
                lines.append(f"{dataset}: {reason.removeprefix(PART)}: {number} {what} (first: {example})")
        return lines


def too_many(
    dataset: str,
    bad: Mapping[tuple[str, str, str], int],
    first: Mapping[tuple[str, str], str],
    seen: int,
    max_bad_fraction: float,
) -> str:
    """One line on a dataset with too many bad samples, counted by dataset, reason and shard."""
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
