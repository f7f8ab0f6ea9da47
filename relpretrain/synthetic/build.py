"""From options to a folder: shards, tokenizer, relations and zero-shot benchmarks of a generated world."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from relpretrain.data.pipeline.tokenizer import write_wordpiece
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.progress import Meter
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.synthetic import wording
from relpretrain.synthetic.benchmarks import write_valse, write_vsr
from relpretrain.synthetic.hold_out import Combination, choose_held_out, combinations_of
from relpretrain.synthetic.options import WorldOptions
from relpretrain.synthetic.probes import Scenes, write_paragraphs, write_retrieval, write_svo
from relpretrain.synthetic.records import Annotator
from relpretrain.synthetic.relations import INVERSES, RELATIONS
from relpretrain.synthetic.render import encode_png
from relpretrain.synthetic.statements import write_attribution, write_hard_positives
from relpretrain.synthetic.world import Scene, World
from relpretrain.writing import write_text

_SPLITS = (
    *("captions", "regions", "graphs", "validation", "vsr-dev", "vsr-test", "valse"),
    *("svo", "retrieval-val", "retrieval-test", "paragraphs-val", "paragraphs-test"),
    *("hard_positives", "attribution"),
)
_ASKED_FOR = ("svo", "hard_positives", "aro", "coco_retrieval", "paragraphs")
_FOLDERS = ("benchmarks", "held_out_pairs", "held_out_combinations")


def generate(
    out: str | Path,
    options: WorldOptions | None = None,
    *,
    overwrite: bool = False,
    meter: Meter | None = None,
    **changes: Any,
) -> Path:
    """Render a world of coloured shapes into a folder.

    It holds shards in `captions/` (a caption each), `regions/` (objects with boxes), `graphs/` (objects and every
    relation that is clearly true) and `validation/` (all three, of other scenes); a `tokenizer/`; the relations'
    vocabulary `relations.json`; and `benchmarks/` with `vsr/synthetic/{dev,test}.jsonl`, VALSE files in `valse/`,
    where asked for `svo/`, `hard_positives/`, `aro/`, `coco_retrieval/` and `paragraphs/`, and all their `images/`.
    `world.json`, written last, tells how it was made. Equal arguments give equal bytes, and every scene is drawn from
    its own seed, so that no two splits share one.

    What is held out comes in no shard. The folders `held_out_pairs/` and `held_out_combinations/` are like
    `benchmarks/` (without retrieval and attributes), but all their items on relations are about what is held out, and
    those of `benchmarks/` are about what is not. Held-out relations of two kinds come by opposites, so that a text on a
    relation and its foil are both held out or both not, as long as `relations` holds both opposites; the negative
    images of SVO are likewise where the verb differs, and else where the world has such a composition.

    Args:
        out: The folder, made if absent.
        options: What the world is like.
        overwrite: Replace shards and probes that are there already.
        meter: Told of every image.
        changes: Fields of `WorldOptions` that are other than `options` has them.

    Raises:
        TypeError: If there is no such field.
        ValueError: If no such world can be made.
        FileExistsError: If the folder holds shards already and `overwrite` is not set.
    """
    options = replace(options or WorldOptions(), **changes)
    world, annotator = _world(options)
    counts = _counts(options)
    world.scene(np.random.default_rng(options.seed))  # refuses what cannot be drawn before anything is written
    out, meter = Path(out), meter or Meter()
    if overwrite:
        (out / "world.json").unlink(missing_ok=True)
        for stale in (*_FOLDERS[1:], *(f"benchmarks/{task}" for task in _ASKED_FOR)):
            shutil.rmtree(out / stale, ignore_errors=True)

    meter.begin("rendering shards", sum(counts.values()))
    drawn = _write_shards(out, annotator, counts, options, overwrite, meter)
    counting = [*wording.COUNTING_WORDS, wording.counted(world.shapes)] if world.numbers[0] < world.numbers[1] else []
    write_wordpiece([*world.kinds, *RELATIONS, *world.relations, *wording.WORDS, *counting], out / "tokenizer")
    inverses = {a: b for a, b in INVERSES.items() if a in world.relations and b in world.relations}
    RelationVocabulary(world.relations, inverses=inverses, source="synthetic").save(out / "relations.json")

    sought = (options.items_svo, options.items_hard_positives, options.items_attribution)
    drawn_until_they_fit = any((*sought, options.items_retrieval, options.items_paragraphs))
    folders = 1 + sum(map(bool, _topics(world)[1:]))
    items = 0 if drawn_until_they_fit else folders * (options.items_vsr + options.items_valse)
    meter.begin("rendering benchmarks", items)
    for number, topics in enumerate(_topics(world)):
        if topics or not number:
            _write_probes(_Folder(out / _FOLDERS[number], world, options.seed, number, topics, meter), options)
    galleries = _write_galleries(_Folder(out / _FOLDERS[0], world, options.seed, meter=meter), options)
    told = [
        *("relational_captions", "counting_captions", "caption_noise", "label_noise", "relational_sentences"),
        *("omitted_relations", "one_corpus", "alike", "mirrored", "shard_size"),
    ]
    made = {
        "seed": options.seed,
        **counts,
        **{name: getattr(options, name) for name in told},
        **asdict(world),
        "galleries": galleries,
        "drawn": drawn,
    }
    write_text(out / "world.json", json.dumps(made, indent=1) + "\n")
    return out


def _world(options: WorldOptions) -> tuple[World, Annotator]:
    """The world, with what it holds out, and who writes down what its scenes show."""
    given = {f.name: getattr(options, f.name) for f in fields(World) if hasattr(options, f.name)}
    given = {name: tuple(value) if isinstance(value, (tuple, list)) else value for name, value in given.items()}
    fewest, most = (
        (options.objects,) * 2 if isinstance(options.objects, int) else (options.objects[0], options.objects[-1])
    )
    world = World(**given | {"objects": fewest if fewest == most else (fewest, most)})
    held_out = choose_held_out(
        world.kinds, world.relations, options.hold_out_pairs, options.hold_out_combinations, options.seed
    )
    world = replace(world, held_out=held_out)
    return world, Annotator(world, **{f.name: getattr(options, f.name) for f in fields(Annotator) if f.name != "world"})


def _counts(options: WorldOptions) -> dict[str, int]:
    """Images of each split; the shards must be able to hold them."""
    counts = {split: getattr(options, f"images_{split}") for split in _SPLITS[:4]}
    for split in ("regions", "graphs"):
        if options.one_corpus and counts[split] > counts["captions"]:
            raise ValueError(
                f"images_{split} is {counts[split]}, but in one_corpus they are among the images_captions, of which "
                f"there are {counts['captions']}."
            )
    alike, mirrored = options.alike, options.mirrored
    if alike < 1 or options.shard_size % alike:
        raise ValueError(
            f"alike is {alike} and shard_size {options.shard_size}, but shards hold whole groups of images alike."
        )
    if not 0 <= mirrored <= 1 or (mirrored and alike == 1):
        raise ValueError(
            f"mirrored is {mirrored} and alike {alike}, but it is a fraction between 0 and 1 of the images that show "
            "the same things as the one before them: set alike to 2 or more."
        )
    return counts


def _write_shards(
    out: Path, annotator: Annotator, counts: dict[str, int], options: WorldOptions, overwrite: bool, meter: Meter
) -> dict[str, Counter[str]]:
    """Write all shards; returns how many statements of which sort each split holds."""
    drawn: dict[str, Counter[str]] = {split: Counter() for split in counts}
    for split, count in counts.items():
        source = "captions" if options.one_corpus and split != "validation" else split
        annotate = annotator if split != "validation" else annotator.clean()
        folder = _Folder(out, annotator.world, options.seed, meter=meter)
        with ShardWriter(out / split, options.shard_size, overwrite=overwrite) as writer:
            scenes = folder.scenes(source, count, 1 if split == "validation" else options.alike, options.mirrored)
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

        So many of them in a row, `alike`, show the same things; a fraction of those, `mirrored`, as in a mirror.
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


def _write_probes(folder: _Folder, options: WorldOptions) -> None:
    home, world, images = folder.home, folder.world, folder.home / "images"
    for split, count in (("dev", options.items_vsr // 3), ("test", options.items_vsr - options.items_vsr // 3)):
        path = home / "vsr" / "synthetic" / f"{split}.jsonl"
        write_vsr(path, images, world, folder.scenes(f"vsr-{split}", count))
    write_valse(home / "valse", images, world, folder.scenes("valse", options.items_valse))
    if options.items_svo:
        write_svo(home / "svo" / "test.jsonl", images, world, folder.scenes("svo"), options.items_svo)
    if items := options.items_hard_positives:
        write_hard_positives(home / "hard_positives", images, world, folder.scenes("hard_positives"), items)
    if (items := options.items_attribution) and not folder.topics:
        path = home / "aro" / "visual_genome_attribution.json"
        write_attribution(path, images, folder.scenes("attribution"), items)


def _write_galleries(folder: _Folder, options: WorldOptions) -> dict[str, dict[str, int]]:
    """Write what is asked for; returns the number of images by gallery and split."""
    sizes = {}
    images = folder.home / "images"
    if options.items_retrieval:
        path = folder.home / "coco_retrieval" / "dataset_synthetic.json"
        splits = {split: folder.scenes(f"retrieval-{split}") for split in ("val", "test")}
        sizes["retrieval"] = write_retrieval(path, images, splits, options.items_retrieval)
    if options.items_paragraphs:
        splits = {split: folder.scenes(f"paragraphs-{split}") for split in ("val", "test")}
        sizes["paragraphs"] = write_paragraphs(folder.home / "paragraphs", images, splits, options.items_paragraphs)
    return sizes


def _topics(world: World) -> tuple[list[tuple[Combination, ...]], ...]:
    """What the relation items of each of `_FOLDERS` are about; nothing in particular for the first."""
    pairs = [combinations_of(pair, world.relations) for pair in world.held_out.pairs]
    return [], [found for found in pairs if found], [(combination,) for combination in world.held_out.combinations]
