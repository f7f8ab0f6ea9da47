"""X-VLM of zengyan-97/X-VLM: `models.model_pretrain.XVLM` with its Swin, ViT or CLIP-ViT."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from relpretrain.adapters.hosts.albef import SplitBertAdapter
from relpretrain.adapters.hosts.base import has
from relpretrain.adapters.hosts.regions import all_visible
from relpretrain.types import ImageFeatures, Regions


class OfficialXVLM(SplitBertAdapter):
    """The official X-VLM; regions are encoded by its own image encoder, boxes predicted by its own head."""

    name = "X-VLM of zengyan-97/X-VLM"
    needs: ClassVar[Mapping[str, str]] = {
        "vision_encoder": "image encoder",
        "text_encoder.config.fusion_layer": "text encoder, split into text and fusion layers",
        "vision_proj": "projection of images",
        "text_proj": "projection of texts",
        "itm_head": "matching head",
        "temp": "temperature",
    }

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches, of Swin in its last stage."""
        encoder = self.host.vision_encoder
        if has(encoder, "num_patch_embed"):
            side = math.isqrt(encoder.num_patch_embed)
            return side, side
        rows, columns = encoder.layers[-1].input_resolution
        return int(rows), int(columns)

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode images, and regions of them as in the host's own pretraining."""
        if regions is None:
            tokens: Tensor = self.host.vision_encoder(images)
            return ImageFeatures(tokens, all_visible(tokens))
        visible = F.pad(regions.patch_mask, (1, 0), value=True)
        seen, tokens = self.host.vision_encoder(
            images, idx_to_group_img=regions.image_index, image_atts=visible.to(images.dtype)
        )
        return ImageFeatures(tokens, all_visible(tokens), seen, visible)

    def boxes(self, fused: Tensor) -> Tensor:
        """Boxes (cx, cy, w, h) as fractions of the image's size, (n, 4)."""
        boxes: Tensor = self.host.bbox_head(fused[:, 0]).float().sigmoid()
        return boxes
