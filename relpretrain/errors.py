"""What goes wrong with a user's settings or data."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

MISTAKES = 20
"""Mistakes of one file that are told at once."""


class ConfigError(ValueError):
    """Settings that cannot work, all of them together, found before training.

    Args:
        problems: One line each: the value, what is expected, the remedy.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class BadSample(ValueError):
    """A sample that is left out of its batch.

    Args:
        reason: A short snake_case word by which such samples are counted.
        detail: What exactly is wrong.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class TooManyBadSamples(RuntimeError):
    """More samples of a dataset are bad than the run tolerates."""


class NotFinite(RuntimeError):
    """A loss or a gradient that is NaN or infinite, which would make every weight so."""


class PeerLost(RuntimeError):
    """Another process of the run has died, or does not answer."""


class WorkerError(RuntimeError):
    """A data worker that is stuck or died."""


class CheckpointError(ValueError):
    """A file that is no checkpoint, or one that does not fit."""


def check_checkpoint(path: Path) -> None:
    """Look for a checkpoint, a file or a folder, before what loads it is imported.

    Raises:
        CheckpointError: If it is missing.
    """
    if not path.exists():
        raise CheckpointError(f"checkpoint {path} does not exist")


def counted(number: int, noun: str, nouns: str = "") -> str:
    """A number with what is counted: "1 shard", "2,000 shards".

    Args:
        number: How many.
        noun: One of them.
        nouns: Several of them; by default with an s.
    """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def singular(nouns: str) -> str:
    """One of the things that data are counted in: "shard" of "shards", "entity" of "entities"."""
    return nouns[:-3] + "y" if nouns.endswith("ies") else nouns.removesuffix("s")


def suggest(name: str, known: Iterable[str], list_all: bool = True) -> str:
    """End of an error line about an unknown name: "; did you mean ...?" with the nearest known name.

    Args:
        name: The unknown name.
        known: The valid names.
        list_all: Whether to list the valid names if none is near.
    """
    names = list(known)
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    if close:
        return f"; did you mean {by_lower[close[0]]!r}?"
    return f"; known: {', '.join(names)}" if names and list_all else ""


def wrong_fraction(name: str, value: float, noun: str = "fraction") -> str | None:
    """The error line if a value is not between 0 and 1; None if it is.

    Args:
        name: The setting.
        value: What it is.
        noun: What it should be: a fraction, or a probability.
    """
    return None if 0 <= value <= 1 else f"{name}={value:g} must be a {noun} between 0 and 1."


def positive(text: str) -> int:
    """A whole number from 1: the argparse type of counts.

    Raises:
        argparse.ArgumentTypeError: If it is smaller.
    """
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number from 0: the argparse type of seeds, and of counts that may be none.

    Raises:
        argparse.ArgumentTypeError: If it is smaller.
    """
    return _whole(text, 0)


def fraction(text: str) -> float:
    """A number between 0 and 1: the argparse type of shares and probabilities.

    Raises:
        argparse.ArgumentTypeError: If it is another.
    """
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 1, got {text}")
    return value


def _whole(text: str, least: int) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
    return value
