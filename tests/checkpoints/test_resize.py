"""Weights for another image size follow the official rules."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import RectBivariateSpline

from relpretrain.checkpoints.official.resize import resize_bias_table, resize_positions, spread


@pytest.mark.parametrize(("target", "ratio"), [(23, 1.24072), (29, 1.33751), (47, 1.5)])
def test_distances_grow_by_the_ratio_of_beit(target, ratio):
    places = spread(13, target)
    assert places[6] == 0
    assert np.allclose(places, -places[::-1])
    steps = np.diff(places[6:])
    assert np.allclose(steps[1:] / steps[:-1], ratio, atol=1e-5)
    assert places[-1] == pytest.approx(min(target // 2, (1.5**6 - 1) / 0.5), abs=1e-3)


@pytest.mark.parametrize(("old", "new"), [(7, 12), (7, 15), (4, 6), (12, 7), (2, 3)])
def test_a_cubic_surface_is_read_at_the_new_distances(old, new):
    def surface(x, y):
        return 1 + x - 0.2 * x * y + 0.05 * (y**2 if old == 2 else y**3 - x**2 * y)

    places = torch.from_numpy(spread(2 * old - 1, 2 * new - 1))
    table = surface(places[:, None], places[None]).reshape(-1, 1)
    wanted = torch.arange(2 * new - 1.0).double() - (new - 1)
    wanted = wanted.clamp(places[0], places[-1])
    got = resize_bias_table(torch.cat([table, -table], 1), new)
    expected = surface(wanted[:, None], wanted[None]).reshape(-1, 1)
    torch.testing.assert_close(got, torch.cat([expected, -expected], 1), rtol=1e-9, atol=1e-9)


def test_the_spline_is_that_of_both_axes_at_once():
    """scipy's RectBivariateSpline over the same places, as in the official code; ours does one axis after the other."""
    table = np.random.default_rng(0).normal(size=(13, 13))
    places, wanted = spread(13, 23), np.arange(-11.0, 12.0)
    expected = RectBivariateSpline(places, places, table.T)(wanted, wanted).T
    got = resize_bias_table(torch.from_numpy(table).reshape(-1, 1), 12)
    assert np.allclose(got.numpy().reshape(23, 23), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", [6, 3, 9, 2])
def test_positions_are_resized_bicubically_and_cls_kept(side, dtype):
    """To the last digit the official rule, F.interpolate without a filter, towards larger and smaller grids."""
    positions = torch.randn(1, 1 + 16, 8).to(dtype)
    got = resize_positions(positions, side)
    assert torch.equal(got[:, 0], positions[:, 0])
    square = positions[:, 1:].reshape(1, 4, 4, 8).permute(0, 3, 1, 2).float()
    expected = F.interpolate(square, size=(side, side), mode="bicubic", align_corners=False).to(dtype)
    assert torch.equal(got[0, 1:].reshape(side, side, 8), expected[0].permute(1, 2, 0))
    assert resize_positions(positions, 4) is positions
