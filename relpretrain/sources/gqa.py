"""GQA (Hudson and Manning, CVPR 2019), from its scene graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relpretrain.progress import Meter
from relpretrain.sources.common.annotation import Annotation, RawEntity, check_folder, corners
from relpretrain.sources.common.files import inside, json_pairs
from relpretrain.sources.common.values import identity, listed, size_of


def read_gqa(
    images: Path, scene_graphs: Path, *, dropped: Counter[str], meter: Meter | None = None
) -> Iterator[Annotation]:
    """Read images with scene graphs, in the order of the file.

    About half of GQA's relations are "to the left of" and "to the right of", added by rule and in both directions
    (`Rules.inverses`). Images that are listed without objects are left out.

    Args:
        images: Folder of the images, `ID.jpg`.
        scene_graphs: `train_sceneGraphs.json` or `val_sceneGraphs.json`.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ValueError: If the file is absent or not an object.
    """
    check_folder(images)
    for number, graph in json_pairs(scene_graphs, "scene graphs of GQA", meter):
        if not isinstance(graph, dict) or not isinstance(graph.get("objects") or {}, dict):
            dropped["malformed_graph"] += 1
            continue
        entities, relations = _graph(graph.get("objects") or {}, dropped)
        size = size_of(graph.get("width"), graph.get("height"))
        yield Annotation(inside(images, f"{number}.jpg"), number, entities=entities, relations=relations, size=size)


def _graph(objects: dict[str, Any], dropped: Counter[str]) -> tuple[list[RawEntity], list[tuple[int, Any, int]]]:
    entities: list[RawEntity] = []
    numbers: dict[str, int] = {}
    for name, item in objects.items():
        try:
            box = corners(*(item[side] for side in ("x", "y", "w", "h")))
            entity = RawEntity(item["name"], box, listed(item.get("attributes"), dropped, "malformed_attribute"))
        except (KeyError, TypeError):
            dropped["malformed_object"] += 1
            continue
        numbers[name] = len(entities)
        entities.append(entity)
    relations: list[tuple[int, Any, int]] = []
    for name, subject in numbers.items():
        for relation in listed(objects[name].get("relations"), dropped, "malformed_relation"):
            try:
                target, relation_name = identity(relation["object"]), relation["name"]
            except (KeyError, TypeError):
                dropped["malformed_relation"] += 1
                continue
            if target in numbers:
                relations.append((subject, relation_name, numbers[target]))
            else:
                dropped["relation_without_entity"] += 1
    return entities, relations
