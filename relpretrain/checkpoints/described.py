"""Models, objectives and vocabularies as plain data, and built of it: what a checkpoint says beside its weights."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relpretrain.distributed import is_sharded
from relpretrain.errors import CheckpointError
from relpretrain.objectives import Objective
from relpretrain.scene_graph import RelationVocabulary

_ROOMS = ("relpretrain.backbones.", "relpretrain.objectives.", "relpretrain.scene_graph.")
"""Where the classes are that a checkpoint may name."""

_SPARE = 1 << 26
"""Numbers that a model may keep beside its weights, such as the tables of Swin's windows."""


def record(part: Any) -> dict[str, Any]:
    """Describe how to rebuild an object, as `class_path` and `init_args` of plain types.

    The arguments are its `config` if that is a dict, else its `init_args` (see `config_record.recorded`); None if it
    has neither, and then it cannot be rebuilt. A relation vocabulary is stored itself, not the path of its file.
    """
    if isinstance(part, RelationVocabulary):
        arguments: Any = part.to_json()
    else:
        arguments = getattr(part, "config", None)
        if not isinstance(arguments, dict):
            arguments = getattr(part, "init_args", None)
        vocabulary = getattr(part, "vocabulary", None)
        if arguments is not None and isinstance(vocabulary, RelationVocabulary):
            arguments = {**arguments, "vocabulary": vocabulary}
    cls = type(part).__mro__[2] if is_sharded(part) else type(part)  # sharding makes a class of its own of it
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": _plain(arguments)}


def build(state: Mapping[str, Any], base: type[Any]) -> Any:
    """Build the object that `record` described, without weights from elsewhere.

    Only our own models, objectives and vocabularies are imported; other classes must have been imported before, and be
    of the same kind, so that a file cannot run any code.

    Raises:
        CheckpointError: If the class is unknown, is not a `base`, or its arguments were not recorded.
    """
    path, arguments = str(state["class_path"]), state["init_args"]
    module_name, _, name = path.rpartition(".")
    if module_name.startswith(_ROOMS):
        with contextlib.suppress(ModuleNotFoundError):  # told below
            importlib.import_module(module_name)
    cls = getattr(sys.modules.get(module_name), name, None)
    if cls is None:
        raise CheckpointError(f"the checkpoint needs the class {path}: import {module_name or name} before loading")
    kind = "backbone" if base is nn.Module else base.__name__
    if not isinstance(cls, type) or not issubclass(cls, base) or (kind == "backbone" and not _is_backbone(cls)):
        raise CheckpointError(f"the checkpoint names {path}, which is no {kind}")
    if not isinstance(arguments, dict):
        raise CheckpointError(
            f"the checkpoint does not hold the arguments of {path}: give the class an attribute `config`, or decorate "
            "its __init__ with relpretrain.config_record.recorded"
        )
    if cls is RelationVocabulary:
        return RelationVocabulary.from_json(arguments)
    return cls(**{key: _built(value) for key, value in arguments.items() if not key.startswith("pretrained_")})


def _is_backbone(cls: type[Any]) -> bool:
    return all(hasattr(cls, name) for name in ("encode_image", "encode_text"))


def _built(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"class_path", "init_args"}:
        return build(value, RelationVocabulary)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, RelationVocabulary):
        return record(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return None if isinstance(value, nn.Module) else str(value)


def check_size(path: str | Path, described: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Compare the model that a checkpoint describes with the weights beside it, before memory is taken for it.

    Classes of others, which were imported before, are built as they are.

    Raises:
        CheckpointError: If it is larger than they are.
    """
    backbone = described["backbone"]
    if not str(backbone["class_path"]).startswith(_ROOMS) or not isinstance(backbone["init_args"], dict):
        return
    numbers = sum(value.numel() for value in state.values() if isinstance(value, Tensor))
    layers = _layers(backbone["init_args"])
    if layers > len(state):
        raise CheckpointError(f"{path} describes a model of {layers:,} layers, but holds {len(state):,} tensors")
    objectives = [build(each, Objective) for each in described["objectives"].values()]
    with torch.device("meta"):
        built = build(backbone, nn.Module)
        for objective in objectives:
            objective.attach(built)
    parts = nn.ModuleList([built, *objectives])
    wanted = sum(value.numel() for value in (*parts.parameters(), *parts.buffers()))
    if wanted > numbers + _SPARE:
        raise CheckpointError(
            f"{path} describes a model of {wanted:,} numbers, but holds {numbers:,}: it was not built"
        )


def _layers(arguments: Any) -> int:
    """How many layers a configuration asks for."""
    counts = [arguments.get(name) for name in ("vision_depth", "text_layers", "fusion_layers")]
    flat = [n for count in counts for n in (count if isinstance(count, (list, tuple)) else [count])]
    return sum(n for n in flat if isinstance(n, int))
