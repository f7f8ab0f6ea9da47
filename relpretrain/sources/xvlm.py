"""The JSON lines that X-VLM (Zeng et al., ICML 2022) trains on: image-text pairs and regions."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relpretrain.sources.common import Annotation, RawEntity, check_folder, corners
from relpretrain.sources.files import Meter, json_lines


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
            dropped["malformed_line"] += 1
            continue
        path = line.get("image_rpath")
        image: Path | bytes
        if isinstance(line.get("binary"), str):
            try:
                image = base64.b64decode(line["binary"], validate=True)
            except binascii.Error:
                dropped["malformed_base64"] += 1
                continue
        elif isinstance(path, str) and path:
            if images is None:
                raise ValueError(f"{annotations}, line {number} names {path}: name the folder of the images, too")
            image = images / path
        else:
            dropped["line_without_image"] += 1
            continue
        name = path if isinstance(path, str) and path else str(line.get("image_id") or f"{annotations.stem}-{number}")
        entities = [e for item in line.get("elems") or () if (e := _region(item, dropped)) is not None]
        yield Annotation(image, name, _texts(line.get("caption")), entities, other_ids=(Path(name).stem,))


def _region(item: Any, dropped: Counter[str]) -> RawEntity | None:
    try:
        labels, attributes = _texts(item["caption"]), _texts(item.get("attributes"))
        box = corners(*item["bb"])
        label = labels[0]
    except (AttributeError, KeyError, TypeError, IndexError):
        dropped["malformed_region"] += 1
        return None
    dropped["further_caption_of_region"] += len(labels) - 1
    return RawEntity(label, box, attributes)


def _texts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
