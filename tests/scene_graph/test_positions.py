"""Relations that boxes tell."""

import numpy as np
import pytest

from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph
from relpretrain.scene_graph.positions import relations_of_boxes, with_positions

SIDE = 100


@pytest.mark.parametrize(
    ("subject", "object", "expected"),
    [
        (Box(0, 0, 20, 20), Box(20, 0, 40, 20), {"left of"}),  # 20 pixels apart of a diagonal of 141: near
        (Box(0, 0, 21, 20), Box(20, 0, 40, 20), set()),
        (Box(0, 80, 10, 90), Box(0, 0, 10, 10), {"below", "far from"}),
        (Box(10, 10, 20, 20), Box(0, 0, 90, 90), {"inside", "smaller than"}),
        (Box(0, 0, 90, 90), Box(10, 10, 20, 20), {"larger than"}),
        (Box(10, 10, 50, 50), Box(11, 11, 50, 50), set()),  # two names of one thing: neither is inside the other
        (Box(60, 0, 70, 10), Box(0, 50, 10, 60), {"right of", "above", "far from"}),
    ],
)
def test_rules(subject, object, expected):
    assert set(relations_of_boxes(subject, object, SIDE, SIDE)) - {"near"} == expected


def test_near_is_no_name_of_inside():
    inner, outer = Box(40, 40, 50, 50), Box(35, 35, 60, 60)
    assert "near" not in relations_of_boxes(inner, outer, SIDE, SIDE)
    assert "near" not in relations_of_boxes(outer, inner, SIDE, SIDE)
    assert "near" in relations_of_boxes(inner, Box(50, 40, 60, 50), SIDE, SIDE)


def test_mirroring_exchanges_the_sides_alone():
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, w, h = rng.uniform(0, 50, (4, 2)) + 1
        one, other = (Box(x[i], y[i], x[i] + w[i], y[i] + h[i]) for i in (0, 1))
        plain = relations_of_boxes(one, other, 110, 110)
        mirrored = relations_of_boxes(one.flip(110), other.flip(110), 110, 110)
        swap = {"left of": "right of", "right of": "left of"}
        assert {swap.get(name, name) for name in plain} == set(mirrored)


def test_only_things_with_a_name_of_their_own_and_a_box():
    graph = SceneGraph(
        (
            Entity("cat", Box(0, 0, 10, 10)),
            Entity("cat", Box(80, 0, 90, 10)),
            Entity("dog", Box(40, 0, 50, 10)),
            Entity("sofa", Box(0, 60, 90, 90)),
            Entity("moon"),
        ),
        (Relation(0, "watching", 2),),
    )
    found = with_positions(graph, 50, SIDE, SIDE, np.random.default_rng(0))
    added = found.relations[1:]
    assert found.relations[0] == graph.relations[0]
    assert {index for r in added for index in (r.subject, r.object)} == {2, 3}
    assert {r.source for r in added} == {"geometry"}
    assert len(with_positions(graph, 1, SIDE, SIDE, np.random.default_rng(0)).relations) == 2


def test_a_lone_thing_has_no_position():
    graph = SceneGraph((Entity("cat", Box(0, 0, 10, 10)),))
    assert with_positions(graph, 5, SIDE, SIDE, np.random.default_rng(0)) == graph
