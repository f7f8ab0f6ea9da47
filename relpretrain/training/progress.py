"""How far a run is: a few rows that stay in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from relpretrain.training.callbacks import LossLog
from relpretrain.types import Batch

_REFRESH_SECONDS = 0.1
_SPACE = "  "
_BAR = range(10, 41)
"""Widths that the bar may have."""
_NO_LOSS = ("_accuracy", "_per_second", "_loss", "temperature")


class ProgressLine(ProgressBar):
    """Step, losses, throughput, waits for data, learning rate, time left; and the losses of each validation.

    On a terminal, a bar and the newest losses stay in place, fitted to its width, and validations are listed above
    them. Elsewhere each is a plain line, written whenever losses are logged.

    Args:
        console: Where it is shown; stderr if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._enabled = True
        self._console = Console(stderr=True, highlight=False) if console is None else console
        self._in_place = self._console.is_terminal and not self._console.is_dumb_terminal
        self._in_place &= console is not None or sys.stderr.isatty()  # FORCE_COLOR makes a file a terminal, too
        self._live: Live | None = None
        self._open = contextlib.ExitStack()
        self._log: LossLog | None = None
        self._losses: dict[str, float] = {}
        self._started = (0.0, 0)
        self._shown = 0.0

    def enable(self) -> None:
        """Show it."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing: what Lightning asks of all processes but the first."""
        self._enabled = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Listen to what logs the losses, and begin to show."""
        self._started = (time.perf_counter(), trainer.global_step)
        self._log = next((c for c in trainer.callbacks if isinstance(c, LossLog)), None)
        if not self._enabled:
            return
        if self._log is not None:
            self._log.listeners.append(lambda: self._logged(trainer))
        self._begin()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Move the bar."""
        self._show(trainer)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to show, where validation is all that is done."""
        if self._enabled and self._live is None and trainer.state.fn == "validate":
            self._begin()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Say that it validates."""
        self._show(trainer, f"validating, {_of('batch', batch_idx + 1, trainer.num_val_batches[dataloader_idx])}")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """List the losses of the validation; Lightning does so itself where nothing else was done."""
        if trainer.state.fn == "validate":
            self._end()
        losses = [(n.removeprefix("val/"), float(v)) for n, v in trainer.callback_metrics.items() if n[:4] == "val/"]
        if not self._enabled or not losses or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        parts = [f"validation at step {trainer.global_step}", *_spoken(dict(losses))]
        if self._live is not None:
            self._console.print(Text("\n".join(rows(parts, self._width, "    "))), soft_wrap=True)
            self._show(trainer, now=True)
        else:
            self._console.print(Text(_SPACE.join(parts)), soft_wrap=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the last state standing."""
        self._show(trainer, now=True)
        self._end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Give the terminal back."""
        self._end()

    def _begin(self) -> None:
        """Keep rows in place, if there is a terminal to keep them on."""
        if self._in_place:
            live = Live(
                console=self._console,
                auto_refresh=False,
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            )
            self._live = self._open.enter_context(live)
            self._open.enter_context(lightning_says_to(sys.stderr))  # above the rows, as all that is printed now

    def _end(self) -> None:
        self._open.close()
        self._live = None

    @property
    def _width(self) -> int:
        return self._console.width - 1  # some terminals begin a new line when one is full

    def _logged(self, trainer: Any) -> None:
        if self._log is not None:
            latest = {name.removeprefix("train/"): value for name, value in self._log.latest.items()}
            self._losses |= {n: v for n, v in latest.items() if n not in ("lr", "data_wait", "left_out")}
        if self._live is None:
            self._console.print(Text(_SPACE.join(self._parts(trainer))), soft_wrap=True)
        else:
            self._show(trainer, now=True)

    def _show(self, trainer: Any, doing: str = "", now: bool = False) -> None:
        if self._live is None or (not now and time.monotonic() - self._shown < _REFRESH_SECONDS):
            return
        self._shown = time.monotonic()
        if trainer.state.fn == "validate":
            lines = [Text(doing, no_wrap=True, overflow="crop")]
        else:
            lines = [self._bar(trainer, [doing] if doing else self._pace(trainer))]
        lines += [Text(row, no_wrap=True, overflow="crop") for row in rows(_spoken(self._losses), self._width)]
        self._live.update(Group(*lines), refresh=True)

    def _bar(self, trainer: Any, parts: list[str]) -> Text:
        """The first row: the step, a bar where there is room for one, the pace."""
        head, tail = _step(trainer), _SPACE.join(parts)
        room = min(self._width - len(head) - len(tail) - 2 * len(_SPACE), _BAR[-1])
        text = Text(head, no_wrap=True, overflow="crop")
        if trainer.max_steps > 0 and room in _BAR:
            full = round(room * min(trainer.global_step / trainer.max_steps, 1))
            done, rest = "━─" if self._console.encoding.startswith("utf") else "#-"
            text.append(_SPACE).append(done * full, "cyan").append(rest * (room - full), "bright_black")
        text.append(_SPACE + tail).truncate(self._width)
        return text

    def _parts(self, trainer: Any) -> list[str]:
        """All of a plain line, with the losses of the last window only."""
        latest = {} if self._log is None else self._log.latest
        losses = {n.removeprefix("train/"): v for n, v in latest.items() if n.startswith("train/")}
        losses.pop("data_wait", None)
        return [_step(trainer), *_spoken(losses), *self._pace(trainer)]

    def _pace(self, trainer: Any) -> list[str]:
        latest = {} if self._log is None else self._log.latest
        parts = []
        if "train/images_per_second" in latest:
            parts.append(f"{_rate(latest['train/images_per_second'])} images/s")
        if "train/data_wait" in latest:
            parts.append(f"data wait {latest['train/data_wait']:.0%}")
        if latest.get("left_out"):
            parts.append(f"left out {latest['left_out']:,.0f}")
        if "lr" in latest:
            parts.append(f"lr {latest['lr']:.1e}")
        seconds, steps = time.perf_counter() - self._started[0], trainer.global_step - self._started[1]
        if trainer.max_steps > 0 and steps > 0:
            left = int(seconds / steps * (trainer.max_steps - trainer.global_step))
            parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
        return parts


@contextlib.contextmanager
def lightning_says_to(log: TextIO) -> Iterator[None]:
    """Send Lightning's messages elsewhere: its loggers keep the stream that was there when they were imported.

    Args:
        log: Where they go as long as the context lasts.
    """
    loggers = map(logging.getLogger, ("lightning.pytorch", "lightning.fabric"))
    handlers = [h for logger in loggers for h in logger.handlers if isinstance(h, logging.StreamHandler)]
    before = [(handler, handler.stream) for handler in handlers]
    for handler in handlers:
        handler.setStream(log)
    try:
        yield
    finally:
        for handler, stream in before:
            handler.setStream(stream)


def rows(parts: Iterable[str], width: int, indent: str = "") -> list[str]:
    """Put parts into rows no wider than a terminal, none of them broken in two; a part that is wider is cut.

    Args:
        parts: What the rows hold, in order.
        width: Characters in a row.
        indent: Before every row but the first.
    """
    found: list[str] = []
    for part in parts:
        if found and len(found[-1]) + len(_SPACE) + len(part) <= width:
            found[-1] += _SPACE + part
        else:
            found.append(((indent if found else "") + part)[:width])
    return found


def _spoken(values: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.3f}" for name, value in values.items() if not name.endswith(_NO_LOSS)]


def _step(trainer: Any) -> str:
    return _of("step", trainer.global_step, trainer.max_steps)


def _of(what: str, number: int, total: float) -> str:
    """Such as "step 3/10", without the total where there is none: -1 or infinite."""
    return f"{what} {number}" + (f"/{total}" if 0 < total < math.inf else "")


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
