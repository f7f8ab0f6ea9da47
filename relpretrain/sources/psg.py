"""PSG: panoptic scene graphs on COCO images (Yang et al., ECCV 2022), from its JSON file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from relpretrain.progress import Meter
from relpretrain.sources.common.annotation import Annotation, RawEntity, check_folder
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.files import inside, json_items
from relpretrain.sources.common.values import as_number, identity, listed, size_of

WHAT = "panoptic scene graphs"


def read_psg(
    images: Path,
    annotations: Path,
    split: Literal["train", "test", "all"] = "train",
    *,
    dropped: Counter[str],
    meter: Meter | None = None,
) -> Iterator[Annotation]:
    """Read images with scene graphs, in the order of the file.

    One file holds all images; `test_image_ids` lists those for testing. Categories count through the things and then
    the stuff, from 0, and so do predicates. Boxes are [x_min, y_min, x_max, y_max].

    Args:
        images: Folder of COCO that holds `train2017` and `val2017`.
        annotations: `psg.json`.
        split: Which images to read.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ValueError: If the file is absent or not in this format.
    """
    check_folder(images)
    lists = {
        name: list(json_items(annotations, WHAT, f"{name}.item", meter))
        for name in ("thing_classes", "stuff_classes", "predicate_classes", "test_image_ids")
    }
    labels, names = lists["thing_classes"] + lists["stuff_classes"], lists["predicate_classes"]
    if not (labels and names):
        raise ValueError(f"{annotations} should hold {WHAT}: expected thing_classes, stuff_classes, predicate_classes")
    test = {identity(listed_id) for listed_id in lists["test_image_ids"]} - {None}
    for item in json_items(annotations, WHAT, "data.item", meter):
        if not isinstance(item, dict) or not isinstance(item.get("file_name"), str):
            note(dropped, "entry_without_file_name", str(item)[:60])
            continue
        if split != "all" and (identity(item.get("image_id")) in test) != (split == "test"):
            dropped["image_of_other_split"] += 1
            continue
        path = inside(images, item["file_name"])
        size = size_of(item.get("width"), item.get("height"))
        entities = [_entity(a, labels) for a in listed(item.get("annotations"), dropped, "malformed_entities")]
        triplets = listed(item.get("relations"), dropped, "malformed_relations")
        relations = [r for raw in triplets if (r := _relation(raw, names, dropped)) is not None]
        yield Annotation(path, path.stem, entities=entities, relations=relations, size=size)


def _entity(item: Any, labels: list[str]) -> RawEntity:
    """The entity; where it is malformed, one that no check accepts takes its place, so that all numbers hold."""
    if not isinstance(item, dict) or not isinstance(item.get("bbox"), list):
        return RawEntity(None, ())
    box = tuple(item["bbox"]) if as_number(item.get("bbox_mode", 0)) == 0 else ()  # detectron2's BoxMode.XYXY_ABS
    try:
        return RawEntity(labels[_index(item.get("category_id"))], box)
    except (IndexError, ValueError):
        return RawEntity(None, box)


def _relation(item: Any, names: list[str], dropped: Counter[str]) -> tuple[int, str, int] | None:
    try:
        subject, object_, predicate = (_index(value) for value in item)
        return subject, names[predicate], object_
    except (TypeError, ValueError, IndexError):
        dropped["malformed_relation"] += 1
        return None


def _index(value: Any) -> int:
    found = identity(value) or ""
    if not found.isdecimal():
        raise ValueError(f"expected a number from 0, got {value!r}")
    return int(found)
