"""Drawing the generated world."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

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
    "white": (245, 245, 245),
    "pink": (250, 150, 190),
    "brown": (120, 75, 40),
    "lime": (170, 230, 60),
    "navy": (25, 30, 110),
    "teal": (20, 125, 125),
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

SIZES = {"any": (0.25, 0.42), "small": (0.19, 0.25), "medium": (0.3, 0.36), "large": (0.42, 0.5)}
"""Smallest and largest side of one of two objects, as fractions of the image's side; more objects are smaller."""

TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": lambda x, y: np.zeros(np.broadcast(x, y).shape, bool),
    "striped": lambda x, y: (y // 2 % 2 == 1) & (x >= 0),
    "dotted": lambda x, y: (x % 4 >= 2) & (y % 4 >= 2),
    "checked": lambda x, y: (x // 2 + y // 2) % 2 == 1,
}
"""Which pixels of an object are of a lighter shade; x and y count from its upper left corner."""


class Appearance(NamedTuple):
    """What the words of a label say; a size or texture that is not named is the usual one."""

    color: str
    shape: str
    texture: str = "plain"
    size: str = ""


GROUNDS = range(195, 236)
"""Shades of grey of the ground, of 255."""
COLOR_JITTER = 18
"""Largest deviation of an object's colour, of 255."""
_SUPERSAMPLING = 4


def draw_scene(
    labels: Sequence[str], boxes: Sequence[Box], size: int, noise: int, rng: np.random.Generator, clutter: int = 0
) -> np.ndarray:
    """Draw objects that fill square boxes on a grey ground, dim or bright; smaller ones hide larger ones.

    Args:
        labels: What each object is, as "red square".
        boxes: Where it is, in whole pixels.
        size: Side of the image in pixels.
        noise: Largest deviation of a background pixel, of 255.
        rng: Where shades are drawn from.
        clutter: Number of small marks on the ground, of any colour.

    Returns:
        (size, size, 3), uint8.
    """
    ground = rng.integers(GROUNDS.start, GROUNDS.stop)
    if noise:
        image = np.repeat(rng.integers(ground - noise, ground + noise + 1, (size, size, 1), np.int16), 3, axis=2)
    else:
        image = np.full((size, size, 3), ground, np.int16)
    mark = max(1, size // 16)
    for _ in range(clutter):
        x, y = rng.integers(0, size + 1 - mark, 2)
        image[y : y + mark, x : x + mark] = rng.integers(0, 256, 3)
    looks = [parse_label(label) for label in labels]
    paints = [(COLORS[a.color] + rng.integers(-COLOR_JITTER, COLOR_JITTER + 1, 3)).clip(0, 255) for a in looks]
    for i in sorted(range(len(labels)), key=lambda i: -boxes[i].area):
        left, top, right, bottom = map(int, boxes[i])
        paint = paints[i]
        if looks[i].texture != "plain":
            light = _texture(looks[i].texture, right - left)
            paint = paint + light * (255 - paint) * 0.6
        part = image[top:bottom, left:right]
        part += (coverage(looks[i].shape, right - left) * (paint - part)).astype(np.int16)
    return image.astype(np.uint8)


@lru_cache(maxsize=4096)
def parse_label(label: str) -> Appearance:
    """Read a label such as "small striped red square"."""
    *rest, color, shape = label.split()
    texture = next((word for word in rest if word in TEXTURES), "plain")
    return Appearance(color, shape, texture, next((word for word in rest if word in SIZES), ""))


@lru_cache(maxsize=1024)
def _texture(texture: str, side: int) -> np.ndarray:
    """The lighter pixels of an object, (side, side, 1)."""
    at = np.arange(side)
    return TEXTURES[texture](at[None, :], at[:, None])[:, :, None]


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
