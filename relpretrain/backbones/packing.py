"""Rows of different lengths without their padding: laid flat for layers that see a token at a time, grouped to attend.

In shapes: n rows of at most K tokens, of which T are visible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relpretrain.types import Movable


@dataclass(repr=False)
class Padding(Movable):
    """Where T flat tokens lie in groups of rows, each padded to the longest row of its group: P places in all.

    Args:
        token: Token at each place, (P,), int64; 0 where there is none.
        filled: True at places with a token, (P,), bool.
        place: Place of each token, (T,), int64.
        groups: Rows, length and whether no place is empty, of each group.
    """

    token: Tensor
    filled: Tensor
    place: Tensor
    groups: tuple[tuple[int, int, bool], ...]

    def spread(self, x: Tensor) -> Tensor:
        """Flat tokens (T, D) to their places (P, D), with zeros where there is none."""
        spread: Tensor = _Spread.apply(x, self.token, self.filled, self.place)
        return spread

    def collect(self, x: Tensor) -> Tensor:
        """Flat tokens (T, D) from their places (P, D)."""
        collected: Tensor = _Collect.apply(x, self.token, self.filled, self.place)
        return collected

    def split(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Each group's rows (rows, length, D) of (P, D), and a mask (rows, 1, 1, length) unless all are visible."""
        sizes = [rows * length for rows, length, _ in self.groups]
        parts = zip(torch.split(x, sizes), torch.split(self.filled, sizes), self.groups, strict=True)
        for part, filled, (rows, length, full) in parts:
            yield part.view(rows, length, -1), None if full else filled.view(rows, 1, 1, length)


@dataclass(repr=False)
class Packing(Movable):
    """Tables of the visible tokens of n rows, made once on the CPU and used by all layers.

    Args:
        row: Row of each visible token, (T,), int64: row by row, in the order of the mask.
        column: Place of each visible token in its row, (T,), int64.
        first: Flat position of each row's first visible token, (n,), int64.
        mask: True at the real tokens of padded rows, (n, longest), bool.
        padded: The way from flat tokens to such rows, and back.
        grouped: The same for groups of rows of similar length.
    """

    row: Tensor
    column: Tensor
    first: Tensor
    mask: Tensor
    padded: Padding
    grouped: Padding

    def firsts(self, x: Tensor) -> Tensor:
        """The first of each row's flat tokens (T, D), (n, 1, D)."""
        return x.index_select(0, self.first)[:, None]

    def at(self, places: Tensor) -> Tensor:
        """What belongs to each token's place in its row, (T, D), of (K, D)."""
        return places.index_select(0, self.column)

    def unpad(self, x: Tensor) -> Tensor:
        """Flat tokens (T, ...) of rows (n, longest, ...)."""
        x = x.flatten(0, 1)
        return self.padded.collect(x) if x.is_floating_point() else x.index_select(0, self.padded.place)

    def pad(self, x: Tensor) -> Tensor:
        """Flat tokens (T, D) to rows that are padded to the longest, (n, longest, D)."""
        return self.padded.spread(x).view(*self.mask.shape, x.shape[-1])


def pack(mask: Tensor, in_place: bool = False) -> Packing:
    """Lay out the visible tokens of a mask (n, K), bool, in which every row has one.

    Padded rows hold a row's visible tokens side by side, and are as long as the longest; with `in_place` (for texts,
    which have their padding on the right) they are K long.

    Rows attend in groups in which the longest has less than twice the tokens of the shortest (all up to 16 are one
    group, rows without padding another), so at most half of a group's places are empty. A mask on another device is
    brought to the CPU, which waits for that device: give it from the CPU, and move the result.
    """
    device, mask = mask.device, mask.cpu()
    row, column = mask.nonzero(as_tuple=True)
    sizes = mask.sum(1)
    first = sizes.cumsum(0) - sizes
    # Groups of similar length: the number of binary digits; 0 for rows without padding, whose attention has no mask.
    full = mask.shape[1]
    levels = [0 if size == full > 16 else max(4, (size - 1).bit_length()) for size in sizes.tolist()]
    groups = [torch.tensor([i for i, own in enumerate(levels) if own == level]) for level in sorted(set(levels))]
    padded = _padding(first, sizes, [torch.arange(len(mask))], full, full if in_place else 0)
    rows, length, _ = padded.groups[0]
    grouped = _padding(first, sizes, groups, full)
    return Packing(row, column, first, padded.filled.view(rows, length), padded, grouped).to(device)


def _padding(first: Tensor, sizes: Tensor, groups: list[Tensor], full: int, least: int = 0) -> Padding:
    """Tables of groups of rows, whose tokens begin at `first`; rows of `full` tokens have no padding.

    A group is as long as its longest row, and no shorter than `least`.
    """
    tokens, filled, shapes = [], [], []
    for rows in groups:
        own = sizes[rows, None]
        length = max(int(own.max()) if len(rows) else 0, least)
        step = torch.arange(length)
        filled.append(step < own)  # (rows, length)
        tokens.append(torch.where(filled[-1], first[rows, None] + step, 0))
        shapes.append((len(rows), length, bool((own == full).all())))
    token = torch.cat([part.flatten() for part in tokens]) if tokens else sizes.new_zeros(0)
    real = torch.cat([part.flatten() for part in filled]) if filled else torch.zeros(0, dtype=torch.bool)
    place = torch.empty(int(sizes.sum()), dtype=torch.long)
    place[token[real]] = real.nonzero().squeeze(1)
    return Padding(token, real, place, tuple(shapes))


def _to_places(x: Tensor, token: Tensor, filled: Tensor) -> Tensor:
    if len(token) == 0:
        return x[:0]
    return x.index_select(0, token).masked_fill_(~filled[:, None], 0)


class _Spread(torch.autograd.Function):
    """A gather whose gradient is a gather too: every token has one place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, filled: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        return _to_places(x, token, filled)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (place,) = ctx.saved_tensors
        return grad.index_select(0, place), None, None, None


class _Collect(torch.autograd.Function):
    """The way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, filled: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(token, filled)
        return x.index_select(0, place)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return _to_places(grad, *ctx.saved_tensors), None, None, None
