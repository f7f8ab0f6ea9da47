"""How far long work is: a bar on a terminal, a line now and then elsewhere. Training has a display of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

SECONDS = 5.0
"""Between two lines where there is no terminal."""
_BAR_SECONDS = 0.1


@dataclass
class Meter:
    """How far a source has got.

    Args:
        stage: What is being done, such as "reading objects.json".
        done: How much of `total`, in bytes or images.
        total: 0 where unknown.
        listener: Called with the meter whenever it moves.
    """

    stage: str = ""
    done: int = 0
    total: int = 0
    listener: Callable[[Meter], None] | None = None

    def begin(self, stage: str, total: int) -> None:
        """Start a stage."""
        self.stage, self.done, self.total = stage, 0, total

    def advance(self, amount: int = 1) -> None:
        """Go on by so much."""
        self.done += amount
        if self.listener is not None:
            self.listener(self)


class StageProgress:
    """Shows on stderr the stage, how much of it is done, images per second and time left.

    A context manager.

    Args:
        meter: How far the source is; this object becomes its listener.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._count = 0
        self._stage = ""
        self._start = self._shown = time.monotonic()
        self._start_count, self._start_share = 0, 0.0
        self._bar = _make_bar()
        if self._bar is not None:
            self._task = self._bar.add_task("", total=None, text="")
        meter.listener = lambda _: self._show()

    def __enter__(self) -> StageProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._meter.listener = None
        if self._bar is not None:
            self._bar.stop()

    def count(self, images: int) -> None:
        """Say how many images are done; the first call says from how many an earlier run goes on."""
        if self._count == 0:
            self._restart(images)
        self._count = images
        self._show()

    @property
    def _share(self) -> float:
        return self._meter.done / self._meter.total if self._meter.total else 0.0

    def _restart(self, images: int) -> None:
        self._start, self._start_count, self._start_share = time.monotonic(), images, self._share

    def _show(self) -> None:
        now = time.monotonic()
        if self._meter.stage != self._stage:
            self._stage = self._meter.stage
            self._restart(self._count)
        if now - self._shown < (SECONDS if self._bar is None else _BAR_SECONDS):
            return
        self._shown = now
        if self._bar is not None:
            total = self._meter.total or None
            self._bar.update(
                self._task,
                description=self._stage,
                completed=self._meter.done,
                total=total,
                text=self._text(now),
                refresh=True,
            )
        else:
            share = f"{self._share:.0%}, " if self._meter.total else ""
            print(f"{self._stage}: {share}{self._text(now)}".rstrip(":, "), file=sys.stderr, flush=True)

    def _text(self, now: float) -> str:
        seconds = now - self._start
        parts = []
        if self._count:
            rate = (self._count - self._start_count) / seconds if seconds > 0 else 0.0
            parts.append(f"{self._count:,} image{'s' * (self._count != 1)}, {rate:,.0f} per second")
        gained = self._share - self._start_share
        if gained > 0 and self._share < 1:
            parts.append(f"{_spoken(seconds * (1 - self._share) / gained)} left")
        return ", ".join(parts)


def track(items: Iterable[T], total: int, what: str, size: Callable[[T], int] = lambda _: 1) -> Iterator[T]:
    """Pass items on, and show on stderr how much is done, how fast, and how long the rest will take.

    Args:
        items: What to pass on.
        total: Sum of all sizes.
        what: What is counted.
        size: How many an item stands for; asked once its work is done.
    """
    start = shown = time.monotonic()
    done = 0
    bar = _make_bar()
    with bar or nullcontext():
        task = None if bar is None else bar.add_task(what, total=total, text="")
        for item in items:
            yield item
            done += size(item)
            now = time.monotonic()
            if not done or now == start or now - shown < (SECONDS if bar is None else _BAR_SECONDS):
                continue
            shown = now
            rate = done / (now - start)
            text = f"{done:,} of {total:,} {what}, {rate:,.0f} per second, {_spoken((total - done) / rate)} left"
            if bar is None:
                print(text, file=sys.stderr, flush=True)
            elif task is not None:
                bar.update(task, completed=done, text=text, refresh=True)


def _make_bar() -> Progress | None:
    """A bar on the terminal that stderr is; None where it is none."""
    if not sys.stderr.isatty():  # FORCE_COLOR makes a file a terminal for rich
        return None
    from rich.console import Console  # takes its time
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        return None
    words, text = (TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[text]"))
    # Without rich's own thread: what shows progress may fork.
    return Progress(words, BarColumn(), TaskProgressColumn(), text, console=console, transient=True, auto_refresh=False)


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
