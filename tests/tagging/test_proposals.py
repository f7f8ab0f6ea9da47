import math

from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph
from relpretrain.tagging.proposals import Asked, every_pair, kept, own_relations

BOX = Box(0, 0, 1, 1)
GRAPH = SceneGraph(
    (Entity("man", BOX), Entity("hat", BOX), Entity("sky"), Entity("man", BOX)),
    (Relation(0, "wears", 1), Relation(0, "has", 1), Relation(0, "under", 2), Relation(3, "near", 3)),
)


def test_every_ordered_pair_of_boxes():
    asked = every_pair(GRAPH, ("on", "under"))
    assert {(p.subject, p.object) for p in asked} == {(0, 1), (1, 0), (0, 3), (3, 0), (1, 3), (3, 1)}
    assert all(p.relations == ("on", "under") for p in asked)


def test_a_pair_is_asked_only_what_was_proposed_for_it():
    """RLIPv2 merges the texts of all pairs, so that each may get another's; here "wears" is asked of one man alone."""
    assert own_relations(GRAPH) == [Asked(0, 1, ("wears", "has"))]


def test_what_is_kept():
    asked = [Asked(0, 1, ("a", "b", "c", "d")), Asked(1, 0, ("a", "b")), Asked(2, 0, ("a",))]
    scores = [[0.3, 0.9, math.nan, 0.5], [0.1, 0.2], [0.2]]
    found = kept(asked, scores, threshold=0.2, top_k=2, source="me")
    assert [(r.subject, r.relation, r.object, r.confidence) for r in found] == [
        *((0, "b", 1, 0.9), (0, "d", 1, 0.5), (1, "b", 0, 0.2), (2, "a", 0, 0.2)),
    ]
    assert {r.source for r in found} == {"me"}


def test_equal_scores_go_by_the_order_of_proposals():
    found = kept([Asked(0, 1, ("x", "y", "z"))], [[0.5, 0.5, 0.5]], 0.0, 2, "")
    assert [r.relation for r in found] == ["x", "y"]
