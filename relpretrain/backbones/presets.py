"""The configuration of our backbones: presets, of which every number can be overridden."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from relpretrain.errors import suggest

Vision = Literal["vit", "clip", "swin"]
Positions = Literal["random", "sincos"]
Fusion = Literal["late", "gated"]


@dataclass(frozen=True)
class ModelConfig:
    """All numbers that define a backbone.

    Args:
        vision: Kind of the image encoder; "clip" is a ViT as CLIP's, with a norm before its blocks and QuickGELU.
        image_size: Height and width of the images in pixels.
        patch_size: Height and width of a patch in pixels. Swin: of its first stage.
        vision_width: Width of the image tokens. Swin: of its last stage; each stage doubles the width.
        vision_depth: Number of blocks. Swin: of each stage.
        vision_heads: Number of attention heads. Swin: of each stage.
        vision_mlp_ratio: Width of the image encoder's MLPs divided by its own width.
        vision_norm_eps: Epsilon of the image encoder's layer norms.
        region_depth: How many of the last ViT blocks attend inside a region (X-VLM's `local_attn_depth`).
        window_size: Height and width of Swin's attention windows, in patches.
        drop_path: Largest probability of stochastic depth in the image encoder.
        text_width: Width of the text tokens.
        text_heads: Number of attention heads of the text and the fusion encoder.
        text_ffn: Width of their feed-forward layers.
        text_layers: Layers of the text encoder.
        fusion_layers: Layers of the fusion encoder.
        text_norm_eps: Epsilon of their layer norms.
        vocab_size: Size of the vocabulary.
        max_positions: Maximum length of a text in tokens.
        embed_dim: Width of the contrastive embeddings.
        dropout: Dropout probability in the text and the fusion encoder.
        init_std: Standard deviation of initial matrices. BERT's and ViT's 0.02 is meant for a width of 768; narrow
            models need more, or images have hardly any influence on the fused text at first.
        position_std: Standard deviation of a ViT's initial position embeddings.
        positions: Initial position embeddings: "random", or "sincos" (2D sine-cosine, from which a model learns sooner
            where things are). Both are trained.
        fusion: "late" (text tokens attend to image tokens in the fusion encoder alone), or "gated": text and image also
            meet before the last blocks of a ViT (`relpretrain.backbones.gated`).
        gate: Initial value of the gates of "gated"; with 0 nothing is exchanged.
    """

    vision: Vision
    image_size: int
    patch_size: int
    vision_width: int
    vision_depth: int | tuple[int, ...]
    vision_heads: int | tuple[int, ...]
    vision_mlp_ratio: float
    vision_norm_eps: float
    region_depth: int
    window_size: int
    drop_path: float
    text_width: int
    text_heads: int
    text_ffn: int
    text_layers: int
    fusion_layers: int
    text_norm_eps: float
    vocab_size: int
    max_positions: int
    embed_dim: int
    dropout: float
    init_std: float
    position_std: float
    positions: Positions
    fusion: Fusion = "late"
    gate: float = 0.1

    def __post_init__(self) -> None:
        """Check that the numbers fit together."""
        for name in ("vision_depth", "vision_heads"):
            value = getattr(self, name)
            if not isinstance(value, int):
                object.__setattr__(self, name, tuple(value))
        self._check_image()
        if self.fusion == "gated" and (self.vision == "swin" or not self.region_depth):
            raise ValueError(
                f"fusion='gated' lets texts and images meet before the last region_depth blocks of a ViT, but vision="
                f"{self.vision!r} has region_depth={self.region_depth}: take a ViT with 1 or more, or fusion='late'."
            )
        if self.text_width % self.text_heads:
            raise ValueError(f"text_width={self.text_width} is not divisible by text_heads={self.text_heads}.")
        for name in ("text_layers", "fusion_layers", "embed_dim", "vocab_size", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and below 1.")

    def _check_image(self) -> None:
        if self.stride < 1 or self.image_size < self.stride or self.image_size % self.stride:
            near = max(round(self.image_size / max(self.stride, 1)), 1) * max(self.stride, 1)
            raise ValueError(
                f"image_size={self.image_size} is not a multiple of {self.stride}, the final patch size "
                f"(vision={self.vision!r}, patch_size={self.patch_size}); use image_size={near} or another patch_size."
            )
        if self.vision != "swin":
            if not isinstance(self.vision_depth, int) or not isinstance(self.vision_heads, int):
                raise ValueError(f"vision={self.vision!r} takes one number for vision_depth and one for vision_heads.")
            if self.vision_width % self.vision_heads:
                raise ValueError(
                    f"vision_width={self.vision_width} is not divisible by vision_heads={self.vision_heads}."
                )
            if not 0 <= self.region_depth <= self.vision_depth:
                raise ValueError(f"region_depth={self.region_depth} must be between 0 and vision_depth.")
            if self.positions == "sincos" and self.vision_width % 4:
                raise ValueError(
                    f"vision_width={self.vision_width} is not divisible by 4, which positions='sincos' needs."
                )
            return
        if self.positions != "random":
            raise ValueError(f"positions={self.positions!r} is for ViTs: Swin has no position embeddings.")
        if isinstance(self.vision_depth, int) or isinstance(self.vision_heads, int):
            raise ValueError("vision='swin' takes a list for vision_depth and for vision_heads, a number per stage.")
        if len(self.vision_depth) != len(self.vision_heads):
            raise ValueError("vision_depth and vision_heads must have a number for each stage of the Swin encoder.")
        if self.vision_width % 2 ** (len(self.vision_depth) - 1):
            raise ValueError(f"vision_width={self.vision_width} cannot be halved for each stage of the Swin encoder.")
        widths = [self.vision_width >> i for i in reversed(range(len(self.vision_depth)))]
        if any(width % heads for width, heads in zip(widths, self.vision_heads, strict=True)):
            raise ValueError(f"vision_heads={self.vision_heads} do not divide the widths {widths} of the stages.")

    @property
    def meetings(self) -> int:
        """How often texts and images meet before fusion: every two of the last blocks, if there are text layers."""
        return min(-(-self.region_depth // 2), self.text_layers) if self.fusion == "gated" else 0

    @property
    def stride(self) -> int:
        """Width of a final patch in pixels."""
        stages = 1 if isinstance(self.vision_depth, int) else len(self.vision_depth)
        return self.patch_size << (stages - 1)

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of the final patches."""
        side = self.image_size // self.stride
        return side, side

    def arguments(self) -> dict[str, Any]:
        """The same numbers as plain keyword arguments of `from_preset`."""
        plain = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


_TEXT: dict[str, dict[str, Any]] = {
    "tiny": {"text_width": 64, "text_heads": 4, "text_ffn": 256, "text_layers": 2, "fusion_layers": 2}
    | {"max_positions": 128, "embed_dim": 32, "init_std": 0.07},
    "small": {"text_width": 384, "text_heads": 6, "text_ffn": 1536, "text_layers": 3, "fusion_layers": 3}
    | {"max_positions": 512, "embed_dim": 256, "init_std": 0.02},
    "base": {"text_width": 768, "text_heads": 12, "text_ffn": 3072, "text_layers": 6, "fusion_layers": 6}
    | {"max_positions": 512, "embed_dim": 256, "init_std": 0.02},
}

_VIT: dict[str, dict[str, Any]] = {
    "tiny": {"patch_size": 8, "vision_width": 64, "vision_depth": 3, "vision_heads": 4, "region_depth": 1}
    | {"position_std": 0.2},
    "small": {"patch_size": 16, "vision_width": 384, "vision_depth": 12, "vision_heads": 6, "region_depth": 4},
    "base": {"patch_size": 16, "vision_width": 768, "vision_depth": 12, "vision_heads": 12, "region_depth": 4},
}

_SWIN: dict[str, dict[str, Any]] = {
    "tiny": {"vision_width": 128, "vision_depth": (1, 1, 2, 1), "vision_heads": (1, 2, 4, 8), "window_size": 4},
    "small": {"vision_width": 768, "vision_depth": (2, 2, 6, 2), "vision_heads": (3, 6, 12, 24), "window_size": 7},
    "base": {"vision_width": 1024, "vision_depth": (2, 2, 18, 2), "vision_heads": (4, 8, 16, 32), "window_size": 7},
}

_VISION: dict[str, dict[str, dict[str, Any]]] = {"vit": _VIT, "clip": _VIT, "swin": _SWIN}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "vit": {"vision_norm_eps": 1e-6, "drop_path": 0.0, "window_size": 0, "position_std": 0.02},
    "clip": {"vision_norm_eps": 1e-5, "drop_path": 0.0, "window_size": 0, "position_std": 0.02},
    "swin": {"vision_norm_eps": 1e-5, "drop_path": 0.1, "region_depth": 0, "patch_size": 4, "position_std": 0.0},
}


def from_preset(
    size: str = "base",
    vision: str = "vit",
    image_size: int = 224,
    patch_size: int | None = None,
    vocab_size: int = 30522,
    dropout: float = 0.1,
    embed_dim: int | None = None,
    vision_width: int | None = None,
    vision_depth: int | list[int] | None = None,
    vision_heads: int | list[int] | None = None,
    vision_mlp_ratio: float = 4.0,
    vision_norm_eps: float | None = None,
    region_depth: int | None = None,
    window_size: int | None = None,
    drop_path: float | None = None,
    text_width: int | None = None,
    text_heads: int | None = None,
    text_ffn: int | None = None,
    text_layers: int | None = None,
    fusion_layers: int | None = None,
    text_norm_eps: float = 1e-12,
    max_positions: int | None = None,
    init_std: float | None = None,
    position_std: float | None = None,
    positions: Positions = "random",
    fusion: Fusion = "late",
    gate: float = 0.1,
) -> ModelConfig:
    """Build a configuration from a preset. Arguments other than None override its numbers.

    Args:
        size: Preset, "tiny" (quickstarts on a CPU), "small", or "base" (ViT-B/16 or Swin-B, BERT-base split 6 + 6).
        vision: "vit", "clip" or "swin".
        image_size: Height and width of the images in pixels.
        patch_size: Height and width of a patch in pixels. Swin: of its first stage.
        vocab_size: Size of the vocabulary.
        dropout: Dropout probability in the text and the fusion encoder.
        embed_dim: Width of the contrastive embeddings.
        vision_width: Width of the image tokens. Swin: of its last stage; each stage doubles the width.
        vision_depth: Number of blocks. Swin: a list, one number for each stage.
        vision_heads: Number of attention heads. Swin: a list, one number for each stage.
        vision_mlp_ratio: Width of the image encoder's MLPs divided by its own width.
        vision_norm_eps: Epsilon of the image encoder's layer norms.
        region_depth: How many of the last ViT blocks attend inside a region.
        window_size: Height and width of Swin's attention windows, in patches.
        drop_path: Largest probability of stochastic depth in the image encoder.
        text_width: Width of the text tokens.
        text_heads: Number of attention heads of the text and the fusion encoder.
        text_ffn: Width of their feed-forward layers.
        text_layers: Layers of the text encoder.
        fusion_layers: Layers of the fusion encoder.
        text_norm_eps: Epsilon of their layer norms.
        max_positions: Maximum length of a text in tokens.
        init_std: Standard deviation of initial matrices.
        position_std: Standard deviation of a ViT's initial position embeddings.
        positions: Initial position embeddings, "random" or "sincos".
        fusion: "late" or "gated".
        gate: Initial value of the gates of "gated".

    Raises:
        ValueError: If a name is unknown, or numbers do not fit together.
    """
    given = dict(locals())
    _known("vision", vision, _VISION)
    _known("size", size, _TEXT)
    _known("positions", positions, dict.fromkeys(get_args(Positions)))
    _known("fusion", fusion, dict.fromkeys(get_args(Fusion)))
    numbers = _DEFAULTS[vision] | _TEXT[size] | _VISION[vision][size]
    # With fewer blocks than the preset, no more of them than there are can attend inside a region.
    if region_depth is None and isinstance(vision_depth, int) and vision != "swin":
        numbers["region_depth"] = min(numbers["region_depth"], vision_depth)
    numbers |= {name: value for name, value in given.items() if name != "size" and value is not None}
    return ModelConfig(**numbers)


def _known(what: str, name: str, table: dict[str, Any]) -> None:
    if name not in table:
        raise ValueError(f"Unknown {what} {name!r}{suggest(name, table)}")
