from collections import Counter

import numpy as np
import pytest

from relpretrain.scene_graph import (
    Box,
    Entity,
    Relation,
    RelationVocabulary,
    SceneGraph,
    choose_relations,
    triplet_meaning,
    verbalise,
)

# centres: cup (35, 5), cat (5, 5), old dog (5, 25)
ENTITIES = (
    Entity("old dog", Box(0, 20, 10, 30), ("brown",)),
    Entity("cup", Box(30, 0, 40, 10)),
    Entity("cat", Box(0, 0, 10, 10)),
)
GRAPH = SceneGraph(
    ENTITIES,
    (Relation(0, "below", 2), Relation(1, "near", 2), Relation(2, "watching", 1), Relation(2, "above", 0)),
)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_sorts_by_subject_top_to_bottom_left_to_right_input_order():
    expected = ["cat watching cup", "cat above old dog", "cup near cat", "old dog below cat"]
    for seed in range(5):
        assert verbalise(GRAPH, 8, rng(seed)) == expected


def test_unsorted_triplets_stand_in_the_order_in_which_they_were_drawn():
    sorted_ = verbalise(GRAPH, 8, rng())
    orders = {tuple(verbalise(GRAPH, 8, rng(seed), sort=False)) for seed in range(40)}
    assert len(orders) > 10
    assert all(sorted(order) == sorted(sorted_) for order in orders)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Relation(0, "left of", 1), Relation(1, "right of", 0)),
        (Relation(0, "to the left of", 1), Relation(1, "to the right of", 0)),
        (Relation(0, "above", 1), Relation(1, "below", 0)),
        (Relation(0, "near", 1), Relation(1, "near", 0)),
    ],
)
def test_a_relation_and_its_inverse_mean_the_same(one, other):
    meaning = triplet_meaning(GRAPH, one)
    assert triplet_meaning(GRAPH, other) == meaning
    reversed_ = Relation(one.object, one.relation, one.subject)
    assert (triplet_meaning(GRAPH, reversed_) == meaning) == (one.relation == "near")
    assert triplet_meaning(GRAPH, Relation(0, "watching", 1)) == "old dog watching cup"


def test_draws_k_without_replacement_uniformly():
    counts = Counter()
    generator = rng()
    for _ in range(2000):
        texts = verbalise(GRAPH, 2, generator)
        assert len(set(texts)) == 2
        counts.update(texts)
    assert len(counts) == 4
    assert all(900 < count < 1100 for count in counts.values())


def test_is_a_function_of_the_seed():
    assert verbalise(GRAPH, 2, rng(3)) == verbalise(GRAPH, 2, rng(3))
    assert len({tuple(verbalise(GRAPH, 2, rng(seed))) for seed in range(20)}) > 1


def test_cuts_whole_triplets_in_drawn_order():
    seen = []

    def fits(texts):
        seen.append(list(texts))
        return sum(len(text.split()) for text in texts) <= 7

    generator = rng(1)
    texts = verbalise(GRAPH, 4, generator, fits)
    drawn = [GRAPH.relations[i] for i in rng(1).permutation(4)]
    names = [f"{ENTITIES[r.subject].label} {r.relation} {ENTITIES[r.object].label}" for r in drawn]
    kept = []
    for name in names:
        if sum(len(text.split()) for text in [*kept, name]) <= 7:
            kept.append(name)
    assert sorted(texts) == sorted(kept)
    assert 1 <= len(kept) < 4
    assert seen[0] == names[:1]
    assert verbalise(GRAPH, 4, rng(), lambda texts: False) == []


def test_equal_texts_count_once():
    entities = (*ENTITIES, Entity("cup", Box(50, 0, 60, 10)))
    graph = SceneGraph(entities, (Relation(1, "near", 2), Relation(3, "near", 2), Relation(2, "above", 0)))
    for seed in range(10):
        assert sorted(verbalise(graph, 2, rng(seed))) == ["cat above old dog", "cup near cat"]


def test_empty_graph():
    assert verbalise(SceneGraph(), 8, rng()) == []
    assert choose_relations(SceneGraph(), 2, rng()) == []


def test_choose_relations_filters_and_draws():
    relations = (*GRAPH.relations, GRAPH.relations[0], Relation(1, "near", 1))
    graph = SceneGraph(ENTITIES, relations)
    chosen = choose_relations(graph, 10, rng())
    assert sorted(map(repr, chosen)) == sorted(map(repr, GRAPH.relations))
    assert len(choose_relations(graph, 2, rng())) == 2
    assert choose_relations(graph, 2, rng(5)) == choose_relations(graph, 2, rng(5))
    vocabulary = RelationVocabulary(["over", "near"], aliases={"above": "over"})
    assert set(choose_relations(graph, 10, rng(), vocabulary)) == {Relation(1, "near", 2), Relation(2, "above", 0)}


def test_a_pair_has_one_label_at_a_time_and_all_in_turn():
    relations = (Relation(0, "below", 2), Relation(0, "near", 2), Relation(2, "near", 0), Relation(1, "near", 2))
    graph, seen = SceneGraph(ENTITIES, relations), Counter()
    for seed in range(60):
        chosen = choose_relations(graph, 3, rng(seed))
        assert sorted((r.subject, r.object) for r in chosen) == [(0, 2), (1, 2), (2, 0)]
        seen.update(chosen)
    assert set(seen) == set(relations)
    assert 15 < seen[relations[0]] < 45


@pytest.mark.parametrize("name", ["torch", "PIL"])
def test_scene_graphs_need_no(name):
    import ast
    from pathlib import Path

    import relpretrain.scene_graph as room

    for path in Path(room.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] != name for alias in node.names), path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] != name, path
