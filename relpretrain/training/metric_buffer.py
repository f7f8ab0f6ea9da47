"""Means over the steps since the last look; what did not happen is absent."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from relpretrain.distributed import is_distributed, world_size
from relpretrain.objectives.base import log_name
from relpretrain.types import IGNORE, ObjectiveOutput


class _Row(NamedTuple):
    name: str
    step: int
    value: Any  # a tensor on the device until `means` reads all at once
    samples: Any  # a number, or likewise
    shared: bool  # a loss: the mean over processes is the joint batch's; else a mean over `samples`


class _Class(NamedTuple):
    name: str
    label: Any  # likewise
    right: Any


class MetricBuffer:
    """Collects scalars by name without waiting for the device, until `means` reads them."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._classes: list[_Class] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, step: int, stream: str, loss: Tensor, outputs: Mapping[str, ObjectiveOutput]) -> None:
        """Note a step's total loss and its objectives' outputs."""
        total = sum(output.count for output in outputs.values())
        self._rows.append(_Row("loss", step, loss.detach(), total, True))
        if stream:
            self._rows.append(_Row(f"{stream}_loss", step, loss.detach(), total, True))
        for objective, output in outputs.items():
            for values, shared in ((output.parts, True), (output.metrics, False)):
                for part, value in values.items():
                    name, count = log_name(objective, part), output.counts.get(part, output.count)
                    self._rows.append(_Row(name, step, torch.as_tensor(value).detach(), count, shared))
            for part, (labels, right) in output.classes.items():
                self._classes.append(_Class(log_name(objective, part), labels.detach(), right.detach()))

    def means(self) -> dict[str, float]:
        """What happened on any process since the last look; empties the window.

        Losses are means over the steps in which they happened, each step's being that of the joint batch. Accuracies
        are means over all that was counted (pairs, masked words, triplets), whatever the process and the step, and
        those by class are means over the classes that occurred.

        A collective call: all processes must make it at the same step.
        """
        rows, classes = _read(self._rows), _read(self._classes)
        self._rows, self._classes = [], []
        if is_distributed():
            everyone: list[Any] = [None] * world_size()
            dist.all_gather_object(everyone, (rows, classes))
            rows, classes = ([row for process in everyone for row in process[kind]] for kind in (0, 1))
        losses: dict[tuple[str, int], list[_Row]] = defaultdict(list)
        terms: dict[str, list[_Row]] = defaultdict(list)
        for row in rows:
            (losses[row.name, row.step] if row.shared else terms[row.name]).append(row)
        found: dict[str, list[float]] = defaultdict(list)
        for (name, _), same in losses.items():
            if any(row.samples for row in same):
                found[name].append(sum(row.value for row in same) / world_size())
        for name, same in terms.items():
            if any(row.samples for row in same):
                total = sum(row.value * row.samples for row in same if row.samples)
                found[name].append(total / sum(row.samples for row in same))
        for name, fractions in _by_class(classes).items():
            found[name].extend(fractions)
        return {name: sum(values) / len(values) for name, values in found.items()}


_Kind = TypeVar("_Kind", _Row, _Class)


def _read(rows: list[_Kind]) -> list[_Kind]:
    """The same rows with numbers for tensors, or lists where they are vectors; waits for the device once."""
    tensors = [part for row in rows for part in row if isinstance(part, Tensor)]
    numbers = iter(torch.cat([tensor.float().flatten() for tensor in tensors]).tolist() if tensors else [])

    def plain(part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        return next(numbers) if part.dim() == 0 else list(itertools.islice(numbers, part.numel()))

    return [type(row)(*map(plain, row)) for row in rows]


def _by_class(rows: list[_Class]) -> dict[str, list[float]]:
    """By name, the fraction of correct predictions of each class that occurred."""
    right: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for label, hit in zip(row.label, row.right, strict=True):
            if label != IGNORE:
                right[row.name][label].append(hit)
    return {name: [sum(hits) / len(hits) for hits in of.values()] for name, of in right.items()}
