"""A map as a transparent picture that lies over a photo: clear where the map is low, coloured where it is high."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

_SIDE = 72  # pixels of the picture's side; the page stretches it over the photo
_BLUR = 0.02  # deviation of the blur, as a share of the side
_POWER = 0.7  # of the map, for its opacity

_HEAT = ((0.0, (54, 12, 102)), (0.35, (181, 42, 92)), (0.65, (246, 114, 38)), (1.0, (255, 240, 110)))
"""Colours of a map from low to high, in order of brightness, so that they can be told apart without colours."""
_FOR, _AGAINST = (236, 112, 20), (38, 92, 196)
"""Colours of what speaks for a text, and of what speaks for its foil."""


def overlay(found: Tensor, signed: bool = False) -> str:
    """A picture of a map, as the address of an image (data:), stretched between its least and its largest value.

    As ALBEF draws them: to [0, 1], larger by a cubic filter, blurred, to [0, 1] again, with an opacity of m ** 0.7.

    Args:
        found: The map, (rows, columns).
        signed: Whether values below 0 have a colour of their own; then 0 stays clear, and the scale is that of the
            largest magnitude.
    """
    values = _large(found.float())
    if signed:
        top = float(np.abs(values).max())
        strength = np.abs(values) / top if top > 0 else np.zeros_like(values)
        colours = np.where(values[..., None] > 0, np.array(_FOR), np.array(_AGAINST))
    else:
        strength = _unit(values)
        places, tones = [place for place, _ in _HEAT], np.array([tone for _, tone in _HEAT])
        colours = np.stack([np.interp(strength, places, channel) for channel in tones.T], -1)
    pixels = np.dstack([colours, 255 * strength**_POWER]).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _large(found: Tensor) -> NDArray[np.float32]:
    """The map in the picture's size, blurred, in units of its largest magnitude."""
    top = found.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    large = F.interpolate((found / top)[None, None], size=(_SIDE, _SIDE), mode="bicubic")
    reach = math.ceil(3 * _BLUR * _SIDE)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / (_BLUR * _SIDE)) ** 2)
    kernel = kernel / kernel.sum()
    large = F.conv2d(F.pad(large, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
    large = F.conv2d(F.pad(large, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    blurred: NDArray[np.float32] = large[0, 0].numpy()
    return blurred


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values from 0 to 1; zeros of a constant map."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high - low > 1e-6 else np.zeros_like(values)
