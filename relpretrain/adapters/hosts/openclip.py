"""OpenCLIP.

In shapes: B images, R regions, K tokens of an image, D the width of the image encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from relpretrain.adapters.hosts.dual import DualEncoder, cut, filled
from relpretrain.adapters.hosts.regions import additive


class OpenCLIP(DualEncoder):
    """OpenCLIP's `CLIP` and `CustomTextCLIP`, and OpenAI's `CLIP`, whatever the image encoder.

    Its blocks take no masks, so there are no regions and no MRC, only VSG.
    """

    name = "OpenCLIP with an image encoder that takes no masks"
    note = "A dual encoder fuses nothing: VSG trains its contrastive loss alone."
    needs: ClassVar[Mapping[str, str]] = {
        "visual": "image encoder",
        "encode_image": "vectors of images",
        "encode_text": "vectors of texts",
        "logit_scale": "temperature",
        "context_length": "length of texts",
    }
    provides = frozenset({"contrast"})

    def image_vectors(self, images: Tensor) -> Tensor:
        """Embeddings of whole images by the host's own method, (B, embed_dim)."""
        vectors: Tensor = self.host.encode_image(images)
        return vectors

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of texts by the host's own method, (n, 1, embed_dim).

        Args:
            ids: Ids of the host's tokenizer, (n, length), padded here to the host's context length: with zeros where
                padding is not attended to, else (SigLIP) with the tokenizer's own padding.
            mask: True at real tokens, (n, length).

        Raises:
            ValueError: If texts are longer than the host's context, or if it attends to padding and its id is unknown.
        """
        wanted = int(self.host.context_length)
        ids, mask = cut(ids, mask, wanted)
        tower = getattr(self.host, "text", self.host)
        if not hasattr(tower, "attn_mask"):  # a Hugging Face text encoder, which masks padding by its id
            return self.host.encode_text(ids)[:, None]  # type: ignore[no-any-return]
        pooling = getattr(tower, "pool_type", getattr(tower, "text_pool_type", "argmax"))
        if tower.attn_mask is not None and pooling != "last":
            ids = F.pad(ids * mask, (0, wanted - ids.shape[1]))
        else:
            ids = filled(ids, mask, wanted)
        return self.host.encode_text(ids)[:, None]  # type: ignore[no-any-return]


class OpenCLIPViT(OpenCLIP):
    """`OpenCLIP` with OpenCLIP's own ViT, pooled at its class token."""

    name = "OpenCLIP"
    note = DualEncoder.note
    provides = DualEncoder.provides

    @classmethod
    def missing(cls, module: nn.Module) -> list[str]:
        """The attributes in `needs` that a module lacks, with their descriptions; empty if it is such a host."""
        return super().missing(module) or ([] if _is_plain_vit(module.visual) else ["visual (ViT with a class token)"])

    @property
    def embed_dim(self) -> int:
        """Width of the common embedding space."""
        return int(self.host.visual.proj.shape[1])

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.host.visual.grid_size
        return rows, columns

    @property
    def blocks(self) -> Sequence[Any]:
        """The image encoder's blocks."""
        blocks: Sequence[Any] = self.host.visual.transformer.resblocks
        return blocks

    def embed_patches(self, images: Tensor) -> Tensor:
        """Input of the first block, (B, K, D)."""
        x: Tensor = self.host.visual._embeds(images)
        return x

    def whole(self, block: Any, x: Tensor) -> Tensor:
        """Run a block on whole images."""
        x = block(x)
        return x

    def inside(self, block: Any, x: Tensor, visible: Tensor) -> Tensor:
        """Run a block on region tokens (R, K, D) with a mask (R, K) of those that may be attended to."""
        mask = repeat(additive(visible, x.dtype), "r 1 queries keys -> (r h) queries keys", h=block.attn.num_heads)
        x = block(x, attn_mask=mask)
        return x

    def pool(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Embeddings (n, embed_dim) from the class token."""
        pooled: Tensor = self.host.visual._pool(x)[0] @ self.host.visual.proj
        return pooled


def _is_plain_vit(visual: Any) -> bool:
    """Whether an OpenCLIP image encoder is a ViT whose blocks take masks and which pools at its class token."""
    transformer = getattr(visual, "transformer", None)
    return (
        hasattr(visual, "_embeds")
        and hasattr(visual, "_pool")
        and bool(getattr(transformer, "batch_first", False))
        and getattr(visual, "pool_type", None) == "tok"
        and getattr(visual, "attn_pool", None) is None
        and isinstance(getattr(visual, "patch_dropout", None), nn.Identity)
        and isinstance(getattr(visual, "proj", None), Tensor)
    )
