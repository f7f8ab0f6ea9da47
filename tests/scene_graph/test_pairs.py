import numpy as np

from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph, all_pairs

ENTITIES = tuple(Entity(name, Box(i, 0, i + 1, 1)) for i, name in enumerate("abcdef"))
GRAPH = SceneGraph(ENTITIES, (Relation(0, "on", 5), Relation(0, "near", 5), Relation(3, "on", 0), Relation(2, "is", 2)))


def test_all_pairs_of_all_entities():
    found = all_pairs(GRAPH, 10, np.random.default_rng(0))
    pairs = {(s, o) for s, _, o in found}
    assert pairs == {(s, o) for s in range(6) for o in range(6) if s != o}
    assert sorted(t for t in found if t[1]) == [(0, "near", 5), (0, "on", 5), (3, "on", 0)]
    assert len(found) == 31  # a row for each relation of a pair, or one without


def test_there_is_a_relation_and_every_box_is_drawn_some_time():
    drawn = [all_pairs(GRAPH, 3, np.random.default_rng(seed)) for seed in range(200)]
    assert all(len({e for s, _, o in found for e in (s, o)}) == 3 for found in drawn)
    assert all(any(relation for _, relation, _ in found) for found in drawn)
    assert {e for found in drawn for s, _, o in found for e in (s, o)} == set(range(6))
    assert {(s, o) for found in drawn for s, r, o in found if not r} >= {(4, 0), (0, 4), (5, 0), (1, 5)}


def test_no_relation_is_hidden_by_a_limit():
    """Of chosen boxes all relations are told: none of them is taken for a negative."""
    for seed in range(50):
        found = all_pairs(GRAPH, 2, np.random.default_rng(seed))
        if {(s, o) for s, _, o in found} == {(0, 5), (5, 0)}:
            assert sorted(found) == [(0, "near", 5), (0, "on", 5), (5, "", 0)]


def test_a_graph_without_relations_or_entities():
    assert all_pairs(SceneGraph(), 4, np.random.default_rng(0)) == []
    assert all(r == "" for _, r, _ in all_pairs(SceneGraph(ENTITIES), 4, np.random.default_rng(0)))
