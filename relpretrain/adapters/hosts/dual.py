"""Dual encoders, which embed images and texts without fusion, and those of Hugging Face.

In shapes: B images, R regions, K tokens of an image, D the width of the image encoder.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from relpretrain.adapters.hosts.base import HostAdapter
from relpretrain.adapters.hosts.regions import additive, encode_with_regions
from relpretrain.types import ImageFeatures, Regions


class DualEncoder(HostAdapter):
    """An image and a text encoder with a common embedding space, without fusion.

    VSG is its contrastive loss only. The one token of an image, region or text is the host's own embedding before
    normalisation, (n, 1, embed_dim).

    For MRC, an entity is the concatenation of its region's and its label's embedding, 2 * embed_dim wide; MRC's head is
    the first layer that combines them. A region's embedding comes from the host's own blocks and pooling, with
    attention in the last blocks restricted to its box.
    """

    provides = frozenset({"contrast", "regions"})
    note = (
        "A dual encoder fuses nothing: VSG trains its contrastive loss alone, and MRC classifies regions' vectors "
        "beside those of their labels."
    )

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor: the inverse of the host's exp(`logit_scale`)."""
        return torch.exp(-self.host.logit_scale).squeeze()

    @property
    def fusion_dim(self) -> int:
        """Width of an entity: a region's embedding and its label's."""
        return 2 * self.embed_dim

    @property
    @abstractmethod
    def embed_dim(self) -> int:
        """Width of the common embedding space."""

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Embed images (B, 1, embed_dim), and regions of them (R, 1, embed_dim) in the same pass."""
        if regions is None:
            return _vectors(self.image_vectors(images))
        x = self.embed_patches(images)
        tokens, _, seen, visible = encode_with_regions(x, self.blocks, regions, self.whole, self.inside, self.first)
        assert seen is not None
        assert visible is not None
        return _vectors(self.pool(tokens, None), self.pool(seen, visible))

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Concatenate the embeddings of regions and of their labels, (n, 1, 2 * embed_dim)."""
        return torch.cat([image[:, :1], text[:, :1]], dim=-1)

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of (n, 1, embed_dim)."""
        return F.normalize(tokens[:, 0].float(), dim=-1)

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of (n, 1, embed_dim)."""
        return F.normalize(tokens[:, 0].float(), dim=-1)

    # Defined by each kind of host.

    first: ClassVar[int] = 1
    """Number of tokens before the patches."""

    @property
    @abstractmethod
    def blocks(self) -> Sequence[Any]:
        """The image encoder's blocks."""

    @abstractmethod
    def image_vectors(self, images: Tensor) -> Tensor:
        """Embeddings of whole images by the host's own method, (B, embed_dim)."""

    @abstractmethod
    def embed_patches(self, images: Tensor) -> Tensor:
        """Input of the first block, (B, K, D)."""

    @abstractmethod
    def whole(self, block: Any, x: Tensor) -> Tensor:
        """Run a block on whole images."""

    @abstractmethod
    def inside(self, block: Any, x: Tensor, visible: Tensor) -> Tensor:
        """Run a block on region tokens (R, K, D) with a mask (R, K) of those that may be attended to."""

    @abstractmethod
    def pool(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Embeddings (n, embed_dim) of the last block's tokens (n, K, D); `visible` (n, K) is given for regions."""


class HuggingFaceCLIP(DualEncoder):
    """Hugging Face's `CLIPModel`."""

    name = "CLIP of Hugging Face transformers"
    needs: ClassVar[Mapping[str, str]] = {
        "vision_model.embeddings.class_embedding": "image encoder",
        "vision_model.pre_layrnorm": "image encoder",
        "vision_model.encoder.layers": "image encoder",
        "text_model": "text encoder",
        "get_image_features": "vectors of images",
        "get_text_features": "vectors of texts",
        "visual_projection": "projection of images",
        "text_projection": "projection of texts",
        "logit_scale": "temperature",
    }

    @property
    def embed_dim(self) -> int:
        """Width of the common embedding space."""
        return int(self.host.visual_projection.out_features)

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        embeddings = self.host.vision_model.embeddings
        side = int(embeddings.image_size) // int(embeddings.patch_size)
        return side, side

    @property
    def blocks(self) -> Sequence[Any]:
        """The image encoder's blocks."""
        layers: Sequence[Any] = self.host.vision_model.encoder.layers
        return layers

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of texts by the host's own method, (n, 1, embed_dim)."""
        ids, mask = cut(ids, mask, int(self.host.text_model.embeddings.position_embedding.num_embeddings))
        seen = 1 + max(mask.any(dim=0).nonzero().flatten().tolist(), default=0)  # nothing sees the padding after that
        return _pooled(self.host.get_text_features(input_ids=ids[:, :seen], attention_mask=mask[:, :seen].long()))[
            :, None
        ]

    def image_vectors(self, images: Tensor) -> Tensor:
        """Embeddings of whole images by the host's own method, (B, embed_dim)."""
        return _pooled(self.host.get_image_features(pixel_values=images))

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Embed images (B, 1, embed_dim), and regions of them (R, 1, embed_dim) in the same pass.

        Raises:
            ValueError: If there are regions and the host's implementation of attention takes no masks.
        """
        attention = str(getattr(self.host.vision_model.config, "_attn_implementation", ""))
        if regions is not None and attention.startswith("flash"):
            raise ValueError(
                f"{attention} takes no masks, which the regions of MRC need: load the model with "
                "attn_implementation='sdpa', or attach VSG alone."
            )
        return super().encode_image(images, regions)

    def embed_patches(self, images: Tensor) -> Tensor:
        """Input of the first block, (B, K, D)."""
        x: Tensor = self.host.vision_model.pre_layrnorm(self.host.vision_model.embeddings(images))
        return x

    def whole(self, block: Any, x: Tensor) -> Tensor:
        """Run a block on whole images."""
        return run_layer(block, x, None)

    def inside(self, block: Any, x: Tensor, visible: Tensor) -> Tensor:
        """Run a block on region tokens (R, K, D) with a mask (R, K) of those that may be attended to."""
        return run_layer(block, x, additive(visible, x.dtype))

    def pool(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Embeddings (n, embed_dim) from the class token."""
        pooled: Tensor = self.host.visual_projection(self.host.vision_model.post_layernorm(x[:, 0]))
        return pooled


class HuggingFaceSigLIP(HuggingFaceCLIP):
    """Hugging Face's `SiglipModel`.

    VSG is the softmax contrastive loss over the joint batch at the host's temperature, not the host's sigmoid loss; the
    host's `logit_bias` gets no gradient from it.
    """

    name = "SigLIP of Hugging Face transformers"
    note = f"{DualEncoder.note} On graphs the contrast is a softmax at SigLIP's temperature, not its sigmoid loss."
    needs: ClassVar[Mapping[str, str]] = {
        "vision_model.embeddings.image_size": "image encoder",
        "vision_model.encoder.layers": "image encoder",
        "vision_model.head.probe": "pooling of images",
        "text_model.head": "text encoder",
        "get_image_features": "vectors of images",
        "get_text_features": "vectors of texts",
        "logit_scale": "temperature",
        "logit_bias": "bias of similarities",
    }
    first = 0

    @property
    def embed_dim(self) -> int:
        """Width of the common embedding space."""
        return int(self.host.text_model.head.out_features)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of texts by the host's own method, (n, 1, embed_dim).

        SigLIP attends to its padding and pools at the last position: texts are padded to its full length with the
        tokenizer's padding (that in SigLIP 2's configuration is another).
        """
        wanted = int(self.host.text_model.embeddings.position_embedding.num_embeddings)
        return _pooled(self.host.get_text_features(input_ids=filled(ids, mask, wanted)))[:, None]

    def embed_patches(self, images: Tensor) -> Tensor:
        """Input of the first block, (B, K, D)."""
        x: Tensor = self.host.vision_model.embeddings(images)
        return x

    def pool(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Embeddings (n, embed_dim) by the host's attention pooling, of a region over the patches inside it."""
        head = self.host.vision_model.head
        x = self.host.vision_model.post_layernorm(x)
        if visible is None:
            whole: Tensor = head(x)
            return whole
        probe = repeat(head.probe, "1 1 d -> n 1 d", n=len(x))
        x = head.attention(probe, x, x, key_padding_mask=~visible, need_weights=False)[0]
        pooled: Tensor = x + head.mlp(head.layernorm(x))
        return pooled[:, 0]


def run_layer(layer: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """Run a layer of a Hugging Face encoder on tokens (n, K, D), whatever the version of transformers.

    Args:
        layer: The layer.
        x: Tokens.
        mask: Additive attention mask, (n, 1, K, K), or None.
    """
    # Versions 4 have one more argument and return tuples.
    more = {"causal_attention_mask": None} if "causal_attention_mask" in _arguments(layer) else {}
    out = layer(x, attention_mask=mask, **more)
    tokens: Tensor = out[0] if isinstance(out, tuple) else out
    return tokens


def _arguments(layer: nn.Module) -> set[str]:
    return set(inspect.signature(type(layer).forward).parameters)


def _vectors(whole: Tensor, regions: Tensor | None = None) -> ImageFeatures:
    """Features with one token, (n, 1, embed_dim), of embeddings (n, embed_dim)."""
    mask = torch.ones(len(whole), 1, dtype=torch.bool, device=whole.device)
    if regions is None:
        return ImageFeatures(whole[:, None], mask)
    region_mask = torch.ones(len(regions), 1, dtype=torch.bool, device=whole.device)
    return ImageFeatures(whole[:, None], mask, regions[:, None], region_mask)


def _pooled(output: Any) -> Tensor:
    """The embeddings: a tensor in versions 4 of transformers, a field in versions 5."""
    vectors: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return vectors


def cut(ids: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cut ids and mask (n, any length) to a text encoder's length, where there is only padding beyond it.

    Raises:
        ValueError: If there is a real token beyond it.
    """
    beyond = ids.shape[1] - length
    if beyond > 0:
        kept = slice(beyond, None) if not mask[:, :beyond].any() else slice(0, length)
        if mask[:, kept].sum() < mask.sum():
            raise ValueError(
                f"Texts of {int(mask.sum(dim=1).max())} tokens given to a text encoder for {length}: lower max_tokens "
                "or max_relations to fit."
            )
        ids, mask = ids[:, kept], mask[:, kept]
    return ids, mask


def filled(ids: Tensor, mask: Tensor, length: int) -> Tensor:
    """Pad ids (n, any length) to the length of a text encoder that attends to its padding, with the padding they have.

    Raises:
        ValueError: If texts are longer, or if they are shorter and none has padding to tell its id.
    """
    ids, mask = cut(ids, mask, length)
    missing = length - ids.shape[1]
    if missing == 0:
        return ids
    padding = ids[~mask] if len(ids) else ids.new_zeros(1)
    if len(padding) == 0:
        raise ValueError(
            f"Texts of {ids.shape[1]} tokens given to a text encoder that attends to its padding, and none of them "
            f"shows what that is: pad them to {length} tokens, as the model's own tokenizer does."
        )
    left = not bool(mask[:, 0].all())
    return F.pad(ids, (missing, 0) if left else (0, missing), value=int(padding[0]))
