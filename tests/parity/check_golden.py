"""Compare our models with recorded outputs of the official ALBEF and X-VLM code.

    python tests/parity/check_golden.py DIR

DIR holds config.json (sizes), the official checkpoint (*.pth or *.th) and io.safetensors (inputs and outputs), or
folders that do. Prints the largest relative error of each quantity, max |ours - theirs| / max |theirs|; exit 1 if one
is past its tolerance.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from torch import Tensor

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.checkpoints.official.back import official_parts
from relpretrain.checkpoints.official.names import arguments_from_state, convert_albef, convert_xvlm
from relpretrain.features import Features
from relpretrain.objectives import BOX, ITC, ITM, MLM
from relpretrain.objectives import matching as matching_module
from relpretrain.types import IGNORE, CaptionBatch, Pairs, RegionBatch, Regions, TextBatch, WantedRegions

TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4

Comparison = tuple[str, Tensor, Tensor]
Io = dict[str, Tensor]


def arguments_from_config(config: dict[str, Any]) -> dict[str, Any]:
    """Turn a golden config.json into arguments of ALBEF or XVLM."""
    vision, bert = config["vision"], config["bert"]
    arguments = {
        "vocab_size": bert["vocab_size"],
        "text_width": bert["hidden_size"],
        "text_heads": bert["num_attention_heads"],
        "text_ffn": bert["intermediate_size"],
        "text_layers": bert["fusion_layer"],
        "fusion_layers": bert["num_hidden_layers"] - bert["fusion_layer"],
        "text_norm_eps": bert["layer_norm_eps"],
        "max_positions": bert["max_position_embeddings"],
        "dropout": bert["hidden_dropout_prob"],
        "embed_dim": config["embed_dim"],
        "temperature": config["temp"],
        "image_size": vision["image_size"],
    }
    if vision.get("kind") == "swin":
        return arguments | {
            "vision": "swin",
            "vision_width": vision["vision_width"],
            "vision_depth": vision["depths"],
            "vision_heads": vision["num_heads"],
            "window_size": vision["window_size"],
            "patch_size": vision["region_patch"] >> (len(vision["depths"]) - 1),
        }
    arguments |= {
        "patch_size": vision["patch_size"],
        "vision_width": vision.get("width", vision.get("embed_dim")),
        "vision_depth": vision["depth"],
        "vision_heads": vision.get("heads", vision.get("num_heads")),
        "vision_mlp_ratio": vision["mlp_ratio"],
        "vision_norm_eps": vision["layer_norm_eps"],
    }
    if "kind" in vision:
        return arguments | {"vision": "vit", "region_depth": vision["local_attn_depth"]}
    return arguments | {"momentum": config["momentum"], "queue_size": config["queue_size"]}


def load(folder: Path) -> tuple[ALBEF | XVLM, Io]:
    """Build the model of a golden folder, with its official weights, and read the recorded tensors."""
    arguments = arguments_from_config(json.loads((folder / "config.json").read_text()))
    (checkpoint,) = [*folder.glob("checkpoint.*th")]
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
    found = arguments_from_state(state)
    if found.get("vision") == "clip":
        arguments["vision"] = "clip"
    check_sizes(arguments, found)
    model: ALBEF | XVLM = ALBEF(**arguments) if "momentum" in arguments else XVLM(**arguments)
    model.load_state_dict((convert_albef if "momentum" in arguments else convert_xvlm)(state))
    return model.eval(), load_file(folder / "io.safetensors")


def check_sizes(arguments: dict[str, Any], found: dict[str, Any]) -> None:
    """What is read off the weights must agree with the config; widths of heads leave no trace there."""
    traceless = {"text_heads", "momentum"} | ({"vision_heads"} if arguments.get("vision") != "swin" else set())
    for name in (found.keys() & arguments.keys()) - traceless:
        if arguments[name] != found[name]:
            raise ValueError(f"config.json says {name}={arguments[name]}, the checkpoint {found[name]}.")


def albef_outputs(model: ALBEF, io: Io) -> Iterator[Comparison]:
    """Tokens, projections and logits of the ALBEF recordings."""
    mask = io["inputs.attention_mask"].bool()
    image, image_mask = model.encode_image(io["inputs.image"])[:2]
    text = model.encode_text(io["inputs.input_ids"], mask)
    yield "image_embeds", image, io["outputs.image_embeds"]
    yield "text_embeds", text, io["outputs.text_embeds"]
    yield "image_feat", model.project_image(image), io["outputs.image_feat"]
    yield "text_feat", model.project_text(text), io["outputs.text_feat"]
    yield "fusion_embeds", model.fuse(text, mask, image, image_mask), io["outputs.fusion_embeds"]
    images, texts = len(image), len(text)
    i = torch.arange(images).repeat_interleave(texts)
    t = torch.arange(texts).repeat(images)
    every = model.match_logits(model.fuse(text[t], mask[t], image[i], image_mask[i]))
    yield "itm_logits_image_by_text", every.view(images, texts, 2), io["outputs.itm_logits_image_by_text"]
    masked = model.encode_text(io["inputs.mlm_input_ids"], mask)
    words = model.word_logits(model.fuse(masked, mask, image, image_mask).flatten(0, 1))
    yield "mlm_logits", words.view(*masked.shape[:2], -1), io["outputs.mlm_logits"]


def xvlm_outputs(model: XVLM, io: Io) -> Iterator[Comparison]:
    """Tokens, projections, logits and boxes of the X-VLM recordings."""
    mask = io["inputs.attention_mask"].bool()
    index = io["inputs.region_image_index"]
    features = model.encode_image(io["inputs.image"], Regions(index, io["inputs.region_patch_mask"][:, 1:].bool()))
    region, region_mask = features.region_tokens, features.region_mask
    assert region is not None
    assert region_mask is not None
    text = model.encode_text(io["inputs.input_ids"], mask)
    fused = model.fuse(text, mask, region, region_mask)
    whole = features.tokens[index]
    yield "full.image_embeds", features.tokens, io["outputs.full.image_embeds"]
    yield "full.image_feat", model.project_image(features.tokens), io["outputs.full.image_feat"]
    # Ours leaves out the patches outside of a region, which nothing looks at.
    yield "region.image_embeds", region[region_mask], io["outputs.region.image_embeds"][region_mask]
    yield "region.image_embeds_full", whole, io["outputs.region.image_embeds_full"]
    yield "region.image_feat", model.project_image(region), io["outputs.region.image_feat"]
    yield "text_embeds", text, io["outputs.text_embeds"]
    yield "text_feat", model.project_text(text), io["outputs.text_feat"]
    yield "region.cross_embeds", fused, io["outputs.region.cross_embeds"]
    yield "region.itm_logits", model.match_logits(fused), io["outputs.region.itm_logits"]
    boxes = model.boxes(model.fuse(text, mask, whole, features.mask[index]))
    yield "region.bbox", boxes, io["outputs.region.bbox"]


class Draws:
    """Draws the recorded hard negatives, and keeps their weights beside the largest: equal, as they were the likeliest.

    Not the numbers are compared: a caption batch can hold an image twice, and then rounding decides between the two.
    """

    def __init__(self, recorded: dict[str, Tensor]) -> None:
        self.recorded = iter(recorded.items())
        self.comparisons: list[Comparison] = []

    def __call__(self, logits: Tensor, forbidden: Tensor, generator: Any = None) -> tuple[Tensor, Tensor]:
        name, drawn = next(self.recorded)
        weights = logits.detach().masked_fill(forbidden, float("-inf")).softmax(dim=1)
        self.comparisons.append((name, weights.gather(1, drawn[:, None])[:, 0], weights.amax(dim=1)))
        return drawn, ~forbidden.all(dim=1)


def texts(io: Io) -> TextBatch:
    """The recorded texts; X-VLM's labels come with their positions."""
    labels = io["inputs.mlm_labels"]
    if "inputs.mlm_positions" in io:
        spread = torch.full_like(io["inputs.input_ids"], IGNORE)
        row, column = (labels != IGNORE).nonzero(as_tuple=True)
        spread[row, io["inputs.mlm_positions"][row, column]] = labels[row, column]
        labels = spread
    return TextBatch(io["inputs.input_ids"], io["inputs.attention_mask"].bool(), io["inputs.mlm_input_ids"], labels)


def step(features: Features, expected: str, io: Io, with_boxes: bool) -> Iterator[Comparison]:
    """Losses of one step, the negatives it drew, and the gradients of the losses' sum."""
    model = features.backbone
    names = (f"{expected}.negative_image_of_text", f"{expected}.negative_text_of_image")  # in the order of the draws
    draws = Draws({name: io[f"outputs.{name}"] for name in names})
    assert isinstance(model, ALBEF | XVLM)
    view = features.view(features.batch.pairs)
    with patch.object(matching_module, "draw_hard_negatives", draws):
        losses = {"itc": ITC().term(view).loss, "itm": ITM().term(view).loss, "mlm": MLM().term(view).loss}
    if with_boxes:
        parts = BOX()(features).parts
        losses |= {"bbox": parts["l1"], "giou": parts["giou"]}
    for name, loss in losses.items():
        yield f"{expected}.loss_{name}", loss.detach(), io[f"outputs.{expected}.loss_{name}"]
    yield from draws.comparisons
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    vision = "visual_encoder." if isinstance(model, ALBEF) else "vision_encoder."
    ours = official_parts(gradients, model.config.text_layers, vision, model.config.vision == "clip")
    for key in sorted(key for key in io if key.startswith(f"outputs.{expected}.grad.")):
        name = key.removeprefix(f"outputs.{expected}.grad.")
        yield f"{expected}.grad.{name}", ours[name], io[key]


def albef_steps(fresh: Callable[[], ALBEF], io: Io) -> Iterator[Comparison]:
    """Steps of ALBEF with and without distillation, and the state after one."""
    n = len(io["inputs.input_ids"])
    ids = torch.arange(n)
    for expected in sorted({key.split(".loss_")[0].removeprefix("outputs.") for key in io if ".loss_" in key}):
        model = fresh()
        teacher = model.teacher
        assert teacher is not None
        assert teacher.queue is not None
        teacher.final_alpha = float(expected.removeprefix("alpha"))
        teacher.update(model)
        batch = CaptionBatch(images=io["inputs.image"], image_ids=ids, pairs=Pairs(texts(io), ids, ids))
        features = Features(model, batch, [batch.pairs], teacher=teacher)
        yield from step(features, expected, io, with_boxes=False)
    taught = features.view(batch.pairs).teacher_view
    assert taught is not None
    teacher.enqueue(taught.image_embedding, taught.text_embedding, ids, ids)
    yield "after_step.image_queue", teacher.queue.image, io["outputs.after_step.image_queue"]
    yield "after_step.text_queue", teacher.queue.text, io["outputs.after_step.text_queue"]
    yield "after_step.queue_ptr", teacher.queue.pointer, io["outputs.after_step.queue_ptr"]
    projection = teacher.model.image_projection.weight
    yield "after_step.vision_proj_m.weight", projection, io["outputs.after_step.vision_proj_m.weight"]


def xvlm_steps(model: XVLM, io: Io) -> Iterator[Comparison]:
    """X-VLM's step on regions, and the one on captions."""
    index = io["inputs.region_image_index"]
    rows = torch.arange(len(index))
    images = io["inputs.image"]
    whole = io["inputs.is_whole_image"].bool()
    pairs = Pairs(texts(io), index, rows, boxes=io["inputs.target_bbox"], whole=whole)
    regions = RegionBatch(images=images, image_ids=torch.arange(len(images)), pairs=pairs)
    # The recorded masks, not those of the boxes.
    mask = io["inputs.region_patch_mask"][:, 1:].bool()
    regions.regions = WantedRegions(index, mask, model.pack_regions(mask))
    features = Features(model, regions, [pairs])
    yield from step(features, "region_step", io, with_boxes=True)
    captions = CaptionBatch(images=images[index], image_ids=rows, pairs=replace(pairs, image_index=rows, boxes=None))
    yield from step(Features(model, captions, [captions.pairs]), "caption_step", io, with_boxes=False)


def comparisons(folder: Path) -> Iterator[Comparison]:
    """Every recorded quantity of a golden folder: its name, ours, theirs."""
    model, io = load(folder)
    with torch.no_grad():
        yield from albef_outputs(model, io) if isinstance(model, ALBEF) else xvlm_outputs(model, io)
    if isinstance(model, ALBEF):
        yield from albef_steps(lambda: load(folder)[0], io)  # type: ignore[arg-type,return-value]
    else:
        yield from xvlm_steps(model, io)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference over the largest value; infinite where shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    difference = (ours.detach().double() - theirs.double()).abs().max()
    return float(difference / theirs.double().abs().max().clamp(min=1e-12))


def check(folder: Path) -> tuple[dict[str, float], list[str]]:
    """Compare everything that a folder records: errors by name, and the names past their tolerance."""
    errors = {name: relative_error(ours, theirs) for name, ours, theirs in comparisons(folder)}
    failed = [n for n, e in errors.items() if not e <= (GRADIENT_TOLERANCE if ".grad." in n else TOLERANCE)]
    return errors, failed


def main(arguments: list[str] | None = None) -> int:
    """Check the folders on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a golden folder, or a folder of golden folders")
    given = parser.parse_args(arguments).folder
    folders = [given] if (given / "config.json").is_file() else sorted(p.parent for p in given.glob("*/config.json"))
    if not folders:
        parser.error(f"no config.json in {given} or in a folder of it")
    bad = 0
    for folder in folders:
        errors, failed = check(folder)
        print(f"{folder.name}: {len(errors)} quantities, {len(failed)} past tolerance")
        for name, error in errors.items():
            print(f"  {error:9.2e}  {'FAIL' if name in failed else 'ok  '}  {name}")
        bad += len(failed)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
