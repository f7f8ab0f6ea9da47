"""Values as annotation files have them: numbers as texts, single things where a list is expected, odd truth values."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

_LARGEST = 1 << 53  # whole numbers beyond are no numbers of pixels
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False, "": False, "null": False, "none": False}


def listed(value: Any, dropped: Counter[str], reason: str) -> list[Any]:
    """A list, be it written as one or not: a text or an object alone is a list of one, null and NaN are empty.

    Args:
        value: What stands where a list is expected.
        dropped: Counts what is none of these.
        reason: By this word.
    """
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str | dict):
        return [value]
    if value is not None and value == value:
        dropped[reason] += 1
    return []


def as_number(value: Any) -> float:
    """A number, be it written as a text; NaN where it is none."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return math.inf if abs(value) > _LARGEST else value


def size_of(width: Any, height: Any) -> tuple[int, int] | None:
    """Width and height of an image, None where they are not known: two whole numbers from 1."""
    sides = as_number(width), as_number(height)
    if not all(math.isfinite(side) and side >= 1 and side == int(side) for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def identity(value: Any) -> str | None:
    """The name of something, be it a text or a number; None where it is neither."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return value or None if isinstance(value, str) else f"{value:d}" if abs(value) < _LARGEST else None


def truth(value: Any) -> bool | None:
    """Whether a flag is set, in any spelling of 0 and 1, yes and no; None where it cannot be told.

    What is absent (null, NaN, an empty text) is not set.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _TRUTHS:
        return _TRUTHS[value.strip().lower()]
    found = as_number(value)
    if isinstance(value, float) and math.isnan(value):
        return False
    return bool(found) if found in (0, 1) else None
