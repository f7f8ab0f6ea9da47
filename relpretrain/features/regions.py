"""Regions of images: the patches that a box covers, those that a step looks at, and tables to encode them by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from relpretrain.types import Backbone, Batch, Foils, GraphBatch, PackedTokens, Pairs, WantedRegions


def patch_mask(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mask of the patches that a box overlaps; at least one.

    X-VLM's rule: columns floor(x_min / patch) to ceil(x_max / patch), clipped to the grid; rows likewise.

    Args:
        boxes: (cx, cy, w, h) as fractions of the image's size, (n, 4).
        grid: Rows and columns of patches.

    Returns:
        (n, rows * columns), bool, row by row from the top left.
    """
    rows, columns = grid
    cx, cy, w, h = boxes.double().unbind(1)
    in_x, in_y = _inside(cx, w, columns), _inside(cy, h, rows)  # (n, columns), (n, rows)
    return (in_y[:, :, None] & in_x[:, None, :]).flatten(1)


def _inside(centre: Tensor, extent: Tensor, size: int) -> Tensor:
    """Which of `size` columns (or rows) each of n intervals overlaps, (n, size)."""
    # 1e-4: rounding must not carry a box that ends on a patch's border over it.
    low = ((centre - extent / 2) * size + 1e-4).floor().clamp(min=0, max=size - 1)
    high = ((centre + extent / 2) * size - 1e-4).ceil().clamp(max=size).maximum(low + 1)
    place = torch.arange(size, device=centre.device)
    return (place >= low[:, None]) & (place < high[:, None])


def wanted_regions(wanted: Sequence[Pairs], backbone: Backbone) -> WantedRegions | None:
    """The regions of all wanted pairs, one after the other; None if there are none.

    From pairs on the CPU nothing waits for a device: the tables are made there, and move with the batch.
    """
    with_boxes = {id(p): p for p in wanted if p.boxes is not None and len(p)}.values()
    if not with_boxes:
        return None
    index = torch.cat([p.image_index for p in with_boxes])
    mask = torch.cat([patch_mask(p.boxes, backbone.patch_grid) for p in with_boxes if p.boxes is not None])
    if not isinstance(backbone, PackedTokens):
        return WantedRegions(index, mask)
    whole = any(p.boxes is None or len(p) == 0 for p in wanted)  # no pairs are replaced by one of a whole image
    return WantedRegions(index, mask, backbone.pack_regions(mask), whole)


def lay_out(batch: Batch, wanted: Callable[[Batch], Sequence[Pairs]], backbone: Backbone) -> Batch:
    """The batch with the tables that let a backbone with `PackedTokens` leave out hidden tokens.

    Args:
        batch: A batch, best on the CPU: on a device the host waits for it.
        wanted: All pairs of a batch that this step's objectives will view.
        backbone: The model.
    """
    if isinstance(backbone, PackedTokens):
        batch = replace(batch, pairs=_packed(batch.pairs, backbone))
        if batch.foils is not None:
            batch = replace(batch, foils=_packed_foils(batch.foils, backbone))
        if (units := batch.units) is not None:
            foils = _packed_foils(units.foils, backbone)
            batch = replace(batch, units=replace(units, pairs=_packed(units.pairs, backbone), foils=foils))
        if isinstance(batch, GraphBatch):
            batch = replace(batch, entities=_packed(batch.entities, backbone))
    return replace(batch, regions=wanted_regions(wanted(batch), backbone))


def _packed(pairs: Pairs, backbone: PackedTokens) -> Pairs:
    if not len(pairs):
        return pairs
    return replace(pairs, text=replace(pairs.text, packing=backbone.pack_texts(pairs.text.attention_mask)))


def _packed_foils(foils: Foils, backbone: PackedTokens) -> Foils:
    return replace(foils, pairs=_packed(foils.pairs, backbone))
