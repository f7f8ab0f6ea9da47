"""Which panels of a run belong together, and what a model that knows nothing would have in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from relpretrain.scene_graph import RelationVocabulary

RUN = "The run"
"""The group of what belongs to no objective."""

_CAPTIONS = "Captions"
_RUN_WORDS = ("per_second", "temperature", "seconds", "wait", "norm", "memory", "left_out", "skipped")
_PARTS: dict[str, tuple[str, ...]] = {
    **{"ITC": ("itc",), "ITM": ("itm",), "MLM": ("mlm",)},
    **dict.fromkeys(("VSG", "VMA"), ("itc", "itm", "mlm")),
}
"""Losses of an objective of which chance is known, by its class."""

_MATCHING = 3
"""Pairs of an image in ITM: the true one, and a false text and a false image of its own."""


def panel_of(column: str) -> str:
    """Name of the panel that a column is drawn in: "train/itc" and "val/itc" share one."""
    return column.split("/", 1)[-1]


def group_of(panel: str) -> str:
    """The objective that a panel is about, or the run as a whole."""
    if panel in ("loss", "left_out") or panel.endswith("_loss") or any(word in panel for word in _RUN_WORDS):
        return RUN
    head = panel.split("_")[0]
    return _CAPTIONS if head in ("itc", "itm", "mlm") else head.upper()


def grouped(panels: Iterable[str]) -> dict[str, list[str]]:
    """Panels by group, the run last; within a group losses come before accuracies."""
    found: dict[str, list[str]] = {}
    for panel in sorted(dict.fromkeys(panels), key=lambda panel: "accuracy" in panel):
        found.setdefault(group_of(panel), []).append(panel)
    whole = {RUN: found.pop(RUN)} if RUN in found else {}
    return {name: found[name] for name in sorted(found, key=lambda name: name != _CAPTIONS)} | whole


def chances(settings: Mapping[str, Any]) -> dict[str, float]:
    """What knowing nothing of the images gives, by panel, as far as a run's settings tell.

    ITC: one of the batch's texts, drawn evenly. ITM: one of three pairs is true. MLM: a word of the vocabulary, drawn
    evenly. MRC: the relations by their frequency in the vocabulary's counts, and for its accuracy the most frequent
    one; without counts all relations alike.

    Args:
        settings: Content of the run's config.yaml.
    """
    model, streams = _part(settings, "model"), _part(_part(settings, "data"), "streams")
    arguments = _part(_part(model, "backbone"), "init_args")
    queued = arguments.get("momentum") and arguments.get("queue_size")  # further negatives
    words = _whole(arguments.get("vocab_size"))
    found: dict[str, float] = {}
    for name in _part(model, "objectives"):
        objective = _part(model["objectives"], name)
        kind = str(objective.get("class_path")).rpartition(".")[2]
        texts = {_texts(own) for own in streams.values() if name in _named(own)}
        for part in _PARTS.get(kind, ()):
            panel = f"{name}_{part}" if kind in ("VSG", "VMA") else name
            if part == "itm":
                found[panel] = math.log(_MATCHING) - (1 - 1 / _MATCHING) * math.log(_MATCHING - 1)
                found[f"{panel}_accuracy"] = 1 - 1 / _MATCHING
            elif part == "mlm" and words:
                found[panel] = math.log(words)
            elif part == "itc" and len(texts) == 1 and not queued and (number := min(texts)):
                found[panel], found[f"{panel}_accuracy"] = math.log(number), 1 / number
        if kind == "MRC" and (shares := _shares(_part(objective, "init_args").get("vocabulary", "gqa"))):
            found[name] = -sum(share * math.log(share) for share in shares if share)
            found[f"{name}_accuracy"] = max(shares)
    return found


def shared_chances(runs: Mapping[str, Mapping[str, Any]], known: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What knowing nothing gives in all runs alike, by panel: runs with batches of other sizes have no line together.

    Args:
        runs: Curves by column, by the name of the run.
        known: Their `chances`, by the name of the run.
    """
    values: dict[str, set[float | None]] = {}
    for name, curves in runs.items():
        for panel in set(map(panel_of, curves)):
            values.setdefault(panel, set()).add(known[name].get(panel))
    return {panel: value for panel, own in values.items() if len(own) == 1 and (value := next(iter(own))) is not None}


def read_settings(log: Path) -> dict[str, Any]:
    """The settings beside a metrics.csv; empty where there are none that can be read."""
    try:
        found = yaml.safe_load(log.with_name("config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _part(of: Any, name: str) -> Mapping[str, Any]:
    """A part of settings that has names; empty where there is none: a trainer of one's own has other settings."""
    found = of.get(name) if isinstance(of, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _named(stream: Any) -> Sequence[Any]:
    """The objectives of a stream."""
    found = stream.get("objectives") if isinstance(stream, Mapping) else None
    return found if isinstance(found, list | tuple) else ()


def _texts(stream: Mapping[str, Any]) -> int:
    """Texts of a joint batch; 0 where that is not told."""
    each = stream.get("entities_per_image", 4) if stream.get("kind") == "regions" else 1
    return _whole(stream.get("batch_size", 1)) * _whole(each)


def _whole(value: Any) -> int:
    """A whole number above 0; 0 for whatever else is there."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _shares(vocabulary: Any) -> list[float]:
    """Share of each relation; empty where the vocabulary cannot be had. Settings that a run saved hold it whole."""
    try:
        if isinstance(vocabulary, Mapping):
            known = RelationVocabulary.from_json(vocabulary.get("init_args") or {})
        else:
            known = RelationVocabulary.load(str(vocabulary))
    except (KeyError, TypeError, ValueError, OSError):
        return []
    counts = [known.counts.get(name, 0) for name in known.names]
    return [count / sum(counts) for count in counts] if any(counts) else [1 / len(counts)] * len(counts)
