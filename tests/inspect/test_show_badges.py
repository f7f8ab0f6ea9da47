"""Numbers of boxes on the page of samples: none hides another one, however many boxes there are."""

import numpy as np
import pytest
from PIL import Image

from relpretrain.inspect.show.page import _leads, _nearest, _picture, _places
from relpretrain.scene_graph import Box, Entity, SceneGraph

RADIUS = 2.6


def apart(places):
    points = np.array(list(places.values()))
    gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    return (gaps + 1000 * np.eye(len(points))).min()


@pytest.mark.parametrize("side", [1, 12, 40], ids=["dots", "middle", "large"])
def test_sixty_boxes_in_one_place_have_sixty_numbers_in_others(side):
    rng = np.random.default_rng(0)
    boxes = {i: Box(x, y, x + side, y + side) for i, (x, y) in enumerate(rng.uniform(20, 24, (60, 2)).tolist())}
    places = _places(boxes, (100, 75), RADIUS)
    assert len(places) == 60
    assert apart(places) >= 2.1 * RADIUS - 1e-9
    assert all(RADIUS <= x <= 100 - RADIUS and RADIUS <= y <= 75 - RADIUS for x, y in places.values())
    leads = _leads(boxes, places, RADIUS)
    assert len(leads) > 10
    for number, (x, y, to_x, to_y) in leads.items():
        assert (x, y) == places[number]
        ((near_x, near_y),) = _nearest(np.array([[to_x, to_y]]), boxes[number])
        assert (near_x, near_y) == pytest.approx((to_x, to_y))  # it ends on the border


def test_a_number_stands_on_its_box_where_there_is_room():
    boxes = {0: Box(10, 10, 60, 50), 1: Box(70, 20, 74, 24)}
    places = _places(boxes, (100, 75), RADIUS)
    assert places[0] == (10, 10)
    assert not _leads(boxes, places, RADIUS)


def test_the_nearest_point_of_a_border():
    box = Box(10, 10, 30, 20)
    points = np.array([[0.0, 0], [15, 0], [40, 15], [12, 15], [20, 19], [10, 12]])
    assert _nearest(points, box).tolist() == [[10, 10], [15, 10], [30, 15], [10, 15], [20, 20], [10, 12]]


def test_boxes_without_room_for_a_number_are_told_and_none_is_piled_up():
    boxes = {i: Box(5, 5, 95, 20) for i in range(3000)}
    graph = SceneGraph(tuple(Entity("thing", box) for box in boxes.values()))
    shown = _picture(Image.new("RGB", (100, 25)), "i", (100, 25), boxes, graph)
    assert 20 < len(shown["badges"]) < 200
    assert apart(shown["badges"]) > 2 * shown["radius"]
    assert shown["unnumbered"].startswith(f"{len(shown['badges']) + 1}, ")
    thin = _picture(Image.new("RGB", (100, 2)), "i", (100, 2), {0: Box(0, 0, 50, 2)}, graph)
    assert len(thin["badges"]) == 1


def test_a_box_without_room_for_its_number_takes_none_from_others():
    left, larger, right = Box(0, 0, 2, 2), Box(0, 0, 3, 3), Box(40, 0, 46, 10)
    assert sorted(_places({0: left, 1: larger, 2: right}, (46, 20), radius=10)) == [0, 2]
