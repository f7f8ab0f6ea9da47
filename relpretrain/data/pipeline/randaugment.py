"""The random augmentation of the official ALBEF and X-VLM code, without its fault."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from relpretrain.data.pipeline.images import pixels_of, to_image

OPERATIONS, CHANCE = 2, 0.5
"""How many are drawn, with replacement, and the probability that each is applied."""

ENHANCEMENT = 1.36  # level 7 of 10: 0.7 * 1.8 + 0.1
SHEAR = 0.21  # 0.7 * 0.3
TRANSLATION = 7  # pixels
ROTATION = 21  # degrees
_GREY = (128, 128, 128)

Operation = Callable[[Image.Image, int], Image.Image]
"""Changes an image; the sign (-1 or 1) says which way."""


def _brightness(image: Image.Image, sign: int) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(ENHANCEMENT)


def _sharpness(image: Image.Image, sign: int) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(ENHANCEMENT)


def _moved(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=_GREY)


COLOUR: tuple[Operation, ...] = (
    lambda image, sign: image,
    lambda image, sign: ImageOps.autocontrast(image),  # theirs turns a channel white whose darkest value is not 0
    lambda image, sign: ImageOps.equalize(image),
    _brightness,
    _sharpness,
)
"""Operations that leave everything in its place."""

SHAPE: tuple[Operation, ...] = (
    lambda image, sign: _moved(image, (1, sign * SHEAR, 0, 0, 1, 0)),
    lambda image, sign: _moved(image, (1, 0, 0, sign * SHEAR, 1, 0)),
    lambda image, sign: _moved(image, (1, 0, sign * TRANSLATION, 0, 1, 0)),
    lambda image, sign: _moved(image, (1, 0, 0, 0, 1, sign * TRANSLATION)),
    lambda image, sign: image.rotate(sign * ROTATION, Image.Resampling.BILINEAR, fillcolor=_GREY),
)
"""Operations that move things: for images without boxes."""


def rand_augment(pixels: Tensor, rng: np.random.Generator, shape: bool) -> Tensor:
    """Apply up to two random operations of strength 7 of 10 (official `RandomAugment(2, 7)`).

    Deviation: contrast is stretched as intended. The official code computes the negative of an unsigned minimum, and so
    turns every channel white that has no black in it.

    Args:
        pixels: (3, height, width), uint8.
        rng: Where the choices are drawn from.
        shape: Whether shearing, shifting and turning are among the operations.

    Returns:
        Pixels of the same shape and type.
    """
    known = COLOUR + SHAPE if shape else COLOUR
    image = to_image(pixels)
    for choice in rng.integers(len(known), size=OPERATIONS):
        applied, sign = rng.random() < CHANCE, 1 if rng.random() < 0.5 else -1
        if applied:
            image = known[choice](image, sign)
    return pixels_of(image)
