"""What a run notes of itself: losses, throughput and waits for data in the logs, the next command at the end."""

from __future__ import annotations

import os
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.distributed import world_size
from relpretrain.showing import say
from relpretrain.training.metric_buffer import MetricBuffer
from relpretrain.training.optim import learning_rate
from relpretrain.training.survival.preemption import Stopped
from relpretrain.types import Batch


class Throughput:
    """Images per second, in all and by stream, over the steps since the last look."""

    def __init__(self) -> None:
        self._images: dict[str, int] = defaultdict(int)
        self._seconds: dict[str, float] = defaultdict(float)

    def add(self, stream: str, images: int, seconds: float) -> None:
        """Note a step that took `seconds` for `images` of a stream."""
        self._images[stream] += images
        self._seconds[stream] += seconds

    def rates(self) -> dict[str, float]:
        """Read "images_per_second", and the same by stream where there are several; empties the meter."""
        seconds = sum(self._seconds.values())
        found = {"images_per_second": sum(self._images.values()) / seconds} if seconds > 0 else {}
        if len(self._images) > 1:
            for stream, images in self._images.items():
                if stream and self._seconds[stream] > 0:
                    found[f"{stream}_images_per_second"] = images / self._seconds[stream]
        self._images.clear()
        self._seconds.clear()
        return found


class LossLog(pl.Callback):
    """Every `log_every_n_steps` steps: the means of all that happened since, throughput, learning rate, temperature.

    "data_wait" is the share of the time in which training waited for the loader, where that counts it (`StepLoader`),
    "gradient_norm" that of the last step before clipping, "left_out" the bad samples so far (of the whole run, on
    process 0). Less than half an interval, as after a start between two looks, is part of the next row; where a run is
    told to stop, it is in none. The first batch after a start (with accumulation, a part of the first step) is in
    neither throughput nor "data_wait": it also pays for the start of workers and for what is compiled. What did not
    happen is not logged. `latest` holds what was logged last, and `listeners` are called then.
    """

    def __init__(self) -> None:
        self.buffer = MetricBuffer()
        self.throughput = Throughput()
        self.latest: dict[str, float] = {}
        self.listeners: list[Callable[[], None]] = []
        self._since = time.perf_counter()
        self._steady = False  # whether a batch has been taken since the start
        self._seconds = 0.0
        self._waited = 0.0
        self._logged_at = -1
        self._batch: Batch | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self._since, self._steady = time.perf_counter(), False
        self._seconds, self._waited = 0.0, _waited(trainer)
        self._logged_at = trainer.global_step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Keep the batch that is under way."""
        self._batch = batch

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Note a step; log at the interval."""
        now, self._batch = time.perf_counter(), None
        if self._steady:
            self.throughput.add(batch.stream, len(batch) * world_size(), now - self._since)
            self._seconds += now - self._since
        else:
            self._waited = _waited(trainer)
        self._since, self._steady = now, True
        self._note(pl_module, batch)
        step = trainer.global_step
        every = trainer.log_every_n_steps
        # After a start between two looks a few steps, of one stream or two, would stand in the curves as a spike.
        due = every > 0 and step % every == 0 and self._is_a_row(trainer)
        if step != self._logged_at and (due or step == trainer.max_steps):
            self._log(trainer, pl_module, step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Log what is left, where training ends before the trainer's last step."""
        if len(self.buffer) and trainer.global_step != self._logged_at:
            self._log(trainer, pl_module, trainer.global_step)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Log what is left, where all processes were told to stop: the run that goes on begins after it."""
        if isinstance(exception, Stopped):  # no other end: `means` waits for all processes
            self._note(pl_module, self._batch)  # whose end was told to other callbacks first
            if len(self.buffer) and self._is_a_row(trainer):
                self._log(trainer, pl_module, trainer.global_step)

    def _note(self, pl_module: Any, batch: Batch | None) -> None:
        if pl_module.last is not None and batch is not None:
            self.buffer.add(batch.step, batch.stream, *pl_module.last)
            pl_module.last = None

    def _is_a_row(self, trainer: Any) -> bool:
        """Whether at least half an interval was taken since the last look."""
        return bool(2 * (trainer.global_step - self._logged_at) >= trainer.log_every_n_steps > 0)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave validation out of the throughput."""
        self._since = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        """Leave time that another callback took out of the throughput."""
        self._since += seconds

    def _log(self, trainer: Any, pl_module: Any, step: int) -> None:
        self._logged_at = step
        values = {**self.buffer.means(), **self.throughput.rates()}
        if self._seconds > 0 and hasattr(getattr(trainer, "train_dataloader", None), "waited"):
            values["data_wait"] = min((_waited(trainer) - self._waited) / self._seconds, 1.0)
            self._seconds, self._waited = 0.0, _waited(trainer)
        temperature = getattr(pl_module.backbone, "temperature", None)
        if temperature is not None:
            values["temperature"] = float(torch.as_tensor(temperature).detach())
        guard = getattr(pl_module, "guard", None)
        if guard is not None and guard.norm is not None:
            values["gradient_norm"] = float(guard.norm)
        if guard is not None and guard.skipped:
            values["skipped_steps"] = float(guard.skipped)
        self.latest = {f"train/{name}": value for name, value in values.items()}
        self.latest["lr"] = learning_rate(step - 1, pl_module.optimizer, trainer.max_steps)
        counters = getattr(getattr(trainer, "datamodule", None), "counters", None)
        counted: dict[str, float] = {} if counters is None else counters()
        bad_samples = getattr(getattr(trainer, "datamodule", None), "bad_samples", None)
        if bad_samples is not None:
            counted["data/left_out"] = self.latest["left_out"] = float(sum(bad_samples.bad.values()))
        for logger in trainer.loggers:
            logger.log_metrics({**self.latest, **counted}, step=step)
            logger.save()  # to the file, whenever the run may be killed
        for listener in self.listeners:
            listener()


def _waited(trainer: Any) -> float:
    return float(getattr(getattr(trainer, "train_dataloader", None), "waited", 0.0))


class LastCheckpoint(pl.Callback):
    """At the end of training: saves `last.ckpt`, whatever the interval, and says where it is and how to score it.

    Args:
        folder: Where it goes.
        run: The run's folder, where reports are to go; `folder` if None.
    """

    def __init__(self, folder: str | Path, run: str | Path | None = None) -> None:
        self.path = Path(folder) / "last.ckpt"
        self.run = Path(folder if run is None else run)
        self._saved = False

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Save."""
        if trainer.checkpoint_callback is not None:
            trainer.save_checkpoint(self.path, weights_only=False)
            self._saved = True

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Print where, and the next commands, on the first process, once the file has been read back.

        Raises:
            CheckpointError: If it cannot be.
        """
        if trainer.is_global_zero and self._saved:
            checkpoints.read(self.path)
            streams = getattr(getattr(trainer, "datamodule", None), "streams", {})
            places = [place for stream in streams.values() for place in stream.datasets.values()]
            known = getattr(pl_module, "relation_vocabulary", None) is not None
            say("\n".join([f"Checkpoint: {self.path}", *next_commands(self.path, self.run, places, known)]))


def next_commands(checkpoint: Path, run: Path, places: Iterable[str | Sequence[str]], relations: bool) -> list[str]:
    """Commands that score a checkpoint and draw its curves.

    Where benchmarks lie beside the data, as those of a generated world do, they are named; else one is fetched first.

    Args:
        checkpoint: The file.
        run: The run's folder.
        places: Where the run's data are, as a recipe names them.
        relations: Whether the model tells relations apart by name, as MRC does.
    """
    found = _benchmarks(places, relations)
    score = f"relpretrain zeroshot --checkpoint {shlex.quote(str(checkpoint))} --tasks"
    out = f"--out {shlex.quote(str(run / 'report'))}"
    if found is not None:
        data, tasks = found
        lines = [f"Score it:   {score} {' '.join(tasks)} \\", f"              --data {shlex.quote(str(data))} {out}"]
    else:
        lines = [
            f"Score it:   relpretrain data fetch vsr --data {_BENCHMARKS}   # says where its images are",
            f"            {score} vsr \\",
            f"              --data {_BENCHMARKS} {out}",
            "            (other benchmarks: relpretrain zeroshot --list)",
        ]
    return [*lines, f"Its curves: relpretrain report {shlex.quote(str(run))}"]


def _benchmarks(places: Iterable[str | Sequence[str]], relations: bool) -> tuple[Path, list[str]] | None:
    """The folder of benchmarks beside the data, and its tasks; None where there is none."""
    # `os.path.isdir`: that of `Path` raises where a folder is another user's, or a command is too long for a name.
    named = [place for given in places for place in ([given] if isinstance(given, str) else given)]
    # Beside the folder of the data, or of the shards where these are named.
    for home in dict.fromkeys(home for place in named for home in list(Path(place).parents)[: 1 + _names_files(place)]):
        tasks = [task for task in ("vsr", "valse") if os.path.isdir(home / _BENCHMARKS / task)]
        if tasks:
            return home / _BENCHMARKS, tasks + ["graphs"] * (relations and os.path.isdir(home / "validation"))
    return None


def _names_files(place: str) -> bool:
    """Whether a place names shards, one or by a pattern, or their manifest, and not the folder of them."""
    return Path(place).suffix in (".tar", ".json") and not place.startswith("pipe:") and "://" not in place


_BENCHMARKS = "benchmarks"
"""Folder in which `relpretrain data synthetic` puts them."""
