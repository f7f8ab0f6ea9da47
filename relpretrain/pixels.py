"""From image files to RGB pixels: one way for training, evaluation, hosts and perceptual hashes."""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "MPO", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Formats of image files that are read, by Pillow's names, as far as it was built with them.

Others that Pillow knows are no images to us, whatever they are named: for some (EPS) it starts other programs.
"""

BROKEN: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError, struct.error),
    Image.DecompressionBombError,
)
"""What Pillow raises on files that are broken, or of more pixels than it accepts."""


def open_image(file: str | Path | IO[bytes]) -> Image.Image:
    """Open an image file of one of `FORMATS`: its head is read, its pixels are not yet.

    Args:
        file: Its path, or the file, opened.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it is of no such format. What is broken raises one of `BROKEN`, here or when it is loaded.
    """
    return Image.open(file, formats=_formats())


def decode(file: str | IO[bytes]) -> Image.Image:
    """Decode an image file to RGB: the pixels that training, evaluation and hosts alike see of it, see `to_rgb`.

    Args:
        file: Its path, or the file, opened.

    Raises:
        OSError: If it is no image; or another one of `BROKEN`, if it cannot be decoded.
    """
    with open_image(file) as image:
        image.load()
        return to_rgb(image)


def decode_named(file: str | IO[bytes], name: object) -> Image.Image:
    """`decode` for those who tell a person what went wrong.

    Args:
        file: Its path, or the file, opened.
        name: What the image is called.

    Raises:
        ValueError: If it cannot be decoded, or is not there; names it.
    """
    try:
        return decode(file)
    except BROKEN as error:
        raise ValueError(f"Image {name} cannot be decoded: {error}") from error


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, transparent ones over white; of an animation the first frame.

    Sixteen bits are scaled to eight, and so are fractions of 1. An orientation in the image's EXIF data is not applied,
    neither in training nor in evaluation: annotated boxes count in the pixels that are stored.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):  # Pillow clips 16 bits to 8 instead of scaling them
        values = np.nan_to_num(np.asarray(image, np.float32))
        top = values.max(initial=0.0)
        if top > 255:
            values = values // 257
        elif image.mode == "F" and top <= 1:
            values = (255 * values).round()
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
