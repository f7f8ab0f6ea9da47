"""Losses of many rows, some at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_parts(function: Callable[..., tuple[Tensor, Tensor]], size: int, *rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """A loss of n rows, `size` at a time, so that its memory does not grow with the number of rows.

    Where there are several parts, each is computed once more in the backward pass; value and gradient are the same.

    Args:
        function: Of the rows, to (n,) losses and whether each row was right, (n,).
        size: Rows at a time.
        *rows: The function's arguments, n rows each or None. The first is a tensor.
    """
    assert rows[0] is not None
    if len(rows[0]) <= size:
        return function(*rows)
    parts = zip(*(repeat(None) if t is None else torch.split(t, size) for t in rows), strict=False)
    results = [checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    losses, right = zip(*results, strict=True)
    return torch.cat(losses), torch.cat(right)
