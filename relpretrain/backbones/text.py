"""BERT split in two: a text encoder, and a fusion encoder that attends to image tokens.

n texts of L tokens, D their width, K image tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from relpretrain.backbones.initial import init_weights
from relpretrain.backbones.presets import ModelConfig


class SelfAttention(nn.Module):
    """Multi-head attention of tokens to themselves, queries, keys and values out of one product."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor, queries: int | None = None) -> Tensor:
        """Attend from the first `queries` of tokens (n, L, D) to the visible; `mask` is (n, 1, 1, L), True at those."""
        if queries is None:
            q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        else:  # the other tokens' queries are not needed
            width, weight, bias = x.shape[-1], self.qkv.weight, self.qkv.bias
            first: Any = F.linear(x[:, :queries], weight[:width], bias[:width])
            both: Any = F.linear(x, weight[width:], bias[width:])
            q = first.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            k, v = both.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        p = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        return self.out(x.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Multi-head attention of text tokens to image tokens."""

    def __init__(self, width: int, image_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(image_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, kv: Tensor, mask: Tensor) -> Tensor:
        """Attend from (n, L, D) to the visible tokens of m images; `mask` is (m, 1, 1, K), True at visible ones.

        `kv` holds their keys and values, (m, K, 2 D): what `self.kv` makes of tokens (m, K, image width). n is a
        multiple of m: each image serves n / m texts in a row, which stand side by side as queries.
        """
        q = self.q(x).reshape(len(kv), -1, x.shape[-1]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = kv.reshape(*kv.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        p = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        return self.out(attended.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """A BERT layer: self-attention, cross-attention if `image_width` is given, two linear layers; norms come last.

    Args:
        config: Numbers of the model.
        image_width: Width of the image tokens; None for a layer of text alone.
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

    def forward(self, x: Tensor, mask: Tensor, kv: Tensor | None = None, image_mask: Tensor | None = None) -> Tensor:
        """Turn tokens (n, L, D) into tokens (n, L, D); `kv` and masks as in the attentions."""
        return self.finish(self.attend(x, mask), kv, image_mask)

    def attend(self, x: Tensor, mask: Tensor, queries: int | None = None) -> Tensor:
        """The part before any image: self-attention of the first `queries` tokens, (n, queries or L, D)."""
        return self.attention_norm(x[:, :queries] + self.drop(self.attention(x, mask, queries)))  # type: ignore[no-any-return]

    def finish(self, x: Tensor, kv: Tensor | None = None, image_mask: Tensor | None = None) -> Tensor:
        """The rest: cross-attention and the two linear layers, each token by itself."""
        if kv is not None:
            x = self.cross_norm(x + self.drop(self.cross(x, kv, image_mask)))
        return self.ffn_norm(x + self.drop(self.down(F.gelu(self.up(x)))))  # type: ignore[no-any-return]


class TextEncoder(nn.Module):
    """Embeddings and the first layers of BERT.

    Args:
        config: Numbers of the model.
        checkpointing: Recompute activations in the backward pass, for less memory.
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
        init_weights(self, config.init_std)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode ids (n, L) to tokens (n, L, D); `mask` (n, L) is True at real tokens."""
        length = ids.shape[1]
        if length > self.positions.num_embeddings:
            raise ValueError(
                f"A text of {length} tokens is longer than the model's max_positions={self.positions.num_embeddings}; "
                "lower max_tokens of the data or raise max_positions."
            )
        x: Tensor = self.words(ids) + (self.positions.weight[:length] + self.types.weight[0])
        x = self.drop(self.norm(x))
        for layer in self.layers:
            x = run(layer, self.checkpointing, x, _wide(mask))
        return x


class FusionEncoder(nn.Module):
    """The remaining layers of BERT, each with cross-attention to image tokens.

    Args:
        config: Numbers of the model.
        checkpointing: Recompute activations in the backward pass, for less memory.
    """

    def __init__(self, config: ModelConfig, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.layers = nn.ModuleList(Layer(config, config.vision_width) for _ in range(config.fusion_layers))
        init_weights(self, config.init_std)

    def precompute_image_kv(self, image: Tensor) -> tuple[Tensor, ...]:
        """What no text has a part in, of tokens (m, K, image width): keys and values for each layer, (m, K, 2 D).

        With checkpointing it is the tokens alone: a layer makes its keys and values when it runs, and keeps none.
        """
        layers: list[Any] = list(self.layers)
        return (image,) if self.checkpointing else tuple(layer.cross.kv(image) for layer in layers)

    def precompute_text(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """What no image has a part in, (n, L, D): the first layer's self-attention. Goes on in `first_token`."""
        first: Any = self.layers[0]
        return run(first.attend, self.checkpointing, text, _wide(text_mask))

    def forward(self, text: Tensor, text_mask: Tensor, image: tuple[Tensor, ...], image_mask: Tensor) -> Tensor:
        """Let texts (n, L, D) attend to m images of `precompute_image_kv`, n a multiple of m: (n, L, D)."""
        for number, layer in enumerate(self.layers):
            text = self._look(number, layer, image, image_mask, text, _wide(text_mask))
        return text

    def first_token(self, begun: Tensor, text_mask: Tensor, image: tuple[Tensor, ...], image_mask: Tensor) -> Tensor:
        """The first token of what `forward` returns, (n, 1, D), of texts that `precompute_text` prepared."""
        layers: list[Any] = list(self.layers)
        last = len(layers) - 1
        if last == 0:
            return self._look(0, layers[0].finish, image, image_mask, begun[:, :1])
        x = self._look(0, layers[0].finish, image, image_mask, begun)
        for number in range(1, last):
            x = self._look(number, layers[number], image, image_mask, x, _wide(text_mask))
        x = run(layers[last].attend, self.checkpointing, x, _wide(text_mask), 1)
        return self._look(last, layers[last].finish, image, image_mask, x)

    def _look(self, number: int, part: Any, image: tuple[Tensor, ...], image_mask: Tensor, *x: Tensor) -> Tensor:
        """Run a layer, or the part of it that looks at images."""
        if not self.checkpointing:
            return part(*x, image[number], _wide(image_mask))  # type: ignore[no-any-return]
        layer: Any = self.layers[number]
        return run(lambda tokens, *x: part(*x, layer.cross.kv(tokens), _wide(image_mask)), True, *image, *x)


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
    """Run a layer or a part of one; with `checkpointing`, the backward pass runs it again instead of keeping it."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(part, *arguments, use_reentrant=False)  # type: ignore[no-any-return]
    return part(*arguments)


def _wide(mask: Tensor) -> Tensor:
    """A mask (n, tokens) as attention takes it, (n, 1, 1, tokens)."""
    return mask.bool()[:, None, None]
