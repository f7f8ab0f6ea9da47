"""Which relations are asked of which pairs of boxes, and which of them are kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from relpretrain.scene_graph import Relation, SceneGraph


class Asked(NamedTuple):
    """An ordered pair of entities with boxes, and the relations that were proposed for it."""

    subject: int
    object: int
    relations: tuple[str, ...]


def every_pair(graph: SceneGraph, relations: Sequence[str]) -> list[Asked]:
    """Propose all of some relations for every ordered pair of entities with boxes."""
    boxed = [number for number, entity in enumerate(graph.entities) if entity.box is not None]
    return [Asked(s, o, tuple(relations)) for s, o in itertools.permutations(boxed, 2)]


def own_relations(graph: SceneGraph) -> list[Asked]:
    """Propose for each pair of boxes what the graph says of it, as a parser read it from captions: nothing else."""
    found: dict[tuple[int, int], dict[str, None]] = {}
    for relation in graph.boxed_pairs():
        if relation.subject != relation.object:
            found.setdefault((relation.subject, relation.object), {})[relation.relation] = None
    return [Asked(s, o, tuple(names)) for (s, o), names in found.items()]


def kept(
    asked: Sequence[Asked], scores: Sequence[Sequence[float]], threshold: float, top_k: int, source: str
) -> list[Relation]:
    """The proposals that are kept: of each pair the `top_k` best, if their scores reach the threshold.

    A pair gets no relation that was not proposed for it. Equal scores go by the order of the proposals.

    Args:
        asked: The pairs.
        scores: Of each relation of each pair, in [0, 1]; NaN for one that cannot be scored.
        threshold: The lowest score that is kept.
        top_k: Most relations of a pair.
        source: Who says so.

    Returns:
        The relations with their scores as confidence, pair by pair, the best first.
    """
    found: list[Relation] = []
    for pair, values in zip(asked, scores, strict=True):
        ranked = sorted(zip(pair.relations, values, strict=True), key=lambda said: -said[1] if said[1] >= 0 else 1.0)
        best = [(name, value) for name, value in ranked if value >= threshold][:top_k]
        found += [Relation(pair.subject, name, pair.object, confidence=v, source=source) for name, v in best]
    return found
