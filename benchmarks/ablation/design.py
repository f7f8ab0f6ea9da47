"""What an ablation trains: runs that differ in named factors, and four presets of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

ROOT = Path(__file__).parents[2]
"""The checkout."""
_FOILED = ("+NegCLIP", "+TSVLC", "+CE-CLIP", "+FSC-CLIP", "+SGVL", "+MultiPositive", "+both+units", "+both+foils")
COMPARED = ("baseline", "+VSG", "+both", *_FOILED)
"""The arms of the preset on newer objectives, which `objectives.py` spells out."""
_OF_EQUAL_COMPUTE = ("baseline", "+VSG", "+SGVL", "+both+foils")
"""Of these arms, those trained at equal compute too: without foils, and with foils that reach the matching head."""
ARMS: dict[str, tuple[str, ...]] = {"baseline": (), "+VSG": ("vsg",), "+MRC": ("mrc",), "+both": ("vsg", "mrc")}
"""The arms, and the relation objectives that each trains."""
BACKBONES = {"ALBEF": "ALBEF", "X-VLM": "XVLM"}
"""The backbones, and their classes. X-VLM has VMA and BOX on the boxes of the annotated images, ALBEF has neither."""

World = Literal["main", "long"]
Budget = Literal["steps", "compute"]
Way = Literal["itm", "itc"]
"""Scores of a model: of its matching head, or cosines of its embeddings."""
Graphs = Literal["human", "parsed", "tagged", "mixed", "noise-0.1", "noise-0.3"]
"""Where the graphs of the annotated images come from: `graphs.py` makes all but the true ones, of a human."""


@dataclass(frozen=True)
class Run:
    """One training run. The defaults of the factors are those of the main comparison."""

    backbone: str  # of `BACKBONES`
    arm: str  # of `ARMS`, or of `COMPARED`
    seed: int  # of the generated world, the initial weights and the order of the data
    share: float = 0.05  # of the images that are annotated: boxes for X-VLM, graphs for VSG and MRC
    max_relations: int = 8  # triplets in a text of VSG, K
    sort: bool = True  # whether these are sorted
    masked: bool = True  # whether MRC masks everything outside an entity's box
    mixture: str = "2:3"  # steps on captions to steps on graphs
    budget: Budget = "steps"  # "compute": it trains as long as +both computes
    world: World = "main"  # "long": scenes of more relations, whose texts are long
    graphs: Graphs = "human"
    fusion: Literal["late", "gated"] = "late"  # whether texts and images meet before the last blocks of the ViT

    @property
    def name(self) -> str:
        """A name for its folder, made of the factors that differ from the main comparison."""
        changed = [f"{k}-{getattr(self, k)}".replace(":", "to") for k, v in MAIN.items() if getattr(self, k) != v]
        return "_".join([self.backbone.lower(), self.arm.removeprefix("+").lower(), *changed, f"seed-{self.seed}"])

    @property
    def rivals(self) -> tuple[Run, Run]:
        """Of an arm of equal compute: the run whose compute it gets, and the one that tells what a step costs."""
        return replace(self, arm="+both", budget="steps"), replace(self, budget="steps")

    def has(self, **factors: Any) -> bool:
        """Whether it has these factors, and otherwise those of the main comparison."""
        return all(getattr(self, name) == value for name, value in {**MAIN, **factors}.items())


MAIN: dict[str, Any] = {f.name: f.default for f in fields(Run) if f.default is not MISSING}
"""The factors of the main comparison."""


@dataclass(frozen=True)
class Preset:
    """A set of runs with all that they share."""

    name: str
    recipe: Path  # of X-VLM with both objectives; `recipe.recipe_of` derives the others
    worlds: Mapping[World, Mapping[str, Any]]  # arguments of `relpretrain.synthetic.generate`
    steps: Mapping[World, int]  # of a run in each world
    runs: tuple[Run, ...]
    processes: int  # runs side by side
    settings: Mapping[str, Any] = field(default_factory=dict)  # replace those of the recipe, by dotted paths
    looks: bool = True  # whether runs are scored while they train
    ways: tuple[Way, ...] = ("itm",)  # by which scores of a model every probe is asked
    half_truths: bool = False  # whether they are asked for


GRAPH_SHARE = 0.02
"""Of the images that are annotated in the preset on where graphs come from."""
OBJECTIVE_SHARE = 0.2
"""Likewise in the preset on newer objectives."""
_CORPUS = {"images_validation": 60, "one_corpus": True, "alike": 2}
_TEXTS = {"mutual": True, "omitted_relations": 0.6, "relational_captions": 0.2, "relational_sentences": 1.0}
_PROBES = {"hold_out_pairs": 0.1, "hold_out_combinations": 0.1, "items_vsr": 600, "items_valse": 300, "items_svo": 200}
_LONG = {"alike": 1, "mirrored": 0.0, "omitted_relations": 0.3, "hold_out_pairs": 0.0, "hold_out_combinations": 0.0}
"""The world of long texts: what things there are tells most images apart, so that matching is soon learned."""
_COLORS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "black", "pink", "brown", "navy", "teal")
"""All but white, faint on a bright ground, and lime, near yellow: seeing colours must not be the bottleneck."""


def cpu(seeds: tuple[int, ...] = (160, 161, 162, 163)) -> Preset:
    """Pairs of coloured squares at 32 pixels, on two cores.

    Its claims of equal compute and of fewer graphs, and its questions, are of the first three seeds.
    """
    world = {
        **{"images_captions": 40_000, "images_regions": 0, "images_graphs": 2_000, **_CORPUS},
        **{"mirrored": 1.0, "shard_size": 200, "colors": _COLORS, **_TEXTS, **_PROBES, "items_retrieval": 200},
    }
    long = {**world, **_LONG, "objects": (2, 3), "items_paragraphs": 100}
    first = seeds[:3]
    runs = [
        *_arms(seeds),
        *(Run("ALBEF", "baseline", seed, budget="compute") for seed in first),
        *(Run("ALBEF", "+both", seed, share=0.01) for seed in first),
        *(Run("ALBEF", "baseline", seed, world="long") for seed in first),
        *(Run("ALBEF", "+VSG", seed, world="long", max_relations=k) for k in (3, 8) for seed in first),
    ]
    recipe = ROOT / "recipes" / "ablation_cpu.yaml"
    return Preset("cpu", recipe, {"main": world, "long": long}, {"main": 1600, "long": 600}, tuple(runs), 2)


def gpu(seeds: tuple[int, ...] = (200, 201, 202, 203, 204)) -> Preset:
    """Three to six of 24 kinds of things at 64 pixels, on one large GPU and sixteen cores.

    Its claims are of all seeds, its questions of the first three.
    """
    world = {
        **{"image_size": 64, "images_captions": 60_000, "images_regions": 0, "images_graphs": 12_000, **_CORPUS},
        **{"mirrored": 0.5, "shard_size": 300, "objects": (3, 6), "shapes": ("square", "circle", "triangle", "cross")},
        **{"clutter": 6, "occlusion": 0.1, **_TEXTS, **_PROBES, "items_retrieval": 500},
    }
    long = {**world, **_LONG, "items_paragraphs": 500}
    shares: tuple[dict[str, Any], ...] = ({"share": 0.005}, {"share": 0.2})
    factors: tuple[dict[str, Any], ...] = (*shares, {"masked": False}, {"mixture": "1:1"}, {"mixture": "3:1"})
    texts: tuple[dict[str, Any], ...] = ({"max_relations": 3}, {}, {"max_relations": 16}, {"sort": False})
    first = seeds[:3]
    runs = [
        *_arms(seeds),
        *(Run(backbone, "baseline", seed, budget="compute") for seed in seeds for backbone in BACKBONES),
        *(Run(backbone, "+both", seed, share=0.01) for seed in seeds for backbone in BACKBONES),
        *(Run("ALBEF", "+both", seed, **factor) for factor in factors for seed in first),
        *(Run("ALBEF", "baseline", seed, world="long") for seed in first),
        *(Run("ALBEF", "+VSG", seed, world="long", **factor) for factor in texts for seed in first),
    ]
    recipe = ROOT / "recipes" / "ablation_gpu.yaml"
    return Preset("gpu", recipe, {"main": world, "long": long}, {"main": 2500, "long": 2500}, tuple(runs), 14)


def _arms(seeds: tuple[int, ...]) -> list[Run]:
    """The four arms, seed by seed: all seeds train what the claims compare, three VSG alone.

    MRC alone has two: it trains no matching, and has stayed at chance with every seed.
    """
    trained = {"baseline": seeds, "+VSG": seeds[:3], "+MRC": seeds[:2], "+both": seeds}
    return [Run(backbone, arm, s) for s in seeds for backbone in BACKBONES for arm in ARMS if s in trained[arm]]


def graphs(seeds: tuple[int, ...] = (170, 171, 172)) -> Preset:
    """Where graphs come from, at equal numbers of images, on two cores: people, a parser, a tagger.

    Two images in a hundred have a graph, of one triplet. Mixed graphs are those of a human for the first half of these,
    and of the tagger for the second. The tagger is trained and calibrated on the world's other images with graphs. One
    arm more has human graphs and gated fusion.
    """
    world = {
        **{"images_captions": 20_000, "images_regions": 0, "images_graphs": 800, **_CORPUS},
        **{"mirrored": 1.0, "shard_size": 200, "colors": _COLORS, "shapes": ("circle",), **_TEXTS, **_PROBES},
        **{"omitted_relations": 1.0, "items_retrieval": 200},
    }
    runs = [
        *(Run("ALBEF", "baseline", seed) for seed in seeds),
        *(
            Run("ALBEF", "+both", seed, share=GRAPH_SHARE, graphs=source)
            for seed in seeds
            for source in get_args(Graphs)
        ),
        *(Run("ALBEF", "+both", seed, share=GRAPH_SHARE, fusion="gated") for seed in seeds),
    ]
    return Preset("graphs", ROOT / "recipes" / "ablation_cpu.yaml", {"main": world}, {"main": 1000}, tuple(runs), 2)


def objectives(seeds: tuple[int, ...] = (190, 191, 192)) -> Preset:
    """What newer objectives make of the same texts of graphs, on two cores: at equal steps and at equal compute.

    Ten kinds of things differ in colour and shape, so that attributes can be exchanged. X-VLM, and equal compute, have
    the first two seeds.
    """
    world = {
        **{"images_captions": 8_000, "images_regions": 0, "images_graphs": 1_600, **_CORPUS, "images_validation": 200},
        **{"mirrored": 1.0, "shard_size": 200, "colors": _COLORS[:5], "shapes": ("square", "circle"), **_TEXTS},
        **{**_PROBES, "items_vsr": 300, "items_valse": 200, "items_svo": 0, "items_hard_positives": 200},
        **{"items_attribution": 200, "items_retrieval": 200},
    }
    first, share = seeds[:2], OBJECTIVE_SHARE
    runs = [
        *(Run("ALBEF", arm, seed, share=share) for seed in seeds for arm in COMPARED),
        *(Run("X-VLM", arm, seed, share=share) for seed in first for arm in COMPARED),
        *(Run("ALBEF", arm, seed, share=share, budget="compute") for seed in first for arm in _OF_EQUAL_COMPUTE),
    ]
    recipe = ROOT / "recipes" / "ablation_cpu.yaml"
    asked: dict[str, Any] = {"looks": False, "ways": ("itm", "itc"), "half_truths": True}
    return Preset("objectives", recipe, {"main": world}, {"main": 1000}, tuple(runs), 2, **asked)


PRESETS = {"cpu": cpu, "gpu": gpu, "graphs": graphs, "objectives": objectives}
