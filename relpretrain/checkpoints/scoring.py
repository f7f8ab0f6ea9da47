"""Scores of images with texts, by the model alone: what `Loaded.score` gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor, nn

from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.pixels import decode
from relpretrain.types import Backbone

By = Literal["itm", "itc"]
"""The matching head, or the embeddings."""

_IMAGES, _TEXTS = 32, 64  # at once


def open_images(images: Sequence[Image.Image | str | Path]) -> list[Image.Image]:
    """The images as Pillow has them; paths are opened.

    Raises:
        OSError: If a path names no image.
        TypeError: If something is neither an image nor a path.
    """
    found = []
    for image in images:
        if not isinstance(image, (Image.Image, str, Path)):
            raise TypeError(f"an image is a path or of PIL, not {type(image).__name__}: use PIL.Image.fromarray")
        found.append(image if isinstance(image, Image.Image) else decode(str(image)))
    return found


@torch.inference_mode()
def score(
    backbone: Backbone,
    preprocess: Preprocess,
    images: Sequence[Image.Image | str | Path],
    texts: Sequence[str],
    by: By = "itm",
) -> Tensor:
    """Score every image with every text: (images, texts), float32 on the CPU; see `Loaded.score`.

    Raises:
        ValueError: If `by` is unknown.
        OSError: If a path names no image.
    """
    if by not in get_args(By):
        raise ValueError(f"by={by!r} is unknown: give one of {', '.join(get_args(By))}")
    device = next(backbone.parameters()).device if isinstance(backbone, nn.Module) else torch.device("cpu")
    if not texts or not images:
        return torch.zeros(len(images), len(texts))
    batch = preprocess.texts(list(texts))
    ids, mask = batch.input_ids.to(device), batch.attention_mask.to(device)
    parts = zip(torch.split(ids, _TEXTS), torch.split(mask, _TEXTS), strict=True)
    encoded = [(backbone.encode_text(few, seen), seen) for few, seen in parts]
    rows = []
    for start in range(0, len(images), _IMAGES):
        pixels = preprocess.images(open_images(images[start : start + _IMAGES])).to(device)
        found = backbone.encode_image(pixels)
        if by == "itc":
            vectors = torch.cat([backbone.project_text(states.float()) for states, _ in encoded])
            rows.append(backbone.project_image(found.tokens.float()) @ vectors.T)
            continue
        for tokens, seen in zip(found.tokens, found.mask, strict=True):
            rows.append(torch.cat([_match(backbone, tokens, seen, *few) for few in encoded])[None])
    return torch.cat(rows).float().cpu()


def _match(backbone: Backbone, image: Tensor, visible: Tensor, states: Tensor, mask: Tensor) -> Tensor:
    """Probabilities (texts,) that an image matches encoded texts."""
    many = len(states)
    fused = backbone.fuse(states, mask, image.expand(many, -1, -1), visible.expand(many, -1))
    return backbone.match_logits(fused.float()).softmax(-1)[:, 1]
