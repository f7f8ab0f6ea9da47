"""Where the things of a generated scene stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from relpretrain.scene_graph import Box
from relpretrain.synthetic.render import parse_label

Wanted = tuple[int, str, int]
"""Which relation of which two things to arrange: index of the subject, name, index of the object."""

NEVER_BY_CHANCE = ("inside", "around", "on", "carrying", "touching")
"""Relations that have to be arranged."""

_TRIES = 16
_HOLDER = (0.5, 0.62)  # side of a thing with another one inside, as a fraction of the image's
_HELD = (0.35, 0.5)  # side of the other one, as a fraction of its holder's


def layouts(
    labels: Sequence[str],
    sides: tuple[np.ndarray | int, np.ndarray | int],
    image_size: int,
    shrink: float,
    occlusion: float,
    wanted: Wanted | None,
    rng: np.random.Generator,
) -> Iterator[list[Box]]:
    """Boxes in whole pixels, at least one pixel apart: one layout after the other, without end.

    Args:
        labels: The things.
        sides: Smallest and largest side in pixels, of all or of each (objects, 1).
        image_size: Side of the image in pixels.
        shrink: How much smaller things are than where there are two.
        occlusion: Largest fraction of a thing that another one of another colour may hide.
        wanted: Which two things to arrange so that one of `NEVER_BY_CHANCE` is true of them; others are left to
            chance.
        rng: Where all is drawn from.
    """
    number = len(labels)
    colors = [parse_label(label).color for label in labels]
    differ = np.array([[one != other for other in colors] for one in colors])
    arranged = wanted if wanted and wanted[1] in NEVER_BY_CHANCE else None
    low, high = sides
    while True:
        side = rng.integers(low, high + 1, (_TRIES, number, 1))
        if arranged and arranged[1] in ("inside", "around"):
            _resize(side, arranged, image_size * shrink, rng)
        corners = rng.integers(0, image_size + 1 - side, (_TRIES, number, 2))
        if arranged:
            _place(corners, side, arranged, rng)
        ends = corners + side
        # (tries, objects, objects): True where two boxes, one of them grown by a pixel, overlap
        near = (corners[:, :, None] <= ends[:, None]) & (corners[:, None] <= ends[:, :, None])
        overlap: np.ndarray = np.all(near, axis=-1)
        if occlusion:
            overlap &= ~(_shared(corners, ends, side, occlusion) & differ)
        if arranged:
            overlap[:, arranged[0], arranged[2]] = overlap[:, arranged[2], arranged[0]] = False
        fits = (overlap.sum((1, 2)) == number) & (corners >= 0).all((1, 2)) & (ends <= image_size).all((1, 2))
        for values in np.concatenate([corners, ends], 2)[fits].astype(float).tolist():
            yield [Box(*value) for value in values]


def _shared(corners: np.ndarray, ends: np.ndarray, side: np.ndarray, occlusion: float) -> np.ndarray:
    """Which two boxes share something, but no more than may be hidden of either, (tries, objects, objects)."""
    depth = np.minimum(ends[:, :, None], ends[:, None]) - np.maximum(corners[:, :, None], corners[:, None])
    shared = depth.clip(0).prod(-1)
    smaller = np.minimum(side[:, :, None, 0], side[:, None, :, 0]) ** 2
    allowed: np.ndarray = (shared > 0) & (shared <= occlusion * smaller)
    return allowed


def _resize(side: np.ndarray, wanted: Wanted, scale: float, rng: np.random.Generator) -> None:
    """Make one of two things a holder and the other one fit in."""
    subject, name, object = wanted
    held, holder = (subject, object) if name == "inside" else (object, subject)
    side[:, holder] = rng.integers(round(_HOLDER[0] * scale), round(_HOLDER[1] * scale) + 1, (_TRIES, 1))
    shares = rng.uniform(*_HELD, (_TRIES, 1))
    side[:, held] = np.maximum(4, np.floor(shares * side[:, holder]))


def _place(corners: np.ndarray, side: np.ndarray, wanted: Wanted, rng: np.random.Generator) -> None:
    """Move the first of two things to where the relation is true of them, perhaps out of the image."""
    subject, name, object = wanted
    own, other = side[:, subject], side[:, object]
    middle = corners[:, object] + (other - own) // 2  # centres aligned up to half a pixel
    if name in ("inside", "around"):
        # a square of side s fits into a circle of diameter d if its centre is no more than (d - 1.42 s) / 2 off, across
        room = np.floor((np.maximum(own, other) - 1.42 * np.minimum(own, other)) / 2 / 1.42).clip(0).astype(int)
        corners[:, subject] = middle + rng.integers(-room, room + 1, (_TRIES, 2))
    elif name == "touching":
        left = corners[:, object, :1] - own
        right = corners[:, object, :1] + other
        corners[:, subject] = np.concatenate([np.where(rng.random((_TRIES, 1)) < 0.5, left, right), middle[:, 1:]], 1)
    else:
        above = name == "on"
        vertical = corners[:, object, 1:] - own if above else corners[:, object, 1:] + other
        corners[:, subject] = np.concatenate([middle[:, :1], vertical], 1)
