"""Where a model looks: Grad-CAM for words, relations, foils and MRC, its figures, and a page (`relpretrain explain`).

    loaded = relpretrain.load("runs/rex_vlm/checkpoints/last.ckpt")
    found = relpretrain.explain.text_maps(loaded, image, ["a dog on a sofa"])[0]
    found.of("dog")  # (rows, columns)

`maps` makes the maps of a model; what is here measures them against boxes and shows them. The public names below are
imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relpretrain.explain.drawing import overlay
    from relpretrain.explain.maps.boxes import box_scores, energy_inside, points_inside
    from relpretrain.explain.maps.contrast import Contrast, contrast_map
    from relpretrain.explain.maps.embeddings import EmbeddingMap, embedding_maps
    from relpretrain.explain.maps.mrc import MRCMap, mrc_maps
    from relpretrain.explain.maps.relations import RelationMap, relation_maps
    from relpretrain.explain.maps.texts import TextMap, text_maps

_HOMES = {
    **dict.fromkeys(("box_scores", "energy_inside", "points_inside"), "maps.boxes"),
    **dict.fromkeys(("Contrast", "contrast_map"), "maps.contrast"),
    **dict.fromkeys(("EmbeddingMap", "embedding_maps"), "maps.embeddings"),
    **dict.fromkeys(("MRCMap", "mrc_maps"), "maps.mrc"),
    **dict.fromkeys(("RelationMap", "relation_maps"), "maps.relations"),
    **dict.fromkeys(("TextMap", "text_maps"), "maps.texts"),
    "overlay": "drawing",
}

__all__ = [
    "Contrast",
    "EmbeddingMap",
    "MRCMap",
    "RelationMap",
    "TextMap",
    "box_scores",
    "contrast_map",
    "embedding_maps",
    "energy_inside",
    "mrc_maps",
    "overlay",
    "points_inside",
    "relation_maps",
    "text_maps",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
