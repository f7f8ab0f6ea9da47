"""Where a model looks when it compares the embedding of an image with that of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from relpretrain.backbones.encoders import Encoders
from relpretrain.explain.maps.watching import Model, checked, device_of, evaluating, image_block, watched


@dataclass(frozen=True)
class EmbeddingMap:
    """Where a model looks for a text as a whole, by the contrastive embeddings alone.

    Args:
        text: The text.
        map: How much of the score comes from each patch, (rows, columns), from 0, in float32.
        score: Cosine of the two embeddings over the temperature: what the map explains.
        cosine: That cosine itself, which `Loaded.score(by="itc")` gives.
    """

    text: str
    map: Tensor
    score: float
    cosine: float


def embedding_maps(
    model: Model, image: Image.Image, texts: Sequence[str], block: int | None = None
) -> list[EmbeddingMap]:
    """Grad-CAM of the contrastive score: one map for each text, none for its words (ALBEF's mode "itc").

    Of a ViT it is [CLS]'s attention to the patches in one block, times what the score gains from more of it where it
    gains, mean over heads. Of a Swin, whose token 0 is the mean of the patches, it is each patch's share of the score:
    its final token times the score's gradient with respect to it, where that is positive.

    Args:
        model: What `relpretrain.load` returned.
        image: The image, of any size and mode.
        texts: Texts about it.
        block: Number of the block of a ViT, see `watching.image_block`.

    Raises:
        ValueError: If the model is none of ours, or has no such block.
    """
    if not texts:
        return []
    backbone = checked(model)
    watch = image_block(backbone, block)
    with evaluating(backbone):  # what is made outside, in inference mode, could not be kept for a gradient
        pixels = model.preprocess.images([image]).to(device_of(backbone))
        words = model.preprocess.texts(list(texts)).to(pixels.device)
        with torch.no_grad():
            vectors = backbone.project_text(backbone.encode_text(words.input_ids, words.attention_mask))
            temperature = float(model.backbone.temperature)
            vectors = vectors / temperature
        looked = (
            _by_patches(backbone, pixels, vectors) if watch is None else _by_attention(backbone, watch, pixels, vectors)
        )
    grid = backbone.patch_grid
    return [
        EmbeddingMap(text, found.reshape(grid), score, score * temperature)
        for text, (found, score) in zip(texts, looked, strict=True)
    ]


def _by_attention(backbone: Encoders, block: nn.Module, pixels: Tensor, vectors: Tensor) -> list[tuple[Tensor, float]]:
    with watched(backbone, block) as seen:
        scores = _scores(backbone, backbone.encode_image(pixels).tokens, vectors)
        return [(seen.evidence(score, again=True)[0, 0, 1:].clone(), score.item()) for score in scores]


def _by_patches(backbone: Encoders, pixels: Tensor, vectors: Tensor) -> list[tuple[Tensor, float]]:
    with torch.no_grad():
        patches = backbone.encode_image(pixels).tokens[:, 1:]  # (1, patches, dim)
    patches = patches.detach().requires_grad_()
    scores = _scores(backbone, torch.cat([patches.mean(1, keepdim=True), patches], 1), vectors)
    found = []
    for score in scores:
        (gradient,) = torch.autograd.grad(score, patches, retain_graph=True)
        share = (patches.detach() * gradient).sum(-1).clamp(min=0)
        found.append((share[0].float().cpu(), score.item()))
    return found


def _scores(backbone: Encoders, tokens: Tensor, vectors: Tensor) -> Tensor:
    """Product of an image's embedding, of its tokens (1, 1 + patches, dim), with each vector, (texts,)."""
    return (backbone.project_image(tokens) @ vectors.T)[0]
