"""Zero-shot items of the generated world in the formats of SVO-Probes, image-text retrieval and paragraphs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from relpretrain.synthetic import wording
from relpretrain.synthetic.benchmarks import any_relation, foil_relation, write_image
from relpretrain.synthetic.hold_out import Combination, canonical
from relpretrain.synthetic.world import Scene, World
from relpretrain.writing import write_text

Scenes = Iterator[tuple[Scene, np.random.Generator]]

_PATIENCE = 20
"""Scenes in a row, for each that a gallery holds, whose text it has already; then it is taken to be complete."""


def write_svo(path: Path, images: Path, world: World, scenes: Scenes, items: int) -> None:
    """Write SVO-Probes: a sentence, an image of which it is true, and one in which one of its parts differs.

    The sentences are those of VSR, and the relation plays the verb. The rows are JSON lines as fine-grained-evals has
    them, because the authors' table knows images only as JPEG files, which would blur such small ones.

    Args:
        path: The JSONL file.
        images: Folder of the images.
        world: Where the negative images come from.
        scenes: Endless positive images, with the generators that further choices are drawn from; one of which no
            negative is found is passed over.
        items: Number of items.

    Raises:
        ValueError: If negatives are hardly ever found.
    """
    lines: list[str] = []
    for tried, (scene, rng) in enumerate(scenes):
        number = len(lines)
        if number == items:
            break
        if tried > _PATIENCE * (number + 10):
            raise ValueError(
                f"Only {number} of {items} SVO items were found: what is held out leaves hardly a negative image. "
                "Lower hold_out_pairs, hold_out_combinations or objects."
            )
        relation = any_relation(scene, rng)
        positive = (scene.labels_of(relation)[0], relation.relation, scene.labels_of(relation)[1])
        part = number % 3
        found = _negative(scene, positive, part, world, rng)
        if found is None:
            continue
        negative, other = found
        names = [f"svo-{number:05d}-{role}.png" for role in ("positive", "negative")]
        for name, image in zip(names, (scene, other), strict=True):
            write_image(images / name, image)
        item = {
            "caption": wording.sentence(*positive),
            "pos_image": names[0],
            "neg_image": names[1],
            "pos_triplet": ",".join(positive),
            "neg_triplet": ",".join(negative),
            **{flag: part == i for i, flag in enumerate(("subj_neg", "verb_neg", "obj_neg"))},
        }
        lines.append(json.dumps(item) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(lines))


def _negative(
    scene: Scene, positive: Combination, part: int, world: World, rng: np.random.Generator
) -> tuple[Combination, Scene] | None:
    """What is true of the negative image in place of the sentence, and that image.

    The composition in the negative image is held out just as that in the positive one is, unless a held-out one has no
    such counterpart.
    """
    subject, name, object = positive
    held_out = world.held_out
    status = held_out.status(*positive)
    forbidden = status == "held out"
    if part == 1:
        relation = next(r for r in scene.topics if (*scene.labels_of(r), r.relation) == (subject, object, name))
        foils = [(subject, foil_relation(scene, relation, world, rng), object)]
    else:
        absent = [kind for kind in world.kinds if kind not in scene.labels]
        foils = [(kind, name, object) if part == 0 else (subject, name, kind) for kind in absent]
        foils = [foils[i] for i in rng.permutation(len(foils))]
        alike = [foil for foil in foils if held_out.status(*foil) == status]
        foils = [*alike, *(foil for foil in foils if foil not in alike and forbidden)]
    for foil in foils:
        replaced = dict(zip(positive[::2], foil[::2], strict=True))
        labels = [replaced.get(label, label) for label in scene.labels]
        if any(held_out.parts(*pair) for pair in itertools.combinations(labels, 2) if set(pair) != set(foil[::2])):
            continue
        if other := world.arranged(labels, rng, [canonical(*foil)], set(foil[::2]) if forbidden else ()):
            return foil, other
    return None


def write_retrieval(path: Path, images: Path, splits: dict[str, Scenes], number: int) -> dict[str, int]:
    """Write galleries for retrieval as Karpathy's file, an image and its plain caption each.

    All captions of a gallery differ, so that exactly one text belongs to an image: a gallery cannot hold more images
    than the world has captions.

    Args:
        path: The JSON file.
        images: Folder of the images.
        splits: Endless scenes by split, "val" or "test".
        number: Images in each gallery.

    Returns:
        The images that each gallery holds.
    """
    records: list[dict[str, Any]] = []
    sizes = {}
    for split, scenes in splits.items():
        gallery = _gallery(scenes, number, lambda scene: wording.plain_caption(scene.labels))
        sizes[split] = len(gallery)
        for i, (text, scene) in enumerate(gallery.items()):
            name = f"retrieval-{split}-{i:05d}.png"
            write_image(images / name, scene)
            records.append({"filename": name, "split": split, "sentences": [{"raw": text}]})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"images": records, "dataset": "synthetic"}) + "\n")
    return sizes


def write_paragraphs(folder: Path, images: Path, splits: dict[str, Scenes], number: int) -> dict[str, int]:
    """Write galleries for retrieval by long texts, in the format of Stanford Paragraphs.

    A paragraph says all that is there and every annotated relation. All texts of a gallery differ; images of the same
    things in another arrangement come by chance.

    Args:
        folder: Where the JSON files go.
        images: Folder of the images.
        splits: Endless scenes by split, "val" or "test".
        number: Images in each gallery.

    Returns:
        The images that each gallery holds.
    """
    records: list[dict[str, Any]] = []
    sizes = {}
    folder.mkdir(parents=True, exist_ok=True)
    for split, scenes in splits.items():
        gallery = _gallery(scenes, number, paragraph)
        sizes[split] = len(gallery)
        ids = [len(records) + i for i in range(len(gallery))]
        for i, (text, scene) in zip(ids, gallery.items(), strict=True):
            name = f"paragraphs/{split}-{i:05d}.png"
            write_image(images / name, scene)
            records.append({"image_id": i, "url": name, "paragraph": text})
        write_text(folder / f"{split}_split.json", json.dumps(ids) + "\n")
    write_text(folder / "paragraphs_v1.json", json.dumps(records) + "\n")
    return sizes


def paragraph(scene: Scene) -> str:
    """All that is there and every annotated relation."""
    ends = ((scene.labels_of(relation), relation.relation) for relation in scene.graph.relations)
    return wording.paragraph(scene.labels, [(subject, name, object) for (subject, object), name in ends])


def _gallery(scenes: Scenes, number: int, text_of: Callable[[Scene], str]) -> dict[str, Scene]:
    """The first scenes with different texts, by text."""
    gallery: dict[str, Scene] = {}
    repeated = 0
    for scene, _ in scenes:
        text = text_of(scene)
        repeated = repeated + 1 if text in gallery else 0
        gallery.setdefault(text, scene)
        if len(gallery) >= number or repeated > _PATIENCE * (len(gallery) + 10):
            break
    return gallery
