import itertools
import math
from dataclasses import replace
from typing import get_args

import pytest
import yaml

from benchmarks.ablation.design import ARMS, BACKBONES, GRAPH_SHARE, PRESETS, Graphs, Run
from benchmarks.ablation.studies import claims
from relpretrain.synthetic.render import COLORS, GROUNDS
from relpretrain.synthetic.world import World

EVERY = pytest.mark.parametrize("preset", [pytest.param(make(), id=name) for name, make in PRESETS.items()])

CLAIMING = pytest.mark.parametrize("preset", [pytest.param(PRESETS[name](), id=name) for name in ("cpu", "gpu")])


def test_a_name_tells_what_differs():
    assert Run("X-VLM", "+both", 3).name == "x-vlm_both_seed-3"
    assert Run("ALBEF", "baseline", 3, budget="compute").name == "albef_baseline_budget-compute_seed-3"
    assert Run("ALBEF", "+VSG", 3, share=0.01, mixture="1:4").name == "albef_vsg_share-0.01_mixture-1to4_seed-3"
    assert Run("ALBEF", "+both", 3, share=0.02, graphs="parsed").name == "albef_both_share-0.02_graphs-parsed_seed-3"


def test_rivals_of_equal_compute_are_the_treatment_and_the_short_baseline():
    run = Run("ALBEF", "baseline", 3, budget="compute", world="long")
    assert run.rivals == (Run("ALBEF", "+both", 3, world="long"), Run("ALBEF", "baseline", 3, world="long"))


@EVERY
def test_runs_of_a_preset_have_names_of_their_own_and_rivals(preset):
    names = [run.name for run in preset.runs]
    assert len(set(names)) == len(names)
    for run in preset.runs:
        assert run.world in preset.worlds
        assert run.world in preset.steps
        if run.budget == "compute":
            assert set(run.rivals) <= set(preset.runs)


@CLAIMING
def test_every_arm_is_trained_on_both_backbones_and_those_of_the_claims_with_every_seed(preset):
    seeds = {run.seed for run in preset.runs}
    for backbone, arm in itertools.product(BACKBONES, ARMS):
        trained = {run.seed for run in preset.runs if run.has(backbone=backbone, arm=arm)}
        assert trained == seeds if arm in ("baseline", "+both") else len(trained) >= 2
    assert len(claims(preset)) == {"cpu": 8, "gpu": 10}[preset.name]
    for side in (side for claim in claims(preset) for side in (claim.treatment, claim.control)):
        assert sum(run.has(**side) for run in preset.runs) >= 3


@EVERY
def test_images_that_are_alike_stay_together_and_stand_otherwise(preset):
    stream = yaml.safe_load(preset.recipe.read_text())["data"]["streams"]["graphs"]
    assert preset.worlds["main"]["alike"] == stream["neighbours"]
    assert stream["flip"] == 0  # of one of two images, it would make them alike again


@EVERY
def test_things_stand_out_from_each_other_and_from_the_ground(preset):
    colors = [COLORS[name] for name in preset.worlds["main"].get("colors", World.colors)]
    grounds = [(shade, shade, shade) for shade in GROUNDS]
    near = [*itertools.combinations(colors, 2), *itertools.product(colors, grounds)]
    assert min(math.dist(one, other) for one, other in near) > 60


def test_sources_of_graphs_differ_in_nothing_else():
    preset = PRESETS["graphs"]()
    for seed in {run.seed for run in preset.runs}:
        runs = [run for run in preset.runs if run.seed == seed and run.arm == "+both" and run.fusion == "late"]
        assert {run.graphs for run in runs} == set(get_args(Graphs))
        assert len({replace(run, graphs="human") for run in runs}) == 1
    world = preset.worlds["main"]
    annotated = GRAPH_SHARE * world["images_captions"]
    assert world["images_graphs"] - annotated >= 2 * world["shard_size"]  # for the tagger and its calibration
    assert annotated / 2 % world["shard_size"] == 0  # half of the shards are one source's, half another's
