"""Which score means "true": as the protocol says, as given, as chosen on dev; or how well any could have done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, runtime_checkable

from relpretrain.zeroshot.analysis.statistics import best_threshold
from relpretrain.zeroshot.results.items import Scored
from relpretrain.zeroshot.tasks.common.base import Task

DEV, SWEEP = "dev", "sweep"


@runtime_checkable
class Thresholded(Task, Protocol):
    """A task that decides by a threshold."""

    def at(self, threshold: float, origin: str) -> Task:
        """The same task with another threshold; `origin` says in its protocol where that comes from."""
        ...

    def swept(self) -> Task:
        """The same task with the best accuracy of any threshold beside its figures."""
        ...


def with_threshold(parts: Sequence[Scored], choice: float | str | None) -> list[Scored]:
    """Let the tasks that decide by a threshold use another one.

    Args:
        parts: Scored splits; others than of such tasks are left alone.
        choice: The threshold; "dev" for the one that does best on the dev part of the same split, which then decides
            the split's other parts, while dev keeps the protocol's; "sweep" to keep it everywhere and show beside it
            what the best threshold would reach; None to change nothing.

    Raises:
        ValueError: If no task decides by a threshold, or not exactly one dev part should choose it.
    """
    if choice is None:
        return list(parts)
    dev = choosers(parts, choice)
    return [_choose(part, choice, dev) if isinstance(part.task, Thresholded) else part for part in parts]


class Part(Protocol):
    """A split of a task, scored or to be scored."""

    @property
    def task(self) -> Task:
        """The task."""
        ...

    @property
    def split(self) -> str:
        """Name of the split."""
        ...


P = TypeVar("P", bound=Part)


def choosers(parts: Sequence[P], choice: float | str | None) -> dict[tuple[str, str], P]:
    """The dev parts that choose thresholds, by task and split; it needs no scores, so that mistakes are told early.

    Args:
        parts: The splits.
        choice: As of `with_threshold`.

    Raises:
        ValueError: As of `with_threshold`.
    """
    if choice is None:
        return {}
    deciding = [part for part in parts if isinstance(part.task, Thresholded)]
    if not deciding:
        names = ", ".join(dict.fromkeys(part.task.name for part in parts))
        raise ValueError(f"--threshold {choice}: none of the tasks scored ({names}) decides by a threshold.")
    dev: dict[tuple[str, str], P] = {}
    for part in deciding if choice == DEV else ():
        if part.split.endswith(f"/{DEV}") and dev.setdefault(_key(part), part) is not part:
            raise ValueError(f"--threshold dev: several scores of {part.task.name} {part.split} could choose the "
                             "threshold; give those of one model at a time.")  # fmt: skip
    for part in deciding if choice == DEV else ():
        if _key(part) not in dev:
            raise ValueError(f"--threshold dev: {part.task.name} {part.split or '(split unknown)'} needs the dev part "
                             "of the same split to choose its threshold; score both parts.")  # fmt: skip
    return dev


def _choose(part: Scored, choice: float | str, dev: Mapping[tuple[str, str], Scored]) -> Scored:
    assert isinstance(part.task, Thresholded)
    if choice == SWEEP:
        return replace(part, task=part.task.swept())
    if not isinstance(choice, str):
        return replace(part, task=part.task.at(choice, "given"))
    chooser = dev[_key(part)]
    if chooser is part:
        return part
    scores = [record["score"] for record in chooser.records]
    best = best_threshold(scores, [record["label"] for record in chooser.records])
    note = (
        f"threshold {best.value:.4g} chosen on {chooser.split} (n = {len(scores):,}, {100 * best.accuracy:.2f} % there)"
    )
    return replace(part, task=part.task.at(best.value, f"chosen on {chooser.split}"), notes=(*part.notes, note))


def _key(part: Part) -> tuple[str, str]:
    """The task, and the split without "dev" or "test"."""
    return part.task.name, part.split.rpartition("/")[0]
