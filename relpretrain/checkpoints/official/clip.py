"""Convert the weight names of X-VLM's CLIP-ViT to those of DeiT and timm, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

POSITIONS = "position_ids"
"""Position ids, which carry no information."""

_PLACES = {
    "class_embedding": "cls_token",
    "pos_embed.weight": "pos_embed",
    "patch_embed.weight": "patch_embed.proj.weight",
}
_NORMS = {"pre_layrnorm": "norm_pre", "post_layernorm": "norm"}  # their spelling
_PARTS = {"self_attn.out_proj": "attn.proj", "layer_norm1": "norm1", "layer_norm2": "norm2"} | {
    name: name for name in ("mlp.fc1", "mlp.fc2")
}
_STACKED = ("q_proj", "k_proj", "v_proj")
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_BACK = {ours: theirs for theirs, ours in (_PLACES | _NORMS | _PARTS).items()}


def is_clip(vision: Mapping[str, Tensor]) -> bool:
    """Whether an image encoder's weights have CLIP's names."""
    return "class_embedding" in vision


def from_clip(vision: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert an image encoder's weights to DeiT's names; unknown names are kept.

    Args:
        vision: Weights by their names inside X-VLM's `vision_encoder`.

    Returns:
        Query, key and value stacked into one matrix; [CLS] (1, 1, width) and positions (1, 1 + patches, width).
    """
    result: dict[str, Tensor] = {}
    stacks: dict[str, dict[int, Tensor]] = {}
    for key, value in vision.items():
        head, _, last = key.rpartition(".")
        layer = _LAYER.fullmatch(key)
        if key in _PLACES:
            tokens = key != "patch_embed.weight"
            result[_PLACES[key]] = value.reshape(1, -1, value.shape[-1]) if tokens else value
        elif head in _NORMS:
            result[f"{_NORMS[head]}.{last}"] = value
        elif layer and layer[2] in _PARTS:
            result[f"blocks.{layer[1]}.{_PARTS[layer[2]]}.{layer[3]}"] = value
        elif layer and layer[2].removeprefix("self_attn.") in _STACKED:
            part = _STACKED.index(layer[2].removeprefix("self_attn."))
            stacks.setdefault(f"blocks.{layer[1]}.attn.qkv.{layer[3]}", {})[part] = value
        elif key != POSITIONS:
            result[key] = value
    lacking = [key for key, parts in stacks.items() if len(parts) < len(_STACKED)]
    return result | {key: torch.cat([p[i] for i in sorted(p)]) for key, p in stacks.items() if key not in lacking}


def clip_names(key: str) -> list[str]:
    """CLIP's names of the tensors that a weight with DeiT's name is stacked from: the inverse of `from_clip`."""
    if key in _BACK:
        return [_BACK[key]]
    head, _, last = key.rpartition(".")
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", head)
    if not block:
        return [f"{_BACK.get(head, head)}.{last}"]
    if block[2] == "attn.qkv":
        return [f"encoder.layers.{block[1]}.self_attn.{part}.{last}" for part in _STACKED]
    return [f"encoder.layers.{block[1]}.{_BACK[block[2]]}.{last}"]


def clip_shape(key: str, value: Tensor) -> Tensor:
    """A weight in CLIP's shape: [CLS] as a vector, positions as a matrix."""
    return value.flatten() if key == "cls_token" else value[0] if key == "pos_embed" else value
