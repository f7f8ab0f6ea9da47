"""What a run says of itself: losses and throughput in the logs, a line on the terminal, the next command at the end."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ProgressBar

from relpretrain.distributed import world_size
from relpretrain.training.optim import learning_rate
from relpretrain.training.window import Window
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

    What did not happen is not logged. `latest` holds what was logged last, and `listeners` are called then.
    """

    def __init__(self) -> None:
        self.window = Window()
        self.throughput = Throughput()
        self.latest: dict[str, float] = {}
        self.listeners: list[Callable[[], None]] = []
        self._since = time.perf_counter()
        self._logged_at = -1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self._since = time.perf_counter()
        self._logged_at = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Note a step; log at the interval."""
        now = time.perf_counter()
        self.throughput.add(batch.stream, len(batch) * world_size(), now - self._since)
        self._since = now
        if pl_module.last is not None:
            self.window.add(batch.step, batch.stream, *pl_module.last)
            pl_module.last = None
        step = trainer.global_step
        due = trainer.log_every_n_steps > 0 and step % trainer.log_every_n_steps == 0
        if step != self._logged_at and (due or step == trainer.max_steps):
            self._log(trainer, pl_module, step)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave validation out of the throughput."""
        self._since = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        """Leave time that another callback took out of the throughput."""
        self._since += seconds

    def _log(self, trainer: Any, pl_module: Any, step: int) -> None:
        self._logged_at = step
        values = {**self.window.means(), **self.throughput.rates()}
        temperature = getattr(pl_module.backbone, "temperature", None)
        if temperature is not None:
            values["temperature"] = float(torch.as_tensor(temperature).detach())
        self.latest = {f"train/{name}": value for name, value in values.items()}
        self.latest["lr"] = learning_rate(step - 1, pl_module.optimizer, trainer.max_steps)
        counters = getattr(getattr(trainer, "datamodule", None), "counters", None)
        dealt: dict[str, float] = {} if counters is None else counters()
        for logger in trainer.loggers:
            logger.log_metrics({**self.latest, **dealt}, step=step)
        for listener in self.listeners:
            listener()


class ProgressLine(ProgressBar):
    """One line: step, stream, the losses of the last window, throughput, learning rate, time left.

    On a terminal the line stays in place; in a file a line is written whenever losses are logged.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._log: LossLog | None = None
        self._stream = ""
        self._started = (0.0, 0)

    def enable(self) -> None:
        """Show the line."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing: what Lightning asks of all processes but the first."""
        self._enabled = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Listen to what logs the losses."""
        self._started = (time.perf_counter(), trainer.global_step)
        self._log = next((c for c in trainer.callbacks if isinstance(c, LossLog)), None)
        if self._enabled and self._log is not None and not sys.stderr.isatty():
            self._log.listeners.append(lambda: print(self._line(trainer), file=sys.stderr, flush=True))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Rewrite the line."""
        self._stream = batch.stream
        if self._enabled and sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{self._line(trainer)}")
            sys.stderr.flush()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the last line standing."""
        if self._enabled and sys.stderr.isatty():
            sys.stderr.write("\n")

    def _line(self, trainer: Any) -> str:
        seconds, steps = time.perf_counter() - self._started[0], trainer.global_step - self._started[1]
        total = trainer.max_steps
        parts = [f"step {trainer.global_step}" + (f"/{total}" if total > 0 else "")]
        if sys.stderr.isatty():
            parts.append(f"{self._stream:<8}")
        latest = {} if self._log is None else self._log.latest
        losses = {name.removeprefix("train/"): value for name, value in latest.items()}
        rate = losses.pop("images_per_second", None)
        lr = losses.pop("lr", None)
        hidden = ("_accuracy", "_per_second", "_loss", "temperature")
        parts += [f"{name} {value:.3f}" for name, value in losses.items() if not name.endswith(hidden)]
        if rate is not None:
            parts.append(f"{rate:.3g} images/s")
        if lr is not None:
            parts.append(f"lr {lr:.1e}")
        if total > 0 and steps > 0:
            left = int(seconds / steps * (total - trainer.global_step))
            parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
        return "  ".join(parts)


class LastCheckpoint(pl.Callback):
    """At the end of training: saves `last.ckpt`, whatever the interval, and says where it is and how to score it.

    Args:
        folder: Where it goes.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "last.ckpt"
        self._saved = False

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Save."""
        if trainer.checkpoint_callback is not None:
            trainer.save_checkpoint(self.path, weights_only=False)
            self._saved = True

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Print where, and the next command, on the first process."""
        if trainer.is_global_zero and self._saved:
            print(
                f"Checkpoint: {self.path}\n"
                f"Score it:   relpretrain zeroshot --checkpoint {self.path} --tasks vsr valse --data DIR --out DIR"
            )
