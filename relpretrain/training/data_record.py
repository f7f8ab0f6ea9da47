"""The plan of a run's data, kept in the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from relpretrain.data.sampling.summary import RECORD
from relpretrain.distributed import world_size


class DataRecord(pl.Callback):
    """Writes what the data module says of its data: before training the plan, after it also what was left out.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / RECORD

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Write the plan."""
        self._write(trainer, [])

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Add what the first process left out."""
        bad_samples = getattr(trainer.datamodule, "bad_samples", None)
        lines = [] if bad_samples is None else bad_samples.lines()
        where = " (process 0)" if world_size() > 1 else ""
        self._write(trainer, [f"Left out of the data{where}:", *(f"  {line}" for line in lines)] if lines else [])

    def _write(self, trainer: Any, more: list[str]) -> None:
        describe = getattr(trainer.datamodule, "describe", None)
        if describe is None or not trainer.is_global_zero:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join([*describe(), *more]) + "\n", encoding="utf-8")
