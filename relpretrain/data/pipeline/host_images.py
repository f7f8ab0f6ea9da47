"""The image transforms of other codebases, in the place of our normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from relpretrain.data.pipeline.images import to_image

ImageTransform = Callable[[Image.Image], Tensor]


@dataclass
class HostTransform:
    """Normalises augmented pixels as a host does, and leaves their geometry, which boxes follow.

    Args:
        size: Side of the image, in pixels.
        transform: The host's evaluation transform, or a Hugging Face image processor.
    """

    size: int
    transform: Any

    def __call__(self, pixels: Tensor) -> Tensor:
        """Make the host's input of an image's pixels, (3, size, size), uint8.

        Raises:
            ValueError: If the transform gives something of another size.
        """
        image = to_image(pixels)
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
