"""Drawing the generated world."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from relpretrain.scene_graph import Box

COLORS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 225),
    "yellow": (240, 210, 40),
    "purple": (150, 60, 190),
    "orange": (245, 140, 30),
    "cyan": (50, 200, 215),
    "black": (20, 20, 20),
}
"""Colours by name, RGB."""

SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "square": lambda x, y: np.ones(np.broadcast(x, y).shape, bool),
    "circle": lambda x, y: x**2 + y**2 <= 1,
    "triangle": lambda x, y: np.abs(x) <= (y + 1) / 2,
    "diamond": lambda x, y: np.abs(x) + np.abs(y) <= 1,
    "cross": lambda x, y: np.minimum(np.abs(x), np.abs(y)) <= 1 / 3,
}
"""Which points of a box belong to a shape; x and y run from -1 to 1, y downwards."""

COLOR_JITTER = 18
"""Largest deviation of an object's colour, of 255."""
_SUPERSAMPLING = 4


def draw_scene(
    labels: Sequence[str], boxes: Sequence[Box], size: int, noise: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw objects that fill square boxes on a grey ground, dim or bright.

    Args:
        labels: What each object is, as "red square".
        boxes: Where it is, in whole pixels.
        size: Side of the image in pixels.
        noise: Largest deviation of a background pixel, of 255.
        rng: Where shades are drawn from.

    Returns:
        (size, size, 3), uint8.
    """
    ground = rng.integers(195, 236)
    if noise:
        image = np.repeat(rng.integers(ground - noise, ground + noise + 1, (size, size, 1), np.int16), 3, axis=2)
    else:
        image = np.full((size, size, 3), ground, np.int16)
    for label, box in zip(labels, boxes, strict=True):
        color, shape = label.split()
        left, top, right, bottom = map(int, box)
        paint = (COLORS[color] + rng.integers(-COLOR_JITTER, COLOR_JITTER + 1, 3)).clip(0, 255)
        part = image[top:bottom, left:right]
        part += (coverage(shape, right - left) * (paint - part)).astype(np.int16)
    return image.astype(np.uint8)


@lru_cache(maxsize=1024)
def coverage(shape: str, side: int) -> np.ndarray:
    """How much of each pixel a shape covers that fills a box, (side, side, 1), in [0, 1]."""
    fine = side * _SUPERSAMPLING
    at = (np.arange(fine) + 0.5) * 2 / fine - 1
    inside = SHAPES[shape](at[None, :], at[:, None]).reshape(side, _SUPERSAMPLING, side, _SUPERSAMPLING)
    covered: np.ndarray = inside.mean((1, 3))
    return covered[:, :, None]


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode (height, width, 3), uint8, as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
