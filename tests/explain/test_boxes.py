"""Maps and boxes: by hand, and against pixels."""

import pytest
import torch
from torch.nn import functional as F

from relpretrain.explain import box_scores, energy_inside, points_inside
from relpretrain.explain.maps.boxes import covered, overlap
from relpretrain.scene_graph import Box

SIZE = (40, 20)


def test_energy_counts_patches_as_far_as_they_are_covered():
    found = torch.tensor([[1.0, 0.0], [3.0, 0.0]])  # patches of 20 x 10 pixels
    assert energy_inside(found, [Box(0, 0, 20, 10)], SIZE) == pytest.approx(0.25)
    assert energy_inside(found, [Box(0, 10, 10, 20)], SIZE) == pytest.approx(0.375)
    assert energy_inside(found, [Box(20, 0, 40, 20)], SIZE) == 0
    assert energy_inside(torch.zeros(2, 2), [Box(0, 0, 40, 20)], SIZE) == 0
    both = [Box(0, 0, 20, 20), Box(10, 0, 40, 20)]  # what both cover counts once
    assert energy_inside(torch.ones(2, 2), both, SIZE) == pytest.approx(1.0)


def test_of_a_constant_map_energy_is_the_area():
    torch.manual_seed(0)
    for _ in range(20):
        x, y = torch.rand(2).sort().values * 40, torch.rand(2).sort().values * 20
        box = Box(float(x[0]), float(y[0]), float(x[1]), float(y[1]))
        assert energy_inside(torch.ones(7, 5), [box], SIZE) == pytest.approx(box.area / 800, abs=1e-6)


def test_covering_is_that_of_pixels():
    boxes = [Box(3, 2, 17, 11), Box(10, 5, 38, 19)]
    pixels = torch.zeros(20, 40)
    for box in boxes:
        pixels[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = 1
    wanted = F.avg_pool2d(pixels[None], (5, 8))[0]
    torch.testing.assert_close(covered(boxes, (4, 5), SIZE), wanted)


def test_a_map_points_at_the_patch_where_it_is_largest():
    found = torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    assert points_inside(found, [Box(0, 0, 20, 10)], SIZE) == 0
    assert points_inside(found, [Box(0, 0, 20, 11)], SIZE) == 0.5  # it touches one of the two largest
    assert points_inside(found, [Box(0, 0, 20, 11), Box(30, 15, 31, 16)], SIZE) == 1
    assert points_inside(torch.ones(2, 2), [Box(0, 0, 5, 5)], SIZE) == 0.25
    assert points_inside(torch.zeros(2, 2), [Box(0, 0, 40, 20)], SIZE) == 0


def test_box_scores_are_sums_of_pixels_over_the_root_of_the_area():
    torch.manual_seed(0)
    found = torch.rand(4, 4)
    boxes = [Box(3.7, 2.2, 17.5, 11.9), Box(10, 5, 38, 19), Box(0, 0, 40, 20), Box(-2, -1, 50, 30)]
    whole = F.interpolate(found[None, None], size=(20, 40), mode="bicubic")[0, 0]
    wanted = [
        whole[int(max(b.y_min, 0)) : int(b.y_max), int(max(b.x_min, 0)) : int(b.x_max)].sum().item() / b.area**0.5
        for b in boxes
    ]
    assert box_scores(found, boxes, SIZE).tolist() == pytest.approx(wanted, rel=1e-4)
    assert box_scores(found, [Box(5, 5, 5.5, 5.5), Box(3, 3, 3, 9)], SIZE).tolist() == [-torch.inf] * 2


def test_overlap():
    assert overlap(Box(0, 0, 2, 2), Box(1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap(Box(0, 0, 2, 2), Box(0, 0, 2, 2)) == 1
    assert overlap(Box(0, 0, 1, 1), Box(1, 1, 2, 2)) == 0
    assert overlap(Box(0, 0, 0, 0), Box(0, 0, 0, 0)) == 0
