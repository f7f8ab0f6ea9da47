"""Image encoders: timm's ViT and Swin, which encode images and regions of them in one forward pass.

In shapes: B images, N patches, R regions, D the width of the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import timm
import torch
from einops import repeat
from timm.models.swin_transformer import SwinTransformer, WindowAttention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from relpretrain.backbones.initial import init_weights, sincos_positions
from relpretrain.backbones.presets import ModelConfig
from relpretrain.types import ImageFeatures, Regions


class ViT(nn.Module):
    """A ViT whose last `region_depth` blocks also encode regions, by attention that is restricted to a region.

    The first blocks run on whole images. A region then starts from the tokens of its image, so it knows its context;
    in the last blocks its tokens attend to [CLS] and the patches inside the region (`local_attn_depth` in the official
    X-VLM code). All patches are returned, with a mask of those inside.

    `config.vision="clip"` builds CLIP's ViT: a layer norm before the blocks, QuickGELU, patch embedding without bias.

    Args:
        config: Numbers of the model.
        checkpointing: Recompute activations in the backward pass to save memory.
    """

    def __init__(self, config: ModelConfig, checkpointing: bool = False) -> None:
        super().__init__()
        self.image_size = config.image_size
        self.patch_grid = config.patch_grid
        self.width = config.vision_width
        self.checkpointing = checkpointing
        clip = config.vision == "clip"
        self.trunk = VisionTransformer(
            img_size=config.image_size,
            patch_size=config.patch_size,
            num_classes=0,
            embed_dim=config.vision_width,
            depth=config.vision_depth,
            num_heads=config.vision_heads,
            mlp_ratio=config.vision_mlp_ratio,
            norm_layer=partial(nn.LayerNorm, eps=config.vision_norm_eps),
            act_layer="quick_gelu" if clip else "gelu",
            pre_norm=clip,
            drop_path_rate=config.drop_path,
        )
        self.shared_depth = len(self.trunk.blocks) - config.region_depth
        init_weights(self.trunk.blocks, config.init_std)
        nn.init.normal_(self.trunk.pos_embed, std=config.position_std)
        if config.positions == "sincos":
            waves = sincos_positions(config.patch_grid, config.vision_width, config.position_std)
            self.trunk.pos_embed.data[0, 1:] = waves

    def forward(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode images (B, 3, height, width) and regions of them."""
        _check_size(images, self.image_size)
        trunk = self.trunk
        # Embed: [CLS] and patches, (B, 1 + N, D).
        x = trunk.patch_embed(images)
        cls = repeat(trunk.cls_token, "1 1 d -> b 1 d", b=len(x))
        x = trunk.norm_pre(torch.cat([cls, x], 1) + trunk.pos_embed)
        image_mask = _all_visible(x)
        if regions is None:
            return ImageFeatures(trunk.norm(self._run(x, 0, None, None)), image_mask)
        # First blocks: whole images only, (B, 1 + N, D).
        x = self._run(x, 0, self.shared_depth, None)
        # Last blocks: images and regions as one batch, (B + R, 1 + N, D), each with a mask of its keys.
        region_mask = _with_cls(regions.patch_mask)
        x = torch.cat([x, x[regions.image_index]])
        mask = torch.cat([image_mask, region_mask])[:, None, None]  # (B + R, heads, queries, keys)
        x = trunk.norm(self._run(x, self.shared_depth, None, mask))
        return ImageFeatures(x[: len(images)], image_mask, x[len(images) :], region_mask)

    def _run(self, x: Tensor, start: int, end: int | None, mask: Tensor | None) -> Tensor:
        for block in self.trunk.blocks[start:end]:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x = block(x, attn_mask=mask)
        return x


class Swin(nn.Module):
    """A Swin encoder with mean pooling: token 0 is the mean of the image's or the region's patches (X-VLM).

    A region has the same patches as its image; its mask hides those outside the region from cross-attention.

    Args:
        config: Numbers of the model.
        checkpointing: Recompute activations in the backward pass to save memory.
    """

    def __init__(self, config: ModelConfig, checkpointing: bool = False) -> None:
        super().__init__()
        depths, heads = config.vision_depth, config.vision_heads
        assert not isinstance(depths, int)  # `ModelConfig` has checked it
        self.image_size = config.image_size
        self.patch_grid = config.patch_grid
        self.width = config.vision_width
        self.trunk = SwinTransformer(
            img_size=config.image_size,
            patch_size=config.patch_size,
            num_classes=0,
            embed_dim=config.vision_width >> (len(depths) - 1),
            depths=depths,
            num_heads=heads,
            window_size=config.window_size,
            mlp_ratio=config.vision_mlp_ratio,
            norm_layer=partial(nn.LayerNorm, eps=config.vision_norm_eps),
            drop_path_rate=config.drop_path,
        )
        self.trunk.set_grad_checkpointing(checkpointing)
        init_weights(self.trunk.layers, config.init_std)
        for module in self.trunk.modules():
            if isinstance(module, WindowAttention):
                module.fused_attn = True  # timm leaves scaled_dot_product_attention off here by default

    def forward(self, images: Tensor, regions: Regions | None = None) -> ImageFeatures:
        """Encode images (B, 3, height, width) and regions of them."""
        _check_size(images, self.image_size)
        # Images: the mean of the patches, then the patches, (B, 1 + N, D).
        patches = self.trunk.forward_features(images).flatten(1, 2)  # (B, N, D)
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1)
        image_mask = _all_visible(tokens)
        if regions is None:
            return ImageFeatures(tokens, image_mask)
        # Regions: the mean of the patches inside, then all patches of the image, (R, 1 + N, D).
        patches = patches[regions.image_index]  # (R, N, D)
        weights = regions.patch_mask.to(patches.dtype)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1)  # (R, N)
        mean = weights[:, None] @ patches  # (R, 1, D)
        return ImageFeatures(tokens, image_mask, torch.cat([mean, patches], 1), _with_cls(regions.patch_mask))


def build_vision(config: ModelConfig, checkpointing: bool = False) -> ViT | Swin:
    """Build the image encoder that `config.vision` names."""
    return (Swin if config.vision == "swin" else ViT)(config, checkpointing)


def load_pretrained(encoder: ViT | Swin, name: str) -> None:
    """Load the weights of a pretrained timm model, with its position embeddings resized to the encoder's image size.

    Args:
        encoder: The image encoder to load the weights into.
        name: Name of a timm model, such as "vit_base_patch16_224.augreg_in21k".

    Raises:
        ValueError: If the weights cannot be downloaded, or one is missing, unexpected (other than the classifier
            head) or of another shape.
    """
    kwargs: dict[str, Any] = {"num_classes": 0, "img_size": encoder.image_size}
    try:
        given = timm.create_model(name, pretrained=True, **kwargs).state_dict()
    except (OSError, RuntimeError) as error:  # the hub's errors are OSErrors, or httpx's RuntimeErrors
        raise ValueError(unavailable(f"image weights {name!r}", "pretrained_image", error)) from error
    check_weights(f"timm model {name!r}", encoder.trunk.state_dict(), given, ignored=("head.",))
    encoder.trunk.load_state_dict({key: given[key] for key in encoder.trunk.state_dict()})


def unavailable(what: str, argument: str, error: Exception) -> str:
    """Error message for pretrained weights that could not be loaded, in one line with the remedy."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"The {what} could not be loaded ({reason}): check the name and the network, or start from new weights with "
        f"--model.backbone.{argument}=null."
    )


def check_weights(
    source: str, wanted: dict[str, Tensor], given: dict[str, Tensor], ignored: tuple[str, ...] = ()
) -> None:
    """Raise a ValueError that lists every weight that is missing, unexpected, of another shape, or not finite.

    Args:
        source: Where the weights come from, for the message.
        wanted: State dict of the model.
        given: State dict to be loaded.
        ignored: Prefixes of names in `given` that the model need not have.
    """
    missing = sorted(set(wanted) - set(given))
    unexpected = sorted(key for key in set(given) - set(wanted) if not key.startswith(ignored or ("\0",)))
    shapes = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(set(wanted) & set(given))
        if given[key].shape != wanted[key].shape
    ]
    broken = not_finite({key: value for key, value in given.items() if key in wanted})
    faults = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    faults.append(("not finite (the run that wrote them had diverged)", broken))
    lines = [f"{len(names)} {what}: {', '.join(names)}" for what, names in faults if names]
    if lines:
        raise ValueError(f"Weights of {source} do not fit the model; {'; '.join(lines)}.")


def not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the weights that contain NaN or infinity."""
    return sorted(
        key
        for key, value in weights.items()
        if value.is_floating_point() and not value.is_meta and not value.isfinite().all()
    )


def _all_visible(tokens: Tensor) -> Tensor:
    return tokens.new_ones(tokens.shape[:2], dtype=torch.bool)


def _with_cls(patch_mask: Tensor) -> Tensor:
    return torch.cat([patch_mask.new_ones(len(patch_mask), 1), patch_mask], 1)


def _check_size(images: Tensor, size: int) -> None:
    if images.shape[-2:] != (size, size):
        got = "x".join(str(side) for side in images.shape[-2:])
        raise ValueError(f"Images of {got} pixels given to a model for {size}x{size}; set image_size to match.")
