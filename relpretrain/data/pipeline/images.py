"""Image files to pixels, and pixels to a model's input.

Training decodes JPEG files to tensors and resizes these, on one core in three quarters of the time that Pillow takes;
evaluation resizes with Pillow.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional

from relpretrain.data.pipeline.sample import Decoded
from relpretrain.errors import BadSample
from relpretrain.pixels import BROKEN, open_image, to_rgb
from relpretrain.scene_graph import Box
from relpretrain.types import Normalisation

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""Statistics of CLIP's training images, as in the official ALBEF and X-VLM code."""

CLIP_NORMALISATION = Normalisation(IMAGE_MEAN, IMAGE_STD)


def decode(image: bytes, size: int, min_scale: float = 1.0) -> Decoded:
    """Decode an image file to RGB, a JPEG at the smallest scale from which no crop must be enlarged.

    Args:
        image: The file's bytes.
        size: Side of the image that the model sees, in pixels.
        min_scale: Smallest fraction of the area that a crop keeps.

    Raises:
        BadSample: If it is no image, damaged, or of more pixels than Pillow accepts.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = open_image(io.BytesIO(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadSample("decompression_bomb", str(error)) from None
    except BROKEN as error:
        raise BadSample("not_an_image", str(error).partition(" <")[0]) from None  # without the buffer's address
    width, height = opened.size
    # A crop's shorter side is at least sqrt(3/4 of its area): its sides' ratio is at most 4/3.
    scale = size / min(width, height, math.sqrt(0.75 * min_scale * width * height))
    try:
        if opened.format == "JPEG" and scale < 0.5:
            opened.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
        elif opened.format == "JPEG" and opened.mode == "RGB":
            data = torch.frombuffer(bytearray(image), dtype=torch.uint8)
            return Decoded(decode_jpeg(data, ImageReadMode.RGB), (width, height))
        return Decoded(pixels_of(to_rgb(opened)), (width, height))
    except BROKEN as error:
        raise BadSample("truncated_image", str(error)) from None


def pixels_of(image: Image.Image) -> Tensor:
    """The pixels of an RGB image: (3, height, width), uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def to_image(pixels: Tensor) -> Image.Image:
    """An image of pixels (3, height, width), uint8."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def resized(pixels: Tensor, area: Box, size: int) -> Tensor:
    """Resize a part of an image with bicubic interpolation.

    Args:
        pixels: The image, (3, height, width), uint8.
        area: The part, in whole pixels.
        size: Side of the square that comes out.

    Returns:
        (3, size, size), uint8.
    """
    left, top, right, bottom = map(int, area)
    crop = pixels[:, top:bottom, left:right]
    bicubic = functional.InterpolationMode.BICUBIC
    small: Tensor = functional.resize(crop, [size, size], interpolation=bicubic, antialias=True)
    return small


def to_tensor(
    image: Image.Image, size: int, mean: Sequence[float] = IMAGE_MEAN, std: Sequence[float] = IMAGE_STD
) -> Tensor:
    """Prepare an image for evaluation: squashed to a square with bicubic interpolation, and normalised.

    Returns:
        (3, size, size), float32.
    """
    small = to_rgb(image).resize((size, size), Image.Resampling.BICUBIC)
    return Normalisation(tuple(mean), tuple(std))(pixels_of(small))
