"""The presets: what is trained on a CPU within the hour, what on one GPU, and what it is to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relpretrain.evidence.claims import Claim
from relpretrain.evidence.design import ARMS, BACKBONES, Preset, Run
from relpretrain.evidence.probes import HELD_OUT, TEXT_RETRIEVAL, VSR_HELD_OUT, Measure

RECIPES = Path(__file__).parents[2] / "recipes"


def cpu(seeds: tuple[int, ...] = (100, 101, 102)) -> Preset:
    """Pairs of coloured squares at 32 pixels, on two cores."""
    pairs: dict[str, Any] = {
        "images_captions": 20_000,
        "images_regions": 0,
        "images_graphs": 4_000,
        "images_validation": 60,
        "one_corpus": True,
        "shard_size": 100,
        "hold_out_pairs": 0.2,
        "hold_out_combinations": 0.2,
        "items_vsr": 600,
        "items_valse": 300,
        "items_svo": 200,
        "items_retrieval": 200,
    }
    scenes = {**pairs, "objects": 4, "mutual": True, "items_paragraphs": 100}
    main = [Run(backbone, arm, seed) for seed in seeds for backbone in BACKBONES for arm in ARMS]
    longer = [Run(backbone, "baseline", seed, budget="compute") for seed in seeds for backbone in BACKBONES]
    fewer = [Run(backbone, "+both", seed, share=0.01) for seed in seeds for backbone in BACKBONES]
    questions = [
        Run("ALBEF", "+both", seed, **factor)
        for seed in seeds
        for factor in ({"share": 0.005}, {"share": 0.2}, {"masked": False}, {"mixture": "1:1"})
    ]
    texts = [Run("ALBEF", "baseline", seed, world="long") for seed in seeds] + [
        Run("ALBEF", "+VSG", seed, world="long", **factor)
        for seed in seeds
        for factor in ({"max_relations": 3}, {}, {"max_relations": 16}, {"sort": False})
    ]
    return Preset(
        "cpu",
        RECIPES / "ablation_cpu.yaml",
        {"main": pairs, "long": scenes},
        {"main": 1000, "long": 1000},
        tuple([*main, *longer, *fewer, *questions, *texts]),
        2,
    )


PRESETS = {"cpu": cpu}


def claims(preset: Preset) -> list[Claim]:
    """What a preset is to show, for each backbone that it trains."""
    found: list[Claim] = []
    for backbone in dict.fromkeys(run.backbone for run in preset.runs):
        both = {"backbone": backbone, "arm": "+both"}
        baseline = {"backbone": backbone, "arm": "baseline"}
        longer = {**baseline, "budget": "compute"}

        def claim(text: str, measure: Measure, least: float, treatment: Any, control: Any, of: str = backbone) -> None:
            found.append(Claim(f"{of}: {text}", measure.probes, measure.metric, treatment, control, least))

        claim(f"VSG and MRC, {HELD_OUT.title}", HELD_OUT, 0.3, both, baseline)
        claim(f"likewise, the baseline with equal compute, {HELD_OUT.title}", HELD_OUT, 0.3, both, longer)
        claim(f"with graphs on 1 % of the images, {HELD_OUT.title}", HELD_OUT, 0.1, {**both, "share": 0.01}, baseline)
        claim(f"VSG and MRC, {VSR_HELD_OUT.title}", VSR_HELD_OUT, 0.08, both, baseline)
        claim(f"{TEXT_RETRIEVAL.title} not lower by more than 1 point", TEXT_RETRIEVAL, -0.01, both, baseline)
    return found
