"""What turns images and texts into a model's input: a checkpoint keeps it, so that it needs no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from relpretrain.data.pipeline.images import IMAGE_MEAN, IMAGE_STD, to_tensor
from relpretrain.data.pipeline.text import TextEncoder, collate_texts
from relpretrain.data.pipeline.tokenizer import SPECIAL_TOKENS, rebuild_tokenizer
from relpretrain.threads import in_threads
from relpretrain.types import TextBatch


@dataclass
class Preprocess:
    """Prepares images and texts for evaluation.

    Args:
        tokenizer: A fast tokenizer, see `load_tokenizer`.
        image_size: Side of the square images that the model sees, in pixels.
        max_tokens: Limit of a text's length, special tokens included.
        separator: Whether a text ends with [SEP].
        mean: Of the colour channels, in [0, 1].
        std: Of the colour channels.
        clean: Whether texts are cleaned and cut to 40 words as in the published evaluations of ALBEF and X-VLM.
    """

    tokenizer: Any
    image_size: int
    max_tokens: int = 40
    separator: bool = True
    mean: tuple[float, ...] = IMAGE_MEAN
    std: tuple[float, ...] = IMAGE_STD
    clean: bool = False

    @cached_property
    def encoder(self) -> TextEncoder:
        """The encoder of single texts."""
        return TextEncoder(self.tokenizer, self.max_tokens, self.separator, self.clean)

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Prepare images of any size and mode: (n, 3, image_size, image_size)."""
        if not images:
            return torch.empty(0, 3, self.image_size, self.image_size)
        return torch.stack(in_threads(lambda i: to_tensor(i, self.image_size, self.mean, self.std), images))

    def texts(self, texts: Sequence[str]) -> TextBatch:
        """Tokenise texts, cut to the limit and padded to the longest."""
        return collate_texts([self.encoder.caption(text) for text in texts], self.tokenizer.pad_token_id)

    def state(self) -> dict[str, Any]:
        """Everything as plain types, the tokenizer as its JSON string."""
        return {
            "tokenizer": self.tokenizer.backend_tokenizer.to_str(),
            "special_tokens": {name: str(getattr(self.tokenizer, name)) for name in SPECIAL_TOKENS},
            "image_size": self.image_size,
            "max_tokens": self.max_tokens,
            "separator": self.separator,
            "mean": list(self.mean),
            "std": list(self.std),
            "clean": self.clean,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Preprocess:
        """Rebuild what `state` described.

        Raises:
            ValueError: If it is no such description.
        """
        try:
            return cls(
                rebuild_tokenizer(state["tokenizer"], dict(state["special_tokens"])),
                state["image_size"],
                state["max_tokens"],
                state["separator"],
                tuple(state["mean"]),
                tuple(state["std"]),
                state.get("clean", False),
            )
        except KeyError as error:
            raise ValueError(
                f"The preprocessing that the checkpoint describes lacks {error}. It was not saved by relpretrain."
            ) from error
