"""Images with boxes and triplets for relation classification: VG150, GQA and VRD, as they are published."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relpretrain.reading import read_json
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.sources.common.annotation import Annotation
from relpretrain.sources.common.values import as_number
from relpretrain.sources.gqa import read_gqa
from relpretrain.sources.vrd import read_vrd
from relpretrain.zeroshot.tasks.common.source import list_of_texts, require

Box = tuple[float, float, float, float]

VG150_TABLES = ("VG-SGG-with-attri.h5", "VG-SGG.h5")
VG150_NAMES = ("VG-SGG-dicts-with-attri.json", "VG-SGG-dicts.json")
_UNREADABLE = {1592, 1722, 4616, 4617}  # images that the VG150 table passes over
_TEST = 2  # of its column "split"


@dataclass(frozen=True)
class GraphImage:
    """An image with its entities and triplets.

    Args:
        image: File name of the image; its path once located.
        labels: Names of the entities.
        boxes: (x_min, y_min, x_max, y_max) of each entity, in pixels.
        triplets: Subject and object, as numbers of entities, and name of the relation.
        zero_shot: Whether each triplet's three names never occur together in the training split; empty if not known.
    """

    image: str
    labels: tuple[str, ...]
    boxes: tuple[Box, ...]
    triplets: tuple[tuple[int, int, str], ...]
    zero_shot: tuple[bool, ...] = ()

    def names(self) -> list[tuple[str, str, str]]:
        """The triplets in words."""
        return [(self.labels[s], relation, self.labels[o]) for s, o, relation in self.triplets]


@dataclass(frozen=True)
class GraphSplit:
    """A data set's split.

    Args:
        images: Its images, those with at least one triplet.
        relations: The relations to choose from.
        notes: What was left out.
    """

    images: tuple[GraphImage, ...]
    relations: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_splits(folder: Path) -> dict[str, GraphSplit]:
    """The test splits of the data sets whose files lie in a folder.

    Raises:
        ValueError: If there are none, or a file is not what its name says.
    """
    readers = {"vg150": _vg150, "gqa": _gqa, "vrd": _vrd}
    found = {name: split for name, read in readers.items() if (split := read(folder)) is not None}
    if not found:
        raise ValueError(f"{folder} holds no graphs: no {VG150_TABLES[0]} (VG150), val_sceneGraphs.json (GQA) or "
                         "annotations_test.json (VRD).")  # fmt: skip
    return found


def _gqa(folder: Path) -> GraphSplit | None:
    if not (folder / "val_sceneGraphs.json").is_file():
        return None
    dropped: Counter[str] = Counter()
    train = folder / "train_sceneGraphs.json"
    seen = read_gqa(folder, train, dropped=Counter()) if train.is_file() else None
    names = RelationVocabulary.load("gqa").names
    return _split(read_gqa(folder, folder / "val_sceneGraphs.json", dropped=dropped), seen, names, dropped)


def _vrd(folder: Path) -> GraphSplit | None:
    if not (folder / "annotations_test.json").is_file():
        return None
    dropped: Counter[str] = Counter()
    train = folder / "annotations_train.json"
    seen = read_vrd(folder, train, dropped=Counter()) if train.is_file() else None
    names = tuple(list_of_texts(read_json(folder / "predicates.json", "annotations"), str(folder / "predicates.json")))
    return _split(read_vrd(folder, folder / "annotations_test.json", dropped=dropped), seen, names, dropped)


def _split(
    test: Iterable[Annotation],
    train: Iterable[Annotation] | None,
    relations: tuple[str, ...],
    dropped: Counter[str],
) -> GraphSplit:
    images = [found for annotation in test if (found := image_of(annotation, set(relations), dropped)).triplets]
    notes = (f"left out: {', '.join(f'{reason} {n:,}' for reason, n in dropped.items())}",) if dropped else ()
    if train is not None:
        seen = {triplet for annotation in train for triplet in image_of(annotation, set(relations), Counter()).names()}
        images = [_mark(image, seen) for image in images]
    return GraphSplit(tuple(images), relations, notes)


def image_of(annotation: Annotation, relations: set[str], dropped: Counter[str]) -> GraphImage:
    """An annotated image with those of its triplets whose relations are known.

    Raises:
        ValueError: If a box is not four numbers.
    """
    assert isinstance(annotation.image, Path)
    triplets = []
    for subject, name, target in annotation.relations:
        if name in relations and subject != target:
            triplets.append((subject, target, str(name)))
        else:
            dropped["relation of itself" if subject == target else "relation outside the vocabulary"] += 1
    boxes = tuple(tuple(as_number(side) for side in entity.box or ()) for entity in annotation.entities)
    for box, entity in zip(boxes, annotation.entities, strict=True):
        if len(box) != 4 or not all(map(math.isfinite, box)):
            raise ValueError(
                f"The box of {entity.label!r} in {annotation.image} must be four numbers, "
                f"not {list(entity.box or ())!r}."
            )
    labels = tuple(str(entity.label) for entity in annotation.entities)
    return GraphImage(annotation.image.name, labels, boxes, tuple(triplets))  # type: ignore[arg-type]


def _mark(image: GraphImage, seen: set[tuple[str, str, str]]) -> GraphImage:
    return replace(image, zero_shot=tuple(names not in seen for names in image.names()))


def _vg150(folder: Path) -> GraphSplit | None:
    """VG150 (Xu et al., CVPR 2017): boxes of the table are centres and sizes in an image whose long side is 1,024."""
    path = next((folder / name for name in VG150_TABLES if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        import h5py
    except ImportError as error:
        raise ValueError(f'Reading {path} needs h5py: pip install "relpretrain[benchmarks]".') from error
    dicts = next((folder / name for name in VG150_NAMES if (folder / name).is_file()), folder / VG150_NAMES[0])
    if not dicts.is_file() or not (folder / "image_data.json").is_file():
        raise ValueError(f"{path} needs {dicts.name} and image_data.json beside it.")
    names = read_json(dicts, "annotations")
    require(names, ("idx_to_label", "idx_to_predicate"), str(dicts))
    images = read_json(folder / "image_data.json", "annotations")
    try:
        with h5py.File(path, "r") as table:
            return _vg150_split(table, names, images)
    except (LookupError, TypeError) as error:
        raise ValueError(f"{path}, {dicts.name} and image_data.json are not those of VG150: {type(error).__name__}: "
                         f"{error}") from error  # fmt: skip


def _vg150_split(table: Any, names: dict[str, Any], images: list[dict[str, Any]]) -> GraphSplit:
    images = [image for image in images if image["image_id"] not in _UNREADABLE]
    columns = ("split", "img_to_first_box", "img_to_last_box", "img_to_first_rel", "img_to_last_rel")
    split, first_box, last_box, first_rel, last_rel = (table[column][:] for column in columns)
    if len(split) != len(images):
        raise ValueError(f"VG150's table is of {len(split):,} images, image_data.json of {len(images):,}.")
    boxes, classes = table["boxes_1024"][:].astype(float), table["labels"][:, 0]
    ends, predicates = table["relationships"][:], table["predicates"][:, 0]
    seen: set[tuple[str, str, str]] = set()
    found: list[GraphImage] = []
    for number, info in enumerate(images):
        if first_box[number] < 0 or first_rel[number] < 0:
            continue
        rows = slice(first_box[number], last_box[number] + 1)
        scale = max(info["width"], info["height"]) / 1024
        centre, size = boxes[rows, :2] * scale, boxes[rows, 2:] * scale
        corners = [
            tuple(map(float, (*low, *high))) for low, high in zip(centre - size / 2, centre + size / 2, strict=True)
        ]
        labels = tuple(names["idx_to_label"][str(c)] for c in classes[rows])
        chosen = range(first_rel[number], last_rel[number] + 1)
        triplets = tuple(
            (*(int(end) for end in ends[i] - first_box[number]), names["idx_to_predicate"][str(predicates[i])])
            for i in chosen
        )
        image = GraphImage(f"{info['image_id']}.jpg", labels, tuple(corners), triplets)  # type: ignore[arg-type]
        if split[number] == _TEST:
            found.append(image)
        else:
            seen.update(image.names())
    relations = tuple(names["idx_to_predicate"][key] for key in sorted(names["idx_to_predicate"], key=int))
    return GraphSplit(tuple(_mark(image, seen) for image in found), relations)
