"""Images with boxes and triplets as HICO-DET and Open Images publish them, and which triplets training rarely has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from relpretrain.sources.common.annotation import Annotation
from relpretrain.sources.hico import Combination, held_out, read_hico
from relpretrain.sources.hico_names import VERBS, gerund
from relpretrain.sources.open_images import read_open_images
from relpretrain.zeroshot.tasks.relations.graph_files import GraphImage, image_of

RARE = 10
"""A combination with fewer training triplets is rare, as in HICO-DET."""
FILES = {"hico": "test_hico.json", "open_images": "oidv6-test-annotations-vrd.csv"}
TRAIN = {"hico": "trainval_hico.json", "open_images": "oidv6-train-annotations-vrd.csv"}
CLASSES = ("oidv6-class-descriptions.csv", "oidv6-attributes-description.csv")


@dataclass(frozen=True)
class DetectionSplit:
    """A data set's test split.

    Args:
        images: Its images, those with at least one triplet.
        relations: The relations to choose from.
        groups: Of each image, the names of the groups that each of its triplets is in; None without training's files.
        people: Whether subjects are people, so that no other pairs are predicted for.
        fractions: Whether boxes are fractions of the image.
        notes: What was left out.
    """

    images: tuple[GraphImage, ...]
    relations: tuple[str, ...]
    groups: tuple[tuple[tuple[str, ...], ...], ...] | None
    people: bool
    fractions: bool
    notes: tuple[str, ...] = ()


def read_detection(folder: Path, name: str) -> DetectionSplit:
    """Read a test split, and beside it the training split's annotations if they are there.

    Args:
        folder: Where the files lie.
        name: "hico" or "open_images".

    Raises:
        ValueError: If the file is absent or not in its format.
    """
    test, train = folder / FILES[name], folder / TRAIN[name]
    if not test.is_file():
        raise ValueError(f"{folder} holds no {FILES[name]}, the annotations of this benchmark.")
    dropped: Counter[str] = Counter()
    read: Callable[[Path, Counter[str]], Iterable[Annotation]] = _hico if name == "hico" else _open_images
    found = list(read(test, dropped))
    counts = _combinations(read(train, Counter())) if train.is_file() else None
    if name == "hico":
        relations = tuple(map(gerund, VERBS))
    else:
        every = {relation for annotation in found for _, relation, _ in annotation.relations}
        relations = tuple(sorted(every | {relation for relation, _ in counts or ()}))
    graphs = [image_of(annotation, set(relations), dropped) for annotation in found]
    graphs = [graph for graph in graphs if graph.triplets]
    notes = (f"left out: {', '.join(f'{reason} {n:,}' for reason, n in dropped.items() if n)}",) if +dropped else ()
    groups = None if counts is None else _grouped(graphs, counts)
    if counts is not None:
        graphs = [replace(g, zero_shot=tuple((r, g.labels[o]) not in counts for _, o, r in g.triplets)) for g in graphs]
    return DetectionSplit(tuple(graphs), relations, groups, name == "hico", name == "open_images", notes)


def _hico(path: Path, dropped: Counter[str]) -> Iterable[Annotation]:
    return read_hico(path.parent, path, dropped=dropped)


def _open_images(path: Path, dropped: Counter[str]) -> Iterable[Annotation]:
    classes = [path.parent / name for name in CLASSES if (path.parent / name).is_file()]
    if not classes:
        raise ValueError(f"{path} needs {CLASSES[0]} beside it, the names of its classes.")
    return read_open_images(path.parent, path, classes, dropped=dropped)


def _combinations(annotations: Iterable[Annotation]) -> Counter[Combination]:
    found: Counter[Combination] = Counter()
    for annotation in annotations:
        found.update((str(r), str(annotation.entities[o].label)) for s, r, o in annotation.relations if s != o)
    return found


def _grouped(graphs: Iterable[GraphImage], counts: Counter[Combination]) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """The groups of each triplet, by its relation and object: rare or not, and held out in which zero-shot split."""
    hidden = {f"unseen, {order}": held_out(counts, order) for order in ("rare-first", "non-rare-first")}

    def groups(combination: Combination) -> tuple[str, ...]:
        frequency = "rare" if counts[combination] < RARE else "non-rare"
        return frequency, *(name for name, some in hidden.items() if combination in some)

    return tuple(tuple(groups((r, graph.labels[o])) for _, o, r in graph.triplets) for graph in graphs)
