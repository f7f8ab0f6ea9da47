"""Means over the steps since the last look; what did not happen is absent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from relpretrain.distributed import is_distributed, world_size
from relpretrain.types import ObjectiveOutput


class _Row(NamedTuple):
    name: str
    step: int
    value: Any  # a tensor on the device until `means` reads all at once
    samples: int
    shared: bool  # a loss: the mean over processes is the joint batch's; else a mean over `samples`


class Window:
    """Collects scalars by name without waiting for the device, until `means` reads them."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []

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
                    name = log_name(objective, part)
                    self._rows.append(_Row(name, step, torch.as_tensor(value).detach(), output.count, shared))

    def means(self) -> dict[str, float]:
        """Mean of each name over the steps in which it happened on any process; empties the window.

        A collective call: all processes must make it at the same step.
        """
        rows, self._rows = self._rows, []
        values = torch.stack([row.value.float().reshape(()) for row in rows]).tolist() if rows else []
        rows = [row._replace(value=value) for row, value in zip(rows, values, strict=True)]
        if is_distributed():
            everyone: list[Any] = [None] * world_size()
            dist.all_gather_object(everyone, rows)
            rows = [_Row(*row) for process in everyone for row in process]
        steps: dict[tuple[str, int], list[_Row]] = defaultdict(list)
        for row in rows:
            steps[row.name, row.step].append(row)
        found: dict[str, list[float]] = defaultdict(list)
        for (name, _), same in steps.items():
            count = sum(row.samples for row in same)
            if count == 0:
                continue
            if same[0].shared:
                found[name].append(sum(row.value for row in same) / world_size())
            else:
                # A mean over nothing, on a process without samples, is no number.
                found[name].append(sum(row.value * row.samples for row in same if row.samples) / count)
        return {name: sum(values) / len(values) for name, values in found.items()}


def log_name(objective: str, part: str) -> str:
    """Name of an objective's part in the logs: "itc", "vsg_itc", "mrc_accuracy"."""
    return part if part == objective or part.startswith(f"{objective}_") else f"{objective}_{part}"
