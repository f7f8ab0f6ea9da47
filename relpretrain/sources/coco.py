"""COCO: captions and boxes from the official annotation files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relpretrain.scene_graph import Box, Entity, GraphError, SceneGraph, fit_box
from relpretrain.sources.common import (
    SourceRecord,
    check_folder,
    clean_captions,
    load_json,
    make_record,
    probe_image,
)


def read_coco(
    images: Path,
    captions: Path | None = None,
    instances: Path | None = None,
    *,
    dropped: Counter[str],
    source: str = "coco",
) -> Iterator[SourceRecord]:
    """Read images with captions and entities, in the order of the annotation files.

    Entities are the annotated objects with their category as label; boxes of crowds are left out. Without
    segmentations, which are dropped while reading, the files of the whole data set fit into a few gigabytes.

    Args:
        images: Folder of the images, such as `train2017`.
        captions: The `captions_*.json`.
        instances: The `instances_*.json`; at least one of both.
        dropped: Counts what was left out, by reason.
        source: Name that the records carry.

    Raises:
        ValueError: If a file is absent or not in COCO's format.
    """
    check_folder(images)
    if captions is None and instances is None:
        raise ValueError("COCO needs a captions file, an instances file, or both; got neither")
    listed: dict[Any, dict[str, Any]] = {}
    texts: dict[Any, list[Any]] = defaultdict(list)
    objects: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    labels: dict[Any, str] = {}
    for path in (captions, instances):
        if path is None:
            continue
        content = _load(path)
        listed |= {image["id"]: image for image in content["images"]}
        labels |= {category["id"]: category["name"] for category in content.get("categories", ())}
        for annotation in content["annotations"]:
            if path is captions:
                texts[annotation.get("image_id")].append(annotation.get("caption"))
            else:
                objects[annotation.get("image_id")].append(annotation)
    dropped["annotation_of_unknown_image"] += sum(
        len(v) for d in (texts, objects) for k, v in d.items() if k not in listed
    )

    for number, image in listed.items():
        path = images / image["file_name"]
        file = probe_image(path, dropped)
        if file is None:
            continue
        if (file.width, file.height) != (image["width"], image["height"]):
            dropped["image_of_another_size"] += 1  # its boxes would be wrong
            continue
        entities = [
            e for item in objects.get(number, ()) if (e := _entity(item, labels, file.width, file.height, dropped))
        ]
        parts = {"captions": clean_captions(texts.get(number, []), dropped)} | SceneGraph(tuple(entities)).to_json()
        if not any(parts.values()):
            dropped["image_without_annotation"] += 1
            continue
        yield SourceRecord(path, file.extension, make_record(path.stem, source, file, **parts))


def _load(path: Path) -> dict[str, Any]:
    def drop_segmentation(item: dict[str, Any]) -> dict[str, Any]:
        item.pop("segmentation", None)
        return item

    content = load_json(path, "COCO annotations", drop_segmentation)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise ValueError(f"{path} is not in COCO's format: expected an object with 'images' and 'annotations'")
    needed = {"id", "file_name", "width", "height"}
    for image in content["images"]:
        if not needed <= image.keys():
            raise ValueError(f"{path} lists an image without {', '.join(sorted(needed - image.keys()))}: {image}")
    return content


def _entity(
    item: dict[str, Any], labels: dict[Any, str], width: int, height: int, dropped: Counter[str]
) -> Entity | None:
    if item.get("iscrowd"):
        dropped["crowd_box"] += 1
        return None
    if item.get("category_id") not in labels:
        dropped["unknown_category"] += 1
        return None
    try:
        x, y, w, h = item["bbox"]
        return Entity(labels[item["category_id"]], fit_box(Box(x, y, x + w, y + h), width, height))
    except GraphError as error:
        dropped[error.reason] += 1
    except (KeyError, TypeError, ValueError):
        dropped["malformed_box"] += 1
    return None
