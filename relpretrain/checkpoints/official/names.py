"""Convert the weight names of the official ALBEF and X-VLM code to ours.

Pure functions of state dicts. Only tensors without information of their own are dropped: copies of tied weights, which
are compared first, and index tables, which follow from the configuration.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from relpretrain.backbones.bert_names import (
    BERT_LAYER,
    State,
    convert_bert,
    count_text_layers,
    refuse_unknown,
    with_bert,
)
from relpretrain.checkpoints.official.clip import from_clip, is_clip

HEADS = {
    "vision_proj": "image_projection",
    "text_proj": "text_projection",
    "itm_head": "itm_head",
    "bbox_head": "box_head",
}
_VIT = re.compile(
    r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|norm(_pre)?\.(weight|bias)"
    r"|blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)"
)
_SWIN = re.compile(
    r"patch_embed\.(proj|norm)\.(weight|bias)|norm\.(weight|bias)"
    r"|layers\.\d+\.blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)"
    r"|layers\.\d+\.blocks\.\d+\.attn\.relative_position_bias_table"
    r"|layers\.\d+\.downsample\.(norm\.weight|norm\.bias|reduction\.weight)"
)
_SWIN_TABLES = re.compile(r"layers\.\d+\.blocks\.\d+\.(attn\.relative_position_index|attn_mask)")
STAGE = re.compile(r"layers\.(\d+)\.downsample\.")

RAMP_DONE = 1 << 40
"""Number of updates of a converted teacher: the ramp of alpha, in the first epoch, is over."""


def convert_albef(state: Mapping[str, Tensor]) -> State:
    """Convert an official ALBEF state dict to the weights of our `ALBEF`.

    Momentum copies become the teacher, and the queues its queue.

    Args:
        state: The official state dict.

    Raises:
        ValueError: If a name is unknown.
    """
    student = {key: value for key, value in state.items() if "_m." not in key and "queue" not in key}
    teacher = {key.replace("_m.", ".", 1): value for key, value in state.items() if "_m." in key}
    ours = _convert(student, "visual_encoder.")
    if teacher:
        ours |= {f"teacher.model.{key}": value for key, value in _convert(teacher, "visual_encoder.").items()}
        ours["teacher._extra_state"] = torch.tensor([RAMP_DONE])
    if has_queue(state):
        ids = state.get("idx_queue", torch.full((1, state["image_queue"].shape[1]), -1))[0].clamp(min=-1)
        ours |= {
            "teacher.queue.image": state["image_queue"],
            "teacher.queue.text": state["text_queue"],
            "teacher.queue.image_ids": ids,
            "teacher.queue.text_ids": ids.clone(),
            "teacher.queue.pointer": state.get("queue_ptr", torch.zeros(1, dtype=torch.long)),
        }
    refuse_unknown([key for key in state if "queue" in key and key not in QUEUE])
    return ours


def has_queue(state: Mapping[str, Tensor]) -> bool:
    """Whether an official state dict has the queues of both images and texts."""
    return "image_queue" in state and "text_queue" in state


def convert_xvlm(state: Mapping[str, Tensor]) -> State:
    """Convert an official X-VLM state dict (ViT, CLIP-ViT or Swin) to the weights of our `XVLM`.

    Args:
        state: The official state dict.

    Raises:
        ValueError: If a name is unknown; the RoBERTa variant is not supported.
    """
    return _convert(state, "vision_encoder.")


def arguments_from_state(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer the arguments of our model from an official state dict.

    The number of attention heads of a ViT or a BERT cannot be inferred: they are assumed to be 64 wide, as in all
    official models. Nor can the image size of a Swin without shifted windows, which is then left to the caller.

    Args:
        state: The official state dict of an ALBEF ("visual_encoder.") or an X-VLM ("vision_encoder.").

    Returns:
        Keywords of `ALBEF` or `XVLM`.
    """
    albef = any(key.startswith("visual_encoder.") for key in state)
    prefix = "visual_encoder." if albef else "vision_encoder."
    vision, clip = _vision_weights(state, prefix)
    text = {with_bert(k.removeprefix("text_encoder.")): v for k, v in state.items() if k.startswith("text_encoder.")}
    words = text["bert.embeddings.word_embeddings.weight"]
    layers = {int(m[1]): m[2] for m in map(BERT_LAYER.match, text) if m}
    text_layers = count_text_layers(text)
    found: dict[str, Any] = {
        "vocab_size": words.shape[0],
        "text_width": words.shape[1],
        "text_heads": max(words.shape[1] // 64, 1),
        "text_ffn": text["bert.encoder.layer.0.intermediate.dense.weight"].shape[0],
        "text_layers": text_layers,
        "fusion_layers": len(layers) - text_layers,
        "max_positions": text["bert.embeddings.position_embeddings.weight"].shape[0],
        "embed_dim": state["vision_proj.weight"].shape[0],
        "patch_size": vision["patch_embed.proj.weight"].shape[-1],
    }
    found |= _vit_arguments(vision) if "pos_embed" in vision else _swin_arguments(vision)
    if not albef:
        found["vision"] = "clip" if clip else "vit" if "pos_embed" in vision else "swin"
    elif any(key.startswith("visual_encoder_m.") for key in state):
        found["momentum"] = 0.995
        found["queue_size"] = state["image_queue"].shape[1] if has_queue(state) else 0
    return found


QUEUE = ("image_queue", "text_queue", "idx_queue", "queue_ptr")


def _vit_arguments(vision: State) -> dict[str, Any]:
    width, patch = vision["pos_embed"].shape[2], vision["patch_embed.proj.weight"].shape[-1]
    side = math.isqrt(vision["pos_embed"].shape[1] - 1)
    return {
        "image_size": side * patch,
        "vision_width": width,
        "vision_depth": 1 + max(int(m[1]) for m in map(re.compile(r"blocks\.(\d+)\.").match, vision) if m),
        "vision_heads": max(width // 64, 1),
        "vision_mlp_ratio": vision["blocks.0.mlp.fc1.weight"].shape[0] / width,
    }


def _swin_arguments(vision: State) -> dict[str, Any]:
    blocks = [(int(m[1]), int(m[2])) for m in map(re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.").match, vision) if m]
    stages = 1 + max(stage for stage, _ in blocks)
    tables = [vision[f"layers.{s}.blocks.0.attn.relative_position_bias_table"] for s in range(stages)]
    window = (math.isqrt(len(tables[0])) + 1) // 2
    width = vision["patch_embed.proj.weight"].shape[0]
    found = {
        "vision_width": width << (stages - 1),
        "vision_depth": [1 + max(b for s, b in blocks if s == stage) for stage in range(stages)],
        "vision_heads": [table.shape[1] for table in tables],
        "vision_mlp_ratio": vision["layers.0.blocks.0.mlp.fc1.weight"].shape[0] / width,
        "window_size": window,
    }
    for stage in range(stages):
        mask = vision.get(f"layers.{stage}.blocks.1.attn_mask")
        if mask is not None:
            patch = vision["patch_embed.proj.weight"].shape[-1]
            found["image_size"] = math.isqrt(len(mask)) * window * (patch << stage)
    return found


def _convert(state: Mapping[str, Tensor], vision: str) -> State:
    """Convert the weights of a model without its teacher; `vision` is the official prefix of its image encoder."""
    text: State = {}
    ours: State = {}
    unknown = []
    for name, value in _vision_weights(state, vision)[0].items():
        if _VIT.fullmatch(name) or _SWIN.fullmatch(name):
            # timm merges patches at the beginning of a stage, the official Swin at the end of the one before.
            place = STAGE.sub(lambda m: f"layers.{int(m[1]) + 1}.downsample.", name)
            ours[f"vision.trunk.{place}"] = value
        elif not _SWIN_TABLES.fullmatch(name):
            unknown.append(vision + name)
    for key, value in state.items():
        head, _, rest = key.partition(".")
        if key.startswith("text_encoder."):
            text[with_bert(rest)] = value
        elif key == "temp":
            ours["scale.value"] = value.reshape(1)
        elif head in HEADS:
            ours[f"{HEADS[head]}.{rest}"] = value
        elif not key.startswith(vision):
            unknown.append(key)
    refuse_unknown(unknown)
    return ours | convert_bert(text, count_text_layers(text))


def _vision_weights(state: Mapping[str, Tensor], prefix: str) -> tuple[State, bool]:
    """The image encoder's weights by DeiT's or Swin's names, and whether they had CLIP's."""
    vision = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    clip = is_clip(vision)
    return (from_clip(vision) if clip else vision), clip
