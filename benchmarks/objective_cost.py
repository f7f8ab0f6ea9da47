"""What an objective adds to a step: multiplications of an image, counted on a base model without computing anything.

    python benchmarks/objective_cost.py

The step is ALBEF's on captions (ITC, ITM, MLM, with a momentum teacher), 256 pixels and texts of 25 tokens.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from relpretrain.backbones import ALBEF
from relpretrain.features import Features
from relpretrain.objectives import ITC, ITM, MLM, MultiPositive, Objective, RelationUnits, TextFoil
from relpretrain.objectives.text_foil import PRESETS
from relpretrain.types import CaptionBatch, Foils, Pairs, TextBatch, Units

IMAGES, TOKENS, SIDE, WORDS = 8, 25, 256, 30522


def texts(n: int) -> TextBatch:
    """Texts of equal length with a quarter of their words masked."""
    ids = torch.full((n, TOKENS), 9)
    labels = torch.full((n, TOKENS), -100)
    labels[:, 1:7] = 9
    return TextBatch(ids, torch.ones(n, TOKENS, dtype=torch.bool), ids.clone(), labels).located()


def batch(foils: int = 0, units: int = 0, mirrored: int = 0) -> CaptionBatch:
    """Captions with so many foils of each, so many units of each image with a foil, and so many mirror images."""
    once = torch.arange(IMAGES + mirrored)

    def false(pairs: Pairs, each: int) -> Foils:
        of = torch.arange(len(pairs)).repeat_interleave(each)
        slot = torch.arange(each).repeat(len(pairs))
        keys = torch.arange(len(of)) + 10_000
        return Foils(Pairs(texts(len(of)), pairs.image_index[of], keys), of, slot, slot * 0, max(1, each))

    pairs = Pairs(texts(len(once)), once, once)
    many = once.repeat_interleave(units)
    own = Pairs(texts(len(many)), many, torch.arange(len(many)) + 1000)
    return CaptionBatch(
        images=torch.zeros(len(once), 3, SIDE, SIDE),
        image_ids=once,
        pairs=pairs,
        foils=false(pairs, foils) if foils else None,
        units=Units(own, torch.arange(units).repeat(len(once)), false(own, 1)) if units else None,
    )


def flops(model: nn.Module, mode: FakeTensorMode, objectives: Sequence[Objective], of: CaptionBatch) -> float:
    """Multiplications and additions of an image's step, forward and backward, in units of 10^9."""
    assert isinstance(model, ALBEF)
    with mode:
        for objective in objectives:
            objective.attach(model)
            _forget_values(objective, mode)
        moved = of._map(mode.from_tensor)
        wanted = [pairs for objective in objectives for pairs in objective.views(moved)]
        features = Features(model, moved, wanted, teacher=model.teacher)  # type: ignore[arg-type]
        with FlopCounterMode(display=False) as counter:
            torch.stack([objective(features).loss for objective in objectives]).sum().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops()) / IMAGES / 1e9


def _forget_values(module: nn.Module, mode: FakeTensorMode) -> None:
    """Replace parameters and buffers by fake ones: they have shapes, and cost nothing to multiply."""
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if not isinstance(parameter, FakeTensor):
                faked = mode.from_tensor(parameter.detach())
                owner._parameters[name] = nn.Parameter(faked, parameter.requires_grad)
        for name, buffer in owner.named_buffers(recurse=False):
            owner._buffers[name] = buffer if isinstance(buffer, FakeTensor) else mode.from_tensor(buffer)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args(arguments)
    mode, model = FakeTensorMode(), ALBEF("base", image_size=SIDE, vocab_size=WORDS, momentum=0.995, queue_size=0)
    _forget_values(model, mode)
    plain: list[Objective] = [ITC(), ITM(), MLM()]

    def cost(objectives: Sequence[Objective], **more: int) -> float:
        return flops(model, mode, objectives, batch(**more))

    base = cost(plain)
    rows: list[tuple[str, int, float]] = [("ITC, ITM, MLM", 0, base)]
    for name in PRESETS:
        foil = TextFoil.from_preset(name)
        own = [o for o in plain if not (isinstance(o, ITC) and "itc_columns" in foil.sites)]
        rows.append((f"TextFoil {name}", foil.foils_per_text, cost([*own, foil], foils=foil.foils_per_text)))
    rows.append(("RelationUnits, by contrast", 4, cost([*plain, RelationUnits(itm=0.0)], units=2)))
    rows.append(("RelationUnits", 4, cost([*plain, RelationUnits()], units=2)))
    rows.append(("MultiPositive", 6, cost([*plain, MultiPositive()], units=3)))
    rows.append(("ITC, ITM, MLM, 1/4 mirrored", 0, cost(plain, mirrored=IMAGES // 4)))
    print(f"{'objectives':<30}{'texts':>7}{'GFLOP':>9}{'of the step':>13}")
    for name, number, found in rows:
        print(f"{name:<30}{number:>7}{found:>9.1f}{found / base - 1:>+13.1%}")
    if options.json:
        found_rows = [{"objectives": n, "texts": t, "gflop": f, "extra": f / base - 1} for n, t, f in rows]
        options.json.write_text(json.dumps(found_rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
