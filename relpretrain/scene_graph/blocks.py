"""Positions as blocks of a grid, in words (PTP, arXiv 2212.09737): "The block 4 has a dog"."""

from __future__ import annotations

import numpy as np

from relpretrain.scene_graph.geometry import Box
from relpretrain.scene_graph.graph import SceneGraph

GRID = 3
"""Blocks in a row and in a column."""


def block_of(box: Box, width: float, height: float) -> int:
    """The block that holds the centre of a box: from 0 at the top left, row by row, to 8 at the bottom right.

    Args:
        box: Where a thing is.
        width: Width of the image, in the box's unit.
        height: Height of the image.
    """
    x, y = box.center
    row, column = (min(int(place * GRID / size), GRID - 1) for place, size in ((y, height), (x, width)))
    return GRID * row + column


def block_text(graph: SceneGraph, index: int, width: float, height: float) -> str:
    """The sentence, without full stop, that says in which block an entity with a box is.

    Args:
        graph: The graph of the image, after cropping and flipping.
        index: The entity, by its place in the graph.
        width: Width of the image, in the boxes' unit.
        height: Height of the image.
    """
    entity = graph.entities[index]
    assert entity.box is not None  # `draw_blocks` gives none without
    return f"The block {block_of(entity.box, width, height)} has a {entity.label}"


def draw_blocks(graph: SceneGraph, count: int, rng: np.random.Generator) -> list[int]:
    """Up to `count` random entities that have boxes, by their places in the graph.

    Args:
        graph: The graph of the image.
        count: How many.
        rng: Source of randomness; not asked where `count` is 0.
    """
    placed = [i for i, entity in enumerate(graph.entities) if entity.box is not None]
    return [placed[i] for i in rng.permutation(len(placed))[:count].tolist()] if count else []
