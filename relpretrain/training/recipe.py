"""Finding all mistakes of a recipe at once, before anything is built."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml

from relpretrain.errors import ConfigError, suggest
from relpretrain.recipe_files import bundled

_TOP = (
    "run",
    "threads",
    "seed_everything",
    "trainer",
    "model",
    "data",
    "ckpt_path",
    "weights_only",
    "verbose",
    "return_predictions",
)


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Read a recipe's YAML.

    Raises:
        ConfigError: If the file is missing or holds no mapping.
    """
    path = Path(path)
    if not path.is_file():
        here = [other.name for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        near = suggest(path.name, [*here, *bundled()])
        raise ConfigError(f"recipe {path} does not exist{near}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"recipe {path} holds no settings: expected a mapping with model, data and trainer")
    return content


def mistakes(
    recipe: Mapping[str, Any], model: type[Any], data: type[Any], parameters: Callable[[type[Any]], Iterable[str]]
) -> list[str]:
    """Unknown names, unknown arguments, and streams that do not fit their objectives: a line for each.

    Args:
        recipe: A recipe's content.
        model: Class of the LightningModule.
        data: Class of the LightningDataModule.
        parameters: Names of a class's constructor arguments.
    """
    return list(_mistakes(recipe, model, data, parameters))


def _mistakes(
    recipe: Mapping[str, Any], model: type[Any], data: type[Any], parameters: Callable[[type[Any]], Iterable[str]]
) -> Iterator[str]:
    from relpretrain import backbones
    from relpretrain.objectives import Objective
    from relpretrain.training.optim import Optimizer

    yield from _unknown("", recipe, _TOP)
    of_model, of_data = _mapping(recipe.get("model")), _mapping(recipe.get("data"))
    yield from _unknown("model", of_model, parameters(model))
    yield from _unknown("model.optimizer", of_model.get("optimizer"), (f.name for f in dataclasses.fields(Optimizer)))
    known = {name: getattr(backbones, name) for name in backbones.__all__ if isinstance(getattr(backbones, name), type)}
    yield from _part("model.backbone", of_model.get("backbone"), known, "backbone", parameters)[1]

    classes: dict[str, type[Any] | None] = {}
    known = {cls.__name__: cls for cls in _subclasses(Objective) if cls.consumes and _concrete(cls)}
    for name, state in _mapping(of_model.get("objectives")).items():
        cls, found = _part(f"model.objectives.{name}", state, known, "objective", parameters)
        classes[name] = cls
        yield from found
    yield from _unknown("data", of_data, parameters(data))
    for group in [key for key in ("streams", "validation") if isinstance(of_data.get(key), dict)]:
        for name, state in of_data[group].items():
            yield from _stream(f"data.{group}.{name}", state, classes)


def _stream(where: str, state: Any, classes: Mapping[str, type[Any] | None]) -> Iterator[str]:
    from relpretrain.data.collate import BATCH_TYPES
    from relpretrain.data.config import Kind, Stream

    if not isinstance(state, dict):
        yield f"{where}: expected a stream's settings, got {state!r}"
        return
    fields = dataclasses.fields(Stream)
    yield from _unknown(where, state, (f.name for f in fields))
    required = [f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name not in state]:
        yield f"{where}: lacks {', '.join(missing)}"
    kind = state.get("kind")
    if kind is not None and kind not in get_args(Kind):
        yield f"{where}.kind: unknown kind {kind!r}{suggest(str(kind), get_args(Kind))}"
    batch = BATCH_TYPES.get(kind)  # type: ignore[arg-type]  # any value may stand here
    names = state.get("objectives") or []
    for name in [names] if isinstance(names, str) else names:
        if name not in classes:
            yield f"{where}.objectives: {name!r} is not in model.objectives{suggest(str(name), classes)}"
            continue
        consumes = getattr(classes[name], "consumes", None)
        if batch is not None and consumes and not issubclass(batch, tuple(consumes)):
            wanted = " or ".join(cls.__name__ for cls in consumes)
            yield f"{where}.objectives: {name!r} consumes {wanted}, but a stream of {kind} gives {batch.__name__}"


def _part(
    where: str,
    state: Any,
    known: Mapping[str, type[Any]],
    noun: str,
    parameters: Callable[[type[Any]], Iterable[str]],
) -> tuple[type[Any] | None, list[str]]:
    """Look up the class of {class_path, init_args}, and its unknown arguments."""
    if state is None:
        return None, []
    if isinstance(state, str):
        state = {"class_path": state}
    if not isinstance(state, dict) or not isinstance(state.get("class_path"), str):
        return None, [f"{where}: expected class_path and init_args, got {state!r}"]
    found = list(_unknown(where, state, ("class_path", "init_args", "dict_kwargs")))
    path = state["class_path"]
    cls = known.get(path) or _import(path)
    if cls is None:
        return None, [*found, f"{where}: unknown {noun} {path!r}{suggest(path.rpartition('.')[2], known)}"]
    found += _unknown(where, state.get("init_args"), parameters(cls))
    return cls, found


def _unknown(where: str, given: Any, known: Iterable[str]) -> Iterator[str]:
    names = list(known)
    for name in _mapping(given):
        if name not in names:
            yield f"{where + ': ' if where else ''}unknown argument {name!r}{suggest(str(name), names)}"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _concrete(cls: type[Any]) -> bool:
    return cls.__name__ not in ("ViewObjective", "ViewSum")


def _import(path: str) -> type[Any] | None:
    module, _, name = path.rpartition(".")
    if not module:
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) else None
