"""Zero-shot items of the generated world, in the formats of VSR and VALSE.

Where compositions are held out, a text and its foil are both of them or both not, if the world has such a foil: the
opposite relation of a held-out one is held out too. So nobody can tell the two apart by having read one of them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relpretrain.scene_graph import Relation
from relpretrain.synthetic import wording
from relpretrain.synthetic.hold_out import prefer
from relpretrain.synthetic.relations import SYMMETRIC, foils
from relpretrain.synthetic.render import encode_png
from relpretrain.synthetic.world import Scene, World
from relpretrain.writing import aside, write_text

PIECES = {
    "relations": "relations",
    "actant-swap": "actions",
    "existence": "existence",
    "foil-it": "noun phrases",
    "counting-small-quant": "counting",
}
"""VALSE's files that can be generated, with what each calls its phenomenon. Counting needs scenes of several sizes."""


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
        relation = any_relation(scene, rng)
        label = (number + 1) % 2
        name = relation.relation if label else foil_relation(scene, relation, world, rng)
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
        write_image(images / str(item["image"]), scene)
        lines.append(json.dumps(item) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(lines))


def write_valse(folder: Path, images: Path, world: World, scenes: Iterator[tuple[Scene, np.random.Generator]]) -> None:
    """Write VALSE's files: one item about each scene in each of `PIECES`.

    Args:
        folder: Where the JSON files go.
        images: Folder of the images.
        world: Where foils come from.
        scenes: The scenes, with the generators that further choices are drawn from.
    """
    counted = world.numbers[0] < world.numbers[1]
    files: dict[str, dict[str, Any]] = {piece: {} for piece in PIECES if counted or piece != "counting-small-quant"}
    for number, (scene, rng) in enumerate(scenes):
        image = f"valse-{number:05d}.png"
        write_image(images / image, scene)
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
        write_text(folder / f"{piece}.json", json.dumps(items, indent=1) + "\n")


def any_relation(scene: Scene, rng: np.random.Generator) -> Relation:
    """One of a scene's topics."""
    return scene.topics[int(rng.integers(len(scene.topics)))]


def foil_relation(scene: Scene, relation: Relation, world: World, rng: np.random.Generator) -> str:
    """A relation that is clearly false of the same two things, and held out just as the true one is."""
    subject, object = scene.labels_of(relation)
    status = world.held_out.status
    own = status(subject, relation.relation, object)
    return choose(
        prefer(foils(relation.relation, world.relations), lambda name: status(subject, name, object) == own), rng
    )


def choose(candidates: Sequence[str], rng: np.random.Generator) -> str:
    """One of them by chance."""
    return candidates[int(rng.integers(len(candidates)))]


def write_image(path: Path, scene: Scene) -> None:
    """Write a scene as a PNG file, into a folder that is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path, durable=False) as file:
        file.write(encode_png(scene.pixels))


def _foils(scene: Scene, world: World, rng: np.random.Generator) -> dict[str, dict[str, str]]:
    """Caption, foil and the words in which they differ, by VALSE's file names."""
    relation = any_relation(scene, rng)
    subject, object = scene.labels_of(relation)
    name = relation.relation
    false_name = foil_relation(scene, relation, world, rng)
    present, absent, foiled = _foil_thing(scene, world, rng)

    def item(caption: str, foil: str, classes: str, classes_foil: str) -> dict[str, str]:
        return {"caption": caption, "foil": foil, "classes": classes, "classes_foil": classes_foil}

    items = {
        "relations": item(
            wording.phrase(subject, name, object), wording.phrase(subject, false_name, object), name, false_name
        ),
        "existence": item(present, absent, present, absent),
        "foil-it": item(wording.plain_caption(scene.labels), wording.plain_caption(foiled), present, absent),
    }
    for subject, name, object in _swappable(scene, relation, world)[:1]:
        true, swapped = wording.phrase(subject, name, object), wording.phrase(object, name, subject)
        items["actant-swap"] = item(true, swapped, subject, object)
    fewest, most = world.numbers
    if fewest < most:
        number = len(scene.labels)
        other = int(choose([str(n) for n in range(fewest, most + 1) if n != number], rng))
        caption, foil = (wording.count(n, world.shapes) for n in (number, other))
        items["counting-small-quant"] = item(caption, foil, str(number), str(other))
    return items


def _swappable(scene: Scene, first: Relation, world: World) -> list[tuple[str, str, str]]:
    """The first relation or else others, held out as it is, whose swapped text is false and as new to a reader."""
    status = world.held_out.status
    relations = (first, *scene.topics, *scene.truths)
    texts = [(scene.labels_of(r)[0], r.relation, scene.labels_of(r)[1]) for r in relations]
    own = status(*texts[0])
    return [(s, r, o) for s, r, o in texts if r not in SYMMETRIC and status(s, r, o) == status(o, r, s) == own]


def _foil_thing(scene: Scene, world: World, rng: np.random.Generator) -> tuple[str, str, list[str]]:
    """Something that is there, something that is not, and the scene's things with that in its place."""
    present = choose(scene.labels, rng)
    replaced = {k: [k if label == present else label for label in scene.labels] for k in world.kinds}
    absent = [kind for kind in world.kinds if kind not in scene.labels]
    parted = _parted(scene.labels, world)
    chosen = choose(prefer(absent, lambda kind: _parted(replaced[kind], world) == parted), rng)
    return present, chosen, replaced[chosen]


def _parted(labels: Sequence[str], world: World) -> bool:
    """Whether two of these never stand together in training."""
    return any(world.held_out.parts(*pair) for pair in itertools.combinations(labels, 2))
