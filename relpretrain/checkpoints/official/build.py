"""Build our `ALBEF` or `XVLM` from an official state dict, with a report on each weight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from relpretrain.backbones.albef import ALBEF
from relpretrain.backbones.bert_names import State, same
from relpretrain.backbones.presets import ModelConfig
from relpretrain.backbones.vision import check_weights
from relpretrain.backbones.xvlm import XVLM
from relpretrain.checkpoints.official.back import official_names, swin_tables
from relpretrain.checkpoints.official.names import QUEUE, arguments_from_state, convert_albef, convert_xvlm, has_queue
from relpretrain.checkpoints.official.resize import resize_bias_table, resize_positions

_BIAS_TABLE = re.compile(r"vision\.trunk\.layers\.(\d+)\.blocks\.\d+\.attn\.relative_position_bias_table")
_SKIPPED = {
    "position_ids": "counts positions",
    "token_type_ids": "zeros",
    "relative_position_index": "follows from the window",
    "attn_mask": "follows from image size and window",
    "decoder.weight": "copy of the word embeddings",
    "decoder.bias": "copy of the head's bias",
    **dict.fromkeys(QUEUE, "of a queue that is not whole"),
}


@dataclass(frozen=True)
class LoadReport:
    """How the weights of an official checkpoint were converted. `str` gives a table.

    Args:
        layout: The recognised model.
        names: Our name of every loaded weight, by official name.
        resized: Old and new shape of every resized weight, by official name.
        skipped: Reason for every skipped tensor, by official name.
        keys: All official names, in the order of the file.
        new: Our heads that the official class lacks, with random weights.
        notes: Lines about removed wrappers and other contents of the file.
    """

    layout: str
    names: dict[str, str]
    resized: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        renamed = sum(theirs != ours for theirs, ours in self.names.items())
        lines = [
            f"{self.layout}: {len(self.keys)} tensors, {len(self.names)} loaded ({renamed} renamed), "
            f"{len(self.resized)} resized, {len(self.skipped)} skipped, {len(self.new)} heads new",
            *self.notes,
        ]
        rows = [("official name", "here")]
        rows += [(theirs, ours) for theirs, ours in self.names.items() if theirs not in self.resized]
        rows += [
            (key, f"{self.names[key]}, {_shape(old)} -> {_shape(new)}") for key, (old, new) in self.resized.items()
        ]
        rows += [(key, f"skipped: {reason}") for key, reason in self.skipped.items()]
        rows += [("not in this class", f"{name}: new weights") for name in self.new]
        width = max(len(left) for left, _ in rows)
        return "\n".join([*lines, *(f"  {left:{width}}  {right}" for left, right in rows)])


def build_official(
    state: Mapping[str, Tensor], image_size: int | None = None, arguments: Mapping[str, Any] | None = None
) -> tuple[ALBEF | XVLM, LoadReport]:
    """Build a model with the weights of an official checkpoint, of a pretraining or retrieval class.

    The retrieval classes lack the MLM head, and X-VLM's the box head: these get random weights (`LoadReport.new`).

    Sizes are inferred from the tensors; the rest is as in the official base models: heads of width 64, four region
    blocks in X-VLM's ViT, momentum 0.995. Momentum copies and queues become the teacher.

    Args:
        state: The official state dict.
        image_size: Image size in pixels, None for the checkpoint's own. Position embeddings are resized bicubically,
            Swin's bias tables by BEiT's rule, with the window in proportion to the image (7 at 224 pixels, 12 at 384).
        arguments: Keywords of `ALBEF` or `XVLM` that cannot be inferred from the weights, such as text_heads.

    Returns:
        The model, and the report.

    Raises:
        ValueError: If a weight is missing, unknown or of another shape.
    """
    albef = any(key.startswith("visual_encoder.") for key in state)
    _check_parts(state, albef)
    found = arguments_from_state(state) | dict(arguments or {})
    swin = found.get("vision") == "swin"
    if swin and "image_size" not in found:  # without shifted windows: the last stage is one window in official models
        found["image_size"] = found["window_size"] * (found["patch_size"] << (len(found["vision_depth"]) - 1))
    native = found["image_size"]
    converted = convert_official(state)
    if image_size is not None and image_size != native:
        found["image_size"] = image_size
        if swin:
            found["window_size"] = _scaled(found["window_size"], native, image_size)
    with torch.device("meta"):  # weights that would only be replaced are not drawn
        model: ALBEF | XVLM = ALBEF(**found) if albef else XVLM(**found)
    before = converted
    converted = resize_weights(converted, model.config)
    wanted = _wanted(model)
    new = absent_heads(state, wanted, converted)
    check_weights("the official checkpoint", {k: v for k, v in wanted.items() if _head(k) not in new}, converted)
    if not any(value.is_meta for value in converted.values()):
        model = ALBEF(**found) if albef else XVLM(**found)
        model.load_state_dict(converted, strict=not new)
    report = replace(_report(state, before, converted, model, albef), new=new)
    if swin and image_size in (None, native):
        _check_tables(state, model)
    return model, report


def convert_official(state: Mapping[str, Tensor]) -> State:
    """Convert an official state dict (`official_file`) to the weights of our `ALBEF` or `XVLM`."""
    albef = any(key.startswith("visual_encoder.") for key in state)
    return (convert_albef if albef else convert_xvlm)(state)


def absent_heads(state: Mapping[str, Tensor], wanted: State, converted: State) -> tuple[str, ...]:
    """Our heads that an official retrieval checkpoint lacks; it is told by its BERT's names, which lack "bert.".

    Args:
        state: The official state dict.
        wanted: Weights of our model.
        converted: The weights after conversion.
    """
    if "text_encoder.embeddings.word_embeddings.weight" not in state:
        return ()
    given = {_head(key) for key in converted}
    return tuple(name for name in ("mlm_head", "box_head") if name not in given and name in map(_head, wanted))


def _head(key: str) -> str:
    return key.removeprefix("teacher.model.").partition(".")[0]


def _check_parts(state: Mapping[str, Tensor], albef: bool) -> None:
    """Raise a ValueError in one line for models of other classes, before names are compared one by one."""
    prefix = "visual_encoder." if albef else "vision_encoder."
    needed = [
        f"{prefix}patch_embed.weight" if f"{prefix}class_embedding" in state else f"{prefix}patch_embed.proj.weight",
        "vision_proj.weight",
        "itm_head.weight" if albef else "itm_head.0.weight",
    ]
    words = ("text_encoder.bert.embeddings.word_embeddings.weight", "text_encoder.embeddings.word_embeddings.weight")
    missing = [key for key in needed if key not in state]
    if not any(key in state for key in words):
        missing.append(words[0])
    if missing:
        raise ValueError(
            f"These are no weights of an official pretraining or retrieval model with a ViT or Swin and a BERT: "
            f"{', '.join(missing)} missing (RoBERTa variants are not served)."
        )


def _scaled(window: int, native: int, image_size: int) -> int:
    if window * image_size % native:
        raise ValueError(
            f"image_size={image_size} does not scale the Swin window of {window} patches at {native} pixels to a whole "
            f"number; use a multiple of {native // window} pixels."
        )
    return window * image_size // native


def resize_weights(weights: State, config: ModelConfig) -> State:
    """Resize position embeddings and bias tables to the image size and window of `config`."""
    result = dict(weights)
    for key, value in weights.items():
        name = key.removeprefix("teacher.model.")
        table = _BIAS_TABLE.fullmatch(name)
        if name == "vision.trunk.pos_embed":
            result[key] = resize_positions(value, config.patch_grid[0])
        elif table:
            grid = config.image_size // (config.patch_size << int(table[1]))
            result[key] = resize_bias_table(value, min(config.window_size, grid))
    return result


def _wanted(model: ALBEF | XVLM) -> State:
    return {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}


def _report(state: Mapping[str, Tensor], before: State, after: State, model: ALBEF | XVLM, albef: bool) -> LoadReport:
    vision, text_layers = ("visual_encoder." if albef else "vision_encoder."), model.config.text_layers
    clip = model.config.vision == "clip"
    places = {}
    if has_queue(state):
        places = {"queue_ptr": "teacher.queue.pointer", "idx_queue": "teacher.queue.image_ids"}
        places |= {f"{kind}_queue": f"teacher.queue.{kind}" for kind in ("image", "text")}
    for ours in before:
        if not ours.startswith(("teacher.queue.", "teacher._")):
            has_teacher = ours.startswith("teacher.model.")
            for theirs in official_names(ours.removeprefix("teacher.model."), text_layers, vision, clip):
                head, _, rest = theirs.partition(".")
                places[f"{head}_m.{rest}" if has_teacher else theirs] = ours
    names, skipped = {}, {}
    for key in state:
        full = re.sub(r"^(text_encoder(?:_m)?\.)(embeddings|encoder)\.", r"\1bert.\2.", key)
        if full in places:
            names[key] = places[full]
        else:
            skipped[key] = next((why for end, why in _SKIPPED.items() if key.endswith(end)), "")
    if unused := [key for key, why in skipped.items() if not why]:
        raise ValueError(f"{len(unused)} weights of the checkpoint have no place in the model: {', '.join(unused)}.")
    shapes = {key: (tuple(before[ours].shape), tuple(after[ours].shape)) for key, ours in names.items()}
    resized = {key: pair for key, pair in shapes.items() if pair[0] != pair[1]}
    kind = "ALBEF" if albef else f"X-VLM ({model.config.vision})"
    notes = ("queue_ptr is missing: the queue begins at 0",) if has_queue(state) and "queue_ptr" not in state else ()
    return LoadReport(f"official {kind}", names, resized, skipped, tuple(state), notes=notes)


def _check_tables(state: Mapping[str, Tensor], model: ALBEF | XVLM) -> None:
    """Check that the skipped index tables and masks are those that the configuration implies."""
    for name, table in swin_tables(model.config).items():
        given = state.get(f"vision_encoder.{name}")
        if given is not None and not same(given, table):
            raise ValueError(f"vision_encoder.{name} is not what window and image size give: not an official Swin.")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
