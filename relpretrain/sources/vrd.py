"""VRD: visual relationship detection (Lu et al., ECCV 2016), from its JSON annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relpretrain.progress import Meter
from relpretrain.sources.common.annotation import Annotation, RawEntity, check_folder
from relpretrain.sources.common.files import inside, json_items, json_pairs
from relpretrain.sources.common.values import identity


def read_vrd(
    images: Path,
    annotations: Path,
    objects: Path | None = None,
    predicates: Path | None = None,
    *,
    dropped: Counter[str],
    meter: Meter | None = None,
) -> Iterator[Annotation]:
    """Read images with scene graphs, in the order of the annotation file.

    Objects of one category with one box are one entity.

    Args:
        images: Folder of the images.
        annotations: `annotations_train.json` or `annotations_test.json`; boxes are [y_min, y_max, x_min, x_max].
        objects: `objects.json`, the categories' names; by default the one beside `annotations`.
        predicates: `predicates.json`, the relations' names; by default likewise.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ValueError: If a file is absent or not in VRD's format.
    """
    check_folder(images)
    labels = _names(objects or annotations.with_name("objects.json"))
    relations = _names(predicates or annotations.with_name("predicates.json"))
    for name, triplets in json_pairs(annotations, "VRD annotations", meter):
        if isinstance(triplets, dict) and "predicate" in triplets:
            triplets = [triplets]  # a single one
        if triplets is not None and not isinstance(triplets, list):
            raise ValueError(
                f"{annotations} is not in VRD's format: expected a list of triplets for each image, got "
                f"{str(triplets)[:60]} for {name}"
            )
        path = inside(images, name)
        yield _annotation(path, triplets or [], labels, relations, dropped)


def _names(path: Path) -> list[str]:
    names = list(json_items(path, "a list of names"))
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} is not in VRD's format: expected a list of names")
    return names


def _annotation(
    path: Path, triplets: list[Any], labels: list[str], names: list[str], dropped: Counter[str]
) -> Annotation:
    entities: list[RawEntity] = []
    relations: list[tuple[int, str, int]] = []
    numbers: dict[tuple[str, tuple[Any, ...]], int] = {}
    for triplet in triplets:
        try:
            ends = [_end(triplet[end], labels) for end in ("subject", "object")]
            name = names[_number(triplet["predicate"])]
            new = dict.fromkeys(end for end in ends if end not in numbers)
        except (KeyError, TypeError, IndexError, ValueError):
            dropped["malformed_relation"] += 1
            continue
        for label, box in new:
            numbers[label, box] = len(entities)
            entities.append(RawEntity(label, box))
        subject, object_ = (numbers[end] for end in ends)
        relations.append((subject, name, object_))
    return Annotation(path, path.stem, entities=entities, relations=relations)


def _end(item: dict[str, Any], labels: list[str]) -> tuple[str, tuple[Any, ...]]:
    y_min, y_max, x_min, x_max = item["bbox"]
    return labels[_number(item["category"])], (x_min, y_min, x_max, y_max)


def _number(value: Any) -> int:
    found = identity(value) or ""
    if not found.isdecimal():
        raise ValueError(f"expected the number of a name, got {value!r}")
    return int(found)
