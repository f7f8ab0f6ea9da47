"""ALBEF (Li et al., 2021, arXiv 2107.07651)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from relpretrain.backbones.encoders import Encoders, Temperature
from relpretrain.backbones.momentum import MomentumTeacher
from relpretrain.backbones.presets import from_preset


class ALBEF(Encoders):
    """A ViT and a BERT whose upper half has cross-attention to the image tokens, with an optional momentum teacher.

    Regions, which the original does not have, are encoded as in X-VLM (`region_depth`). Implements
    `relpretrain.types.Backbone`.

    `init_args` are arguments of plain types that rebuild the same model, without pretrained weights.

    Args:
        size: Preset, "tiny", "small" or "base"; further keywords override single numbers of it.
        image_size: Height and width of the images in pixels.
        patch_size: Height and width of a patch in pixels; None for the preset's own.
        vocab_size: Size of the tokenizer's vocabulary.
        dropout: Dropout probability in the text and fusion encoders.
        momentum: Momentum of the teacher's exponential moving average (0.995 officially); None for no teacher.
        queue_size: Number of embeddings of earlier steps that are kept as additional negatives; 0 for none.
        alpha: Weight of the teacher's soft targets.
        alpha_steps: Updates over which that weight rises from 0 (officially those of the first epoch).
        temperature: Initial temperature, the divisor of cosine similarities.
        checkpointing: Recompute activations in the backward pass to save memory.
        pretrained_image: Name of a timm model to initialise the image encoder from.
        pretrained_text: Name or folder of a Hugging Face BERT to initialise the text and fusion encoders from.
        overrides: Further numbers, see `relpretrain.backbones.presets.from_preset`.
    """

    def __init__(
        self,
        size: str = "base",
        image_size: int = 224,
        patch_size: int | None = None,
        vocab_size: int = 30522,
        dropout: float = 0.1,
        momentum: float | None = None,
        queue_size: int = 65536,
        alpha: float = 0.4,
        alpha_steps: int = 0,
        temperature: float = 0.07,
        checkpointing: bool = False,
        pretrained_image: str | None = None,
        pretrained_text: str | None = None,
        **overrides: Any,
    ) -> None:
        config = from_preset(
            size=size,
            image_size=image_size,
            patch_size=patch_size,
            vocab_size=vocab_size,
            dropout=dropout,
            **overrides,
        )
        super().__init__(config, checkpointing)
        self.itm_head = nn.Linear(config.text_width, 2)
        self.scale = Temperature(temperature)
        self.load_pretrained(pretrained_image, pretrained_text)
        self.teacher: MomentumTeacher | None = None
        teaching = {"momentum": momentum, "queue_size": queue_size, "alpha": alpha, "alpha_steps": alpha_steps}
        if momentum is not None:
            self.teacher = MomentumTeacher(self, momentum, queue_size, alpha, alpha_steps)
        self.init_args: dict[str, Any] = config.arguments() | teaching | {"checkpointing": checkpointing}

    @property
    def temperature(self) -> Tensor:
        """Divisor of the cosine similarities, a scalar tensor."""
        temperature: Tensor = self.scale()
        return temperature

    def match_logits(self, fused: Tensor) -> Tensor:
        """Matching logits (n, 2) of fused tokens (n, length, fusion_dim); class 1 is "match"."""
        logits: Tensor = self.itm_head(fused[:, 0])
        return logits
