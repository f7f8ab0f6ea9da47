"""Boxes, and which spatial relations are true of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import NamedTuple


class Box(NamedTuple):
    """An axis-parallel box; x grows to the right and y downwards, usually in pixels."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    @property
    def width(self) -> float:
        """Horizontal extent."""
        return self.x_max - self.x_min

    @property
    def height(self) -> float:
        """Vertical extent."""
        return self.y_max - self.y_min

    @property
    def area(self) -> float:
        """Product of both extents; 0 for a box without inside."""
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def center(self) -> tuple[float, float]:
        """The centre, (x, y)."""
        return (self.x_min + self.x_max) / 2, (self.y_min + self.y_max) / 2

    def clip(self, other: Box) -> Box:
        """Return the part inside `other`, with `area` 0 if there is none."""
        return Box(
            max(self.x_min, other.x_min),
            max(self.y_min, other.y_min),
            min(self.x_max, other.x_max),
            min(self.y_max, other.y_max),
        )

    def shift(self, x: float, y: float) -> Box:
        """Return the box moved by (x, y)."""
        return Box(self.x_min + x, self.y_min + y, self.x_max + x, self.y_max + y)

    def scale(self, x: float, y: float) -> Box:
        """Return the box with its coordinates multiplied by `x` and `y`."""
        return Box(self.x_min * x, self.y_min * y, self.x_max * x, self.y_max * y)

    def flip(self, width: float) -> Box:
        """Return the mirror image in an image of that width."""
        return Box(width - self.x_max, self.y_min, width - self.x_min, self.y_max)

    def contains(self, other: Box) -> bool:
        """Whether `other` lies inside, borders included."""
        return (
            self.x_min <= other.x_min
            and self.y_min <= other.y_min
            and other.x_max <= self.x_max
            and other.y_max <= self.y_max
        )

    def relative(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Return (cx, cy, w, h) as shares of an image of that size."""
        x, y = self.center
        return x / width, y / height, self.width / width, self.height / height


def _left(s: Box, o: Box) -> bool:
    return s.x_min + s.x_max < o.x_min + o.x_max


def _above(s: Box, o: Box) -> bool:
    return s.y_min + s.y_max < o.y_min + o.y_max


def _disjoint(s: Box, o: Box) -> bool:
    return s.clip(o).area == 0


def _within(s: Box, o: Box) -> bool:
    return o.contains(s)


def _around(s: Box, o: Box) -> bool:
    return s.contains(o)


# "to the left of", "at the left side of", "left"
_SIDE = r"(?:(?:to|on|at|in|from) )?(?:the )?(?:far |immediate )?{}(?:(?:[ -]hand)? side)?(?: (?:of|from))?"
# the same after any verb, "parked on the left-hand side of"
_SIDEWAYS = r"(?:.* )?" + _SIDE
_PLAIN_SIDE = re.compile(_SIDE.format("(?:left|right)"))
# verbs that leave a preposition its place in the image, unlike "draped over" or "covered in"
_VERB = (
    r"(?:(?:is|are|standing|sitting|lying|laying|hanging|flying|floating|hovering|parked|located|placed|resting|sleeping"
    r"|walking|growing|mounted) )*(?:directly |right |just )?"
)
_RULES: list[tuple[re.Pattern[str], Callable[[Box, Box], bool]]] = [
    (re.compile(_SIDEWAYS.format("left")), _left),
    (re.compile(_SIDEWAYS.format("right")), lambda s, o: _left(o, s)),
    (re.compile(_VERB + r"(?:above|over|higher than)"), _above),
    (re.compile(_VERB + r"(?:below|under|underneath|beneath|lower than)"), lambda s, o: _above(o, s)),
    (re.compile(_VERB + r"(?:in|inside|inside of|within)"), _within),
    (re.compile(r"contains?|containing|surrounds?|surrounding|enclos(?:es?|ing)"), _around),
    (re.compile(_VERB + r"(?:outside|outside of)"), _disjoint),
]


def normalise(text: str) -> str:
    """Lower-case a relation and reduce its white space to single blanks."""
    return " ".join(text.lower().split())


def holds(relation: str, subject: Box, object: Box) -> bool | None:
    """Say whether a relation is true of two boxes, as far as boxes can tell.

    Left, right, above and below compare the boxes' centres (image coordinates: the viewer's left), inside and
    containing compare their borders, outside asks that they do not overlap.

    Args:
        relation: For instance "to the left of", in any of the usual spellings.
        subject: Box of the first entity.
        object: Box of the second.

    Returns:
        None where the relation is not one about positions in the image ("wearing", "behind").
    """
    rule = _rule(relation)
    return None if rule is None else rule(subject, object)


def ruled_out(relation: str, subject: Box, object: Box) -> bool:
    """Say whether boxes show that a relation is false, which takes more than that it does not hold.

    A man in a car reaches out of the car's box, and a dog in front of it lies within: of two things only boxes that do
    not overlap show that one is not in the other, and none that it is not outside.

    Args:
        relation: For instance "inside".
        subject: Box of the first entity.
        object: Box of the second.
    """
    rule = _rule(relation)
    if rule is None or rule is _disjoint:
        return False
    return _disjoint(subject, object) if rule in (_within, _around) else not rule(subject, object)


def plain_side(relation: str) -> bool:
    """Whether a relation says on which side of the other a thing is, and nothing else.

    Of these alone the mirror image is the converse: what is parked on the right side of a road has no road parked on
    its left, and what is to the upper left of a thing does not have it to its upper right.
    """
    return _PLAIN_SIDE.fullmatch(normalise(relation)) is not None


@functools.lru_cache(maxsize=4096)
def _rule(relation: str) -> Callable[[Box, Box], bool] | None:
    """What a relation says of two boxes; None where it says nothing of positions."""
    name = re.sub(r" (?:a|an|the)$", "", normalise(relation.replace("_", " ")))
    return next((rule for pattern, rule in _RULES if pattern.fullmatch(name)), None)
