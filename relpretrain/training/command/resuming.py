"""Going on from a checkpoint with the settings of its run, which lie beside it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from relpretrain.errors import ConfigError

SETTINGS, METRICS = "config.yaml", "metrics.csv"
OF_ONE_CALL = ("ckpt_path", "verbose", "return_predictions")
"""What a command is told for once: no setting of a run, and so no change of one."""

_NAMES = ("best", "last", "auto", "hpc", "registry", "null")
_OPTION = "--ckpt_path"


def checkpoint_file(path: Any) -> Path | None:
    """The file that a `ckpt_path` names; None if it names none, as "last" does."""
    text = str(path)
    return None if path is None or text in _NAMES or text.startswith("registry:") else Path(text)


def named_checkpoint(arguments: Sequence[str]) -> Path | None:
    """The checkpoint file that arguments of the command line name, if they do."""
    for argument, following in pairwise([*arguments, ""]):
        if argument == _OPTION:
            return checkpoint_file(following or None)
        if argument.startswith(f"{_OPTION}="):
            return checkpoint_file(argument.partition("=")[2])
    return None


def with_checkpoint(arguments: Sequence[str], checkpoint: Path | None) -> list[str]:
    """The arguments of the command line with another checkpoint to go on from.

    Args:
        arguments: The arguments.
        checkpoint: The file; None to begin anew.
    """
    kept, waiting = [], iter(arguments)
    for argument in waiting:
        if argument == _OPTION:
            next(waiting, None)
        elif not argument.startswith(f"{_OPTION}="):
            kept.append(argument)
    return [*kept, f"{_OPTION}={'null' if checkpoint is None else checkpoint}"]


def settings_of(checkpoint: Path) -> Path | None:
    """The settings of the run that wrote a checkpoint: `config.yaml` in its folder or the one above."""
    folder = checkpoint.absolute().parent
    return next((path for home in (folder, folder.parent) if (path := home / SETTINGS).is_file()), None)


def with_settings(arguments: Sequence[str], recipes: Sequence[str]) -> list[str]:
    """Let a run that goes on from a checkpoint begin with that run's own settings; all that is given comes on top.

    Args:
        arguments: Of the command line.
        recipes: Those among them that are recipes.

    Raises:
        ConfigError: If there are neither settings beside the checkpoint nor a recipe.
    """
    checkpoint = named_checkpoint(arguments)
    if checkpoint is None or not checkpoint.exists():
        return list(arguments)
    settings = settings_of(checkpoint)
    if settings is None and not recipes:
        raise ConfigError(f"{checkpoint} has no {SETTINGS} of its run beside it: give its recipe, -c RECIPE")
    if settings is None or any(Path(recipe).absolute() == settings for recipe in recipes):
        return list(arguments)
    return ["-c", str(settings), *arguments]


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A line for each setting that is not as it was.

    Args:
        before: The settings of the run that is gone on with.
        now: The settings of this one.
        prefix: Of the names.
    """
    for name in dict.fromkeys([*now, *before]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name}: {new!r}, was {old!r}"


def rows_up_to(metrics: Path, step: float) -> list[dict[str, float]]:
    """The rows of a metrics.csv that a run had logged when it was at a step; none without the file.

    Args:
        metrics: The file.
        step: The last step.

    Raises:
        ValueError: If the file is no table of numbers.
    """
    read = [{name: float(cell) for name, cell in row.items() if name and cell} for row in rows(metrics)]
    return [row for row in read if row.get("step", step + 1) <= step]


def rows(metrics: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv; none without the file. A last line that a kill cut off is left out.

    Args:
        metrics: The file.

    Raises:
        ValueError: If the file is no text, or no table.
    """
    if not metrics.is_file():
        return []
    whole, _, _ = metrics.read_text(encoding="utf-8").rpartition("\n")
    try:
        return list(csv.DictReader(whole.splitlines()))
    except csv.Error as error:  # NUL bytes, for some versions of Python
        raise ValueError(str(error)) from error
