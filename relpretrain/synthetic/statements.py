"""Zero-shot items of the generated world on what is said of one image: hard positives, and whose attribute is whose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relpretrain.synthetic import wording
from relpretrain.synthetic.benchmarks import any_relation, foil_relation, write_image
from relpretrain.synthetic.probes import Scenes
from relpretrain.synthetic.relations import INVERSE, SYMMETRIC
from relpretrain.synthetic.render import parse_label
from relpretrain.synthetic.world import World
from relpretrain.writing import write_text

_PATIENCE = 50
"""Scenes for each item, after which one is given up."""


def write_hard_positives(folder: Path, images: Path, world: World, scenes: Scenes, items: int) -> None:
    """Write hard positives: a relation, the same from the other side, and a text that is false.

    False is another relation of the same two things or, by a coin, subject and object exchanged.

    Args:
        folder: Where the files of the authors' two folders go.
        images: Folder of the images.
        world: Where false relations come from.
        scenes: Endless scenes, with the generators that further choices are drawn from.
        items: Number of items.

    Raises:
        ValueError: If relations have no inverse in the world.
    """
    rows: tuple[list[dict[str, str]], list[dict[str, str]]] = ([], [])
    for tried, (scene, rng) in enumerate(scenes):
        number = len(rows[0])
        if number == items:
            break
        if tried > _PATIENCE * (number + 10):
            raise ValueError(
                f"Only {number} of {items} hard positives were found: relations need their inverses, as left of has "
                "right of. Name more relations, or set items_hard_positives to 0."
            )
        relation = any_relation(scene, rng)
        (subject, object), name = scene.labels_of(relation), relation.relation
        inverse = INVERSE[name]
        if inverse not in world.relations:
            continue
        false = wording.phrase(subject, foil_relation(scene, relation, world, rng), object)
        if name not in SYMMETRIC and rng.random() < 0.5:
            false = wording.phrase(object, name, subject)
        image = f"hard-positive-{number:05d}.png"
        write_image(images / image, scene)
        true = wording.phrase(subject, name, object), wording.phrase(object, inverse, subject)
        for found, text in zip(rows, true, strict=True):
            found.append({"image_path": image, "true_caption": text, "false_caption": false})
    for name, found in zip(("data", "swapped_data"), rows, strict=True):
        _dump(folder / name / "vl_checklist_relations.json", found)


def write_attribution(path: Path, images: Path, scenes: Scenes, items: int) -> None:
    """Write ARO's attribution: two things with their colours, and with each other's colours.

    Args:
        path: The JSON file.
        images: Folder of the images.
        scenes: Endless scenes, with the generators that further choices are drawn from.
        items: Number of items.

    Raises:
        ValueError: If things hardly ever differ in colour and shape.
    """
    rows: list[dict[str, Any]] = []
    for tried, (scene, rng) in enumerate(scenes):
        number = len(rows)
        if number == items:
            break
        if tried > _PATIENCE * (number + 10):
            raise ValueError(
                f"Only {number} of {items} items on attributes were found: things must differ in colour and shape. "
                "Name more shapes and colors, or set items_attribution to 0."
            )
        pair = [scene.labels[i] for i in rng.permutation(len(scene.labels))[:2].tolist()]
        swapped = _swapped(pair)
        if swapped is None or set(swapped) & set(scene.labels):
            continue
        image = f"attribution-{number:05d}.png"
        write_image(images / image, scene)
        height, width, _ = scene.pixels.shape
        rows.append(
            {
                "image_path": image,
                "true_caption": wording.plain_caption(pair),
                "false_caption": wording.plain_caption(swapped),
                "attributes": [parse_label(label).color for label in pair],
                **{"bbox_x": 0, "bbox_y": 0, "bbox_w": width, "bbox_h": height},
            }
        )
    _dump(path, rows)


def _swapped(pair: Sequence[str]) -> tuple[str, str] | None:
    """Two labels with each other's colours; None where that says the same."""
    one, other = map(parse_label, pair)
    words = [label.split() for label in pair]
    if one.color == other.color or one.shape == other.shape:
        return None
    swap = {one.color: other.color, other.color: one.color}
    first, second = (" ".join(swap.get(word, word) for word in label) for label in words)
    return first, second


def _dump(path: Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(rows, indent=1) + "\n")
