"""Mirror images: which are hard negatives of their texts, and what the texts become."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph, triplet_text
from relpretrain.scene_graph.blocks import block_of, block_text
from relpretrain.scene_graph.foils import mirrored
from relpretrain.scene_graph.geometry import holds
from relpretrain.scene_graph.mirror import mirror_relation
from relpretrain.scene_graph.positions import relations_of_boxes

CUP, PLATE, FORK = Box(0, 0, 10, 10), Box(20, 0, 30, 10), Box(5, 15, 12, 25)


def graph(*relations, labels=("cup", "plate", "fork"), boxes=(CUP, PLATE, FORK)):
    entities = tuple(Entity(label, box) for label, box in zip(labels, boxes, strict=False))
    return SceneGraph(entities, tuple(Relation(*r) for r in relations))


def told(of):
    return {triplet_text(of, relation): relation for relation in of.relations}


def test_a_text_of_sides_is_mirrored_and_all_else_stays():
    one = graph((0, "to the left of", 1), (0, "above", 2), (2, "next to", 1))
    other = mirrored(one, told(one), 40.0)
    assert set(other.told) == {"cup to the right of plate", "cup above fork", "fork next to plate"}
    assert other.graph.entities[0].box == Box(30, 0, 40, 10)
    back = mirrored(other.graph, other.told, 40.0)
    assert (back.graph, set(back.told)) == (one, set(told(one)))


def test_the_mirrored_text_reads_from_top_to_bottom_and_left_to_right():
    one = graph((0, "left of", 1), (1, "right of", 0))
    assert list(mirrored(one, told(one), 40.0).told) == ["plate left of cup", "cup right of plate"]
    assert list(mirrored(one, told(one), 40.0, sort=False).told) == ["cup right of plate", "plate left of cup"]


@pytest.mark.parametrize(
    "relations",
    [
        [(0, "above", 2), (2, "next to", 1)],  # no side
        [(0, "right behind", 1)],  # a side in name only
        [(0, "left behind", 1)],  # nobody knows what it becomes
    ],
)
def test_a_text_that_stays_true_has_no_mirror_image(relations):
    one = graph(*relations)
    assert mirrored(one, told(one), 40.0) is None


def test_what_a_second_thing_makes_true_is_no_negative():
    """A cup on either side of the plate: both texts are true of both images."""
    between = graph((0, "left of", 1), labels=("cup", "plate", "mug"), boxes=(CUP, PLATE, Box(32, 0, 39, 9)))
    assert mirrored(between, told(between), 40.0) is None


def test_two_things_of_one_name_say_the_same_either_way():
    same = graph((0, "left of", 1), labels=("cup", "cup"))
    assert mirrored(same, told(same), 40.0) is None


def test_a_label_with_a_side_refuses():
    one = graph((0, "left of", 1), labels=("left shoe", "plate"))
    assert mirrored(one, told(one), 40.0) is None


def test_only_what_is_told_counts():
    one = graph((0, "left of", 1), (0, "above", 2))
    assert mirrored(one, {"cup above fork": one.relations[1]}, 40.0) is None


boxes = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h),
    *(st.integers(0, 60).map(float), st.integers(0, 60).map(float)),
    *(st.integers(2, 39).map(float), st.integers(2, 39).map(float)),
)


@settings(max_examples=60, deadline=None)
@given(boxes, boxes)
def test_boxes_words_positions_and_blocks_move_together(one, other):
    """What is told of an image is true of it, mirrored or not, and mirroring twice gives the image back."""
    relations = relations_of_boxes(one, other, 100.0, 100.0)
    first = graph(*[(0, name, 1) for name in relations], labels=("cup", "plate"), boxes=(one, other))
    second = first.flip(100.0)
    assert second.flip(100.0) == first
    expected = [mirror_relation(name) for name in relations]
    assert [r.relation for r in second.relations] == expected
    assert sorted(relations_of_boxes(*(e.box for e in second.entities), 100.0, 100.0)) == sorted(expected)
    seen = [[holds(r.relation, *(e.box for e in of.entities)) for r in of.relations] for of in (first, second)]
    assert seen[0] == seen[1]
    row, column = divmod(block_of(one, 100.0, 100.0), 3)
    there = block_of(second.entities[0].box, 100.0, 100.0)
    assert there == 3 * row + 2 - column
    assert block_text(second, 0, 100.0, 100.0) == f"The block {there} has a cup"


@pytest.mark.parametrize(
    ("box", "block"),
    [
        (Box(0, 0, 2, 2), 0),
        (Box(44, 44, 46, 46), 4),
        (Box(0, 88, 2, 90), 6),
        (Box(88, 88, 90, 90), 8),
        (Box(29, 0, 31, 2), 1),  # its centre lies on the border
    ],
)
def test_blocks_are_numbered_row_by_row(box, block):
    assert block_of(box, 90.0, 90.0) == block
