"""From image files to RGB pixels: one way for training, evaluation, hosts and perceptual hashes."""

from __future__ import annotations

from typing import IO

import numpy as np
from PIL import Image


def decode(file: str | IO[bytes]) -> Image.Image:
    """Decode an image file to RGB: the pixels that training, evaluation and hosts alike see of it, see `to_rgb`.

    Args:
        file: Its path, or the file, opened.

    Raises:
        OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError: If it cannot be decoded.
    """
    with Image.open(file) as image:
        image.load()
        return to_rgb(image)


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
