"""A small world to learn from without any download: shards, tokenizer, relations and zero-shot benchmarks.

`relpretrain data synthetic DIR` writes it.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from relpretrain.data.pipeline.text import write_wordpiece
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.sources.common.files import Meter
from relpretrain.synthetic import wording
from relpretrain.synthetic.benchmarks import write_valse, write_vsr
from relpretrain.synthetic.hold_out import Combination, choose_held_out, combinations_of
from relpretrain.synthetic.probes import Scenes, write_paragraphs, write_retrieval, write_svo
from relpretrain.synthetic.records import Annotator
from relpretrain.synthetic.relations import INVERSES, RELATIONS
from relpretrain.synthetic.render import encode_png
from relpretrain.synthetic.world import Scene, World

__all__ = ["RELATIONS", "Scene", "World", "generate"]

_SPLITS = (
    *("captions", "regions", "graphs", "validation", "vsr-dev", "vsr-test", "valse"),
    *("svo", "retrieval-val", "retrieval-test", "paragraphs-val", "paragraphs-test"),
)
_FOLDERS = ("benchmarks", "held_out_pairs", "held_out_combinations")


def generate(
    out: str | Path,
    seed: int = 0,
    images_captions: int = 6000,
    images_regions: int = 3000,
    images_graphs: int = 6000,
    images_validation: int = 600,
    items_vsr: int = 600,
    items_valse: int = 400,
    items_svo: int = 0,
    items_retrieval: int = 0,
    items_paragraphs: int = 0,
    image_size: int = 32,
    objects: int | tuple[int, int] = 2,
    shapes: tuple[str, ...] = ("square",),
    colors: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "cyan"),
    sizes: tuple[str, ...] = ("any",),
    textures: tuple[str, ...] = ("plain",),
    clutter: int = 0,
    occlusion: float = 0.0,
    relations: tuple[str, ...] = RELATIONS,
    relational_captions: float = 0.1,
    counting_captions: float = 0.0,
    caption_noise: float = 0.0,
    label_noise: float = 0.0,
    relational_sentences: float = 0.5,
    omitted_relations: float = 0.0,
    noise: int = 6,
    mutual: bool = False,
    hold_out_pairs: float = 0.0,
    hold_out_combinations: float = 0.0,
    one_corpus: bool = False,
    alike: int = 1,
    mirrored: float = 0.0,
    shard_size: int = 1000,
    overwrite: bool = False,
    meter: Meter | None = None,
) -> Path:
    """Render a world of coloured shapes into a folder.

    It holds shards in `captions/` (a caption each), `regions/` (objects with boxes), `graphs/` (objects and every
    relation that is clearly true) and `validation/` (all three, of other scenes); a `tokenizer/`; the relations'
    vocabulary `relations.json`; and `benchmarks/` with `vsr/synthetic/{dev,test}.jsonl`, VALSE files in `valse/`,
    where asked for `svo/`, `coco_retrieval/` and `paragraphs/`, and all their `images/`. `world.json`, written last,
    tells how it was made. Equal arguments give equal bytes, and every scene is drawn from its own seed, so that no two
    splits share one.

    What is held out comes in no shard. The folders `held_out_pairs/` and `held_out_combinations/` are like
    `benchmarks/` (without retrieval), but all their items on relations are about what is held out, and those of
    `benchmarks/` are about what is not. Held-out relations of two kinds come by opposites, so that a text on a relation
    and its foil are both held out or both not, as long as `relations` holds both opposites; the negative images of SVO
    are likewise where the verb differs, and else where the world has such a composition.

    Args:
        out: The folder, made if absent.
        seed: Where everything is drawn from.
        images_captions: Images with captions.
        images_regions: Images with boxes.
        images_graphs: Images with scene graphs.
        images_validation: Held-out images with all of these.
        items_vsr: VSR items: a third in dev, the rest in test.
        items_valse: Items in each VALSE file, but fewer in actant-swap where a scene holds only relations that are the
            same from both sides. A file on counting is among them where scenes differ in their number of objects.
        items_svo: SVO items, a third each with another subject, relation and object in the negative image.
        items_retrieval: Images in each of the galleries val and test, all with different captions that name what is
            there: no more than the world has of them (15 for two objects of six kinds); `world.json` tells how many.
        items_paragraphs: Likewise with texts that also tell every annotated relation.
        image_size: Side of the square images in pixels.
        objects: Objects in a scene, all of different kinds: a number, or the smallest and the largest one, between
            which each scene's is drawn.
        shapes: Shapes, of square, circle, triangle, diamond, cross.
        colors: Colours, of red, green, blue, yellow, purple, orange, cyan, black, white, pink, brown, lime,
            navy, teal. White is faint where the ground is bright, and lime near yellow.
        sizes: Sizes: any, or several of small, medium, large, which are then part of an object's label.
        textures: Textures, of plain, striped, dotted, checked; part of the label where there are several.
        clutter: Small marks on the ground that no text names.
        occlusion: Largest share of an object that another one may hide, up to 0.5; boxes are of whole objects.
        relations: Relations, of left of, right of, above, below, inside, around, on, carrying, near, far from,
            touching, bigger than, smaller than (`relations.true_relations` says when each is true). Where others than
            the first four are named, several may be true of two objects, and most scenes are arranged for one of them.
        relational_captions: Share of the captions that mention a relation.
        counting_captions: Share of the captions that tell the number of objects.
        caption_noise: Share of the captions in `captions/` that are another scene's.
        label_noise: Share of the relations in `graphs/` that are replaced by a false one.
        relational_sentences: Share of the captions that mention a relation which do so in a sentence ("The red square
            is above the blue square."); the others are phrases, as in graphs ("red square above blue square").
        omitted_relations: Share of the relations that `graphs/` does not tell, as people annotate some of what they
            see; of each scene it tells one at least.
        noise: Largest deviation of a background pixel, of 255.
        mutual: Whether both directions of a relation are annotated, or always the same one for equal scenes.
        hold_out_pairs: Share of the pairs of kinds that stand together in no shard; every kind keeps half of its pairs.
        hold_out_combinations: Share of the compositions of the other pairs, as "red square left of blue square", that
            are true in no shard; two kinds that stand together keep some relations.
        one_corpus: Whether regions and graphs are those of the first images with captions, under keys of their own,
            as Visual Genome is a part of a web corpus; else they are of other scenes.
        alike: How many neighbouring images of a shard show the same things, standing otherwise. A stream that deals as
            many `neighbours` together then has batches in which only relations tell images apart, however many kinds
            there are.
        mirrored: Share of those neighbours that show the image before them in a mirror, so that no left, right, above
            or below of it stays true: two things in the direction in which they lie further apart, more in both. Fewer
            where that would show what is held out.
        shard_size: Samples in a shard, a multiple of `alike`. The first shards are a share of the images: a recipe
            takes five of them as `graphs/shard-{000000..000004}.tar`. With `one_corpus`, these are of the images of the
            first five of `captions/`, and the share of images with graphs is `images_graphs` / `images_captions`, or
            less.
        overwrite: Replace shards and probes that are there already.
        meter: Told of every image.

    Raises:
        ValueError: If no such world can be made.
        FileExistsError: If the folder holds shards already and `overwrite` is not set.
    """
    fewest, most = (objects, objects) if isinstance(objects, int) else (objects[0], objects[-1])
    world = World(
        image_size,
        fewest if fewest == most else (fewest, most),
        tuple(shapes),
        tuple(colors),
        tuple(relations),
        noise,
        mutual,
        sizes=tuple(sizes),
        textures=tuple(textures),
        clutter=clutter,
        occlusion=occlusion,
    )
    counts = dict(zip(_SPLITS, (images_captions, images_regions, images_graphs, images_validation), strict=False))
    for split in ("regions", "graphs"):
        if one_corpus and counts[split] > images_captions:
            raise ValueError(
                f"images_{split} is {counts[split]}, but in one_corpus they are among the images_captions, of which "
                f"there are {images_captions}."
            )
    if alike < 1 or shard_size % alike:
        raise ValueError(f"alike is {alike} and shard_size {shard_size}, but shards hold whole groups of images alike.")
    if not 0 <= mirrored <= 1 or (mirrored and alike == 1):
        raise ValueError(
            f"mirrored is {mirrored} and alike {alike}, but it is a share between 0 and 1 of the images that show "
            "the same things as the one before them: set alike to 2 or more."
        )
    chosen = choose_held_out(world.kinds, world.relations, hold_out_pairs, hold_out_combinations, seed)
    world = replace(world, held_out=chosen)
    annotator = Annotator(
        world,
        relational_captions,
        counting_captions,
        caption_noise,
        label_noise,
        relational_sentences,
        omitted_relations,
    )
    world.scene(np.random.default_rng(seed))  # refuses what cannot be drawn before anything is written
    out = Path(out)
    if overwrite:
        (out / "world.json").unlink(missing_ok=True)
        for stale in (*_FOLDERS[1:], *(f"benchmarks/{task}" for task in ("svo", "coco_retrieval", "paragraphs"))):
            shutil.rmtree(out / stale, ignore_errors=True)

    meter = meter or Meter()
    meter.begin("rendering shards", sum(counts.values()))
    drawn = _write_shards(out, annotator, counts, seed, one_corpus, alike, mirrored, shard_size, overwrite, meter)
    drawn_until_they_fit = items_svo or items_retrieval or items_paragraphs
    folders = 1 + sum(map(bool, _topics(world)[1:]))
    meter.begin("rendering benchmarks", 0 if drawn_until_they_fit else folders * (items_vsr + items_valse))
    counting = [*wording.COUNTING_WORDS, wording.counted(world.shapes)] if world.numbers[0] < world.numbers[1] else []
    write_wordpiece([*world.kinds, *RELATIONS, *world.relations, *wording.WORDS, *counting], out / "tokenizer")
    inverses = {a: b for a, b in INVERSES.items() if a in world.relations and b in world.relations}
    RelationVocabulary(world.relations, inverses=inverses, source="synthetic").save(out / "relations.json")
    for number, topics in enumerate(_topics(world)):
        if topics or not number:
            folder = _Folder(out / _FOLDERS[number], world, seed, number, topics, meter)
            _write_probes(folder, items_vsr, items_valse, items_svo)
    galleries = _write_galleries(
        _Folder(out / _FOLDERS[0], world, seed, meter=meter), items_retrieval, items_paragraphs
    )
    made = {
        "seed": seed,
        **counts,
        "relational_captions": relational_captions,
        "counting_captions": counting_captions,
        "caption_noise": caption_noise,
        "label_noise": label_noise,
        "relational_sentences": relational_sentences,
        "omitted_relations": omitted_relations,
        "one_corpus": one_corpus,
        "alike": alike,
        "mirrored": mirrored,
        "shard_size": shard_size,
        **asdict(world),
        "galleries": galleries,
        "drawn": drawn,
    }
    (out / "world.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return out


def _write_shards(
    out: Path,
    annotator: Annotator,
    counts: dict[str, int],
    seed: int,
    one_corpus: bool,
    alike: int,
    mirrored: float,
    shard_size: int,
    overwrite: bool,
    meter: Meter,
) -> dict[str, Counter[str]]:
    """Write all shards; returns how many statements of which sort each split holds."""
    drawn: dict[str, Counter[str]] = {split: Counter() for split in counts}
    for split, count in counts.items():
        source = "captions" if one_corpus and split != "validation" else split
        annotate = annotator if split != "validation" else annotator.clean()
        folder = _Folder(out, annotator.world, seed, meter=meter)
        with ShardWriter(out / split, shard_size, overwrite=overwrite) as writer:
            scenes = folder.scenes(source, count, 1 if split == "validation" else alike, mirrored)
            for number, (scene, rng) in enumerate(scenes):
                record, told = annotate.record(f"{source}-{number:06d}", scene, split, rng)
                writer.write(f"{split}-{number:06d}", encode_png(scene.pixels), "png", record)
                drawn[split] += told
    return drawn


@dataclass(frozen=True)
class _Folder:
    """A folder of scenes: where it is, and what they are drawn from."""

    home: Path
    world: World
    seed: int
    number: int = 0
    topics: Sequence[Sequence[Combination]] = ()
    meter: Meter = field(default_factory=Meter)

    def scenes(self, split: str, count: int | None = None, alike: int = 1, mirrored: float = 0.0) -> Scenes:
        """The scenes of a split, each with the generator it was drawn from; without end where no number is given.

        So many of them in a row, `alike`, show the same things; a share of those, `mirrored`, as in a mirror.
        """
        last: Scene | None = None
        for number in itertools.count() if count is None else range(count):
            own = [self.number] if self.number else []
            rng = np.random.default_rng([self.seed, _SPLITS.index(split), number, *own])
            about = self.topics[int(rng.integers(len(self.topics)))] if self.topics else ()
            things: Sequence[str] = ()
            scene: Scene | None = None
            if alike > 1:
                group = number - number % alike
                things = self.world.things(np.random.default_rng([self.seed, _SPLITS.index(split), group, *b"things"]))
                if last is not None and number > group and mirrored and rng.random() < mirrored:
                    scene = self.world.mirrored(last, rng)
            last = scene or self.world.scene(rng, about, things)
            yield last, rng
            self.meter.advance()


def _write_probes(folder: _Folder, items_vsr: int, items_valse: int, items_svo: int) -> None:
    home, world, images = folder.home, folder.world, folder.home / "images"
    for split, count in (("dev", items_vsr // 3), ("test", items_vsr - items_vsr // 3)):
        path = home / "vsr" / "synthetic" / f"{split}.jsonl"
        write_vsr(path, images, world, folder.scenes(f"vsr-{split}", count))
    write_valse(home / "valse", images, world, folder.scenes("valse", items_valse))
    if items_svo:
        write_svo(home / "svo" / "test.jsonl", images, world, folder.scenes("svo"), items_svo)


def _write_galleries(folder: _Folder, items_retrieval: int, items_paragraphs: int) -> dict[str, dict[str, int]]:
    """Write what is asked for; returns the number of images by gallery and split."""
    sizes = {}
    images = folder.home / "images"
    if items_retrieval:
        path = folder.home / "coco_retrieval" / "dataset_synthetic.json"
        splits = {split: folder.scenes(f"retrieval-{split}") for split in ("val", "test")}
        sizes["retrieval"] = write_retrieval(path, images, splits, items_retrieval)
    if items_paragraphs:
        splits = {split: folder.scenes(f"paragraphs-{split}") for split in ("val", "test")}
        sizes["paragraphs"] = write_paragraphs(folder.home / "paragraphs", images, splits, items_paragraphs)
    return sizes


def _topics(world: World) -> tuple[list[tuple[Combination, ...]], ...]:
    """What the relation items of each of `_FOLDERS` are about; nothing in particular for the first."""
    pairs = [combinations_of(pair, world.relations) for pair in world.held_out.pairs]
    return [], [found for found in pairs if found], [(combination,) for combination in world.held_out.combinations]
