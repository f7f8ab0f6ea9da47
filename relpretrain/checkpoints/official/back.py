"""Convert our weights back to the names of the official ALBEF and X-VLM code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from einops import rearrange
from torch import Tensor

from relpretrain.backbones.bert_names import BERT, COPIES, LAYER, State, with_bert
from relpretrain.backbones.presets import ModelConfig
from relpretrain.checkpoints.official.clip import POSITIONS, clip_names, clip_shape
from relpretrain.checkpoints.official.names import HEADS, STAGE

UNKNOWN_IMAGE = -100
"""Image identity of queue entries without a known image in the official code."""

_TEXT = re.compile(r"(text_encoder(?:_m)?\.)(.+)")
_OURS: dict[str, list[str]] = {}
for _theirs, (_ours, _part, _) in LAYER.items():
    _OURS.setdefault(_ours, []).insert(_part, _theirs)
_NAMED = {ours: theirs for theirs, ours in HEADS.items()} | {o: f"text_encoder.{t}" for t, o in BERT.items()}


def official_names(key: str, text_layers: int, vision: str = "visual_encoder.", clip: bool = False) -> list[str]:
    """Official names of the tensors that one tensor of ours is stacked from, in order.

    Args:
        key: Our name of a weight outside the teacher.
        text_layers: Layers of the text encoder.
        vision: Official prefix of the image encoder: "visual_encoder." (ALBEF) or "vision_encoder." (X-VLM).
        clip: Whether the image encoder is X-VLM's CLIP-ViT.
    """
    prefix, _, last = key.rpartition(".")
    layer = re.fullmatch(r"(text|fusion)\.layers\.(\d+)\.(.+)", prefix)
    head = re.match(r"(itm_head|box_head)(.*)", prefix)
    if layer:
        number = int(layer[2]) + (text_layers if layer[1] == "fusion" else 0)
        return [f"text_encoder.bert.encoder.layer.{number}.{name}.{last}" for name in _OURS[layer[3]]]
    if key.startswith("vision.trunk."):
        inside = key.removeprefix("vision.trunk.")
        if clip:
            return [vision + name for name in clip_names(inside)]
        return [vision + STAGE.sub(lambda m: f"layers.{int(m[1]) - 1}.downsample.", inside)]
    if key == "scale.value":
        return ["temp"]
    if head:
        return [f"{_NAMED[head[1]]}{head[2]}.{last}"]
    return [f"{_NAMED[prefix]}.{last}"]


def official_parts(
    state: Mapping[str, Tensor], text_layers: int, vision: str = "visual_encoder.", clip: bool = False
) -> State:
    """Convert a state dict (or gradients) of our model without its teacher to the official names and shapes.

    Args:
        state: Tensors by our names.
        text_layers: Layers of the text encoder.
        vision: See `official_names`.
        clip: See `official_names`.
    """
    result: State = {}
    for key, value in state.items():
        names = official_names(key, text_layers, vision, clip)
        if key == "scale.value":
            value = value.reshape(())
        elif clip and key.startswith("vision.trunk."):
            value = clip_shape(key.removeprefix("vision.trunk."), value)
        pieces = value.chunk(len(names)) if len(names) > 1 else (value,)
        result |= dict(zip(names, pieces, strict=True))
    return result


def to_official(
    state: Mapping[str, Tensor], config: ModelConfig, albef: bool, keys: Iterable[str] | None = None
) -> State:
    """Convert the weights of our `ALBEF` or `XVLM` to an official state dict: the inverse of `convert_official`.

    Tied copies, position ids, Swin's index tables and masks are computed anew from weights and configuration.

    Args:
        state: State dict of the model, teacher and queue included.
        config: Numbers of the model.
        albef: Whether it is an `ALBEF`.
        keys: Weight names of the official file that the weights came from, to get exactly these in this order. None for
            all of a pretraining checkpoint.

    Raises:
        ValueError: If the model has no weight for one of the names.
    """
    own = {key: value for key, value in state.items() if not key.startswith("teacher.")}
    taught = _below(state, "teacher.model.")
    full = _complete(own, config, albef)
    for key, value in _complete(taught, config, albef).items() if taught else ():
        head, _, rest = key.partition(".")
        full[f"{head}_m.{rest}"] = value
    queue = _below(state, "teacher.queue.")
    if queue:
        ids = queue["image_ids"]
        full |= {"image_queue": queue["image"], "text_queue": queue["text"], "queue_ptr": queue["pointer"]}
        full["idx_queue"] = ids.masked_fill(ids < 0, UNKNOWN_IMAGE)[None]
    if keys is None:
        full.pop("idx_queue", None)
        return full
    places = {key: _TEXT.sub(lambda m: m[1] + with_bert(m[2]), key) for key in keys}
    lost = [key for key, place in places.items() if place not in full]
    if lost:
        raise ValueError(f"{len(lost)} official weights cannot be made from this model: {', '.join(lost)}.")
    return {key: full[place] for key, place in places.items()}


def swin_tables(config: ModelConfig) -> State:
    """Index tables and shift masks of the official Swin, by their names inside the image encoder.

    An index table (window^2, window^2) has the row of the bias table for each pair of patches. The additive mask
    (windows, window^2, window^2) of a block with shifted windows is -100 between patches joined by the shift alone.
    """
    tables: State = {}
    assert not isinstance(config.vision_depth, int)
    for stage, depth in enumerate(config.vision_depth):
        grid = config.image_size // (config.patch_size << stage)
        window = min(config.window_size, grid)
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}."
            tables[name + "attn.relative_position_index"] = _relative_positions(window)
            if block % 2 and grid > window:
                tables[name + "attn_mask"] = _shift_mask(grid, window)
    return tables


def _complete(own: Mapping[str, Tensor], config: ModelConfig, albef: bool) -> State:
    vision = "visual_encoder." if albef else "vision_encoder."
    clip = config.vision == "clip"
    full = official_parts(own, config.text_layers, vision, clip)
    for copy, original in COPIES.items():
        full[f"text_encoder.{copy}"] = full[f"text_encoder.{original}"]
    full["text_encoder.bert.embeddings.position_ids"] = torch.arange(config.max_positions)[None]
    if clip:
        full[vision + POSITIONS] = torch.arange(config.patch_grid[0] * config.patch_grid[1] + 1)[None]
    if config.vision == "swin":
        full |= {vision + name: table for name, table in swin_tables(config).items()}
    return full


def _relative_positions(window: int) -> Tensor:
    row, column = (axis.flatten() for axis in torch.meshgrid([torch.arange(window)] * 2, indexing="ij"))
    down, right = row[:, None] - row, column[:, None] - column
    return (down + window - 1) * (2 * window - 1) + right + window - 1


def _shift_mask(grid: int, window: int) -> Tensor:
    # Number the 3 x 3 regions that a shift joins at the border, (grid, grid).
    place = torch.arange(grid)
    band = (place >= grid - window).long() + (place >= grid - window // 2).long()
    region = 3 * band[:, None] + band
    # Window by window, (windows, window^2), patches of the same region may attend to each other.
    rows = rearrange(region, "(rows a) (columns b) -> (rows columns) (a b)", a=window, b=window)
    return torch.where(rows[:, None] == rows[:, :, None], 0.0, -100.0)


def _below(state: Mapping[str, Tensor], prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
