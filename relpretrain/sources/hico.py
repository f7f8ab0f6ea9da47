"""HICO-DET: people, objects and what people do with them, from the JSON that detectors of such pairs read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relpretrain.identity import number_of
from relpretrain.progress import Meter
from relpretrain.sources.common.annotation import Annotation, RawEntity, check_folder
from relpretrain.sources.common.files import inside, json_items
from relpretrain.sources.hico_names import OBJECTS, VERBS, gerund

Combination = tuple[str, str]
"""A relation and the object that it is with; the subject is a person."""

SHOTS = {"all": 1.0, "10%": 0.1, "1%": 0.01}
"""Shares of the images that a few-shot split keeps."""
UNSEEN = ("none", "rare-first", "non-rare-first")
UNSEEN_SHARE = 0.2
"""Share of the combinations that a zero-shot split holds out: 120 of HICO-DET's 600."""


def read_hico(
    images: Path,
    annotations: Path,
    shots: str = "all",
    unseen: str = "none",
    *,
    dropped: Counter[str],
    meter: Meter | None = None,
) -> Iterator[Annotation]:
    """Read images with scene graphs, in the order of the annotation file.

    Verbs become phrases ("sit_on": "sitting on"). A person without an object (object -1) has no relation.

    Args:
        images: Folder of the images.
        annotations: `trainval_hico.json` or `test_hico.json`: of each image its boxes (x_min, y_min, x_max, y_max) with
            COCO's category numbers, and which verb a person's box has with which other box.
        shots: "all", or a share of the images: "10%" or "1%" (`few_shot`).
        unseen: Relations of held-out combinations are left out: "rare-first" or "non-rare-first" (`held_out`).
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ValueError: If the file is absent or not in this format.
    """
    check_folder(images)
    chosen = few_shot(_contents(annotations), SHOTS[shots]) if shots != "all" else None
    hidden = held_out(count(annotations), unseen) if unseen != "none" else set()
    for item in json_items(annotations, "HICO-DET annotations", meter=meter):
        name = _name(item, annotations)
        if chosen is not None and name not in chosen:
            dropped["excluded_by_shots"] += 1
            continue
        entities, relations = _graph(item, dropped)
        seen = [r for r in relations if (r[1], entities[r[2]].label) not in hidden]
        dropped["excluded_as_unseen"] += len(relations) - len(seen)
        yield Annotation(inside(images, name), Path(name).stem, entities=entities, relations=seen)


def count(annotations: Path) -> Counter[Combination]:
    """How often each combination occurs.

    Raises:
        ValueError: If the file is absent or not in this format.
    """
    return Counter(combination for _, found in _contents(annotations) for combination in found)


def held_out(counts: Mapping[Combination, int], order: str, share: float = UNSEEN_SHARE) -> set[Combination]:
    """The combinations that a zero-shot split does not train on: made as UC-RF and UC-NF, not their published lists.

    They are taken by frequency, the rarest first ("rare-first", RF) or the most frequent ("non-rare-first", NF), each
    only if its relation and its object still occur in another combination: what is unseen is how they go together.

    Args:
        counts: How often each combination occurs in training.
        order: Which.
        share: How many of them.
    """
    sign = 1 if order == "rare-first" else -1
    wanted = round(share * len(counts))
    left = Counter(part for combination in counts for part in _parts(combination))
    found: set[Combination] = set()
    for combination in sorted(counts, key=lambda c: (sign * counts[c], c)):
        if len(found) < wanted and all(left[part] > 1 for part in _parts(combination)):
            left.subtract(_parts(combination))
            found.add(combination)
    return found


def few_shot(images: Iterator[tuple[str, list[Combination]]], share: float) -> set[str]:
    """Some of the images, with every relation and every object among them (RLIPv2 samples 1 % and 10 % so).

    In an order that depends on names alone, first the images that bring a new relation or object, then others.

    Args:
        images: Names and combinations.
        share: How many of them; more where all relations and objects need more.
    """
    ordered = sorted(((number_of("few_shot", name), name, found) for name, found in images), key=lambda i: i[:2])
    chosen: set[str] = set()
    met: set[tuple[str, str]] = set()
    for _, name, found in ordered:
        parts = {part for combination in found for part in _parts(combination)}
        if parts - met:
            chosen.add(name)
            met |= parts
    for _, name, _found in ordered:
        if len(chosen) < math.ceil(share * len(ordered)):
            chosen.add(name)
    return chosen


def _parts(combination: Combination) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("relation", combination[0]), ("object", combination[1])


def _contents(annotations: Path) -> Iterator[tuple[str, list[Combination]]]:
    for item in json_items(annotations, "HICO-DET annotations"):
        entities, relations = _graph(item, Counter())
        yield _name(item, annotations), [(name, str(entities[o].label)) for _, name, o in relations]


def _name(item: Any, annotations: Path) -> str:
    name = item.get("file_name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not isinstance(item.get("annotations"), list):
        raise ValueError(
            f"{annotations} is not in HICO-DET's format: expected file_name, annotations and hoi_annotation, got "
            f"{str(item)[:60]}"
        )
    return name


def _graph(item: dict[str, Any], dropped: Counter[str]) -> tuple[list[RawEntity], list[tuple[int, str, int]]]:
    """The entities and relations of an image; equal boxes of one category are one entity."""
    entities: list[RawEntity] = []
    numbers: dict[tuple[Any, ...], int] = {}
    of_box: list[int | None] = []
    for box in item["annotations"]:
        try:
            label, corners = OBJECTS[int(str(box["category_id"]).strip())], tuple(map(float, box["bbox"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            dropped["malformed_box"] += 1
            of_box.append(None)
            continue
        if (label, corners) not in numbers:
            numbers[label, corners] = len(entities)
            entities.append(RawEntity(label, corners))
        of_box.append(numbers[label, corners])
    relations: dict[tuple[int, str, int], None] = {}
    for pair in item.get("hoi_annotation") or ():
        try:
            if (target := int(pair["object_id"])) < 0:
                continue
            ends = of_box[_from(0, int(pair["subject_id"]))], of_box[target]
            verb = VERBS[_from(1, int(str(pair["category_id"]).strip())) - 1]
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            dropped["malformed_relation"] += 1
            continue
        if ends[0] is None or ends[1] is None:
            dropped["relation_without_entity"] += 1
        else:
            relations[ends[0], gerund(verb), ends[1]] = None
    return entities, list(relations)


def _from(least: int, number: int) -> int:
    """A number that counts from the least one: in a list, a smaller one would count from its end."""
    if number < least:
        raise IndexError(f"expected a number from {least}, got {number}")
    return number
