import pytest

from relpretrain.evidence.claims import HEADER, Claim, judge
from relpretrain.evidence.design import Run
from relpretrain.evidence.results import Figure

CONTROL, TREATMENT = {"backbone": "ALBEF", "arm": "baseline"}, {"backbone": "ALBEF", "arm": "+both"}


def claim(at_least):
    return Claim("It helps", ("p", "q"), "accuracy", TREATMENT, CONTROL, at_least)


def figures(baseline, both, share=Run.share):
    """Two probes, 10 points below and above the value, of each seed from 0 on."""
    return [
        Figure(Run("ALBEF", arm, seed, share=share), 10, 1.0, 1.0, probe, "accuracy", value + away, 100)
        for arm, values in (("baseline", baseline), ("+both", both))
        for seed, value in enumerate(values)
        for probe, away in (("p", -0.1), ("q", 0.1))
    ]


# differences 0.3, 0.2, 0.4: mean 0.3, standard error 0.0577350, times 4.3026527 = 0.2484
WIDE = figures([0.5, 0.5, 0.5], [0.8, 0.7, 0.9])


@pytest.mark.parametrize(
    ("at_least", "held", "words"),
    [
        (0.3, True, "yes"),
        (0.301, False, "**no**: too small"),
        (-0.01, True, "yes"),
    ],
)
def test_a_claim_is_held_by_its_mean(at_least, held, words):
    verdict = judge(claim(at_least), WIDE)
    assert verdict.is_held is held
    assert verdict.row[4] == words
    assert verdict.row[:3] == ["It helps", "**+30.0** (50.0 → 80.0)", "+5.2 to +54.8"]
    assert len(verdict.row) == len(HEADER)


def test_a_gain_needs_an_interval_above_0():
    verdict = judge(claim(0.1), figures([0.5, 0.5, 0.5], [0.6, 0.8, 0.5]))
    assert verdict.difference.mean > 0.1
    assert not verdict.is_held
    assert verdict.row[4] == "**no**: interval"


def test_an_interval_that_is_shown_to_begin_at_0_is_not_above_it():
    verdict = judge(claim(0.01), figures([0.5] * 3, [0.5 + 0.2487 + d for d in (-0.1, 0.0, 0.1)]))
    assert 0 < verdict.difference.low < 0.0005
    assert verdict.row[2].startswith("+0.0 to")
    assert not verdict.is_held


def test_nothing_lost_is_decided_by_the_mean_and_says_how_far_the_interval_reaches():
    verdict = judge(claim(-0.01), figures([0.5, 0.5, 0.5], [0.49, 0.53, 0.48]))
    assert verdict.is_held
    assert verdict.row[3:5] == ["≥ -1.0", "yes (mean)"]
    lost = judge(claim(-0.01), figures([0.5, 0.5, 0.5], [0.48, 0.48, 0.48]))
    assert lost.row[4] == "**no**: too small"


def test_only_seeds_that_both_have_count():
    verdict = judge(claim(0.3), figures([0.5, 0.5, 0.5, 0.0], [0.8, 0.7, 0.9]))
    assert verdict == judge(claim(0.3), WIDE)
    assert verdict.row[-1] == "3"


def test_one_seed_holds_no_claim():
    for least in (0.1, -0.01):
        verdict = judge(claim(least), figures([0.5], [0.9]))
        assert not verdict.is_held
        assert verdict.row[1:3] == ["**+40.0** (50.0 → 90.0)", "none"]
        assert verdict.row[4:] == ["**no**: one seed", "1"]


def test_runs_that_are_not_there():
    verdict = judge(claim(0.1), figures([0.5], []))
    assert not verdict.is_held
    assert verdict.row[1:] == ["not run", "", "≥ +10.0", "**no**: not run", "0"]
    assert judge(claim(0.3), figures([0.5] * 3, [0.9] * 3, share=0.2)).difference.seeds == 0  # other runs than meant
