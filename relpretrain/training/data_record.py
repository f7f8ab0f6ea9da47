"""Callback that keeps a description of the run's data in the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from relpretrain.data.sampling.summary import RECORD
from relpretrain.distributed import world_size
from relpretrain.writing import write_text


class DataRecord(pl.Callback):
    """Writes `data.txt`: the data module's batch schedule before training, and the bad samples after it.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / RECORD

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Write the schedule."""
        self._write(trainer, [])

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Add the bad samples of the first process."""
        bad_samples = getattr(trainer.datamodule, "bad_samples", None)
        lines = [] if bad_samples is None else bad_samples.lines()
        where = " (process 0)" if world_size() > 1 else ""
        self._write(trainer, [f"Left out of the data{where}:", *(f"  {line}" for line in lines)] if lines else [])

    def _write(self, trainer: Any, more: list[str]) -> None:
        describe = getattr(trainer.datamodule, "describe", None)
        if describe is None or not trainer.is_global_zero:
            return
        write_text(self.path, "\n".join([*describe(), *more]) + "\n")
