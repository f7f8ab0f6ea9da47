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
_FOR, _AGAINST = (240, 128, 24), (44, 122, 244)
"""Colours of what speaks for a text, and of what speaks for its foil: apart for the colour-blind, and alike bright."""
_STOPS = 9
"""Colours of a scale in a legend."""


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
        pixels = _coloured(values / top if top > 0 else np.zeros_like(values), signed)
    else:
        pixels = _coloured(_unit(values), signed)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def reach(found: Tensor) -> float:
    """The value at either end of the scale of a signed picture: the largest magnitude of the map as it is drawn."""
    return float(np.abs(_large(found.float())).max()) * float(found.abs().max())


def scale(signed: bool = False) -> str:
    """The colours of `overlay` from the lowest value to the highest, as a gradient of CSS.

    Args:
        signed: As of `overlay`; 0 is then in the middle.
    """
    values = np.linspace(-1 if signed else 0, 1, _STOPS, dtype=np.float32)
    stops = (f"rgb({r} {g} {b} / {a / 255:.0%})" for r, g, b, a in _coloured(values, signed).tolist())
    return f"linear-gradient(90deg, {', '.join(stops)})"


def _coloured(values: NDArray[np.float32], signed: bool) -> NDArray[np.uint8]:
    """Red, green, blue and opacity (..., 4) of values from 0 to 1, or from -1 to 1 where they are signed."""
    if signed:
        colours = np.where(values[..., None] > 0, np.array(_FOR), np.array(_AGAINST))
    else:
        places, tones = [place for place, _ in _HEAT], np.array([tone for _, tone in _HEAT])
        colours = np.stack([np.interp(values, places, channel) for channel in tones.T], -1)
    opacity = 255 * np.abs(values) ** _POWER
    coloured: NDArray[np.uint8] = np.concatenate([colours, opacity[..., None]], -1).round().astype(np.uint8)
    return coloured


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
