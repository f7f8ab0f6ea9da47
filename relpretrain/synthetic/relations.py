"""Relations of the generated world: when they are clearly true of two boxes, and which others are then false."""

from __future__ import annotations

import math
from collections.abc import Sequence

from relpretrain.scene_graph import Box
from relpretrain.synthetic.render import parse_label

RELATIONS = ("left of", "right of", "above", "below")
"""Those of a world whose relations are not named."""

INVERSES = {
    "left of": "right of",
    "above": "below",
    "inside": "around",
    "on": "carrying",
    "bigger than": "smaller than",
    "near": "near",
    "far from": "far from",
    "touching": "touching",
}
INVERSE = INVERSES | {inverse: name for name, inverse in INVERSES.items()}
"""What "a ... b" is called from b's side, for each relation that there is."""

SYMMETRIC = tuple(name for name, inverse in INVERSES.items() if name == inverse)
"""Relations that say the same from either side."""

FAMILIES = (
    *(("left of", "right of"), ("above", "below"), ("inside", "around"), ("on", "carrying")),
    *(("near", "far from", "touching"), ("bigger than", "smaller than")),
)
"""Relations that answer the same question about two things; each contradicts another one of its family."""

_SIDES = RELATIONS
_ALIKE = {name: RELATIONS if name in RELATIONS else family for family in FAMILIES for name in family}
CONTRADICTS = {
    "left of": ("right of", "above", "below", "inside", "around", "on", "carrying"),
    "right of": ("left of", "above", "below", "inside", "around", "on", "carrying"),
    "above": ("left of", "right of", "below", "inside", "around", "carrying"),
    "below": ("left of", "right of", "above", "inside", "around", "on"),
    "inside": (*_SIDES, "around", "on", "carrying", "far from", "bigger than"),
    "around": (*_SIDES, "inside", "on", "carrying", "far from", "smaller than"),
    "on": ("left of", "right of", "below", "inside", "around", "carrying", "far from"),
    "carrying": ("left of", "right of", "above", "inside", "around", "on", "far from"),
    "near": ("far from",),
    "far from": ("near", "touching", "inside", "around", "on", "carrying"),
    "touching": ("far from",),
    "bigger than": ("smaller than", "inside"),
    "smaller than": ("bigger than", "around"),
}
"""What is clearly false of two things wherever a relation is clearly true of them: all that a foil may say."""


def foils(name: str, relations: Sequence[str]) -> list[str]:
    """Which relations are clearly false where one is true: those of its own sort, if there are any.

    Within a sort each is a foil about as often as it is true, so that a text alone does not tell which it is.
    """
    false = [other for other in relations if other in CONTRADICTS[name]]
    return [other for other in false if other in _ALIKE[name]] or false


DOMINANCE = 2.0
"""How many times further apart two centres must be along a relation's axis than across it."""
MARGIN = 0.2
"""How far apart two centres must be at least, as a fraction of the image's side."""
NEAR, FAR = 0.1, 0.3
"""Largest gap between two things that are near each other and smallest one between those that are far, likewise."""
RATIO = 1.35
"""How many times wider one of two things must be to be bigger."""

_HOLDERS = ("square", "circle")
_POINTED = ("triangle",)


def true_relation(subject: Box, object: Box, image_size: int) -> str | None:
    """The one of `RELATIONS` that is clearly true of two boxes, None where none is.

    Left and right need centres that are `DOMINANCE` times further apart horizontally than vertically, and at least
    `MARGIN` of the image; above and below likewise. Where one of the four is clearly true, the other three are false.
    """
    dx, dy = object.center[0] - subject.center[0], object.center[1] - subject.center[1]
    margin = MARGIN * image_size
    if abs(dx) >= max(DOMINANCE * abs(dy), margin):
        return "left of" if dx > 0 else "right of"
    if abs(dy) >= max(DOMINANCE * abs(dx), margin):
        return "above" if dy > 0 else "below"
    return None


def true_relations(subject: Box, object: Box, image_size: int) -> list[str]:
    """All relations that are clearly true of two boxes.

    One is inside another one if its box is. Two touch if their boxes do and their centres are aligned across the
    border; if one of them stands on the other, it is on it and not above it. Near ones have a gap of `NEAR` of the
    image at most, far ones of `FAR` at least, and the bigger one is `RATIO` times as wide.
    """
    found = []
    ratio = subject.width / object.width
    if ratio >= RATIO or ratio <= 1 / RATIO:
        found.append("bigger than" if ratio > 1 else "smaller than")
    if object.contains(subject) or subject.contains(object):
        return [*found, "inside" if object.contains(subject) else "around"]
    dx, dy = object.center[0] - subject.center[0], object.center[1] - subject.center[1]
    gap_x = abs(dx) - (subject.width + object.width) / 2
    gap_y = abs(dy) - (subject.height + object.height) / 2
    if gap_y == 0 and abs(dx) < 1:
        return [*found, "touching", "on" if dy > 0 else "carrying"]
    if gap_x == 0 and abs(dy) < 1:
        found.append("touching")
    gap = math.hypot(max(gap_x, 0), max(gap_y, 0))
    if 1 <= gap <= NEAR * image_size:
        found.append("near")
    elif gap >= FAR * image_size:
        found.append("far from")
    side = true_relation(subject, object, image_size)
    return found if side is None else [*found, side]


def can_be(subject: str, relation: str, object: str) -> bool:
    """Whether a relation can be seen of two kinds.

    What touches or contains must differ in colour; only squares and circles have room inside; and triangles have no
    flank to touch.
    """
    one, other = parse_label(subject), parse_label(object)
    if relation in ("inside", "around"):
        holder = other if relation == "inside" else one
        return one.color != other.color and holder.shape in _HOLDERS
    if relation in ("on", "carrying"):
        return one.color != other.color
    if relation == "touching":
        return one.color != other.color and not {one.shape, other.shape} & set(_POINTED)
    return True
