"""Ordered pairs of entities, those with relations and those without."""

from __future__ import annotations

import itertools

import numpy as np

from relpretrain.scene_graph.graph import SceneGraph


def all_pairs(graph: SceneGraph, k: int, rng: np.random.Generator) -> list[tuple[int, str, int]]:
    """Draw up to `k` entities with boxes, and list every ordered pair of two of them with each of its relations.

    The ends of relations drawn by chance make up half of them, so that few graphs give no relation; all others are
    drawn from all entities, so that every box comes, also one that nothing is said of. A pair without an annotated
    relation is an explicit negative, as RLIPv2 (arXiv 2308.09351) trains its tagger with.

    Args:
        graph: The scene graph.
        k: How many entities to draw.
        rng: Source of randomness.

    Returns:
        (subject, relation, object), the relation "" where the pair has none.
    """
    chosen: dict[int, None] = {}
    relations = [relation for relation in graph.boxed_pairs() if relation.subject != relation.object]
    for number in rng.permutation(len(relations)).tolist():
        relation = relations[number]
        ends = {relation.subject, relation.object}
        if len(chosen.keys() | ends) <= max(k // 2, min(k, 2)):
            chosen |= dict.fromkeys((relation.subject, relation.object))
    for number in rng.permutation(len(graph.entities)).tolist():
        if len(chosen) < k and graph.entities[number].box is not None:
            chosen.setdefault(number)
    named: dict[tuple[int, int], dict[str, None]] = {}
    for relation in relations:
        named.setdefault((relation.subject, relation.object), {})[relation.relation] = None
    return [(s, name, o) for s, o in itertools.permutations(chosen, 2) for name in named.get((s, o), {"": None})]
