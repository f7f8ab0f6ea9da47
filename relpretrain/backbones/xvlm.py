"""X-VLM (Zeng et al., 2022, arXiv 2111.08276)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from relpretrain.backbones.encoders import Encoders, Temperature
from relpretrain.backbones.presets import from_preset


class XVLM(Encoders):
    """ALBEF's architecture for images and their regions, with a head that predicts boxes.

    Implements `relpretrain.types.BoxBackbone`.

    `init_args` are arguments of plain types that rebuild the same model, without pretrained weights.

    Args:
        size: Preset, "tiny", "small" or "base"; further keywords override single numbers of it.
        vision: "vit" (its last blocks attend inside a region), "clip" (the same with CLIP's layers, for CLIP's weights)
            or "swin" (a region is the mean of its patches).
        image_size: Height and width of the images in pixels.
        patch_size: Height and width of a patch in pixels; None for the preset's own.
        vocab_size: Size of the tokenizer's vocabulary.
        dropout: Dropout probability in the text and fusion encoders.
        temperature: Initial temperature, the divisor of cosine similarities.
        checkpointing: Recompute activations in the backward pass to save memory.
        pretrained_image: Name of a timm model to initialise the image encoder from.
        pretrained_text: Name or folder of a Hugging Face BERT to initialise the text and fusion encoders from.
        overrides: Further numbers, see `relpretrain.backbones.presets.from_preset`.
    """

    teacher: None = None

    def __init__(
        self,
        size: str = "base",
        vision: str = "vit",
        image_size: int = 224,
        patch_size: int | None = None,
        vocab_size: int = 30522,
        dropout: float = 0.1,
        temperature: float = 0.07,
        checkpointing: bool = False,
        pretrained_image: str | None = None,
        pretrained_text: str | None = None,
        **overrides: Any,
    ) -> None:
        config = from_preset(
            size=size,
            vision=vision,
            image_size=image_size,
            patch_size=patch_size,
            vocab_size=vocab_size,
            dropout=dropout,
            **overrides,
        )
        super().__init__(config, checkpointing)
        self.itm_head = _head(config.text_width, 2)
        self.box_head = _head(config.text_width, 4)
        self.scale = Temperature(temperature)
        self.load_pretrained(pretrained_image, pretrained_text)
        self.init_args: dict[str, Any] = config.arguments() | {"checkpointing": checkpointing}

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor."""
        temperature: Tensor = self.scale()
        return temperature

    def match_logits(self, fused: Tensor) -> Tensor:
        """Matching logits (n, 2) of fused tokens (n, length, fusion_dim); class 1 is "match"."""
        logits: Tensor = self.itm_head(fused[:, 0])
        return logits

    def boxes(self, fused: Tensor) -> Tensor:
        """Boxes (cx, cy, w, h) as fractions of the image's size, (n, 4), of fused tokens (n, length, fusion_dim)."""
        logits: Tensor = self.box_head(fused[:, 0])
        return logits.float().sigmoid()  # coordinates need more precision than bf16 has


def _head(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, outputs))
