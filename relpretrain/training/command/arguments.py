"""The arguments of training before the parser has them: recipes by name and first, and the checkpoint to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relpretrain.errors import ConfigError
from relpretrain.recipe_files import find_recipe, recipe_paths
from relpretrain.training.command.recipe_checks import overridden, read_recipe
from relpretrain.training.command.resuming import with_checkpoint
from relpretrain.training.command.run_folder import CHECKPOINTS, last, newest

DEFAULT_RUN = "runs/default"
"""Folder of a run that names none."""

_RECIPE = ("-c", "--config")


def going_on(command: str, arguments: list[str]) -> tuple[list[str], Path | None]:
    """The arguments with the checkpoint that `--ckpt_path` asks for, and the folder that no other run may be in."""
    if asks(arguments):
        return arguments, None
    settings = merged_settings(arguments)
    folder, wanted = Path(str(settings.get("run") or DEFAULT_RUN)), settings.get("ckpt_path")
    if wanted in ("best", "hpc"):
        raise ConfigError(
            f"--ckpt_path={wanted}: no run is under way that could say which this is; name a file of "
            f"{folder / CHECKPOINTS}, or take auto (the newest whole checkpoint) or last"
        )
    if wanted in ("auto", "last"):
        found = newest(folder) if wanted == "auto" else last(folder)
        if found is None and command != "fit":
            raise ConfigError(f"--ckpt_path=auto: {folder / CHECKPOINTS} holds no whole checkpoint to {command}")
        arguments = with_checkpoint(arguments, found)
    if command != "fit":
        return arguments, None
    overwrite = settings.get("overwrite") is True or "--overwrite" in arguments
    if overwrite and wanted is not None:
        raise ConfigError("--overwrite begins a run anew and --ckpt_path goes on with one: give one of them")
    passing = _mapping(settings.get("trainer")).get("fast_dev_run")
    return arguments, None if overwrite or wanted is not None or passing else folder


def asks(arguments: list[str]) -> bool:
    """Whether help or settings are to be printed, and nothing done."""
    return any(argument.startswith(("--print_config", "--help")) or argument == "-h" for argument in arguments)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def merged_settings(arguments: list[str]) -> dict[str, Any]:
    """The settings of the recipes with the overrides of the command line."""
    merged: dict[str, Any] = {}
    for path in recipe_paths(arguments):
        for key, value in read_recipe(path).items():
            old = merged.get(key)
            # As the parser does: a later recipe replaces a setting of model, data or trainer as a whole.
            merged[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return overridden(merged, arguments)


def recipes_first(arguments: list[str]) -> list[str]:
    """The arguments, recipes before all else: for the parser, one undoes the overrides that stand before it."""
    recipes: list[str] = []
    others: list[str] = []
    before = ""
    for argument in arguments:
        names_one = before in _RECIPE or argument.partition("=")[0] in _RECIPE
        (recipes if names_one else others).append(argument)
        before = argument
    return [*recipes, *others]


def with_recipes(arguments: list[str]) -> list[str]:
    """The arguments, with the package's recipes in place of their names."""
    found, before = [], ""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if before in _RECIPE:
            found.append(str(find_recipe(argument)))
        else:
            found.append(f"{option}={find_recipe(value)}" if equals and option in _RECIPE else argument)
        before = argument
    return found
