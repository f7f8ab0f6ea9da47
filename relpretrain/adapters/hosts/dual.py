"""Dual encoders, which compare an image and a text as one vector each and fuse nothing; those of Hugging Face.

B images, R regions, K tokens of an image, D the width of the image encoder.
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
    """An image encoder and a text encoder that share a space, and nothing after it.

    VSG is its contrastive loss alone. An image, a region and a text are the vectors that the host itself compares,
    before their length is made one: (n, 1, embed_dim).

    MRC needs entities that know their region and their label. Nothing fuses the two here, so an entity is the vector
    of its region beside the vector of its label, 2 * embed_dim wide: `MRC`'s head is the first to see both. A region's
    vector comes from the host's own blocks and pooling: in the last blocks its tokens attend inside its box.
    """

    provides = frozenset({"contrast", "regions"})
    note = (
        "A dual encoder fuses nothing: VSG trains its contrastive loss alone, and MRC classifies regions' vectors "
        "beside those of their labels."
    )

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor: the host's `logit_scale`, which is a logarithm."""
        return torch.exp(-self.host.logit_scale).squeeze()

    @property
    def fusion_dim(self) -> int:
        """Width of a region's vector beside its label's."""
        return 2 * self.embed_dim

    @property
    @abstractmethod
    def embed_dim(self) -> int:
        """Width of the space that images and texts share."""

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Vectors of images (B, 1, embed_dim), and of regions (R, 1, embed_dim) out of the same pass."""
        if regions is None:
            return _vectors(self.image_vectors(images))
        x = self.embed_patches(images)
        tokens, _, seen, visible = encode_with_regions(x, self.blocks, regions, self.whole, self.inside, self.first)
        assert seen is not None
        assert visible is not None
        return _vectors(self.pool(tokens, None), self.pool(seen, visible))

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Put the vectors of regions and of their labels side by side, (n, 1, 2 * embed_dim)."""
        return torch.cat([image[:, :1], text[:, :1]], dim=-1)

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit vectors (n, embed_dim) of (n, 1, embed_dim)."""
        return F.normalize(tokens[:, 0].float(), dim=-1)

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit vectors (n, embed_dim) of (n, 1, embed_dim)."""
        return F.normalize(tokens[:, 0].float(), dim=-1)

    # What a host of a kind says of itself.

    first: ClassVar[int] = 1
    """Tokens before the patches."""

    @property
    @abstractmethod
    def blocks(self) -> Sequence[Any]:
        """The image encoder's blocks."""

    @abstractmethod
    def image_vectors(self, images: Tensor) -> Tensor:
        """Vectors of whole images by the host's own method, (B, embed_dim)."""

    @abstractmethod
    def embed_patches(self, images: Tensor) -> Tensor:
        """What enters the first block, (B, K, D)."""

    @abstractmethod
    def whole(self, block: Any, x: Tensor) -> Tensor:
        """Run a block."""

    @abstractmethod
    def inside(self, block: Any, x: Tensor, visible: Tensor) -> Tensor:
        """Run a block on tokens (R, K, D) whose keys are the visible among them, (R, K)."""

    @abstractmethod
    def pool(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Vectors (n, embed_dim) of the last block's tokens (n, K, D); `visible` (n, K) is given for regions."""


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
        """Width of the space that images and texts share."""
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
        """Vectors of texts by the host's own method, (n, 1, embed_dim)."""
        ids, mask = cut(ids, mask, int(self.host.text_model.embeddings.position_embedding.num_embeddings))
        seen = 1 + max(mask.any(dim=0).nonzero().flatten().tolist(), default=0)  # nothing sees the padding after that
        return _pooled(self.host.get_text_features(input_ids=ids[:, :seen], attention_mask=mask[:, :seen].long()))[
            :, None
        ]

    def image_vectors(self, images: Tensor) -> Tensor:
        """Vectors of whole images by the host's own method, (B, embed_dim)."""
        return _pooled(self.host.get_image_features(pixel_values=images))

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Vectors of images (B, 1, embed_dim), and of regions (R, 1, embed_dim) out of the same pass.

        Raises:
            ValueError: If there are regions, and the host computes attention in a way that takes no masks.
        """
        attention = str(getattr(self.host.vision_model.config, "_attn_implementation", ""))
        if regions is not None and attention.startswith("flash"):
            raise ValueError(
                f"{attention} takes no masks, which the regions of MRC need: load the model with "
                "attn_implementation='sdpa', or attach VSG alone."
            )
        return super().encode_image(images, regions)

    def embed_patches(self, images: Tensor) -> Tensor:
        """What enters the first block, (B, K, D)."""
        x: Tensor = self.host.vision_model.pre_layrnorm(self.host.vision_model.embeddings(images))
        return x

    def whole(self, block: Any, x: Tensor) -> Tensor:
        """Run a block."""
        return run_layer(block, x, None)

    def inside(self, block: Any, x: Tensor, visible: Tensor) -> Tensor:
        """Run a block on tokens (R, K, D) whose keys are the visible among them, (R, K)."""
        return run_layer(block, x, additive(visible, x.dtype))

    def pool(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Vectors (n, embed_dim) of the class token."""
        pooled: Tensor = self.host.visual_projection(self.host.vision_model.post_layernorm(x[:, 0]))
        return pooled


class HuggingFaceSigLIP(HuggingFaceCLIP):
    """Hugging Face's `SiglipModel`.

    VSG contrasts a pair with the others of the joint batch by a softmax, at the host's own temperature. The host's own
    loss, a sigmoid for each pair, is not used on graphs, and its `logit_bias` gets no gradient from them.
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
        """Width of the space that images and texts share."""
        return int(self.host.text_model.head.out_features)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Vectors of texts by the host's own method, (n, 1, embed_dim).

        SigLIP attends to its padding and pools at the last position: texts are padded to its full length, with what the
        tokenizer pads them with (its configuration need not say so: SigLIP 2).
        """
        wanted = int(self.host.text_model.embeddings.position_embedding.num_embeddings)
        return _pooled(self.host.get_text_features(input_ids=filled(ids, mask, wanted)))[:, None]

    def embed_patches(self, images: Tensor) -> Tensor:
        """What enters the first block, (B, K, D)."""
        x: Tensor = self.host.vision_model.embeddings(images)
        return x

    def pool(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Vectors (n, embed_dim): the host's learned query attends to the tokens, of a region to those inside it."""
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
        mask: What it adds to its scores, (n, 1, K, K), or None.
    """
    # Versions 4 have one more argument and return tuples.
    more = {"causal_attention_mask": None} if "causal_attention_mask" in _arguments(layer) else {}
    out = layer(x, attention_mask=mask, **more)
    tokens: Tensor = out[0] if isinstance(out, tuple) else out
    return tokens


def _arguments(layer: nn.Module) -> set[str]:
    return set(inspect.signature(type(layer).forward).parameters)


def _vectors(whole: Tensor, regions: Tensor | None = None) -> ImageFeatures:
    """Vectors (n, embed_dim) as tokens (n, 1, embed_dim)."""
    mask = torch.ones(len(whole), 1, dtype=torch.bool, device=whole.device)
    if regions is None:
        return ImageFeatures(whole[:, None], mask)
    region_mask = torch.ones(len(regions), 1, dtype=torch.bool, device=whole.device)
    return ImageFeatures(whole[:, None], mask, regions[:, None], region_mask)


def _pooled(output: Any) -> Tensor:
    """The vectors: what versions 4 of transformers return as a tensor is a field in versions 5."""
    vectors: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return vectors


def cut(ids: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Ids and mask (n, any length) without the padding beyond a text encoder's length.

    Raises:
        ValueError: If there is more than padding.
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
    """Ids (n, length) for a text encoder that attends to its padding; the texts (n, any length) show what that is.

    Raises:
        ValueError: If texts are longer, or if they are shorter and there is no padding to be seen.
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
