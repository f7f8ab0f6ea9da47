"""Finding all mistakes of a recipe at once, before anything is built."""

from __future__ import annotations

import copy
import dataclasses
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from relpretrain.errors import ConfigError, suggest
from relpretrain.recipe_files import check_recipe

_OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")
_TOP = (
    "run",
    "overwrite",
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
    check_recipe(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"recipe {path} holds no settings: expected a mapping with model, data and trainer")
    return content


def overridden(recipe: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """A recipe with the options of the command line, put where the parser would put them.

    Args:
        recipe: Its content.
        arguments: Of the command line.
    """
    result: dict[str, Any] = copy.deepcopy(dict(recipe))
    for argument, after in pairwise([*arguments, "--"]):
        name, separator, value = argument.partition("=")
        if not name.startswith("--") or name in ("--config", "--print_config", "--help") or name.endswith(".help"):
            continue
        if separator or not after.startswith("--"):
            _put(result, name[2:].split("."), _read(value if separator else after))
    return result


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _put(node: dict[str, Any], names: list[str], value: Any) -> None:
    """Set one option, inside `init_args` where a class stands between."""
    for name in names[:-1]:
        node = _inside(node, name)
        child = node.get(name)
        if isinstance(child, list):  # the last one is meant: the parser's business
            return
        child = {"class_path": child} if isinstance(child, str) else child
        node[name] = child = child if isinstance(child, dict) else {}
        node = child
    name = names[-1]
    node = _inside(node, name)
    if name.endswith("+"):
        old = node.get(name[:-1])
        old = old if isinstance(old, list) else [] if old is None else [old]
        node[name[:-1]] = [*old, *(value if isinstance(value, list) else [value])]
    else:
        node[name] = value


def _inside(node: dict[str, Any], name: str) -> dict[str, Any]:
    if "class_path" not in node or name in _OF_A_CLASS:
        return node
    if not isinstance(node.get("init_args"), dict):
        node["init_args"] = {}
    inner: dict[str, Any] = node["init_args"]
    return inner


def mistakes(
    recipe: Mapping[str, Any],
    model: type[Any],
    data: type[Any],
    parameters: Callable[[type[Any]], Iterable[str]],
    files: bool = True,
) -> list[str]:
    """All that is wrong with a recipe and can be known before anything is built: a line for each mistake.

    Unknown names and arguments, streams that do not fit their objectives, values of the wrong type, out of range, or
    that name what is not there.

    Args:
        recipe: A recipe's content, with the overrides of the command line.
        model: Class of the LightningModule.
        data: Class of the LightningDataModule.
        parameters: Names of a class's constructor arguments.
        files: Whether files must be there.
    """
    return list(dict.fromkeys(_mistakes(recipe, model, data, parameters, files)))


def _mistakes(
    recipe: Mapping[str, Any],
    model: type[Any],
    data: type[Any],
    parameters: Callable[[type[Any]], Iterable[str]],
    files: bool,
) -> Iterator[str]:
    from relpretrain import backbones
    from relpretrain.objectives import Objective
    from relpretrain.training.command.trial import wrong_values
    from relpretrain.training.optim import Optimizer

    yield from _unknown("", recipe, _TOP)
    of_model, of_data = _mapping(recipe.get("model")), _mapping(recipe.get("data"))
    yield from _unknown("model", of_model, parameters(model))
    yield from _unknown("model.optimizer", of_model.get("optimizer"), (f.name for f in dataclasses.fields(Optimizer)))
    known = {name: getattr(backbones, name) for name in backbones.__all__ if isinstance(getattr(backbones, name), type)}
    backbone, found = _part("model.backbone", of_model.get("backbone"), known, "backbone", parameters)
    yield from found

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
    of_trainer = _mapping(recipe.get("trainer"))
    yield from _unknown("trainer", of_trainer, parameters(Trainer))
    for key, base in (("callbacks", Callback), ("logger", Logger)):
        known = {cls.__name__: cls for cls in _subclasses(base) if not cls.__name__.startswith("_")}
        given = of_trainer.get(key)
        for number, state in enumerate(given if isinstance(given, list) else [given]):
            if isinstance(state, (str, dict)):
                where = f"trainer.{key}" + (f"[{number}]" if isinstance(given, list) else "")
                yield from _part(where, state, known, base.__name__.lower(), parameters)[1]
    yield from wrong_values(recipe, backbone, classes, files)


def _stream(where: str, state: Any, classes: Mapping[str, type[Any] | None]) -> Iterator[str]:
    from relpretrain.data.pipeline.collate import BATCH_TYPES
    from relpretrain.data.sampling.stream import Stream
    from relpretrain.kinds import Kind

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
    found = list(_unknown(where, state, _OF_A_CLASS))
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
