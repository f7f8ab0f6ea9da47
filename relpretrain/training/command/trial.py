"""Building every part of a recipe for trial, cheaply, to hear all that is wrong with its values at once."""

from __future__ import annotations

import contextlib
import inspect
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import Trainer

from relpretrain.checkpoints.described import record
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.find import resolve_shards
from relpretrain.errors import ConfigError, suggest
from relpretrain.training.module import RelationModule
from relpretrain.training.optim import Optimizer

_OBJECTS, _OFTEN = ("callbacks", "logger", "plugins"), ("profiler", "strategy")
"""Arguments of the Trainer that are objects, and that may be."""


def wrong_values(recipe: Mapping[str, Any], backbone: type[Any] | None, objectives: Mapping[str, type[Any] | None],
                 files: bool = True) -> Iterator[str]:  # fmt: skip
    """All values of the wrong type, out of range, or that name a file which is not there: a line for each.

    Args:
        recipe: A recipe's content, overrides included.
        backbone: Class of the model; None where it is unknown.
        objectives: Classes of the objectives by name.
        files: Whether to look for files, and to build what may need them.
    """
    for name, least, most in (("threads", 1, 2**10), ("seed_everything", 0, 2**32 - 1)):
        value = recipe.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and not least <= value <= most:
            yield f"{name}={value}: expected a whole number from {least} to {most:,}"
    model, data = _mapping(recipe.get("model")), _mapping(recipe.get("data"))
    values, lines = typed("model.optimizer", Optimizer, _mapping(model.get("optimizer")))
    yield from lines
    yield from trial("model.optimizer", Optimizer, values)[1]
    built = None
    if backbone is not None:
        values, lines = typed("model.backbone", backbone, _arguments(model.get("backbone")))
        yield from lines
        values = {name: value for name, value in values.items() if not name.startswith("pretrained_")}
        with torch.device("meta"):
            built, lines = trial("model.backbone", backbone, values)
        yield from lines
    for name, cls in objectives.items():
        if cls is None:
            continue
        where = f"model.objectives.{name}"
        values, lines = typed(where, cls, _arguments(_mapping(model.get("objectives")).get(name)))
        yield from lines
        if files:
            objective, lines = trial(where, cls, values)
            yield from lines
            if objective is not None and built is not None:
                with torch.device("meta"):
                    yield from trial(where, lambda objective=objective: objective.attach(built), {})[1]
    yield from _wrong_model(model, files)
    yield from _wrong_data(data, _arguments(model.get("backbone")), built, files)
    given = _mapping(recipe.get("trainer"))
    given = {n: v for n, v in given.items() if n not in _OBJECTS and (n not in _OFTEN or isinstance(v, (str, bool)))}
    values, lines = typed("trainer", Trainer, given)
    yield from lines
    if files and not values.get("barebones"):
        yield from trial("trainer", _quiet_trainer, values)[1]


def _wrong_model(model: Mapping[str, Any], files: bool) -> Iterator[str]:
    parts = {n: v for n, v in model.items() if n not in ("backbone", "objectives", "optimizer")}
    values, lines = typed("model", RelationModule, parts)
    yield from lines
    weights = values.get("weights")
    if files and weights is not None and not Path(weights).exists():
        yield f"model.weights: {weights} does not exist"


def _wrong_data(data: Mapping[str, Any], model: Mapping[str, Any], backbone: Any, files: bool) -> Iterator[str]:
    groups: dict[str, dict[str, Stream]] = {}
    for group in ("streams", "validation"):
        for name, given in _mapping(data.get(group)).items():
            values, lines = typed(f"data.{group}.{name}", Stream, _mapping(given))
            yield from (line for line in lines if not line.startswith(f"data.{group}.{name}.kind="))  # told by name
            with contextlib.suppress(TypeError):  # lacks what it must have: told by name
                groups.setdefault(group, {})[name] = Stream(**values)
    rest = {name: value for name, value in data.items() if name not in ("streams", "validation")}
    values, lines = typed("data", RelationDataModule, rest)
    yield from lines
    if "tokenizer" not in values or "streams" not in groups:
        return
    module = RelationDataModule(**{**values, **groups})
    streams = module._all_streams()
    yield from module._check_settings(streams)
    config = {} if backbone is None else record(backbone)["init_args"] or {}
    size = config.get("image_size", module.image_size)
    asked = model.get("image_size", size)  # else it was refused
    if size != module.image_size and size == asked and "image_size" in values:
        yield f"data.image_size={module.image_size} differs from the backbone's image_size={size}: set both to the same"
    if not files:
        return
    problems: list[str] = []
    module._load_exclusion(problems)
    try:
        module._load_tokenizer()
    except ValueError as error:
        problems.append(f"data.tokenizer: {error}")
    for name, stream in streams.items():
        for dataset, patterns in stream.datasets.items() if stream.ratio != 0 else ():
            try:
                resolve_shards(patterns)
            except (OSError, ValueError) as error:
                problems.append(f"Stream {name!r}, dataset {dataset!r}: {error}")
    yield from problems


def typed(where: str, cls: type[Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Convert a class's arguments as the parser of the command line does.

    Args:
        where: Name of the part in the recipe.
        cls: The class.
        given: Its arguments; those that it does not name are passed over.

    Returns:
        Those of the right type, converted, and a line on each other.
    """
    values: dict[str, Any] = {}
    lines = []
    for name, value in given.items():
        single = ArgumentParser(exit_on_error=False)
        hint = _hint(cls, name)
        if hint is None:
            continue
        single.add_argument("--value", type=hint)
        try:
            values[name] = single.parse_object({"value": value}).value
        except (ArgumentError, TypeError, ValueError):
            lines.append(f"{where}.{name}={value!r}: expected {_spoken(hint, value)}")
    return values, lines


def trial(where: str, build: Callable[..., Any], values: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Build something; where it refuses a value, note why, and go on without that value.

    Args:
        where: Name of the part in the recipe.
        build: Its class, or what builds it.
        values: Its arguments.

    Returns:
        What was built, None if nothing could be; and what was refused, a line each.
    """
    values = dict(values)
    lines: list[str] = []
    while True:
        built, problem = _attempt(build, values)
        if problem is None:
            return built, lines
        lines += [line if line.startswith((where, "optimizer: ")) else f"{where}: {line}" for line in problem]
        named = sorted((n for n in values if re.search(rf"\b{n}\b", problem[0])), key=problem[0].index)
        culprit = next((n for n in [*named, *values] if _changes(build, values, n, problem)), None)
        if culprit is None:
            return None, lines
        del values[culprit]


def _attempt(build: Callable[..., Any], values: Mapping[str, Any]) -> tuple[Any, list[str] | None]:
    try:
        return build(**values), None
    except ConfigError as error:
        return None, [" ".join(line.split()) for line in error.problems]
    except OSError as error:
        return None, [f"{error.filename} does not exist" if isinstance(error, FileNotFoundError) else str(error)]
    except ValueError as error:
        return None, [" ".join(str(error).split())]
    except Exception as error:
        told = type(error).__name__ == "MisconfigurationException"  # Lightning's word for a user's mistake
        return None, [" ".join(str(error).split())] if told else None


def _changes(build: Callable[..., Any], values: Mapping[str, Any], name: str, problem: list[str]) -> bool:
    default = inspect.signature(build).parameters.get(name)
    if default is not None and default.default is inspect.Parameter.empty and default.kind is not default.VAR_KEYWORD:
        return False
    return _attempt(build, {other: value for other, value in values.items() if other != name})[1] != problem


def _quiet_trainer(**values: Any) -> Trainer:
    shown = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Trainer(**{**values, "logger": False, "enable_checkpointing": False})
    except TypeError as error:  # its word on devices that are no number
        raise ValueError(str(error)) from error
    finally:
        logging.disable(shown)


def _hint(cls: type[Any], name: str) -> Any:
    """The type of an argument of a class, or of a base that it is passed on to; None where it is not said."""
    for base in cls.__mro__:
        try:
            hints = get_type_hints(base.__init__)  # type: ignore[misc]  # of the class itself
        except (NameError, AttributeError, TypeError):
            continue
        if name in hints:
            return hints[name]
    return None


def _spoken(hint: Any, value: Any) -> str:
    options = list(_choices(hint))
    if options:
        return f"one of {', '.join(map(str, options))}{suggest(str(value), map(str, options), list_all=False)}"
    return str(getattr(hint, "__name__", hint) if get_origin(hint) is None else hint).replace("typing.", "")


def _choices(hint: Any) -> Iterable[Any]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for part in get_args(hint):
            yield from _choices(part)


def _arguments(state: Any) -> dict[str, Any]:
    return _mapping(_mapping(state).get("init_args"))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
