"""One attention layer, watched: its probabilities are kept, and what a score gains from each of them can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from relpretrain.backbones.encoders import Encoders
from relpretrain.data.pipeline.preprocess import Preprocess


class Model(Protocol):
    """What is explained: a `relpretrain.Loaded`, or a scorer of one."""

    backbone: Any
    preprocess: Preprocess
    objectives: dict[str, Any]


class Watched:
    """Stands in for a layer's attention, and keeps the first probabilities that are computed.

    They are made a leaf of autograd's graph: the score's gradient with respect to them is the same, nothing before
    the layer is kept for it, and it exists for frozen weights, too.

    In shapes: n rows, h heads, L queries, K keys, d numbers of a head.
    """

    def __init__(self) -> None:
        self._probabilities: Tensor | None = None

    @property
    def probabilities(self) -> Tensor:
        """After the softmax and before dropout, (n, h, L, K), float32.

        Raises:
            RuntimeError: If the layer has not been run.
        """
        if self._probabilities is None:
            raise RuntimeError("The watched layer was not run: the backbone has another way of fusing.")
        return self._probabilities

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0
    ) -> Tensor:
        """Attention (n, h, L, d) of queries, keys and values, written out; `attn_mask` is True at keys to attend to."""
        scores = q.float() @ k.float().transpose(-2, -1) * q.shape[-1] ** -0.5
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        probabilities = scores.softmax(-1).detach().requires_grad_()
        if self._probabilities is None:  # with checkpointing, the layer is computed again in the backward pass
            self._probabilities = probabilities
        attended: Tensor = (probabilities @ v.float()).to(v.dtype)
        return attended

    def evidence(self, score: Tensor, again: bool = False) -> Tensor:
        """Attention times what the score gains from more of it, mean over heads, (n, L, K), on the CPU.

        The product comes first, then the mean; losses count as zero (ALBEF's recipe, arXiv 2107.07651, section 5.5).

        Args:
            score: A scalar.
            again: Whether further scores of the same pass will be asked for.
        """
        (gradient,) = torch.autograd.grad(score, self.probabilities, retain_graph=again)
        return (self.probabilities.detach() * gradient.clamp(min=0)).mean(1).cpu()


@contextmanager
def watched(backbone: Encoders, layer: nn.Module) -> Iterator[Watched]:
    """Watch a layer's attention inside `evaluating`; afterwards it has its own kernel again, as others have throughout.

    Args:
        backbone: The model.
        layer: One of its modules that has `kernel`, see `fusion_layer` and `image_block`.
    """
    seen = Watched()
    with evaluating(backbone):
        layer.kernel = cast(Any, seen)
        try:
            yield seen
        finally:
            del layer.kernel


@contextmanager
def evaluating(backbone: Encoders) -> Iterator[None]:
    """Compute with gradients, in evaluation mode and float32; afterwards the model is in the modes in which it was.

    No parameter gets a gradient by `torch.autograd.grad`. Not for several threads with one model.
    """
    training = [(module, module.training) for module in backbone.modules()]
    device = device_of(backbone).type
    try:
        backbone.eval()
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        for module, was in training:
            module.training = was


def device_of(backbone: nn.Module) -> torch.device:
    """Where a model is."""
    return next(backbone.parameters()).device


def checked(model: Model) -> Encoders:
    """The model's backbone.

    Raises:
        ValueError: If it is none of ours, whose layers are known.
    """
    if not isinstance(model.backbone, Encoders):
        raise ValueError(
            "Maps are made of the layers of relpretrain's ALBEF and XVLM, not of "
            f"{type(model.backbone).__name__}: load a checkpoint of one of these with relpretrain.load."
        )
    return model.backbone


def layer_number(backbone: Encoders, layer: int | None = None) -> int:
    """The number of a layer in BERT, from 0, text layers included, as ALBEF counts.

    Args:
        backbone: The model.
        layer: Itself; None for the middle one of those with cross-attention, the lower one of two: of BERT-base number
            8, ALBEF's choice.
    """
    return backbone.config.text_layers + (backbone.config.fusion_layers - 1) // 2 if layer is None else layer


def fusion_layer(backbone: Encoders, layer: int | None = None, words: bool = False) -> nn.Module:
    """A layer's attention of text to image.

    Args:
        backbone: The model.
        layer: Number of the layer, see `layer_number`.
        words: Whether maps of single words are wanted: of the last layer only [CLS] is read.

    Raises:
        ValueError: If that layer has no cross-attention, or none that shows words.
    """
    layers: Any = backbone.fusion.layers
    number = layer_number(backbone, layer)
    first, last = backbone.config.text_layers, backbone.config.text_layers + len(layers) - 1
    if not first <= number <= last:
        raise ValueError(f"layer={number} has no cross-attention: this model's layers {first} to {last} have it.")
    if words and number == last:
        other = f"choose one from {first} to {last - 1}" if first < last else "this model has no other one"
        raise ValueError(f"layer={number} is the last one, of which matching reads [CLS] alone, no word: {other}.")
    return layers[number - first].cross  # type: ignore[no-any-return]


def image_block(backbone: Encoders, block: int | None = None) -> nn.Module | None:
    """A block of the image encoder, None for a Swin, whose token 0 attends to nothing.

    Args:
        backbone: The model.
        block: Its number, from 0; None for the one after two thirds of them: of 12 blocks number 8, ALBEF's choice.

    Raises:
        ValueError: If there is no such block.
    """
    if backbone.config.vision == "swin":
        if block is not None:
            raise ValueError(f"block={block}: a Swin encoder's blocks have no token that stands for the image.")
        return None
    blocks: Any = backbone.vision.trunk.blocks
    number = len(blocks) * 2 // 3 if block is None else block
    if not 0 <= number < len(blocks):
        raise ValueError(f"block={number}: the image encoder has blocks 0 to {len(blocks) - 1}.")
    return blocks[number]  # type: ignore[no-any-return]
