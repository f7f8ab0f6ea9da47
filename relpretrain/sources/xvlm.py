"""The JSON lines that X-VLM (Zeng et al., ICML 2022) trains on: image-text pairs and regions."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relpretrain.progress import Meter
from relpretrain.sources.common.annotation import Annotation, RawEntity, check_folder, corners
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.files import inside, json_lines
from relpretrain.sources.common.values import identity, listed


def read_xvlm(
    annotations: Path, images: Path | None = None, *, dropped: Counter[str], meter: Meter | None = None
) -> Iterator[Annotation]:
    """Read images with captions, regions, or both, a line each.

    A line has the image in base64 (`binary`) or its path (`image_rpath`), its `caption` or captions, and in `elems`
    regions with a `caption`, a box `bb` of x, y, width, height, and perhaps `attributes`. A region becomes an entity
    with its first caption as label. A region that cannot be used goes alone, not with its image.

    Args:
        annotations: The file.
        images: Folder from which paths count; needed where images are not in the file.
        dropped: Counts what was left out, by reason.
        meter: Told how far reading has got.

    Raises:
        ValueError: If the file is absent, a line is no JSON, or an image's path comes without `images`.
    """
    if images is not None:
        check_folder(images)
    for number, line in json_lines(annotations, "X-VLM's lines of images and captions", meter):
        if not isinstance(line, dict):
            note(dropped, "malformed_line", f"{annotations.name}, line {number}")
            continue
        path = line.get("image_rpath")
        image: Path | bytes
        if isinstance(line.get("binary"), str):
            try:
                image = base64.b64decode(line["binary"], validate=True)
            except ValueError:
                note(dropped, "malformed_base64", f"{annotations.name}, line {number}")
                continue
        elif isinstance(path, str) and path:
            if images is None:
                raise ValueError(f"{annotations}, line {number} names {path}: name the folder of the images, too")
            image = inside(images, path)
        else:
            note(dropped, "line_without_image", f"{annotations.name}, line {number}")
            continue
        name = path if isinstance(path, str) else ""
        name = name or identity(line.get("image_id")) or f"{annotations.stem}-{number}"
        regions = listed(line.get("elems"), dropped, "malformed_region")
        entities = [e for item in regions if (e := _region(item, dropped)) is not None]
        texts = listed(line.get("caption"), dropped, "empty_caption")
        yield Annotation(image, name, texts, entities, other_ids=(Path(name).stem,))


def _region(item: Any, dropped: Counter[str]) -> RawEntity | None:
    try:
        labels = listed(item["caption"], dropped, "empty_label")
        attributes = listed(item.get("attributes"), dropped, "malformed_attribute")
        box = corners(*item["bb"]) if isinstance(item["bb"], list) else ()
        label = labels[0]
    except (AttributeError, KeyError, TypeError, IndexError):
        dropped["malformed_region"] += 1
        return None
    dropped["further_caption_of_region"] += len(labels) - 1
    return RawEntity(label, box, attributes)
