"""Relations that boxes alone tell: where things are, as the viewer sees it, and which is larger."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from relpretrain.scene_graph.entity import Relation
from relpretrain.scene_graph.geometry import Box, normalise
from relpretrain.scene_graph.graph import SceneGraph

SOURCE = "geometry"
"""Source of the relations made here."""

INSIDE = 0.9
"""Share of a thing's area that must lie in another one's box to be inside it."""
LARGER = 2.0
"""How many times as large a thing's box must be to be larger."""
NEAR, FAR = 0.15, 0.5
"""Distance of two centres, as a share of the image's diagonal, below which they are near and above which far."""


def relations_of_boxes(subject: Box, object: Box, width: float, height: float) -> list[str]:
    """All that is plainly true of two boxes.

    Left, right, above and below need boxes that do not overlap in that direction (CounterCurate's rule). Nothing is
    said of depth: boxes do not tell what is in front.

    Args:
        subject: Box of the first thing.
        object: Box of the second.
        width: Width of the image, in the boxes' unit.
        height: Height of the image.
    """
    found = []
    if subject.x_max <= object.x_min:
        found.append("left of")
    if subject.x_min >= object.x_max:
        found.append("right of")
    if subject.y_max <= object.y_min:
        found.append("above")
    if subject.y_min >= object.y_max:
        found.append("below")
    shared = subject.clip(object).area
    within, around = shared >= INSIDE * subject.area, shared >= INSIDE * object.area
    if within and not around:  # of two boxes around one thing neither is inside the other
        found.append("inside")
    if subject.area >= LARGER * object.area:
        found.append("larger than")
    if object.area >= LARGER * subject.area:
        found.append("smaller than")
    distance = math.dist(subject.center, object.center) / math.hypot(width, height)
    if distance < NEAR and not within and not around:
        found.append("near")
    elif distance > FAR:
        found.append("far from")
    return found


def with_positions(graph: SceneGraph, count: int, width: float, height: float, rng: np.random.Generator) -> SceneGraph:
    """The graph with up to `count` further relations that its boxes tell, between things whose name is theirs alone.

    Args:
        graph: The annotation.
        count: The most relations that are added.
        width: Width of the image, in the boxes' unit.
        height: Height of the image.
        rng: Source of randomness.
    """
    names = Counter(normalise(entity.label) for entity in graph.entities)
    known = {(r.subject, normalise(r.relation), r.object) for r in graph.relations}
    placed = [
        (i, entity.box)
        for i, entity in enumerate(graph.entities)
        if entity.box is not None and names[normalise(entity.label)] == 1
    ]
    added: list[Relation] = []
    for index in rng.permutation(len(placed) ** 2).tolist():
        if len(added) >= count:
            break
        (one, box), (other, other_box) = placed[index // len(placed)], placed[index % len(placed)]
        true = [] if one == other else relations_of_boxes(box, other_box, width, height)
        true = [name for name in true if (one, name, other) not in known]
        if true:
            name = true[int(rng.integers(len(true)))]
            added.append(Relation(one, name, other, source=SOURCE))
    return SceneGraph(graph.entities, (*graph.relations, *added))
