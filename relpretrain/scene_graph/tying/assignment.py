"""Which box a caption means by each of its nouns, where several boxes have one name: an assignment, not all pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relpretrain.scene_graph.entity import Entity
from relpretrain.scene_graph.geometry import Box, holds
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedRelation
from relpretrain.scene_graph.tying.names import Names

NAME, ATTRIBUTES, SIZE, PAIR = 0.5, 0.5, 0.2, 1.0
"""Weights of the parts of a noun's cost at a box: another name, other attributes, a small box, an unlikely relation."""

CONTRADICTED, APART = 0.5, 0.5
"""Cost of a spatial relation that boxes contradict, and of boxes that lie apart by all of their union's length."""

TEMPERATURE = 0.15
"""Divisor of the costs in the softmax that says how sure a tie is."""

SAME_THING = 0.7
"""Intersection over union from which two boxes of fitting names are taken for the same thing, annotated twice."""

_ROUNDS = 3  # of assignment, with the partners of the round before
_NEVER = 1e6


class Tie(NamedTuple):
    """A caption's noun tied to a box.

    Args:
        entity: Index of the entity that has the box.
        certainty: How sure the tie is, in (0, 1]: agreement of the names, times the share of this box in a softmax over
            the costs of all boxes whose names fit.
    """

    entity: int
    certainty: float


def tie(caption: ParsedCaption, entities: Sequence[Entity], names: Names) -> list[Tie | None]:
    """Tie a caption's nouns to boxes, each to another one.

    The nouns get boxes with the least total cost (`linear_sum_assignment`) among those whose names fit. A noun's cost
    at a box has parts for the names, the attributes, the size (captions speak of what is large), and, for each relation
    of the noun, how unlikely it is there: of a spatial one, that the boxes contradict it; of any, that they lie apart.
    The relation's other end is first where it suits best, and from the second round on where the round before has put
    it.

    Args:
        caption: What a parser has read.
        entities: Entities of the image; those without a box are passed over.
        names: Says whether names fit.

    Returns:
        For each noun a tie, or None where no box is left for it.
    """
    from scipy.optimize import linear_sum_assignment  # a third of a second that other commands do without

    ties: list[Tie | None] = [None] * len(caption.entities)
    boxed = [(i, e, e.box) for i, e in enumerate(entities) if e.box is not None]
    if not boxed or not ties:
        return ties
    agreement = np.array([[names.agreement(m.label, e.label) for _, e, _ in boxed] for m in caption.entities])
    if not agreement.any():
        return ties
    fits = agreement > 0  # (nouns, boxes)
    own = NAME * (1 - agreement) + SIZE * _smallness([box for _, _, box in boxed])
    for m, mention in enumerate(caption.entities):
        for b in np.flatnonzero(fits[m]).tolist():
            own[m, b] += ATTRIBUTES * _disagreement(mention.attributes, boxed[b][1].attributes)
    pairs = [(r, _unlikely(r, fits, [box for _, _, box in boxed])) for r in caption.relations if r.subject != r.object]
    place: dict[int, int] = {}
    cost = own
    for _ in range(_ROUNDS):
        cost = own + _pair_costs(pairs, fits, place)
        rows, columns = linear_sum_assignment(np.where(fits, cost, _NEVER))
        found = {int(m): int(b) for m, b in zip(rows, columns, strict=True) if fits[m, b]}
        if found == place:
            break
        place = found
    for m, b in place.items():
        weights = np.where(fits[m], np.exp(-(cost[m] - cost[m, b]) / TEMPERATURE), 0.0)
        same = [_overlap(box, boxed[b][2]) >= SAME_THING for _, _, box in boxed]
        share = float(weights[same].sum() / weights.sum())
        ties[m] = Tie(boxed[b][0], float(agreement[m, b]) * share)
    return ties


def _pair_costs(
    pairs: Sequence[tuple[ParsedRelation, NDArray[np.float64]]], fits: NDArray[np.bool_], place: dict[int, int]
) -> NDArray[np.float64]:
    """What the relations add to the cost of each noun at each box, (nouns, boxes)."""
    added = np.zeros(fits.shape)
    for relation, unlikely in pairs:  # (boxes of the subject, boxes of the object)
        s, o = relation.subject, relation.object
        for end, other, costs in ((s, o, unlikely), (o, s, unlikely.T)):
            if other in place:
                added[end] += PAIR * costs[:, place[other]]
            elif fits[other].any():
                added[end] += PAIR * costs[:, fits[other]].min(axis=1)
    return added


def _unlikely(relation: ParsedRelation, fits: NDArray[np.bool_], boxes: Sequence[Box]) -> NDArray[np.float64]:
    """How unlikely a relation is between two boxes, in [0, 1], for those that fit its subject and its object."""
    costs = np.zeros((len(boxes), len(boxes)))
    for s in np.flatnonzero(fits[relation.subject]).tolist():
        for o in np.flatnonzero(fits[relation.object]).tolist():
            costs[s, o] = 1.0 if s == o else _implausible(relation.relation, boxes[s], boxes[o])
    return costs


def _implausible(relation: str, subject: Box, object: Box) -> float:
    contradicted = holds(relation, subject, object) is False
    return CONTRADICTED * contradicted + APART * _gap(subject, object)


def _gap(one: Box, other: Box) -> float:
    """How far two boxes are apart, as a share of the diagonal of the box around both; 0 where they touch."""
    x = max(one.x_min - other.x_max, other.x_min - one.x_max, 0.0)
    y = max(one.y_min - other.y_max, other.y_min - one.y_max, 0.0)
    width = max(one.x_max, other.x_max) - min(one.x_min, other.x_min)
    height = max(one.y_max, other.y_max) - min(one.y_min, other.y_min)
    return math.hypot(x, y) / math.hypot(width, height)


def _disagreement(told: Sequence[str], known: Sequence[str]) -> float:
    """Share of a noun's attributes that a box is not known for; a half where nothing is known of it."""
    if not told:
        return 0.0
    if not known:
        return 0.5
    return 1 - len({*told} & {*known}) / len({*told})


def _smallness(boxes: Sequence[Box]) -> NDArray[np.float64]:
    sides = np.sqrt([box.area for box in boxes])
    return np.asarray(1 - sides / sides.max())


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    both = one.clip(other).area
    return both / (one.area + other.area - both)
