"""Looks at images before a model is loaded: what cannot be decoded is found at once, not after hours of scoring."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from relpretrain.pixels import BROKEN, open_image
from relpretrain.progress import track
from relpretrain.zeroshot.tasks.common.base import Unseen, read_image, without_groups

_SMALL = 64  # side that a JPEG is decoded at, if it can be: as much of the file is read as at full size
_AT_ONCE = 256


class Split(Protocol):
    """A split of a task whose images were found (`evaluate.Ready`)."""

    @property
    def task(self) -> Any:
        """The task."""
        ...

    @property
    def items(self) -> list[Any]:
        """Its items."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        ...


_Split = TypeVar("_Split", bound=Split)


def leave_out_broken(parts: Sequence[_Split], allow: bool) -> list[_Split]:
    """Decode every image of splits once, in threads.

    Args:
        parts: The splits.
        allow: Whether items whose image cannot be decoded are left out instead of refused.

    Returns:
        The splits without the items of such images, each with a note if there are any.

    Raises:
        ValueError: If an image cannot be decoded and that is not allowed, or none of a split can.
    """
    named = dict.fromkeys(item.image for part in parts for item in part.items)
    images = [image for image in named if not isinstance(image, Unseen)]
    broken: dict[Any, str] = {}
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        chunks = [images[start : start + _AT_ONCE] for start in range(0, len(images), _AT_ONCE)]
        for some in track(chunks, len(images), "images checked", len):
            broken |= {image: why for image, why in zip(some, threads.map(why_broken, some), strict=True) if why}
    return [_without(part, broken, allow) for part in parts]


def why_broken(image: str | Callable[[], Any]) -> str:
    """Why an image cannot be decoded; "" if it can.

    Args:
        image: Its path, or what opens it.
    """
    try:
        if callable(image):
            image()
            return ""
        if image.endswith(".npy"):
            read_image(image)
            return ""
        with open_image(image) as opened:
            opened.draft(None, (_SMALL, _SMALL))
            opened.load()
    except BROKEN as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def _without(part: _Split, broken: dict[Any, str], allow: bool) -> _Split:
    lost = list(dict.fromkeys(item.image for item in part.items if item.image in broken))
    if not lost:
        return part
    kept = without_groups(part.items, set(lost))
    first = ", ".join(map(str, lost[:3])) + (", ..." if len(lost) > 3 else "")
    number = len({item.image for item in part.items})
    what = f"{len(lost)} of {number} images of {part.task.name} cannot be decoded ({first}; "
    what += f"{broken[lost[0]]})"
    if not kept or not allow:
        remedy = ", or leave them out with --allow-missing" if kept else ""
        raise ValueError(f"{what}. Put whole image files in their place{remedy}.")
    left = len(part.items) - len(kept)
    note = f"{what}: {left} of {len(part.items)} items left out, n = {len(kept)}"
    return replace(part, items=kept, notes=(*part.notes, note))  # type: ignore[type-var]
