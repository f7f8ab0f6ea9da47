"""Graphs of a world's annotated images from sources other than an annotator who is always right.

All are of the same images with the same boxes, and tell one triplet of an image at most: an annotator who errs (a dial
of the world), a parser that reads one caption of each image, and a tagger that looks at the boxes, both of them the
commands of the package. What each says is told by `quality`.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from benchmarks.ablation.design import Graphs
from relpretrain.cli import main as relpretrain
from relpretrain.data.shards import ShardWriter
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.sources.common.dropped import Dropped
from relpretrain.synthetic import generate
from relpretrain.synthetic.relations import true_relations
from relpretrain.tagging.held_out import holding
from relpretrain.tagging.shards import TagSample, read_shard
from relpretrain.training.command.cli import run as fit
from relpretrain.training.progress import lightning_says_to

WORDINGS: Mapping[str, Sequence[str]] = {
    "left of": ("to the left of", "on the left of", "left of"),
    "right of": ("to the right of", "on the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
"""How captions say a relation: what a parser reads is named as the vocabulary has it."""
SENTENCES = ("The {} is {} the {}.", "a {} {} a {}", "There is a {} {} a {}.")
THRESHOLD = 0.05
"""Lowest calibrated confidence of a tagged triplet, of which the surest one of each image counts."""
TAGGER_IMAGES, TAGGER_STEPS = 40, 200
"""Images with true graphs that the tagger is trained on, and its steps: few, for where things are is soon learned."""
NOISE: dict[Graphs, float] = {"noise-0.1": 0.1, "noise-0.3": 0.3}
_NO_PROBES = {"items_vsr": 3, "items_valse": 2, "items_svo": 0, "items_retrieval": 0, "images_validation": 1}
_NAMES = {wording: name for name, wordings in WORDINGS.items() for wording in wordings}

Record = dict[str, Any]


class Quality(NamedTuple):
    """What graphs say of images, held against what is true of them, whichever way round it is said.

    Args:
        precision: Share of the triplets that are true.
        recall: Share of what is true that they tell.
        triplets: Number of the triplets.
        images: Number of the images.
    """

    precision: float
    recall: float
    triplets: int
    images: int


def make_graphs(world: Path, seed: int, options: Mapping[str, Any], shards: Sequence[str]) -> None:
    """Make the graphs of annotators who err and of a parser, in folders of a world, unless they are there.

    Args:
        world: The world's folder.
        seed: Its seed.
        options: What it was generated with.
        shards: Those of its annotated images, the first of all.
    """
    number = len(shards) * options["shard_size"]
    for source, noise in NOISE.items():
        few = {"images_captions": number, "images_graphs": number, "label_noise": noise, **_NO_PROBES}
        if not (world / f"graphs_{source}").is_dir():
            made = generate(world / "noisy", seed=seed, overwrite=True, **{**options, **few})  # the very same scenes
            (made / "graphs").rename(world / f"graphs_{source}")
            shutil.rmtree(made)
    rng = np.random.default_rng([seed, *b"captions"])
    vocabulary = RelationVocabulary.load(world / "relations.json")
    parse = ["--parser", "lexicon", "--synonyms", "table", "--workers", "1"]
    _label(world, "parsed", shards, lambda sample: _described(sample, vocabulary, rng), parse)


def make_tagger(world: Path, base: Mapping[str, Any], seed: int, shards: Sequence[str], more: Sequence[str]) -> None:
    """Train a tagger on a few images with true graphs, and let it tag the boxes of others, unless that is done.

    Args:
        world: The world's folder.
        base: A recipe with the model and its optimizer.
        seed: Of the tagger's weights and the order of its data.
        shards: Those of the annotated images.
        more: Further ones, with true graphs: the last one calibrates the tagger, the first images of others train it.
    """
    if (world / "graphs_tagged").is_dir():
        return
    _write(world / "tagger_graphs", more[:-1], lambda sample: sample.packed.record, TAGGER_IMAGES)
    recipe = tagger_recipe(base, world, seed)
    path, checkpoint = world / "tagger.yaml", str(world / "tagger" / "checkpoints" / "last.ckpt")
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    with (world / "tagger.txt").open("w") as log, redirect_stdout(log), redirect_stderr(log), lightning_says_to(log):
        fit(["fit", "-c", str(path), "--overwrite"])
        _call(["data", "calibrate", checkpoint, more[-1]])
    tag = ["--tagger", checkpoint, "--top-k", "1", "--threshold", str(THRESHOLD)]
    _label(world, "tagged", shards, lambda sample: sample.packed.record, tag)


def tagger_recipe(base: Mapping[str, Any], world: Path, seed: int) -> dict[str, Any]:
    """The recipe of the tagger: head and model are trained together from nothing, as models here are small."""
    head = {"class_path": "RelationTagger", "init_args": {"vocabulary": str(world / "relations.json")}}
    stream = {
        **{"kind": "graphs", "datasets": {"world": str(world / "tagger_graphs")}, "batch_size": 48},
        **{"objectives": ["tagger"], "min_scale": 0.6, "flip": 0, "color": False},
    }
    data = {name: base["data"][name] for name in ("tokenizer", "image_size", "num_workers")}
    return {
        **{"run": str(world / "tagger"), "seed_everything": seed},
        "trainer": {**base["trainer"], "max_steps": TAGGER_STEPS, "callbacks": []},
        "model": {
            **{"backbone": base["model"]["backbone"], "optimizer": base["model"]["optimizer"]},
            "objectives": {"tagger": head},
        },
        "data": {**data, "streams": {"graphs": stream}},
    }


def quality(shards: Sequence[str], vocabulary: RelationVocabulary) -> Quality:
    """Hold the graphs of shards of a generated world against the truth, which their boxes tell."""
    told = right = recalled = true = images = 0
    for sample in _samples(shards):
        truth, said = _truth(sample, vocabulary), sample.graph.relations
        told += len(said)
        right += sum((r.subject, vocabulary.index(r.relation), r.object) in truth for r in said)
        recalled += len(holding(sample.graph, vocabulary) & truth)
        true, images = true + len(truth), images + 1
    return Quality(right / told if told else float("nan"), recalled / true if true else float("nan"), told, images)


def _truth(sample: TagSample, vocabulary: RelationVocabulary) -> set[tuple[int, int, int]]:
    """What is true of the things in an image: subject, class and object, in both directions."""
    boxes = [(number, entity.box) for number, entity in enumerate(sample.graph.entities) if entity.box is not None]
    found = {
        (s, vocabulary.index(name), o)
        for (s, subject), (o, object) in itertools.permutations(boxes, 2)
        for name in true_relations(subject, object, sample.image.size[0])
    }
    return {(s, number, o) for s, number, o in found if number is not None}


def _described(sample: TagSample, vocabulary: RelationVocabulary, rng: np.random.Generator) -> Record:
    """A record with boxes as people name them, a noun and what it is like, and a caption that tells a relation."""
    truth = sorted(_truth(sample, vocabulary))
    subject, number, object = truth[int(rng.integers(len(truth)))]
    wordings = WORDINGS[vocabulary.names[number]]
    record = sample.packed.record
    labels = [entity["label"] for entity in record["entities"]]
    parts = labels[subject], wordings[int(rng.integers(len(wordings)))], labels[object]
    named = [label.rpartition(" ") for label in labels]
    entities = [
        {**entity, "label": noun, "attributes": like.split()}
        for entity, (like, _, noun) in zip(record["entities"], named, strict=True)
    ]
    caption = SENTENCES[int(rng.integers(len(SENTENCES)))].format(*parts)
    return {**record, "entities": entities, "captions": [caption]}


def _label(
    world: Path, source: Graphs, shards: Sequence[str], prepare: Callable[[TagSample], Record], options: Sequence[str]
) -> None:
    """Let `relpretrain data label` make the graphs of images, unless they are there.

    The entities stay as they were, and of each image's triplets the surest one that the vocabulary has.

    Args:
        world: The world's folder.
        source: Name of the graphs.
        shards: The images with true graphs.
        prepare: The record that is labelled, whose relations are left out.
        options: Of the command.
    """
    out, unlabelled, labelled = (world / name for name in (f"graphs_{source}", f"{source}_in", f"{source}_out"))
    if out.is_dir():
        return
    for folder in (unlabelled, labelled):
        shutil.rmtree(folder, ignore_errors=True)
    _write(unlabelled, shards, lambda s: {k: v for k, v in prepare(s).items() if k != "relations"})
    _call(["data", "label", str(unlabelled), "--out", str(labelled), *options])
    found = {sample.packed.key: sample for sample in _samples(sorted(map(str, labelled.glob("*.tar"))))}
    known = RelationVocabulary.load(world / "relations.json")

    def surest(sample: TagSample) -> Record:
        number = len(sample.graph.entities)
        told = [
            (r.confidence, {"subject": r.subject, "relation": name, "object": r.object, "confidence": r.confidence})
            for r in found[sample.packed.key].graph.relations
            if known.index(name := _NAMES.get(r.relation, r.relation)) is not None and max(r.subject, r.object) < number
        ]
        best = max(told, key=lambda one: one[0], default=None)
        return {**sample.packed.record, "relations": [] if best is None else [best[1]]}

    made = world / f"{source}_made"
    shutil.rmtree(made, ignore_errors=True)
    _write(made, shards, surest)
    made.rename(out)
    for folder in (unlabelled, labelled):
        shutil.rmtree(folder)


def _write(folder: Path, shards: Sequence[str], change: Callable[[TagSample], Record], most: int | None = None) -> None:
    """Copy shards, with other records; only the first samples if a number is given."""
    size = max(sum(1 for _ in _samples([shard])) for shard in shards)
    with ShardWriter(folder, size, overwrite=True) as writer:
        for sample in itertools.islice(_samples(shards), most):
            writer.write(sample.packed.key, sample.packed.image, sample.packed.extension, change(sample))


def _samples(shards: Sequence[str]) -> Iterator[TagSample]:
    """All samples of shards in their order."""
    for shard in shards:
        yield from read_shard(shard, Dropped())


def _call(command: list[str]) -> None:
    """Carry out a command of the package.

    Raises:
        RuntimeError: If it fails; it has said why.
    """
    if relpretrain(command):
        raise RuntimeError(f"relpretrain {' '.join(command[:3])} failed")
