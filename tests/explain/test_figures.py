"""Figures of maps against boxes, their baselines and intervals."""

import math

import pytest
import torch

from relpretrain.explain.figures import FIGURES, Look, Maps, centre_map, measure, summarise
from relpretrain.explain.sanity import agreement, random_top
from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph
from relpretrain.zeroshot.analysis.means import mean_interval
from relpretrain.zeroshot.analysis.statistics import compare_paired, share_interval

SIZE = (80, 80)
GRAPH = SceneGraph(
    (Entity("red", Box(0, 0, 20, 20)), Entity("blue", Box(60, 60, 80, 80)), Entity("wall", Box(0, 0, 80, 80))),
    (Relation(0, "left of", 1),),
)


def at(*places):
    found = torch.zeros(4, 4)
    for place in places:
        found[place] = 1.0
    return found


def values(maps, shuffled=None):
    return {look.figure: look.values for look in measure(maps, shuffled, GRAPH, GRAPH.relations[0], SIZE, "i")}


def test_perfect_maps_and_exchanged_ones():
    right = values(Maps(at((0, 0)), at((0, 0), (3, 3)), at((3, 3))))
    assert {name: own["model"] for name, own in right.items()} == dict.fromkeys(FIGURES, pytest.approx(1.0, abs=1e-6))
    wrong = values(Maps(at((3, 3)), at((1, 2)), at((0, 0))), Maps(at((0, 0)), at((0, 0)), at((0, 0))))
    assert {own["model"] for name, own in wrong.items() if name != "apart"} == {0.0}
    assert wrong["apart"]["model"] == pytest.approx(-1.0)
    assert wrong["subject: energy"]["shuffled"] == 1
    assert wrong["apart"]["shuffled"] == pytest.approx(0.0)  # equal maps of both words tell nothing apart


def test_baselines_are_known():
    found = values(Maps(*[at((0, 0))] * 3))
    assert found["subject: energy"]["uniform"] == pytest.approx(1 / 16)
    assert found["predicate: energy"]["uniform"] == pytest.approx(2 / 16)
    assert found["subject: points"]["uniform"] == pytest.approx(1 / 16)
    assert found["subject: box"]["uniform"] == 0  # the largest box
    assert found["apart"]["uniform"] == found["apart"]["centre"] == 0
    assert found["subject: points"]["centre"] == 0
    assert "shuffled" not in found["apart"]
    middle = centre_map((4, 4))
    assert middle[1, 1] == middle[2, 2] > middle[0, 1] > middle[0, 0] > 0
    assert middle[1, 1] == pytest.approx(math.exp(-0.5 * (0.125 / 0.25) ** 2) ** 2)


def test_a_map_of_zeros_finds_nothing():
    found = values(Maps(*[torch.zeros(4, 4)] * 3))
    assert {own["model"] for own in found.values()} == {0.0}


def test_a_thing_without_a_box_is_told():
    graph = SceneGraph((Entity("red", Box(0, 0, 2, 2)), Entity("sky")), (Relation(0, "under", 1),))
    with pytest.raises(ValueError, match="'sky' has no box"):
        measure(Maps(*[at((0, 0))] * 3), None, graph, graph.relations[0], SIZE, "i")


def test_means_have_intervals_by_image():
    looks = [Look(f"{i // 2}", "apart", {"model": v, "uniform": 0.0, "centre": 0.1, "shuffled": v / 2})
             for i, v in enumerate([0.2, 0.4, 0.6, 0.1])]  # fmt: skip
    looks.append(Look("9", "apart", {"model": 0.3, "uniform": 0.0, "centre": 0.1}))
    (figure,) = summarise(looks)
    assert (figure.name, figure.n, figure.images) == ("apart", 5, 3)
    assert figure.model.value == pytest.approx(0.32)
    assert figure.model.low < 0.32 < figure.model.high
    assert figure.baselines == pytest.approx({"uniform": 0.0, "centre": 0.1, "shuffled": 0.1625})
    assert figure.gain.value == pytest.approx(0.1625)  # of the four that have both
    plain = figure.to_dict()
    assert plain["model"]["interval"] == [figure.model.low, figure.model.high]
    alone = summarise(looks[-1:])[0].to_dict()
    assert alone["model"] == {"value": 0.3}
    assert alone["more than shuffled"] == {}


def test_shares_have_the_intervals_of_shares():
    right, other, images = [1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], "aabc"
    looks = [Look(i, "subject: box", {"model": m, "uniform": 0.0, "centre": 0.0, "shuffled": s})
             for m, s, i in zip(right, other, images, strict=True)]  # fmt: skip
    (figure,) = summarise(looks)
    assert figure.model == share_interval(right, images)
    paired = compare_paired(other, right, clusters=images)
    assert figure.gain == (paired.difference, paired.low, paired.high) == pytest.approx((0.5, paired.low, paired.high))


def test_intervals_of_means():
    from scipy.stats import t, ttest_1samp

    numbers = [0.1, 0.5, 0.3, 0.8]
    low, high = ttest_1samp(numbers, 0).confidence_interval(0.95)
    assert mean_interval(numbers) == pytest.approx((0.425, low, high))
    # Numbers of one image that are all alike count as one.
    doubled = mean_interval([x for x in numbers for _ in range(2)], [i for i in range(4) for _ in range(2)])
    assert doubled == pytest.approx((0.425, low, high))
    assert mean_interval([0.5, 0.7], "aa")[0] == pytest.approx(0.6)
    assert math.isnan(mean_interval([0.5, 0.7], "aa").low)
    assert all(map(math.isnan, mean_interval([])))
    assert t.ppf(0.975, 3) > 3
    with pytest.raises(ValueError, match="finite numbers"):
        mean_interval([0.5, math.nan])
    with pytest.raises(ValueError, match="Each of 2 items needs its image; got 1"):
        mean_interval([0.5, 0.6], "a")


def test_a_random_top_layer_changes_maps(loaded, picture):
    before = {name: value.clone() for name, value in loaded.backbone.state_dict().items()}
    texts = ["a red square left of a blue square", "the dog"]
    same = agreement(loaded, picture, texts)
    assert max(same) < 0.99
    assert same == agreement(loaded, picture, texts)
    assert same != agreement(loaded, picture, texts, seed=1)
    for name, value in loaded.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    own = loaded.backbone.fusion.layers[-1]
    state = torch.get_rng_state()
    with random_top(loaded.backbone):
        assert loaded.backbone.fusion.layers[-1] is not own
    assert loaded.backbone.fusion.layers[-1] is own
    assert torch.equal(state, torch.get_rng_state())
