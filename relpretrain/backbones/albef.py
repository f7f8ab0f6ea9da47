"""ALBEF (Li et al., 2021, arXiv 2107.07651)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from relpretrain.backbones.encoders import Encoders, Temperature
from relpretrain.backbones.momentum import MomentumTeacher
from relpretrain.backbones.presets import from_preset


class ALBEF(Encoders):
    """A ViT and a split BERT: texts attend to image tokens in the second half of BERT's layers.

    Regions, which the original does not have, are encoded as X-VLM does (`region_depth`). Satisfies
    `relpretrain.types.Backbone`.

    `init_args` holds plain arguments that build the same model again, without pretrained weights.

    Args:
        size: "tiny", "small" or "base"; further keywords override single numbers (`relpretrain.backbones.presets`).
        image_size: Height and width of the images in pixels.
        patch_size: Height and width of a patch in pixels; None for the size's own.
        vocab_size: Number of words of the tokenizer.
        dropout: Rate of dropout in the text and fusion encoders.
        momentum: Share of itself that the momentum teacher keeps in an update (0.995 officially); None for no teacher.
        queue_size: How many embeddings of earlier steps the teacher keeps as further negatives; 0 for none.
        alpha: Share of the teacher's soft targets.
        alpha_steps: Updates over which that share rises from 0 (officially those of the first epoch).
        temperature: Initial divisor of the cosines.
        checkpointing: Recompute activations in the backward pass, for less memory.
        pretrained_image: Name of a timm model whose weights the image encoder starts from.
        pretrained_text: Name or folder of a Hugging Face BERT whose weights the text and fusion encoders start from.
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
        scale: Tensor = self.scale()
        return scale

    def match_logits(self, fused: Tensor) -> Tensor:
        """(n, 2) logits of fused tokens (n, length, fusion_dim); index 1 means that the pair matches."""
        logits: Tensor = self.itm_head(fused[:, 0])
        return logits
