"""The presets: what is trained on a CPU in about an hour, what on one GPU, and what it is to show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relpretrain.evidence.claims import Claim
from relpretrain.evidence.design import ARMS, BACKBONES, Preset, Run
from relpretrain.evidence.probes import HELD_OUT, TEXT_RETRIEVAL, VSR_HELD_OUT, Measure
from relpretrain.evidence.results import MAIN

RECIPES = Path(__file__).parents[2] / "recipes"


_COLORS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "black", "pink", "brown", "navy", "teal")
"""All but white, faint on a bright ground, and lime, near yellow: seeing colours must not be the bottleneck."""
_LONG = {"alike": 1, "mirrored": 0.0, "omitted_relations": 0.3, "hold_out_pairs": 0.0, "hold_out_combinations": 0.0}
"""The world of long texts: what things there are tells most images apart, so that matching is soon learned."""


def cpu(seeds: tuple[int, ...] = (160, 161, 162, 163)) -> Preset:
    """Pairs of coloured squares at 32 pixels, on two cores.

    Its claims of equal compute and of fewer graphs, and its questions, are of the first three seeds.
    """
    first = seeds[:3]
    world: dict[str, Any] = {
        "images_captions": 40_000,
        "images_regions": 0,
        "images_graphs": 2_000,
        "images_validation": 60,
        "one_corpus": True,
        "alike": 2,
        "mirrored": 1.0,
        "shard_size": 200,
        "colors": _COLORS,
        "mutual": True,
        "omitted_relations": 0.6,
        "relational_captions": 0.2,
        "relational_sentences": 1.0,
        "hold_out_pairs": 0.1,
        "hold_out_combinations": 0.1,
        "items_vsr": 600,
        "items_valse": 300,
        "items_svo": 200,
        "items_retrieval": 200,
    }
    long = {**world, **_LONG, "objects": (2, 3), "items_paragraphs": 100}
    runs = [
        *_arms(seeds),
        *(Run("ALBEF", "baseline", seed, budget="compute") for seed in first),
        *(Run("ALBEF", "+both", seed, share=0.01) for seed in first),
        *(Run("ALBEF", "baseline", seed, world="long") for seed in first),
        *(Run("ALBEF", "+VSG", seed, world="long", max_relations=k) for k in (3, 8) for seed in first),
    ]
    recipe = RECIPES / "ablation_cpu.yaml"
    return Preset("cpu", recipe, {"main": world, "long": long}, {"main": 1600, "long": 600}, tuple(runs), 2)


def gpu(seeds: tuple[int, ...] = (200, 201, 202, 203, 204)) -> Preset:
    """Three to six of 24 kinds of things at 64 pixels, on one large GPU and sixteen cores.

    Its claims are of all seeds, its questions of the first three.
    """
    first = seeds[:3]
    world: dict[str, Any] = {
        "image_size": 64,
        "images_captions": 60_000,
        "images_regions": 0,
        "images_graphs": 12_000,
        "images_validation": 60,
        "one_corpus": True,
        "alike": 2,
        "mirrored": 0.5,
        "shard_size": 300,
        "objects": (3, 6),
        "shapes": ("square", "circle", "triangle", "cross"),
        "clutter": 6,
        "occlusion": 0.1,
        "mutual": True,
        "omitted_relations": 0.6,
        "relational_captions": 0.2,
        "relational_sentences": 1.0,
        "hold_out_pairs": 0.1,
        "hold_out_combinations": 0.1,
        "items_vsr": 600,
        "items_valse": 300,
        "items_svo": 200,
        "items_retrieval": 500,
    }
    long = {**world, **_LONG, "items_paragraphs": 500}
    factors: tuple[dict[str, Any], ...] = (
        *({"share": share} for share in (0.005, 0.2)),
        {"masked": False},
        *({"mixture": mixture} for mixture in ("1:1", "3:1")),
    )
    texts: tuple[dict[str, Any], ...] = ({"max_relations": 3}, {}, {"max_relations": 16}, {"sort": False})
    runs = [
        *_arms(seeds),
        *(Run(backbone, "baseline", seed, budget="compute") for seed in seeds for backbone in BACKBONES),
        *(Run(backbone, "+both", seed, share=0.01) for seed in seeds for backbone in BACKBONES),
        *(Run("ALBEF", "+both", seed, **factor) for factor in factors for seed in first),
        *(Run("ALBEF", "baseline", seed, world="long") for seed in first),
        *(Run("ALBEF", "+VSG", seed, world="long", **factor) for factor in texts for seed in first),
    ]
    recipe = RECIPES / "ablation_gpu.yaml"
    return Preset("gpu", recipe, {"main": world, "long": long}, {"main": 2500, "long": 2500}, tuple(runs), 14)


def _arms(seeds: tuple[int, ...]) -> Iterator[Run]:
    """The four arms, seed by seed: all seeds train what the claims compare, three VSG alone.

    MRC alone has two: it trains no matching, and has stayed at chance with every seed.
    """
    trained = {"baseline": seeds, "+VSG": seeds[:3], "+MRC": seeds[:2], "+both": seeds}
    order = ((seed, backbone, arm) for seed in seeds for backbone in BACKBONES for arm in ARMS)
    return (Run(backbone, arm, seed) for seed, backbone, arm in order if seed in trained[arm])


PRESETS = {"cpu": cpu, "gpu": gpu}


def claims(preset: Preset) -> list[Claim]:
    """What a preset is to show, for each backbone, as far as its runs go."""
    found: list[Claim] = []
    for backbone in BACKBONES:
        both = {"backbone": backbone, "arm": "+both"}
        baseline = {"backbone": backbone, "arm": "baseline"}
        longer, fewer = {**baseline, "budget": "compute"}, {**both, "share": 0.01}
        wanted: tuple[tuple[str, Measure, float, dict[str, Any], dict[str, Any]], ...] = (
            ("VSG and MRC", HELD_OUT, 0.3, both, baseline),
            ("likewise, the baseline with equal compute", HELD_OUT, 0.3, both, longer),
            ("with graphs on 1 % of the images", HELD_OUT, 0.1, fewer, baseline),
            ("VSG and MRC", VSR_HELD_OUT, 0.08, both, baseline),
            ("not lower by more than 1 point", TEXT_RETRIEVAL, -0.01, both, baseline),
        )
        for words, measure, least, treatment, control in wanted:
            if all(any(_is(run, side) for run in preset.runs) for side in (treatment, control)):
                text = f"{backbone}, {words}: {measure.title}"
                found.append(Claim(text, measure.probes, measure.metric, treatment, control, least))
    return found


def _is(run: Run, wanted: Mapping[str, Any]) -> bool:
    return all(getattr(run, name) == value for name, value in {**MAIN, **wanted}.items())
