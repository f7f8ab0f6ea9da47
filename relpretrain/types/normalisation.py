"""How the pixels of a batch become what a model takes."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from relpretrain.types.movable import send


class Normalisation(NamedTuple):
    """Makes a model's input of pixels: mean and deviation of the colour channels, each in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalise pixels (..., 3, height, width) in [0, 255] on their device; float32."""
        scale, shift = _colours(self, pixels.device)
        copy = pixels.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        return copy.mul_(scale).sub_(shift)


@functools.lru_cache
def _colours(of: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """What [0, 255] is multiplied by, and what is then taken away, each (3, 1, 1); kept on each device."""
    scale = torch.tensor([1 / (255 * s) for s in of.std]).view(3, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(of.mean, of.std, strict=True)]).view(3, 1, 1)
    return send(scale, device), send(shift, device)
