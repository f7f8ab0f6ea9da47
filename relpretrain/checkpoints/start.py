"""Initialise training from the weights of a checkpoint, ours or an official one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from relpretrain.backbones.presets import ModelConfig
from relpretrain.backbones.vision import check_weights
from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.checkpoints.official.build import absent_heads, convert_official, resize_weights
from relpretrain.errors import CheckpointError

State = dict[str, Tensor]


def start_from(backbone: nn.Module, objectives: Mapping[str, nn.Module], path: str | Path) -> tuple[str, bool]:
    """Load a model's weights from a checkpoint, and its objectives' heads where names, shapes and relations match.

    Position embeddings and bias tables are resized to the model's image size. A teacher that the checkpoint lacks is
    initialised from the student; one that the model lacks is skipped, and so is a queue of another length.

    Args:
        backbone: The model.
        objectives: The objectives by name.
        path: A checkpoint of training, a folder in the Hugging Face layout, or an official ALBEF or X-VLM checkpoint.

    Returns:
        A line about what was loaded, and whether the checkpoint was official.

    Raises:
        CheckpointError: If a weight is missing from the checkpoint, or one of it is not in the model.
    """
    content = checkpoints.read_any(path)
    official = checkpoints.find_official(content)
    wanted = {key: value for key, value in backbone.state_dict().items() if isinstance(value, Tensor)}
    try:
        given = convert_official(official.state) if official else checkpoints.below(_own(content, path), "backbone.")
        config = getattr(backbone, "config", None)
        before = {key: value.shape for key, value in given.items()}
        given = resize_weights(given, config) if isinstance(config, ModelConfig) else given
        resized = sum(given[key].shape != shape for key, shape in before.items())
        given = _with_teacher(given, wanted)
        new = absent_heads(official.state, wanted, given) if official else ()
        given |= {key: value for key, value in wanted.items() if any(part in new for part in key.split("."))}
        check_weights(str(path), wanted, given)
    except ValueError as error:
        raise CheckpointError(f"model.weights={path}: {' '.join(str(error).split())[:1000]}") from error
    backbone.load_state_dict(given)
    stored = official.relations if official else checkpoints.below(_own(content, path), "objectives.")
    heads = _load_heads(objectives, stored)
    notes = [f"{len(given)} weights from {path}", f"{resized} resized"]
    notes += [f"{name} is new" for name in new] + [f"{name}'s head too" for name in heads]
    notes += [f"{name}'s head left aside" for name in _heads(stored) if name not in heads]
    notes += official.notes if official else ()
    return ", ".join(notes), official is not None


def _own(content: Any, path: str | Path) -> Mapping[str, Any]:
    if not isinstance(content, dict) or checkpoints.KEY not in content or "state_dict" not in content:
        raise CheckpointError(
            f"model.weights={path} is neither a checkpoint of relpretrain nor an official one of ALBEF or X-VLM"
        )
    state: Mapping[str, Any] = content["state_dict"]
    return state


def _with_teacher(given: State, wanted: State) -> State:
    """The given weights, with the teacher's weights completed or dropped to match the model."""
    result = {key: value for key, value in given.items() if not key.startswith("teacher.")}
    has_teacher = any(key.startswith("teacher.model.") for key in given)
    for key, value in wanted.items():
        if key.startswith("teacher.model."):
            source = key if has_teacher else key.removeprefix("teacher.model.")
            if source in given:
                result[key] = given[source]
        elif key.startswith("teacher."):
            stored = given.get(key, value)
            result[key] = stored if stored.shape == value.shape else value
    return result


def _heads(state: Mapping[str, Any]) -> list[str]:
    """Names of the objectives with weights in a state dict with keys "<name>.<weight>"."""
    return sorted({key.partition(".")[0] for key in state})


def _load_heads(objectives: Mapping[str, nn.Module], state: Mapping[str, Any]) -> list[str]:
    """Load the objectives whose names, shapes and relations match; return their names."""
    loaded = []
    for name, objective in objectives.items():
        own, stored = objective.state_dict(), checkpoints.below(state, f"{name}.")
        same = own.keys() == stored.keys() and all(own[key].shape == stored[key].shape for key in own)
        if own and same and all(own[k].equal(stored[k].to(own[k])) for k in own if k.endswith("fingerprint")):
            objective.load_state_dict(stored)
            loaded.append(name)
    return loaded
