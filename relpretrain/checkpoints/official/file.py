"""Find the weights of an official model in a checkpoint file, whatever entries and prefixes they are wrapped in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relpretrain.backbones.bert_names import State

_MODEL = re.compile(r"((?:[^.]+\.)*?)(visual_encoder|vision_encoder|text_encoder)\.")
_WRAPPER = re.compile(r"(?:(?<=\.)|^)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_RELATIONS = re.compile(r"((?:[^.]+\.)*?)relation_objectives\.(.+)")
_AVERAGED = re.compile(r"(?:^|[._])(ema|swa|teacher|averaged?)(?:[._]|$)")
_DEPTH = 3  # entries in entries


@dataclass(frozen=True)
class OfficialFile:
    """The contents of an official checkpoint.

    Args:
        state: The model's weights by their official names, in fp32.
        relations: Weights of relation objectives that were attached to it (`add_relation_objectives`), by
            "<objective>.<weight>".
        notes: Lines about removed wrappers and skipped contents.
    """

    state: State
    relations: State
    notes: tuple[str, ...] = ()


def official_file(content: Any) -> OfficialFile | None:
    """Find the weights of an official ALBEF or X-VLM in a checkpoint's content; None if there are none.

    They may be in any entry ("model", "state_dict", "net", "model_ema") or at the top level, with any prefix
    ("module.", "model.") and wrappers of torch.compile, FSDP and activation checkpointing. Of several copies the first
    is taken that is not a moving average, else the first.
    """
    found = sorted(_models(content, ""), key=lambda model: bool(_AVERAGED.search(model[0] + model[1])))
    if not found:
        return None
    (place, prefix, entries), others = found[0], found[1:]
    state: State = {}
    relations: State = {}
    aside = []
    for name, value in entries.items():
        key = _WRAPPER.sub("", str(name))
        relation = _RELATIONS.fullmatch(key)
        if not isinstance(value, Tensor):
            aside.append(str(name))
        elif relation and prefix.startswith(relation[1]):
            relations[relation[2]] = _single(value)
        elif key.startswith(prefix) and not key.startswith(f"{prefix}relation_"):
            state[key.removeprefix(prefix)] = _single(value)
        elif not _MODEL.match(key):
            aside.append(str(name))
    notes = []
    if place not in ("", "model.") or prefix:
        notes.append(f"taken from {place}{prefix}*")
    if wrappers := sorted({match[1] for name in entries for match in _WRAPPER.finditer(str(name))}):
        notes.append(f"taken out of {', '.join(wrappers)}")
    if others:
        notes.append(f"left aside: other copies of the model, {', '.join(f'{p}{inner}*' for p, inner, _ in others)}")
    if aside:
        notes.append(f"left aside: not the model's, {_few(aside)}")
    stored = {v.dtype for v in entries.values() if isinstance(v, Tensor) and v.is_floating_point()} - {torch.float32}
    if stored:
        notes.append(
            f"stored as {', '.join(sorted(str(dtype).removeprefix('torch.') for dtype in stored))}, now float32"
        )
    return OfficialFile(state, relations, tuple(notes))


def _models(content: Any, place: str, depth: int = 0) -> Iterator[tuple[str, str, Mapping[Any, Any]]]:
    """Find models in nested entries: the path of the entry, the prefix of their names, and the entry itself."""
    if not isinstance(content, Mapping) or depth > _DEPTH:
        return
    parts: dict[str, set[str]] = {}
    for name, value in content.items():
        match = _MODEL.match(_WRAPPER.sub("", str(name))) if isinstance(value, Tensor) else None
        if match:
            parts.setdefault(match[1], set()).add(match[2])
    for prefix, heads in parts.items():
        if "text_encoder" in heads and len(heads) > 1:
            yield place, prefix, content
    for name, value in content.items():
        yield from _models(value, f"{place}{name}.", depth + 1)


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
