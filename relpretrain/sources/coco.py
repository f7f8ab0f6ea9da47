"""COCO: captions and boxes from the official annotation files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relpretrain.sources.common import Annotation, RawEntity, check_folder, corners
from relpretrain.sources.files import Join, Meter, json_items

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

    Entities are the annotated objects with their category as label; boxes of crowds are left out.

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
    labels: dict[Any, Any] = {}
    join = Join()
    for path in (captions, instances):
        if path is None:
            continue
        for image in _items(path, "images", meter):
            join.add(str(image["id"]), "image", {name: image[name] for name in ("file_name", "width", "height")})
        if path is instances:
            labels = {c["id"]: c["name"] for c in json_items(path, WHAT, "categories.item", meter)}
        for item in _items(path, "annotations", meter):
            if path is captions:
                join.add(str(item.get("image_id")), "captions", item.get("caption"))
            else:
                kept = {name: item.get(name) for name in ("bbox", "category_id", "iscrowd")}
                join.add(str(item.get("image_id")), "boxes", kept)

    for _, pieces in join.images(meter):
        parts = pieces.read()
        texts, boxes = parts.get("captions", []), parts.get("boxes", [])
        if "image" not in parts:
            dropped["annotation_of_unknown_image"] += len(texts) + len(boxes)
            continue
        image = parts["image"][0]
        path = images / image["file_name"]
        entities = [entity for item in boxes if (entity := _entity(item, labels, dropped)) is not None]
        size = (image["width"], image["height"])
        yield Annotation(path, path.stem, texts, entities, size=size)


def _items(path: Path, key: str, meter: Meter | None) -> Iterator[dict[str, Any]]:
    needed = {"id", "file_name", "width", "height"} if key == "images" else set()
    empty = True
    for item in json_items(path, WHAT, f"{key}.item", meter):
        empty = False
        if not isinstance(item, dict) or not needed <= item.keys():
            missing = ", ".join(sorted(needed - item.keys() if isinstance(item, dict) else needed))
            raise ValueError(f"{path} has an item of {key!r} without {missing or 'any key'}: {item}")
        yield item
    if empty:
        raise ValueError(f"{path} is not in COCO's format: expected an object with 'images' and 'annotations'")


def _entity(item: dict[str, Any], labels: dict[Any, Any], dropped: Counter[str]) -> RawEntity | None:
    if item["iscrowd"]:
        dropped["crowd_box"] += 1
        return None
    if not isinstance(item["category_id"], int | str) or item["category_id"] not in labels:
        dropped["unknown_category"] += 1
        return None
    box = item["bbox"]
    return RawEntity(labels[item["category_id"]], corners(*box) if isinstance(box, list) and len(box) == 4 else ())
