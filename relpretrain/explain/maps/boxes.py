"""How a map and boxes go together: how much lies inside, where it points, which box it means.

Maps are (rows, columns), over the whole image whatever its form; boxes are in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from relpretrain.features import patch_mask
from relpretrain.scene_graph import Box

Size = tuple[int, int]
"""Width and height of an image, in pixels."""


def covered(boxes: Sequence[Box], grid: tuple[int, int], size: Size) -> Tensor:
    """How much of each patch the union of some boxes covers, (rows, columns), in [0, 1].

    Args:
        boxes: One or several.
        grid: Rows and columns of patches.
        size: Of the image.
    """
    xs = sorted({0.0, float(size[0]), *(x for box in boxes for x in (box.x_min, box.x_max))})
    ys = sorted({0.0, float(size[1]), *(y for box in boxes for y in (box.y_min, box.y_max))})
    inside = torch.tensor(
        [[any(b.x_min <= x < b.x_max and b.y_min <= y < b.y_max for b in boxes) for x in xs[:-1]] for y in ys[:-1]],
        dtype=torch.float64,
    )  # of the cells between the boxes' borders
    down, across = _shared(ys, grid[0], size[1]), _shared(xs, grid[1], size[0])
    return (down @ inside @ across.T).float().clamp(0, 1)


def _shared(borders: Sequence[float], count: int, extent: int) -> Tensor:
    """How much of each of `count` equal intervals lies between neighbouring borders, (count, cells)."""
    edges = torch.tensor(borders, dtype=torch.float64) * count / extent
    start = torch.arange(count, dtype=torch.float64)[:, None]
    return (torch.minimum(start + 1, edges[1:]) - torch.maximum(start, edges[:-1])).clamp(min=0)


def energy_inside(found: Tensor, boxes: Sequence[Box], size: Size) -> float:
    """Share of a map that lies inside the union of some boxes, in [0, 1]; 0 for a map of zeros.

    A patch on a border counts as far as it is covered: the share of a constant map is that of the area.
    """
    total = float(found.sum())
    if total <= 0:
        return 0.0
    return float((found * covered(boxes, _grid(found), size)).sum()) / total


def points_inside(found: Tensor, boxes: Sequence[Box], size: Size) -> float:
    """Whether a map is largest inside one of some boxes (the pointing game): 1 or 0, 0 for a map of zeros.

    A patch counts as inside if a box touches it, as for the model's regions (`relpretrain.features.patch_mask`). Of
    several patches that are largest, the share that is inside.
    """
    if float(found.max()) <= 0:
        return 0.0
    relative = torch.tensor([box.relative(*size) for box in boxes])
    touched = patch_mask(relative, _grid(found)).any(0).reshape(found.shape)
    largest = found == found.max()
    return float((largest & touched).sum() / largest.sum())


def box_scores(found: Tensor, boxes: Sequence[Box], size: Size) -> Tensor:
    """How well each box fits a map, (boxes,): the map's sum inside over the root of the area (ALBEF's grounding).

    The map is brought to the image's size (bicubic), and a box takes the pixels between its truncated borders.

    Args:
        found: The map.
        boxes: Candidates.
        size: Of the image.
    """
    width, height = size
    whole = F.interpolate(found[None, None].float(), size=(height, width), mode="bicubic")[0, 0].double()
    # Sums of all rectangles at the upper left corner, (height + 1, width + 1).
    sums = F.pad(whole.cumsum(0).cumsum(1), (1, 0, 1, 0))
    scores = []
    for box in boxes:
        top, bottom = (min(max(int(y), 0), height) for y in (box.y_min, box.y_max))
        left, right = (min(max(int(x), 0), width) for x in (box.x_min, box.x_max))
        inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        scores.append(float(inside) / box.area**0.5 if box.area > 0 and bottom > top and right > left else -torch.inf)
    return torch.tensor(scores, dtype=torch.float64)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    inside = one.clip(other).area
    union = one.area + other.area - inside
    return inside / union if union > 0 else 0.0


def _grid(found: Tensor) -> tuple[int, int]:
    rows, columns = found.shape
    return int(rows), int(columns)
