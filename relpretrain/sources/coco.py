"""COCO: captions and boxes from the official annotation files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relpretrain.progress import Meter
from relpretrain.sources.common.annotation import Annotation, RawEntity, check_folder, corners
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.files import Join, inside, json_items
from relpretrain.sources.common.values import identity, size_of, truth

WHAT = "COCO annotations"


def read_coco(
    images: Path,
    captions: Path | None = None,
    instances: Path | None = None,
    *,
    dropped: Counter[str],
    meter: Meter | None = None,
) -> Iterator[Annotation]:
    """Read images with captions and entities, in the order of the annotation files.

    Entities are the annotated objects with their category as label; boxes of crowds are left out, and so are those of
    images whose size the file does not tell.

    Args:
        images: Folder of the images, such as `train2017`.
        captions: The `captions_*.json`.
        instances: The `instances_*.json`; at least one of both.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ValueError: If a file is absent or not in COCO's format.
    """
    check_folder(images)
    if captions is None and instances is None:
        raise ValueError("COCO needs a captions file, an instances file, or both; got neither")
    labels: dict[str, str] = {}
    join = Join()
    for path in (captions, instances):
        if path is None:
            continue
        for image in _items(path, "images", meter):
            number = identity(image["id"])
            if number is None:
                note(dropped, "entry_without_image_id", str(image["file_name"]))
            elif not isinstance(image["file_name"], str) or not image["file_name"]:
                note(dropped, "entry_without_file_name", f"image {number}")
            else:
                join.add(number, "image", {name: image.get(name) for name in ("file_name", "width", "height")})
        if path is instances:
            labels = _labels(path, meter)
        for item in _items(path, "annotations", meter):
            number = identity(item.get("image_id")) or ""
            if path is captions:
                join.add(number, "captions", item.get("caption"))
            else:
                join.add(number, "boxes", {name: item.get(name) for name in ("bbox", "category_id", "iscrowd")})

    for number, pieces in join.images(meter):
        parts = pieces.read()
        texts, boxes = parts.get("captions", []), parts.get("boxes", [])
        if "image" not in parts:
            for _ in (*texts, *boxes):
                note(dropped, "annotation_of_unknown_image", f"image {number}")
            continue
        file = inside(images, parts["image"][0]["file_name"])
        sizes = (size_of(image["width"], image["height"]) for image in parts["image"])
        size = next((size for size in sizes if size is not None), None)
        if size is None and boxes:
            dropped["box_without_size"] += len(boxes)  # of an image that may have been made smaller
            boxes = []
        entities = [entity for item in boxes if (entity := _entity(item, labels, dropped)) is not None]
        captions_ = [text for found in texts for text in (found if isinstance(found, list) else [found])]
        yield Annotation(file, file.stem, captions_, entities, size=size)


def _labels(path: Path, meter: Meter | None) -> dict[str, str]:
    """Names of the categories by id."""
    labels: dict[str, str] = {}
    for category in json_items(path, WHAT, "categories.item", meter):
        known = isinstance(category, dict)
        number, name = (identity(category.get("id")), category.get("name")) if known else (None, None)
        if number is None or not isinstance(name, str) or not name.strip():
            raise ValueError(f"{path} has a category without {'id' if number is None else 'name'}: {category}")
        labels[number] = name
    return labels


def _items(path: Path, key: str, meter: Meter | None) -> Iterator[dict[str, Any]]:
    needed = {"id", "file_name"} if key == "images" else set()
    empty = True
    for item in json_items(path, WHAT, f"{key}.item", meter):
        empty = False
        if not isinstance(item, dict) or not needed <= item.keys():
            missing = ", ".join(sorted(needed - item.keys() if isinstance(item, dict) else needed))
            raise ValueError(f"{path} has an item of {key!r} without {missing or 'any key'}: {item}")
        yield item
    if empty:
        raise ValueError(f"{path} is not in COCO's format: expected an object with 'images' and 'annotations'")


def _entity(item: dict[str, Any], labels: dict[str, str], dropped: Counter[str]) -> RawEntity | None:
    crowd = truth(item["iscrowd"])
    if crowd is None:
        note(dropped, "malformed_iscrowd", repr(item["iscrowd"]))
        return None
    if crowd:
        dropped["crowd_box"] += 1
        return None
    category = identity(item["category_id"])
    if category not in labels:
        note(dropped, "unknown_category", f"category {item['category_id']!r}")
        return None
    box = item["bbox"]
    return RawEntity(labels[category], corners(*box) if isinstance(box, list) and len(box) == 4 else ())
