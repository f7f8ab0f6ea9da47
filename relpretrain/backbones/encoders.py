"""The common part of ALBEF, X-VLM and the momentum teacher: encoders, projections and the MLM head."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relpretrain.backbones import text as text_module
from relpretrain.backbones import vision as vision_module
from relpretrain.backbones.bert_names import convert_bert
from relpretrain.backbones.gated import EarlyFusion
from relpretrain.backbones.packing import Packing, pack
from relpretrain.backbones.presets import ModelConfig
from relpretrain.features import full_precision
from relpretrain.types import ImageFeatures, Regions

NARROW = 64
"""Width up to which texts are computed with their padding: laying a narrow model's short texts flat takes longer.

The model decides, never a batch: processes that shard it must run the same parts in the same order.
"""

TEMPERATURE_RANGE = (0.001, 0.5)


class Encoders(nn.Module):
    """An image, a text and a fusion encoder, the projections to the contrastive space and the MLM head.

    Args:
        config: Numbers of the model.
        checkpointing: Recompute activations in the backward pass to save memory.
    """

    packs_texts = True

    def __init__(self, config: ModelConfig, checkpointing: bool = False) -> None:
        super().__init__()
        self.config = config
        self.vision = vision_module.build_vision(config, checkpointing)
        self.text = text_module.TextEncoder(config, checkpointing)
        self.fusion = text_module.FusionEncoder(config, checkpointing)
        self.early = EarlyFusion(config, checkpointing) if config.meetings else None
        self.mlm_head = text_module.MLMHead(config)
        self.image_projection = nn.Linear(config.vision_width, config.embed_dim)
        self.text_projection = nn.Linear(config.text_width, config.embed_dim)
        self.fusion_dim = config.text_width
        self.patch_grid = config.patch_grid

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check that a subclass which overrides `fuse` also overrides `fuse_cached`, which objectives call.

        Raises:
            TypeError: If it does not.
        """
        super().__init_subclass__(**kwargs)
        if {"encode_text", "fuse_cached", "precompute_text", "match"} & set(cls.__dict__):
            cls.packs_texts = "packs_texts" in cls.__dict__  # unless it says so, it knows nothing of flat tokens
        if "fuse_cached" in cls.__dict__ and "fuse_first" not in cls.__dict__:
            cls.fuse_first = lambda self, *given: self.fuse_cached(*given)[:, :1]  # type: ignore[method-assign]
        if "fuse" in cls.__dict__ and "fuse_cached" not in cls.__dict__:
            raise TypeError(
                f"{cls.__name__} has another fuse, but objectives call fuse_cached: define that instead, and "
                "precompute_image_kv, precompute_text and match where they differ."
            )

    def encode_image(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode images (batch, 3, height, width), and regions of them in the same pass."""
        features: ImageFeatures = self.vision(images, regions)
        return features

    def pack_regions(self, patch_mask: Tensor) -> Packing:
        """Tables of the visible tokens of regions with the given patches, (regions, patches), bool."""
        return vision_module.pack_regions(patch_mask)

    def pack_texts(self, mask: Tensor) -> Packing | None:
        """Tables of the real tokens of texts (n, length), bool, padded on the right; None where they cost more."""
        return pack(mask, in_place=True) if self.packs_texts and self.config.text_width > NARROW else None

    def encode_visible(self, images: Tensor, regions: Regions, packing: Any, whole: bool) -> ImageFeatures:
        """`encode_image` with the visible tokens of regions alone, laid flat; without the images if not `whole`."""
        features: ImageFeatures = self.vision(images, regions, packing, whole)
        return features

    def begin_images(self, images: Tensor) -> Tensor:
        """What images share with regions of them, for `finish_images`: tokens (batch, 1 + patches, dim)."""
        begun: Tensor = self.vision.begin(images)
        return begun

    def finish_images(
        self, begun: Tensor, regions: Regions | None = None, packing: Any = None, whole: bool = True
    ) -> ImageFeatures:
        """`encode_image`, or with a packing `encode_visible`, of what `begin_images` returned."""
        features: ImageFeatures = self.vision.finish(begun, regions, packing, whole)
        return features

    def encode_text(self, ids: Tensor, mask: Tensor, packing: Any = None) -> Tensor:
        """Encode token ids (n, length) with their attention mask (n, length) to text tokens (n, length, dim).

        Here and below, a `packing` of the texts (`pack_texts`) leaves their padding out of the computation.
        """
        tokens: Tensor = self.text(ids, mask, packing)
        return tokens

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
        """Fuse text tokens (n, length, dim) with image tokens (m, 1 + patches, dim): (n, length, fusion_dim).

        n is a multiple of m, and each image belongs to n / m consecutive texts.
        """
        return self.fuse_cached(text, text_mask, self.precompute_image_kv(image), image_mask)

    def precompute_image_kv(self, image: Tensor) -> tuple[Tensor, ...]:
        """Precompute cross-attention keys and values per layer, of image tokens (m, 1 + patches, dim): m rows each.

        With gated fusion, where these depend on the text, the tokens themselves.
        """
        if self.early is not None:
            return (image,)
        return self.fusion.precompute_image_kv(image)

    def precompute_text(self, text: Tensor, text_mask: Tensor, packing: Any = None) -> Tensor:
        """Precompute the first fusion layer's self-attention of text tokens (n, length, dim), for `match`.

        With gated fusion, where it depends on the image, the tokens themselves.
        """
        if self.early is not None:
            return text
        return self.fusion.precompute_text(text, text_mask, packing)

    def fuse_cached(
        self, text: Tensor, text_mask: Tensor, image: tuple[Tensor, ...], image_mask: Tensor, packing: Any = None
    ) -> Tensor:
        """`fuse` text tokens (n, length, dim) with images from `precompute_image_kv`: (n, length, fusion_dim)."""
        if self.early is not None:
            text, image, image_mask = self._meet(text, text_mask, image, image_mask)
        tokens: Tensor = self.fusion(text, text_mask, image, image_mask, packing)
        return tokens

    def fuse_first(
        self, text: Tensor, text_mask: Tensor, image: tuple[Tensor, ...], image_mask: Tensor, packing: Any = None
    ) -> Tensor:
        """Only the first token (n, 1, fusion_dim) of `fuse_cached`, for which alone the last layer is computed."""
        if self.early is not None:
            text, image, image_mask = self._meet(text, text_mask, image, image_mask)
        text = self.fusion.precompute_text(text, text_mask, packing)
        return self.fusion.first_token(text, text_mask, image, image_mask, packing)

    def _meet(
        self, text: Tensor, text_mask: Tensor, image: tuple[Tensor, ...], image_mask: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Text tokens of n pairs after gated fusion, and what the fusion encoder takes of the n images then."""
        assert self.early is not None
        each = len(text) // len(image[0])
        tokens, mask = (part.repeat_interleave(each, 0) if each > 1 else part for part in (image[0], image_mask))
        text, tokens = self.early(text, text_mask, tokens, mask, self.text, self.vision)
        return text, self.fusion.precompute_image_kv(tokens), mask

    def match(
        self, text: Tensor, text_mask: Tensor, image: tuple[Tensor, ...], image_mask: Tensor, packing: Any = None
    ) -> Tensor:
        """Match logits (n, 2) of n texts from `precompute_text` with m images from `precompute_image_kv`.

        Equal to `match_logits(fuse(...))`, but faster: the last layer is computed for [CLS] only, which is all that the
        matching head uses. Each image belongs to n / m consecutive texts.
        """
        if self.early is not None:
            first = self.fuse_first(text, text_mask, image, image_mask, packing)
        else:
            first = self.fusion.first_token(text, text_mask, image, image_mask, packing)
        with full_precision(first):
            return self.match_logits(first.float())

    def match_logits(self, fused: Tensor) -> Tensor:
        """Matching logits (n, 2) of fused tokens (n, length, fusion_dim); class 1 is "match"."""
        raise TypeError(f"{type(self).__name__} has no matching head.")

    def project_image(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of image tokens (n, 1 + patches, dim)."""
        own = self.image_projection.in_features  # with gated fusion, tokens before the last blocks come after them
        return F.normalize(self.image_projection(tokens[:, 0, :own]).float(), dim=-1)

    def project_text(self, tokens: Tensor) -> Tensor:
        """Unit-norm embeddings (n, embed_dim) of text tokens (n, length, dim)."""
        own = self.text_projection.in_features
        return F.normalize(self.text_projection(tokens[:, 0, :own]).float(), dim=-1)

    def word_logits(self, fused: Tensor) -> Tensor:
        """Vocabulary logits (positions, vocabulary) of fused tokens (positions, fusion_dim)."""
        logits: Tensor = self.mlm_head(fused, self.text.words.weight)
        return logits

    def load_pretrained(self, image: str | None, text: str | None) -> None:
        """Load image weights through timm and text weights through transformers.

        Args:
            image: Name of a timm model; None keeps the image encoder's random weights.
            text: Name or folder of a Hugging Face BERT with its language modelling head; None keeps the random weights
                of the text and fusion encoders. Those of cross-attention are kept in any case.

        Raises:
            ValueError: If a weight is missing, unexpected or of another shape.
        """
        if image is not None:
            vision_module.load_pretrained(self.vision, image)
        if text is None:
            return
        state = convert_bert(_hugging_face_bert(text, self.config.text_heads), self.config.text_layers)
        wanted = {
            key: value
            for key, value in self.state_dict().items()
            if key.startswith(("text.", "fusion.", "mlm_head.")) and ".cross" not in key
        }
        vision_module.check_weights(f"BERT {text!r}", wanted, state)
        self.load_state_dict(state, strict=False)


class Temperature(nn.Module):
    """Learned temperature: the divisor of cosine similarities, clamped to [0.001, 0.5].

    It is clamped in place whenever it is used, as in the official code, so that its gradient does not vanish at the
    border. A vector of one element, since FSDP does not accept scalars.

    Args:
        initial: Initial value.
    """

    def __init__(self, initial: float = 0.07) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.full((1,), initial))

    def forward(self) -> Tensor:
        """The temperature, a scalar tensor."""
        self.value.data.clamp_(*TEMPERATURE_RANGE)
        return self.value[0].clone()  # no view: FSDP frees what the parameter is gathered into


def _hugging_face_bert(name: str, heads: int) -> dict[str, Tensor]:
    from transformers import AutoModelForMaskedLM

    try:
        model, info = AutoModelForMaskedLM.from_pretrained(name, output_loading_info=True, trust_remote_code=False)
    except (OSError, RuntimeError) as error:
        raise ValueError(vision_module.unavailable(f"text weights {name!r}", "pretrained_text", error)) from error
    if model.config.model_type != "bert":
        raise ValueError(f"{name!r} is a {model.config.model_type} model; the text weights must be those of a BERT.")
    if model.config.num_attention_heads != heads:
        raise ValueError(
            f"{name!r} has {model.config.num_attention_heads} attention heads, the model has text_heads={heads}; "
            "choose the size that fits."
        )
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key and "decoder" not in key)
    if missing:
        raise ValueError(f"{name!r} lacks weights of a BERT with its language modelling head: {', '.join(missing)}.")
    state: dict[str, Tensor] = model.state_dict()
    return state
