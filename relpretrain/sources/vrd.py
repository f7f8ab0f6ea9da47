"""VRD: visual relationship detection (Lu et al., ECCV 2016), from its JSON annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relpretrain.scene_graph import Box, Entity, GraphError, Relation, SceneGraph, fit_box
from relpretrain.sources.common import SourceRecord, check_folder, load_json, make_record, probe_image


def read_vrd(
    images: Path,
    annotations: Path,
    objects: Path | None = None,
    predicates: Path | None = None,
    *,
    dropped: Counter[str],
    source: str = "vrd",
) -> Iterator[SourceRecord]:
    """Read images with scene graphs, in the order of the annotation file.

    Objects of one category with one box are one entity. A triplet that is annotated twice is kept once.

    Args:
        images: Folder of the images.
        annotations: `annotations_train.json` or `annotations_test.json`; boxes are [y_min, y_max, x_min, x_max].
        objects: `objects.json`, the categories' names; by default the one beside `annotations`.
        predicates: `predicates.json`, the relations' names; by default likewise.
        dropped: Counts what was left out, by reason.
        source: Name that the records carry.

    Raises:
        ValueError: If a file is absent or not in VRD's format.
    """
    check_folder(images)
    labels = _names(objects or annotations.with_name("objects.json"))
    relations = _names(predicates or annotations.with_name("predicates.json"))
    content = load_json(annotations, "VRD annotations")
    if not isinstance(content, dict) or not all(isinstance(triplets, list) for triplets in content.values()):
        raise ValueError(f"{annotations} is not in VRD's format: expected a list of triplets for each image")

    for name, triplets in content.items():
        path = images / name
        file = probe_image(path, dropped)
        if file is None:
            continue
        graph = _graph(triplets, labels, relations, file.width, file.height, dropped)
        if not graph.entities:
            dropped["image_without_annotation"] += 1
            continue
        yield SourceRecord(path, file.extension, make_record(path.stem, source, file, **graph.to_json()))


def _names(path: Path) -> list[str]:
    names = load_json(path, "a list of names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} is not in VRD's format: expected a list of names")
    return names


def _graph(
    triplets: list[Any], labels: list[str], names: list[str], width: int, height: int, dropped: Counter[str]
) -> SceneGraph:
    numbers: dict[Entity, int] = {}
    relations: dict[Relation, None] = {}
    for triplet in triplets:
        try:
            ends = [_entity(triplet[end], labels, width, height) for end in ("subject", "object")]
            name = names[_number(triplet["predicate"])]
        except GraphError as error:
            dropped[error.reason] += 1
            continue
        except (KeyError, TypeError, IndexError, ValueError):
            dropped["malformed_relation"] += 1
            continue
        subject, object_ = (numbers.setdefault(entity, len(numbers)) for entity in ends)
        relation = Relation(subject, name, object_)
        if relation in relations:
            dropped["repeated_relation"] += 1
        relations[relation] = None
    return SceneGraph(tuple(numbers), tuple(relations))


def _entity(item: dict[str, Any], labels: list[str], width: int, height: int) -> Entity:
    y_min, y_max, x_min, x_max = item["bbox"]
    return Entity(labels[_number(item["category"])], fit_box(Box(x_min, y_min, x_max, y_max), width, height))


def _number(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"expected the number of a name, got {value!r}")
    return value
