"""Image encoders: timm's ViT and Swin, which encode images and regions of them in one forward pass.

In shapes: B images, N patches, R regions, D the width of the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, WindowAttention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from relpretrain.backbones.initial import init_weights, sincos_positions
from relpretrain.backbones.lean import linear_of
from relpretrain.backbones.packing import Packing, pack
from relpretrain.backbones.presets import ModelConfig
from relpretrain.backbones.text import run
from relpretrain.types import ImageFeatures, Regions


class ViT(nn.Module):
    """A ViT whose last `region_depth` blocks also encode regions, by attention that is restricted to a region.

    The first blocks run on whole images. A region then starts from the tokens of its image, so it knows its context;
    in the last blocks its tokens attend to [CLS] and the patches inside the region (`local_attn_depth` in the official
    X-VLM code). These are all that is computed there: the other patches could not change them.

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
            block_fn=RegionBlock,
        )
        self.shared_depth = len(self.trunk.blocks) - config.region_depth
        self.meets = config.meetings > 0
        init_weights(self.trunk.blocks, config.init_std)
        nn.init.normal_(self.trunk.pos_embed, std=config.position_std)
        if config.positions == "sincos":
            waves = sincos_positions(config.patch_grid, config.vision_width, config.position_std)
            self.trunk.pos_embed.data[0, 1:] = waves

    def forward(
        self, images: Tensor, regions: Regions | None = None, packing: Packing | None = None, whole: bool = True
    ) -> ImageFeatures:
        """Encode images (B, 3, height, width) and regions of them; `packing` and `whole` as in `region_features`.

        Where texts meet images (`ModelConfig.meetings`), the tokens before the last blocks come along: width 2 D.
        """
        return self.finish(self.begin(images), regions, packing, whole)

    def begin(self, images: Tensor) -> Tensor:
        """What an image shares with its regions: tokens (B, 1 + N, D) after the first blocks."""
        _check_size(images, self.image_size)
        trunk = self.trunk
        # Embed: [CLS] and patches, (B, 1 + N, D).
        x = trunk.patch_embed(images)
        cls = repeat(trunk.cls_token, "1 1 d -> b 1 d", b=len(x))
        x = trunk.norm_pre(torch.cat([cls, x], 1) + trunk.pos_embed)
        return self._run(x, 0, self.shared_depth)

    def finish(
        self, x: Tensor, regions: Regions | None = None, packing: Packing | None = None, whole: bool = True
    ) -> ImageFeatures:
        """The last blocks, on what `begin` returned: arguments and result as those of `forward`."""
        trunk = self.trunk
        if regions is None:
            after = trunk.norm(self._run(x, self.shared_depth, None))
            return ImageFeatures(torch.cat([after, x], -1) if self.meets else after, _all_visible(x))
        # The whole images (if wanted), then the visible tokens of the regions, all laid flat.
        tables = packing or pack_regions(regions.patch_mask)
        images_too = len(x) if whole else 0
        flat = torch.cat([x[:images_too].flatten(0, 1), visible_tokens(x, regions.image_index, tables)])
        before = flat
        flat = trunk.norm(self._run(flat, self.shared_depth, None, images_too, tables))
        flat = torch.cat([flat, before], -1) if self.meets else flat
        tokens, seen = flat.split([images_too * x.shape[1], len(tables.row)])
        tokens = tokens.view(images_too, x.shape[1], flat.shape[-1])
        return region_features(tokens, seen, tables, None if packing else regions)

    def _run(self, x: Tensor, start: int, end: int | None, *layout: Any) -> Tensor:
        for block in self.trunk.blocks[start:end]:
            x = run(block, self.checkpointing, x, *layout)
        return x


class RegionBlock(Block):
    """timm's block, which also takes whole images and the visible tokens of regions, laid flat, and keeps less."""

    kernel = staticmethod(F.scaled_dot_product_attention)  # an instance may have another way of the same

    def forward(  # type: ignore[override]
        self, x: Tensor, whole: int | None = None, packing: Packing | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Run the block on tokens (B, 1 + N, D), or on those of `whole` images and then of regions, laid flat.

        With a mask (B, 1, 1, 1 + N), tokens (B, 1 + N, D) attend to those where it is True.
        """
        x = x + _drop(self.drop_path1, self.ls1(self._attend(x, whole, packing, mask)), whole, packing)
        grown = self.ls2(linear_of(self.mlp.act, linear_of(self.norm2, x, self.mlp.fc1), self.mlp.fc2))
        return x + _drop(self.drop_path2, grown, whole, packing)

    def _attend(self, x: Tensor, whole: int | None, packing: Packing | None, mask: Tensor | None) -> Tensor:
        """Attention within each image and each region: regions in groups of similar size."""
        attention: Any = self.attn
        heads, qkv = attention.num_heads, linear_of(self.norm1, x, attention.qkv)
        if whole is None or packing is None:
            return attention.proj(_attend_rows(qkv, mask, heads, self.kernel).view(x.shape))  # type: ignore[no-any-return]
        images, regions = torch.split(qkv, [len(x) - len(packing.row), len(packing.row)])
        seen = [_attend_rows(*group, heads) for group in packing.grouped.split(packing.grouped.spread(regions))]
        seen = [packing.grouped.collect(torch.cat(seen))] if seen else []
        if whole:
            seen = [_attend_rows(images.view(whole, -1, images.shape[-1]), None, heads), *seen]
        return attention.proj(torch.cat(seen))  # type: ignore[no-any-return]


def _attend_rows(
    qkv: Tensor, mask: Tensor | None, heads: int, kernel: Callable[..., Tensor] = F.scaled_dot_product_attention
) -> Tensor:
    """Attention within rows of queries, keys and values (n, L, 3 D), to flat tokens (n * L, D)."""
    q, k, v = rearrange(qkv, "n l (part h d) -> part n h l d", part=3, h=heads)
    return rearrange(kernel(q, k, v, attn_mask=mask), "n h l d -> (n l) (h d)")


def _drop(path: nn.Module, x: Tensor, whole: int | None, packing: Packing | None) -> Tensor:
    """Stochastic depth; of flat tokens all those of an image or of a region share their fate."""
    if whole is None or packing is None or isinstance(path, nn.Identity):
        return path(x)  # type: ignore[no-any-return]
    images, regions = path(x.new_ones(whole + len(packing.first), 1)).split([whole, len(packing.first)])
    length = (len(x) - len(packing.row)) // max(whole, 1)
    return x * torch.cat([images.repeat_interleave(length, 0), regions.index_select(0, packing.row)])


class Swin(nn.Module):
    """A Swin encoder with mean pooling: token 0 is the mean of the image's or the region's patches (X-VLM).

    A region has the same patches as its image, those outside it left out.

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
            elif isinstance(module, SwinTransformerBlock) and module.attn_mask is not None:
                # timm adds -100 to hidden keys: their probabilities, 4e-44, are below the smallest normal number, and
                # products with such numbers take a CPU up to 50 times as long. Here they are 0.
                module.attn_mask.masked_fill_(module.attn_mask < 0, float("-inf"))

    def forward(
        self, images: Tensor, regions: Regions | None = None, packing: Packing | None = None, whole: bool = True
    ) -> ImageFeatures:
        """Encode images (B, 3, height, width) and regions of them; `packing` and `whole` as in `region_features`."""
        return self.finish(self.begin(images), regions, packing, whole)

    def begin(self, images: Tensor) -> Tensor:
        """The mean of the patches, then the patches of each image, (B, 1 + N, D)."""
        _check_size(images, self.image_size)
        patches = self.trunk.forward_features(images).flatten(1, 2)  # (B, N, D)
        return torch.cat([patches.mean(1, keepdim=True), patches], 1)

    def finish(
        self, tokens: Tensor, regions: Regions | None = None, packing: Packing | None = None, whole: bool = True
    ) -> ImageFeatures:
        """Images, and regions of them, of what `begin` returned: arguments and result as those of `forward`."""
        if regions is None:
            return ImageFeatures(tokens, _all_visible(tokens))
        patches = tokens[:, 1:]
        # Regions: the mean of the patches inside, then these patches, laid flat, (T, D).
        tables = packing or pack_regions(regions.patch_mask)
        weights = regions.patch_mask.to(patches.dtype)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1)  # (R, N)
        mean = (weights[:, None] @ patches[regions.image_index]).squeeze(1)  # (R, D)
        seen = visible_tokens(tokens, regions.image_index, tables).index_copy(0, tables.first, mean)
        return region_features(tokens, seen, tables, None if packing else regions)


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


def pack_regions(patch_mask: Tensor) -> Packing:
    """Tables of [CLS] and the patches of each region (R, N), bool."""
    return pack(_with_cls(patch_mask))


def visible_tokens(x: Tensor, image_index: Tensor, packing: Packing) -> Tensor:
    """Copy the visible tokens of regions (T, D) out of those of their images (B, 1 + N, D)."""
    rows = image_index.index_select(0, packing.row) * x.shape[1] + packing.column
    return x.flatten(0, 1).index_select(0, rows)


def region_features(tokens: Tensor, seen: Tensor, packing: Packing, padded: Regions | None) -> ImageFeatures:
    """Features of whole images (B, 1 + N, D) and of the visible tokens of regions (T, D).

    Args:
        tokens: Of whole images; of 0 images if they were not wanted.
        seen: Of regions, laid flat.
        packing: Their tables.
        padded: If given, rows of all patches of these regions are returned instead, with zeros at those outside.
    """
    mask = _all_visible(tokens)
    if padded is None:
        return ImageFeatures(tokens, mask, seen, packing.mask)
    region_mask = _with_cls(padded.patch_mask)
    places = packing.row * region_mask.shape[1] + packing.column
    rows = seen.new_zeros(region_mask.numel(), seen.shape[-1]).index_copy(0, places, seen)
    return ImageFeatures(tokens, mask, rows.view(*region_mask.shape, seen.shape[-1]), region_mask)


def _check_size(images: Tensor, size: int) -> None:
    if images.shape[-2:] != (size, size):
        got = "x".join(str(side) for side in images.shape[-2:])
        raise ValueError(f"Images of {got} pixels given to a model for {size}x{size}; set image_size to match.")
