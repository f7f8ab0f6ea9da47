"""A small world to learn from without any download: shards, tokenizer, relations and zero-shot benchmarks.

`relpretrain data synthetic DIR` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from relpretrain.data.shards import ShardWriter
from relpretrain.data.synthetic import wording
from relpretrain.data.synthetic.benchmarks import write_valse, write_vsr
from relpretrain.data.synthetic.render import encode_png
from relpretrain.data.synthetic.world import INVERSES, RELATIONS, Scene, World
from relpretrain.data.text import write_wordpiece
from relpretrain.scene_graph import RelationVocabulary

__all__ = ["RELATIONS", "Scene", "World", "generate"]

_SPLITS = ("captions", "regions", "graphs", "validation", "vsr-dev", "vsr-test", "valse")


def generate(
    out: str | Path,
    seed: int = 0,
    images_captions: int = 6000,
    images_regions: int = 3000,
    images_graphs: int = 6000,
    images_validation: int = 600,
    items_vsr: int = 600,
    items_valse: int = 400,
    image_size: int = 32,
    objects: int = 2,
    shapes: tuple[str, ...] = ("square",),
    colors: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "cyan"),
    relations: tuple[str, ...] = RELATIONS,
    relational_captions: float = 0.1,
    noise: int = 6,
    mutual: bool = False,
    overwrite: bool = False,
) -> Path:
    """Render a world of coloured shapes into a folder.

    It holds shards in `captions/` (a caption each), `regions/` (objects with boxes), `graphs/` (objects and every
    relation that is clearly true) and `validation/` (all three, of other scenes); a `tokenizer/`; the relations'
    vocabulary `relations.json`; and `benchmarks/` with `vsr/synthetic/{dev,test}.jsonl`, VALSE files in `valse/` and
    their `images/`. `world.json`, written last, tells how it was made. Equal arguments give equal bytes, and every
    scene is drawn from its own seed, so that no two splits share one.

    Args:
        out: The folder, made if absent.
        seed: Where everything is drawn from.
        images_captions: Images with captions.
        images_regions: Images with boxes.
        images_graphs: Images with scene graphs.
        images_validation: Held-out images with all of these.
        items_vsr: VSR items: a third in dev, the rest in test.
        items_valse: Items in each VALSE file.
        image_size: Side of the square images in pixels.
        objects: Objects in a scene, all of different kinds.
        shapes: Shapes, of square, circle, triangle, diamond, cross.
        colors: Colours, of red, green, blue, yellow, purple, orange, cyan, black.
        relations: Relations, of left of, right of, above, below.
        relational_captions: Share of the captions that mention a relation.
        noise: Largest deviation of a background pixel, of 255.
        mutual: Whether both directions of a relation are annotated, or always the same one for equal scenes.
        overwrite: Replace shards that are there already.

    Raises:
        ValueError: If no such world can be made.
        FileExistsError: If the folder holds shards already and `overwrite` is not set.
    """
    world = World(image_size, objects, tuple(shapes), tuple(colors), tuple(relations), noise, mutual)
    if len(world.relations) < 2:
        raise ValueError(f"The only relation is {world.relations[0]!r}, but a foil needs another one.")
    if not 0 <= relational_captions <= 1:
        raise ValueError(f"relational_captions is {relational_captions}, but a share lies between 0 and 1.")
    out = Path(out)
    if overwrite:
        (out / "world.json").unlink(missing_ok=True)

    def scenes(split: str, count: int) -> Iterator[tuple[Scene, np.random.Generator]]:
        for number in range(count):
            rng = np.random.default_rng([seed, _SPLITS.index(split), number])
            yield world.scene(rng), rng

    counts = dict(zip(_SPLITS, (images_captions, images_regions, images_graphs, images_validation), strict=False))
    for split, count in counts.items():
        with ShardWriter(out / split, overwrite=overwrite) as writer:
            for number, (scene, rng) in enumerate(scenes(split, count)):
                key = f"{split}-{number:06d}"
                record = _record(key, scene, split, relational_captions, rng)
                writer.write(key, encode_png(scene.pixels), "png", record)

    write_wordpiece([*world.kinds, *RELATIONS, *wording.WORDS], out / "tokenizer")
    inverses = {a: b for a, b in INVERSES.items() if a in world.relations and b in world.relations}
    RelationVocabulary(world.relations, inverses=inverses, source="synthetic").save(out / "relations.json")
    images = out / "benchmarks" / "images"
    for split, count in (("dev", items_vsr // 3), ("test", items_vsr - items_vsr // 3)):
        path = out / "benchmarks" / "vsr" / "synthetic" / f"{split}.jsonl"
        write_vsr(path, images, world, scenes(f"vsr-{split}", count))
    write_valse(out / "benchmarks" / "valse", images, world, scenes("valse", items_valse))
    made = {"seed": seed, **counts, "relational_captions": relational_captions, **asdict(world)}
    (out / "world.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return out


def _record(key: str, scene: Scene, split: str, relational_captions: float, rng: np.random.Generator) -> dict[str, Any]:
    """The JSON of a sample, with what its split is about."""
    height, width, _ = scene.pixels.shape
    record: dict[str, Any] = {"image_id": key, "source": "synthetic", "width": width, "height": height}
    if split in ("captions", "validation"):
        record["captions"] = [_caption(scene, relational_captions, rng)]
    if split != "captions":
        record["entities"] = scene.graph.to_json()["entities"]
    if split in ("graphs", "validation"):
        record["relations"] = scene.graph.to_json()["relations"]
    return record


def _caption(scene: Scene, relational: float, rng: np.random.Generator) -> str:
    choice = rng.random()
    if rng.random() < relational:
        relation = scene.truths[int(rng.integers(len(scene.truths)))]
        say = wording.phrase if choice < 0.5 else wording.sentence
        subject, object = scene.labels_of(relation)
        return say(subject, relation.relation, object)
    return wording.plain_caption(scene.labels)
