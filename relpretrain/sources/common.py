"""What all annotation sources share: the record they yield and the checks on its parts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import Image, UnidentifiedImageError

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""Image formats that shards may hold, as Pillow names them, and the ending that each gets."""


@dataclass
class SourceRecord:
    """One annotated image on its way into a shard.

    Args:
        image_path: The image's file.
        extension: Its ending in a shard, by its content: "jpg", "png" or "webp".
        record: Its annotations in the sample format (README, "Shards").
    """

    image_path: Path
    extension: str
    record: dict[str, Any]


class ImageFile(NamedTuple):
    """What the head of an image file says."""

    width: int
    height: int
    extension: str


def probe_image(image: Path | IO[bytes], dropped: Counter[str]) -> ImageFile | None:
    """Read the head of an image.

    Args:
        image: A file's path, or its open bytes.
        dropped: Counts why there is no result: "missing_image", "unreadable_image", "unsupported_image".

    Returns:
        Its size and ending, or None if it cannot be used.
    """
    try:
        with Image.open(image) as opened:
            extension = EXTENSIONS.get(opened.format or "")
            width, height = opened.size
    except FileNotFoundError:
        dropped["missing_image"] += 1
        return None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        dropped["unreadable_image"] += 1
        return None
    if extension is None:
        dropped["unsupported_image"] += 1
        return None
    return ImageFile(width, height, extension)


def make_record(image_id: str, source: str, image: ImageFile, **parts: Any) -> dict[str, Any]:
    """Return a sample's record; parts (captions, entities, relations) that are empty are left out."""
    record = {"image_id": image_id, "source": source, "width": image.width, "height": image.height}
    return record | {name: part for name, part in parts.items() if part}


def clean_captions(captions: Sequence[Any], dropped: Counter[str]) -> list[str]:
    """Reduce white space to single blanks; captions that are empty or no text are counted as "empty_caption"."""
    clean = [" ".join(caption.split()) if isinstance(caption, str) else "" for caption in captions]
    dropped["empty_caption"] += clean.count("")
    return [caption for caption in clean if caption]


def load_json(path: Path, what: str, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON file of a user.

    Args:
        path: The file.
        what: What it should hold, for the error.
        object_hook: Applied to each object while reading, for instance to drop what is not needed.

    Raises:
        ValueError: If the file is absent or no JSON.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file, object_hook=object_hook)
    except OSError as error:
        raise ValueError(f"cannot read {what} from {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path} should hold {what} but is no JSON: {error}") from error


def check_folder(path: Path) -> None:
    """Refuse a folder of images that does not exist.

    Raises:
        ValueError: If it does not.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder of images")
