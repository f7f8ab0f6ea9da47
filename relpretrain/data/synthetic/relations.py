"""Relations of the generated world, and when they are clearly true of two boxes."""

from __future__ import annotations

from relpretrain.scene_graph import Box

RELATIONS = ("left of", "right of", "above", "below")
INVERSES = {"left of": "right of", "above": "below"}
INVERSE = INVERSES | {inverse: name for name, inverse in INVERSES.items()}
"""What "a ... b" is called from b's side."""

FAMILIES = (("left of", "right of"), ("above", "below"))
"""Relations that answer the same question about two things, one opposite of the other."""

DOMINANCE = 2.0
"""How many times further apart two centres must be along a relation's axis than across it."""
MARGIN = 0.2
"""How far apart two centres must be at least, as a share of the image's side."""


def true_relation(subject: Box, object: Box, image_size: int) -> str | None:
    """The relation that is clearly true of two boxes, None where none is.

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
