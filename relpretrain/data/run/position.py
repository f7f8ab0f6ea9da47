"""Where training stands in its data, and whether a resumed run finds the same data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relpretrain.data.sampling.schedule import BatchSchedule, differences
from relpretrain.data.shards.manifest import ShardEntry
from relpretrain.identity import fingerprint

_TOLD = 4  # differences from a checkpoint's data that are named


class Position:
    """The step that comes next.

    Args:
        upcoming: Its number.
    """

    def __init__(self, upcoming: int = 0) -> None:
        self.upcoming = upcoming
        self._accumulation: tuple[int, int] | None = None  # current optimizer step, and its first batch

    def begins(self, under_way: int) -> bool:
        """Whether the next batch is the first one of an optimizer step."""
        return self._accumulation is None or self._accumulation[0] != under_way

    def take(self, step: int, under_way: int) -> None:
        """Note that training has a step's batch.

        Args:
            step: The step.
            under_way: Number of the optimizer step that the batch is a part of.
        """
        self.upcoming = step + 1
        if self.begins(under_way):
            self._accumulation = under_way, step

    def to_save(self, under_way: int | None) -> int:
        """The step that a resumed run begins with: within a gradient accumulation, the first one of that."""
        if self._accumulation is not None and self._accumulation[0] == under_way:
            return self._accumulation[1]
        return self.upcoming


def contents(streams: Iterable[str], shards: Mapping[str, Mapping[str, Sequence[ShardEntry]]]) -> str:
    """Digest of what the shards of some streams hold, as far as their manifests tell."""
    held = [
        [name, dataset, *([entry.samples, entry.bytes] for entry in entries)]
        for name in streams
        for dataset, entries in shards.get(name, {}).items()
    ]
    return fingerprint(repr(held))


def described(schedule: BatchSchedule, digest: str) -> dict[str, Any]:
    """What a checkpoint says of a run's data.

    Args:
        schedule: The samples of every step.
        digest: Of the `contents` of the shards.
    """
    return {**schedule.description(), "contents": digest}


def changed(saved: Mapping[str, Any], schedule: BatchSchedule, digest: str) -> str | None:
    """How the data differs from a checkpoint's: in brackets, empty if it is not known; None where it is the same.

    Args:
        saved: The data module's state in the checkpoint.
        schedule: The samples of every step now.
        digest: Of the `contents` of the shards now.
    """
    before = saved.get("settings", {})
    if saved.get("schedule") == schedule.fingerprint and before.get("contents", digest) == digest:
        return None
    found = differences(before, described(schedule, digest))
    return f" ({'; '.join(found[:_TOLD])})" if "settings" in saved else ""
