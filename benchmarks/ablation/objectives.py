"""The arms that newer methods add: all see the same images and the same texts of graphs, and differ in what they do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.ablation.design import ARMS

CLASSES = {"foils": "TextFoil", "units": "RelationUnits", "several": "MultiPositive"}
"""The objectives that the recipe does not have, and their classes."""
_AS_IT_IS: Mapping[str, Any] = {}
_INSTEAD_OF_ITC: Mapping[str, Any] = {"itc": 0.0}
_OF_FOILS: dict[str, dict[str, Mapping[str, Any]]] = {
    "+NegCLIP": {"vsg": _INSTEAD_OF_ITC, "foils": {"preset": "negclip"}},
    "+TSVLC": {"vsg": _INSTEAD_OF_ITC, "foils": {"preset": "tsvlc"}},
    "+CE-CLIP": {"vsg": _INSTEAD_OF_ITC, "foils": {"preset": "ce_clip"}},
    "+FSC-CLIP": {"vsg": {}, "foils": {"preset": "fsc_clip"}},
    "+SGVL": {"vsg": {}, "foils": {"preset": "sgvl"}},
    "+MultiPositive": {"vsg": _INSTEAD_OF_ITC, "several": {}},
    "+both+units": {"vsg": {}, "mrc": {}, "units": {}},
    "+both+foils": {"vsg": {}, "mrc": {}, "foils": {}},
}
OBJECTIVES: dict[str, dict[str, Mapping[str, Any]]] = {
    **{arm: dict.fromkeys(names, _AS_IT_IS) for arm, names in ARMS.items()},
    **_OF_FOILS,
}
"""The objectives of each arm on graphs, with the arguments that differ from the recipe's.

"+VSG" trains on the same further texts as all others, without any foil. ITC of VSG is left out where an objective takes
its place: foils as further columns, or several positives.
"""


def add_objectives(objectives: dict[str, Any], arm: str) -> None:
    """Write an arm's objectives on graphs into a recipe that has VSG and MRC."""
    for name in ("vsg", "mrc"):
        if name not in OBJECTIVES[arm]:
            del objectives[name]
    for name, arguments in OBJECTIVES[arm].items():
        if name not in objectives:
            objectives[name] = {"class_path": CLASSES[name], "init_args": {}}
        objectives[name]["init_args"] |= arguments


def add_words(stream: dict[str, Any], world: Path, arm: str) -> None:
    """Let the foils of a stream, if its arm has any, say what the world says: other words would give them away."""
    if CLASSES.keys().isdisjoint(OBJECTIVES[arm]):
        return
    made = json.loads((world / "world.json").read_text(encoding="utf-8"))
    stream["foil_names"] = [f"{color} {shape}" for color in made["colors"] for shape in made["shapes"]]
    stream["foil_words"] = [*made["relations"], *made["colors"]]
