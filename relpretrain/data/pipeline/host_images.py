"""The image transforms of other codebases, after our own augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from relpretrain.data.pipeline.stages import Work
from relpretrain.data.pipeline.transforms import IMAGE_MEAN, IMAGE_STD

ImageTransform = Callable[[Image.Image], Tensor]


@dataclass
class HostImages:
    """A stage after augmentation: gives an image the host's values, and leaves its geometry, which boxes follow.

    Args:
        size: Side of the image, in pixels.
        mean: Of the colour channels, in [0, 1].
        std: Of the colour channels.
        transform: Makes the tensor of the augmented image instead: the host's evaluation transform, or a Hugging Face
            image processor.
    """

    size: int
    mean: Sequence[float] = IMAGE_MEAN
    std: Sequence[float] = IMAGE_STD
    transform: Any = None

    def __call__(self, work: Work) -> None:
        """Change the tensor of a sample.

        Raises:
            ValueError: If the transform gives something of another size.
        """
        assert work.tensor is not None
        pixels = work.tensor * _column(IMAGE_STD) + _column(IMAGE_MEAN)
        if self.transform is None:
            work.tensor = (pixels - _column(self.mean)) / _column(self.std)
            return
        array = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        image = Image.fromarray(np.ascontiguousarray(array))
        work.tensor = self._transformed(image)

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return self.transform is not None or (tuple(self.mean), tuple(self.std)) != (IMAGE_MEAN, IMAGE_STD)

    def _transformed(self, image: Image.Image) -> Tensor:
        if hasattr(self.transform, "image_mean"):
            tensor = self.transform(image, return_tensors="pt")["pixel_values"][0]
        else:
            tensor = self.transform(image)
        if not isinstance(tensor, Tensor) or tensor.shape != (3, self.size, self.size):
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(
                f"transform gave {got} for an image of {self.size} pixels, and must give a tensor (3, {self.size}, "
                f"{self.size}) without moving anything in the image: the evaluation transform, at the same image_size."
            )
        return tensor


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(tuple(values), dtype=torch.float32)[:, None, None]
