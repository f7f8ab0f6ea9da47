"""The page of all keys of a recipe, from the classes that they are arguments of."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from docstring_parser import parse
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from docs.generate.markup import cell, code, table
from relpretrain import backbones, objectives
from relpretrain.backbones.presets import from_preset
from relpretrain.data import RelationDataModule, Stream
from relpretrain.objectives import Objective
from relpretrain.training.module import RelationModule
from relpretrain.training.optim import Optimizer
from relpretrain.zeroshot import ZeroShot

_TOP = (
    ("run", "`runs/default`", "folder of the run: metrics, settings, checkpoints"),
    ("overwrite", "`false`", "take the place of a run in the same folder"),
    ("threads", "`null`", "torch's threads; by default chosen by the model's size"),
    ("seed_everything", "`0`", "the one seed: initial weights, data, dropout, negatives"),
    ("ckpt_path", "`null`", "a checkpoint to go on from; `auto`: the newest whole one of the run, or begin"),
    ("trainer", "", "Lightning's Trainer, [below](#trainer)"),
    ("model", "", "the model, its objectives and optimizer, [below](#model)"),
    ("data", "", "streams, tokenizer, image size, [below](#data)"),
)

_HEAD = """\
A recipe is a YAML file with the groups `trainer`, `model` and `data`. Every key can be overridden on the command line
by its path, as `--model.optimizer.lr=1e-4` or `--data.streams.graphs.ratio=2`. A class is named by `class_path`, its
arguments stand under `init_args`. `relpretrain recipes` lists the recipes that come with the package.
"""


def recipes_page() -> str:
    """The page, in Markdown."""
    lines = [
        "# Recipe keys",
        "",
        _HEAD,
        *table(("key", "default", "what it is"), [(code(k), d, t) for k, d, t in _TOP]),
    ]
    lines += ["## `model`", "", *_keys(RelationModule, "model"), "### `model.optimizer`", "", *_keys(Optimizer)]
    for name in backbones.__all__:
        lines += [f"### `model.backbone`: `{name}`", "", *_keys(getattr(backbones, name))]
    lines += ["### `model.backbone`: numbers that override those of `size`", "", *_keys(from_preset)]
    for name, objective in _objectives():
        lines += [f"### `model.objectives`: `{name}`", "", *_keys(objective)]
    lines += ["## `data`", "", *_keys(RelationDataModule, "data")]
    lines += ["### `data.streams.NAME`, `data.validation.NAME`", "", *_keys(Stream)]
    lines += ["## `trainer`", "", "Keys of Lightning's `Trainer`; the first sentence of its own description.", ""]
    lines += _keys(Trainer)
    lines += ["### `trainer.callbacks`: `ZeroShot`", "", *_keys(ZeroShot)]
    lines += ["### `trainer.callbacks`: `ModelCheckpoint`", "", *_keys(ModelCheckpoint)]
    return "\n".join(lines) + "\n"


def _objectives() -> Iterator[tuple[str, type[Any]]]:
    """The classes that a recipe may name: not those that others are made of."""
    for name in objectives.__all__:
        found = getattr(objectives, name)
        if (
            issubclass(found, Objective)
            and not inspect.isabstract(found)
            and not name.startswith("View")
            and name != "Objective"
        ):
            yield name, found


def _keys(of: Callable[..., Any], group: str = "") -> Iterator[str]:
    """What a class is, and a row for each argument of its constructor."""
    doc, own = parse(inspect.getdoc(of) or ""), parse(inspect.getdoc(of.__init__) or "")
    said = {p.arg_name: p.description or "" for p in (*own.params, *doc.params)}
    if doc.short_description:
        yield from (cell(doc.short_description), "")
    rows = []
    for name, parameter in inspect.signature(of).parameters.items():
        if name in ("self", "args", "kwargs") or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        if group and name == "seed":  # linked to seed_everything
            continue
        default = "required" if parameter.default is parameter.empty else _default(parameter.default)
        rows.append((code(name), default, _first(said.get(name, "")) if of is Trainer else cell(said.get(name, ""))))
    yield from table(("key", "default", "what it is"), rows)


def _default(value: Any) -> str:
    if dataclasses.is_dataclass(value) or value.__class__.__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
        return ""
    shown = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else repr(value)
    return code(str(shown))


def _first(text: str) -> str:
    """The first sentence, without the roles of Lightning's own documentation."""
    plain = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", " ".join(text.split()).replace("``", "`"))
    return cell(re.split(r"(?<=[.:])\s", plain, maxsplit=1)[0])
