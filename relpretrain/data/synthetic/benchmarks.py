"""Zero-shot items of the generated world, in the formats of VSR and VALSE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from relpretrain.data.synthetic import wording
from relpretrain.data.synthetic.render import encode_png
from relpretrain.data.synthetic.world import Scene, World
from relpretrain.scene_graph import Relation

PIECES = {"relations": "relations", "actant-swap": "actions", "existence": "existence", "foil-it": "noun phrases"}
"""VALSE's files that can be generated, with what each calls its phenomenon."""


def write_vsr(path: Path, images: Path, world: World, scenes: Iterator[tuple[Scene, np.random.Generator]]) -> None:
    """Write a VSR file: sentences about one image each, every other one false.

    Args:
        path: The JSONL file; the images' names begin with its stem.
        images: Folder of the images.
        world: Where the relations of false sentences come from.
        scenes: One scene for each item, with the generator that further choices are drawn from.
    """
    lines = []
    for number, (scene, rng) in enumerate(scenes):
        relation = _any_relation(scene, rng)
        label = (number + 1) % 2
        name = relation.relation if label else _other(relation.relation, world.relations, rng)
        item = {
            "image": f"vsr-{path.stem}-{number:05d}.png",
            "image_link": "",
            "caption": wording.sentence(scene.labels_of(relation)[0], name, scene.labels_of(relation)[1]),
            "label": label,
            "relation": name,
            "annotator_id": 0,
            "vote_true_validator_id": [0] * label,
            "vote_false_validator_id": [0] * (1 - label),
        }
        _write_image(images / str(item["image"]), scene)
        lines.append(json.dumps(item) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")


def write_valse(folder: Path, images: Path, world: World, scenes: Iterator[tuple[Scene, np.random.Generator]]) -> None:
    """Write VALSE's files: one item about each scene in each of `PIECES`.

    Args:
        folder: Where the JSON files go.
        images: Folder of the images.
        world: Where foils come from.
        scenes: The scenes, with the generators that further choices are drawn from.
    """
    files: dict[str, dict[str, Any]] = {piece: {} for piece in PIECES}
    for number, (scene, rng) in enumerate(scenes):
        image = f"valse-{number:05d}.png"
        _write_image(images / image, scene)
        for piece, foiled in _foils(scene, world, rng).items():
            files[piece][f"{piece}_synthetic_{number}"] = {
                "dataset": "synthetic",
                "original_split": "test",
                "dataset_idx": number,
                "image_file": image,
                "linguistic_phenomena": PIECES[piece],
                **foiled,
                "mturk": {"caption": 3, "foil": 0, "other": 0},
            }
    folder.mkdir(parents=True, exist_ok=True)
    for piece, items in files.items():
        (folder / f"{piece}.json").write_text(json.dumps(items, indent=1) + "\n", encoding="utf-8")


def _foils(scene: Scene, world: World, rng: np.random.Generator) -> dict[str, dict[str, str]]:
    """Caption, foil and the words in which they differ, by VALSE's file names."""
    relation = _any_relation(scene, rng)
    subject, object = scene.labels_of(relation)
    name = relation.relation
    false_name = _other(name, world.relations, rng)
    present = scene.labels[int(rng.integers(world.objects))]
    absent = _other(present, [kind for kind in world.kinds if kind not in scene.labels], rng)
    foiled = [absent if label == present else label for label in scene.labels]

    def item(caption: str, foil: str, classes: str, classes_foil: str) -> dict[str, str]:
        return {"caption": caption, "foil": foil, "classes": classes, "classes_foil": classes_foil}

    swapped = wording.phrase(object, name, subject)
    return {
        "relations": item(
            wording.phrase(subject, name, object), wording.phrase(subject, false_name, object), name, false_name
        ),
        "actant-swap": item(wording.phrase(subject, name, object), swapped, subject, object),
        "existence": item(present, absent, present, absent),
        "foil-it": item(wording.plain_caption(scene.labels), wording.plain_caption(foiled), present, absent),
    }


def _any_relation(scene: Scene, rng: np.random.Generator) -> Relation:
    return scene.truths[int(rng.integers(len(scene.truths)))]


def _other(name: str, names: list[str] | tuple[str, ...], rng: np.random.Generator) -> str:
    others = [other for other in names if other != name]
    return others[int(rng.integers(len(others)))]


def _write_image(path: Path, scene: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(scene.pixels))
