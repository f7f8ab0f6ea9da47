"""BERT split in two: a text encoder, and a fusion encoder with cross-attention to image tokens.

In shapes: n texts of L tokens, T real ones in all, m images of K tokens, D the width of the text tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from relpretrain.backbones.attention import attend
from relpretrain.backbones.initial import init_weights
from relpretrain.backbones.lean import linear_of
from relpretrain.backbones.packing import Packing
from relpretrain.backbones.presets import ModelConfig


class SelfAttention(nn.Module):
    """Multi-head self-attention with one linear layer for queries, keys and values."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor, queries: int | None = None, packing: Packing | None = None) -> Tensor:
        """Self-attention of tokens (n, L, D), computed for the first `queries` of them only (None: for all).

        `mask` (n, 1, 1, L) is True at the tokens that may be attended to. With a packing, the tokens are laid flat,
        (T, D), and so is the result, unless `queries` is 1.
        """
        p = self.dropout if self.training else 0.0
        if queries is None and packing is not None:  # rows of similar length attend together
            parts = packing.grouped.split(packing.grouped.spread(self.qkv(x)))
            return self.out(packing.grouped.collect(torch.cat([self._within(*part, p) for part in parts])))  # type: ignore[no-any-return]
        if queries is None:
            return self.out(self._within(self.qkv(x), mask, p).view(x.shape))  # type: ignore[no-any-return]
        # Project and split into heads: q (n, heads, queries, D / heads), k and v (n, heads, L, D / heads).
        width, weight, bias = x.shape[-1], self.qkv.weight, self.qkv.bias
        asking = x[:, :queries] if packing is None else packing.firsts(x)
        first: Any = F.linear(asking, weight[:width], bias[:width])
        both: Any = F.linear(x, weight[width:], bias[width:])
        both = both if packing is None else packing.pad(both)
        q = rearrange(first, "n l (h d) -> n h l d", h=self.heads)
        k, v = rearrange(both, "n l (part h d) -> part n h l d", part=2, h=self.heads)
        # Attend, and merge the heads to (n, queries, D).
        x = attend(q, k, v, mask, p)
        return self.out(rearrange(x, "n h l d -> n l (h d)"))  # type: ignore[no-any-return]

    def _within(self, qkv: Tensor, mask: Tensor | None, p: float) -> Tensor:
        """Attention within rows of queries, keys and values (n, L, 3 D), to flat tokens (n * L, D)."""
        q, k, v = rearrange(qkv, "n l (part h d) -> part n h l d", part=3, h=self.heads)
        x = attend(q, k, v, mask, p)
        return rearrange(x, "n h l d -> (n l) (h d)")


class CrossAttention(nn.Module):
    """Multi-head attention of text tokens to image tokens."""

    kernel = staticmethod(attend)  # an instance may have another way of the same (`explain.maps.watching`)

    def __init__(self, width: int, image_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(image_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, kv: Tensor, mask: Tensor, packing: Packing | None = None) -> Tensor:
        """Cross-attention of text tokens (n, L, D) to the tokens of m images, n a multiple of m.

        Each image serves n / m consecutive texts, whose tokens are concatenated to one row of queries.

        Args:
            x: Text tokens, (n, L, D); with a packing laid flat, (T, D), as is the result.
            kv: Keys and values of the image tokens, `self.kv(image)`, (m, K, 2 D).
            mask: True at the image tokens that may be attended to, (m, 1, 1, K).
            packing: Tables of the texts.
        """
        # Split into heads: q (m, heads, n / m * L, D / heads), k and v (m, heads, K, D / heads).
        asking = self.q(x) if packing is None else packing.pad(self.q(x))
        texts, m = len(asking), len(kv)
        q = rearrange(asking, "(m each) l (h d) -> m h (each l) d", m=m, h=self.heads)
        k, v = rearrange(kv, "m k (part h d) -> part m h k d", part=2, h=self.heads)
        # Attend, and merge the heads to (n, L, D).
        p = self.dropout if self.training else 0.0
        attended = self.kernel(q, k, v, mask, p)
        attended = rearrange(attended, "m h (each l) d -> (m each) l (h d)", each=texts // m)
        return self.out(attended if packing is None else packing.unpad(attended))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """A post-norm BERT layer: self-attention, cross-attention if `image_width` is given, and a feed-forward network.

    Args:
        config: Numbers of the model.
        image_width: Width of the image tokens; None for a layer without cross-attention.
    """

    def __init__(self, config: ModelConfig, image_width: int | None = None) -> None:
        super().__init__()
        width, heads, dropout, eps = config.text_width, config.text_heads, config.dropout, config.text_norm_eps
        self.attention = SelfAttention(width, heads, dropout)
        self.attention_norm = nn.LayerNorm(width, eps)
        if image_width is not None:
            self.cross = CrossAttention(width, image_width, heads, dropout)
            self.cross_norm = nn.LayerNorm(width, eps)
        self.up = nn.Linear(width, config.text_ffn)
        self.down = nn.Linear(config.text_ffn, width)
        self.ffn_norm = nn.LayerNorm(width, eps)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        packing: Packing | None = None,
        kv: Tensor | None = None,
        image_mask: Tensor | None = None,
    ) -> Tensor:
        """Run the layer on text tokens (n, L, D); packing, `kv` and masks as in the two kinds of attention."""
        return self.finish(self.attend(x, mask, None, packing), packing, kv, image_mask)

    def attend(self, x: Tensor, mask: Tensor, queries: int | None = None, packing: Packing | None = None) -> Tensor:
        """Run the self-attention, for the first `queries` tokens only if given: (n, queries or L, D)."""
        attended = self.drop(self.attention(x, mask, queries, packing))
        if queries is not None:
            x = x[:, :queries] if packing is None else packing.firsts(x)
        return self.attention_norm(x + attended)  # type: ignore[no-any-return]

    def keys_values(self, image: Tensor) -> Tensor:
        """Compute the cross-attention's keys and values (m, K, 2 D) of image tokens (m, K, image width)."""
        return self.cross.kv(image)  # type: ignore[no-any-return]

    def finish(
        self,
        x: Tensor,
        packing: Packing | None = None,
        kv: Tensor | None = None,
        image_mask: Tensor | None = None,
    ) -> Tensor:
        """Run the cross-attention and the feed-forward network on what `attend` returned."""
        if kv is not None:
            x = self.cross_norm(x + self.drop(self.cross(x, kv, image_mask, packing)))
        return self.ffn_norm(x + self.drop(linear_of(F.gelu, self.up(x), self.down)))  # type: ignore[no-any-return]


class TextEncoder(nn.Module):
    """Embeddings and the first layers of BERT.

    Args:
        config: Numbers of the model.
        checkpointing: Recompute activations in the backward pass to save memory.
    """

    def __init__(self, config: ModelConfig, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.words = nn.Embedding(config.vocab_size, config.text_width)
        self.positions = nn.Embedding(config.max_positions, config.text_width)
        self.types = nn.Embedding(2, config.text_width)  # all tokens are of type 0, as in ALBEF and X-VLM
        self.norm = nn.LayerNorm(config.text_width, config.text_norm_eps)
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.text_layers))
        self.meeting = config.text_layers - config.meetings if config.meetings else -1
        init_weights(self, config.init_std)

    def forward(self, ids: Tensor, mask: Tensor, packing: Packing | None = None) -> Tensor:
        """Encode ids (n, L) to tokens (n, L, D); `mask` (n, L) is True at real tokens.

        With the packing of the mask only real tokens are computed, and the others are zeros. Where texts meet images
        (`ModelConfig.meetings`), the tokens before the layers in which they do come along, (n, L, 2 D).
        """
        length = ids.shape[1]
        if length > self.positions.num_embeddings:
            raise ValueError(
                f"A text of {length} tokens is longer than the model's max_positions={self.positions.num_embeddings}; "
                "lower max_tokens of the data or raise max_positions."
            )
        places = self.positions.weight[:length] + self.types.weight[0]
        x: Tensor = self.words(ids) + places if packing is None else self.words(packing.unpad(ids)) + packing.at(places)
        x = self.drop(self.norm(x))
        before = None
        for number, layer in enumerate(self.layers):
            before = x if number == self.meeting else before
            x = run(layer, self.checkpointing, x, _wide(mask), packing)
        x = x if before is None else torch.cat([x, before], -1)
        return x if packing is None else packing.pad(x)


class FusionEncoder(nn.Module):
    """The remaining layers of BERT, each with cross-attention to image tokens.

    Args:
        config: Numbers of the model.
        checkpointing: Recompute activations in the backward pass to save memory.
    """

    def __init__(self, config: ModelConfig, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.layers = nn.ModuleList(Layer(config, config.vision_width) for _ in range(config.fusion_layers))
        init_weights(self, config.init_std)

    def precompute_image_kv(self, image: Tensor) -> tuple[Tensor, ...]:
        """Precompute cross-attention keys and values per layer, (m, K, 2 D) each, of tokens (m, K, image width).

        With checkpointing, returns the tokens unchanged: each layer then recomputes its keys and values.
        """
        layers: list[Any] = list(self.layers)
        return (image,) if self.checkpointing else tuple(layer.keys_values(image) for layer in layers)

    def precompute_text(self, text: Tensor, text_mask: Tensor, packing: Packing | None = None) -> Tensor:
        """Precompute the first layer's self-attention, (n, L, D), independent of any image, for `first_token`."""
        first: Any = self.layers[0]
        if packing is None:
            return run(first.attend, self.checkpointing, text, _wide(text_mask))
        return packing.pad(run(first.attend, self.checkpointing, packing.unpad(text), _wide(text_mask), None, packing))

    def forward(
        self,
        text: Tensor,
        text_mask: Tensor,
        image: tuple[Tensor, ...],
        image_mask: Tensor,
        packing: Packing | None = None,
    ) -> Tensor:
        """Fuse text tokens (n, L, D) with m images from `precompute_image_kv`, n a multiple of m: (n, L, D).

        With the packing of the texts only real tokens are computed, and the others are zeros.
        """
        x = text if packing is None else packing.unpad(text)
        for number, layer in enumerate(self.layers):
            x = self._cross(number, layer, image, image_mask, packing, x, _wide(text_mask))
        return x if packing is None else packing.pad(x)

    def first_token(
        self,
        text: Tensor,
        text_mask: Tensor,
        image: tuple[Tensor, ...],
        image_mask: Tensor,
        packing: Packing | None = None,
    ) -> Tensor:
        """Compute only [CLS] of what `forward` returns, (n, 1, D), of texts from `precompute_text`."""
        layers: list[Any] = list(self.layers)
        last = len(layers) - 1
        # First layer: its self-attention is done, (n, L, D), or (T, D) with a packing.
        if last == 0:
            return self._cross(0, layers[0].finish, image, image_mask, None, text[:, :1])
        x = text if packing is None else packing.unpad(text)
        x = self._cross(0, layers[0].finish, image, image_mask, packing, x)
        # Middle layers.
        for number in range(1, last):
            x = self._cross(number, layers[number], image, image_mask, packing, x, _wide(text_mask))
        # Last layer: [CLS] is the only query, (n, 1, D).
        x = run(layers[last].attend, self.checkpointing, x, _wide(text_mask), 1, packing)
        return self._cross(last, layers[last].finish, image, image_mask, None, x)

    def _cross(
        self,
        number: int,
        part: Any,
        image: tuple[Tensor, ...],
        image_mask: Tensor,
        packing: Packing | None,
        *x: Tensor,
    ) -> Tensor:
        """Run a layer, or the part of it that has cross-attention."""
        if not self.checkpointing:
            return part(*x, packing, image[number], _wide(image_mask))  # type: ignore[no-any-return]
        layer: Any = self.layers[number]
        return run(lambda tokens, *x: part(*x, packing, layer.keys_values(tokens), _wide(image_mask)), True, *image, *x)


class MLMHead(nn.Module):
    """BERT's head for masked language modelling; its last matrix is that of the word embeddings.

    Args:
        config: Numbers of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.text_width, config.text_width)
        self.norm = nn.LayerNorm(config.text_width, config.text_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        init_weights(self, config.init_std)

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """Vocabulary logits (positions, vocabulary) of hidden states (positions, D); `words` is (vocabulary, D)."""
        return F.linear(self.norm(F.gelu(self.dense(hidden))), words, self.bias)


def run(part: Callable[..., Tensor], checkpointing: bool, *arguments: Any) -> Tensor:
    """Run a layer or a part of one, with activation checkpointing if asked for."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(part, *arguments, use_reentrant=False)  # type: ignore[no-any-return]
    return part(*arguments)


def _wide(mask: Tensor) -> Tensor:
    """A mask (n, tokens) in the shape that attention expects, (n, 1, 1, tokens)."""
    return mask.bool()[:, None, None]
