"""Which pairs are fused together: rectangles of images with equally many texts of like lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Rectangle(NamedTuple):
    """Pairs that one pass fuses: m images with g texts each.

    Args:
        images: Numbers of the images, (m,).
        rows: Numbers of the pairs, (m * g,), those of one image next to each other.
        length: Tokens of the longest text.
    """

    images: list[int]
    rows: list[int]
    length: int


def rectangles(index: Sequence[int], lengths: Sequence[int], size: int) -> Iterator[Rectangle]:
    """Arrange pairs in rectangles, so that what an image gives to its texts is computed once for many of them.

    The texts of an image, sorted by length, are cut into runs of 2^k texts; runs of the same size are sorted by their
    longest text and put together. So there are few shapes and little padding, whatever the numbers of texts.

    Args:
        index: Image of each pair, (n,).
        lengths: Tokens of each pair's text, (n,).
        size: Most pairs of a rectangle.
    """
    by_image: dict[int, list[int]] = {}
    for row in sorted(range(len(index)), key=lengths.__getitem__):
        by_image.setdefault(index[row], []).append(row)
    by_size: dict[int, list[list[int]]] = {}
    for rows in by_image.values():
        while rows:
            run = min(1 << (len(rows).bit_length() - 1), size)
            by_size.setdefault(run, []).append(rows[-run:])
            rows = rows[:-run]
    for run, pieces in by_size.items():
        pieces.sort(key=lambda rows: lengths[rows[-1]])
        step = max(1, size // run)
        for start in range(0, len(pieces), step):
            chosen = pieces[start : start + step]
            images = [index[rows[0]] for rows in chosen]
            yield Rectangle(images, [row for rows in chosen for row in rows], lengths[chosen[-1][-1]])
