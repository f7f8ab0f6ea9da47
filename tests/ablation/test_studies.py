import pandas as pd
import pytest

from benchmarks.ablation.design import Run
from benchmarks.ablation.measures import HELD_OUT, Measure
from benchmarks.ablation.results import by_step, final
from benchmarks.ablation.studies import CLAIM_COLUMNS, Claim, judge, studies
from tests.ablation.made import made_run, made_study, table

RUNS = final(by_step(made_study()))
CONTROL, TREATMENT = {"backbone": "ALBEF", "arm": "baseline"}, {"backbone": "ALBEF", "arm": "+both"}
DIFFERS = "On held-out relation probes, against masked: not masked is "


def claimed(baseline, both, at_least, share=Run.share):
    """Judge a claim on two probes, 10 points below and above the value, of each seed from 0 on."""
    results = table(
        (Run("ALBEF", arm, seed, share=share), 10, probe, "accuracy", value + away, 100)
        for arm, values in (("baseline", baseline), ("+both", both))
        for seed, value in enumerate(values)
        for probe, away in (("p", -0.1), ("q", 0.1))
    )
    return judge(Claim("It helps", Measure("it", ("p", "q")), TREATMENT, CONTROL, at_least), by_step(results))


@pytest.mark.parametrize(
    ("baseline", "both", "at_least", "held", "cells"),
    [
        # differences 0.3, 0.2, 0.4: mean 0.3, standard error 0.0577350, times 4.3026527 = 0.2484
        ([0.5] * 3, [0.8, 0.7, 0.9], 0.3, True, ["**+30.0** (50.0 → 80.0)", "+5.2 to +54.8", "≥ +30.0", "yes", "3"]),
        ([0.5] * 3, [0.8, 0.7, 0.9], 0.301, False, [..., ..., "≥ +30.1", "**no**: too small", "3"]),
        ([0.5] * 3, [0.8, 0.7, 0.9], -0.01, True, [..., ..., ..., "yes", ...]),
        ([0.5] * 3, [0.6, 0.8, 0.5], 0.1, False, [..., ..., ..., "**no**: interval", ...]),
        # an interval that is shown to begin at 0 is not above it
        ([0.5] * 3, [0.6487, 0.7487, 0.8487], 0.01, False, [..., "+0.0 to +49.7", ..., "**no**: interval", ...]),
        # that nothing is lost is decided by the mean; the table says how far the interval reaches
        ([0.5] * 3, [0.49, 0.53, 0.48], -0.01, True, [..., ..., "≥ -1.0", "yes (mean)", ...]),
        ([0.5] * 3, [0.48] * 3, -0.01, False, [..., ..., ..., "**no**: too small", ...]),
        # only seeds that both have count
        ([0.5] * 3 + [0.0], [0.8, 0.7, 0.9], 0.3, True, ["**+30.0** (50.0 → 80.0)", ..., ..., ..., "3"]),
        ([0.5], [0.9], 0.1, False, ["**+40.0** (50.0 → 90.0)", "none", ..., "**no**: one seed", "1"]),
        ([0.5], [0.9], -0.01, False, [..., "none", ..., "**no**: one seed", "1"]),
        ([0.5], [], 0.1, False, ["not run", "", "≥ +10.0", "**no**: not run", "0"]),
    ],
)
def test_claims(baseline, both, at_least, held, cells):
    is_held, row = claimed(baseline, both, at_least)
    assert is_held is held
    assert len(row) == len(CLAIM_COLUMNS)
    assert [wanted if wanted is not ... else found for wanted, found in zip(cells, row[1:], strict=True)] == row[1:]


def test_runs_of_other_factors_than_meant_do_not_count():
    assert claimed([0.5] * 3, [0.9] * 3, 0.3, share=0.2)[1][-1] == "0"


def study(title, runs=RUNS):
    return {name: list(comparisons) for name, _, comparisons in studies(runs)}[title]


def rows(comparison):
    return [(s.label, s.control) for s in comparison.settings]


def test_every_question_finds_its_runs():
    found = {title: [c.title for c in comparisons] for title, _, comparisons in studies(RUNS)}
    assert found == {
        "Share of images with graphs": ["ALBEF +both", "X-VLM +both"],
        "Relations in a text, K": ["ALBEF +VSG, world of long texts"],
        "Sorted relations": ["ALBEF +VSG, world of long texts"],
        "Visual masking in MRC": ["ALBEF +both"],
        "Mixture": ["ALBEF +both"],
        "Relations or localisation": ["both backbones"],
        "Long texts": ["ALBEF, world of long texts"],
    }


def test_settings_and_what_they_are_compared_with():
    assert rows(study("Relations in a text, K")[0]) == [("K = 3", "K = 8"), ("K = 8", ""), ("K = 16", "K = 8")]
    baseline = "baseline at 5 %"
    shares = [(baseline, ""), ("+both at 1 %", baseline), ("+both at 5 %", baseline)]
    assert rows(study("Share of images with graphs")[1]) == shares
    localisation = "localisation (X-VLM)"
    controls = [control for _, control in rows(study("Relations or localisation")[0])]
    assert controls == [localisation, "", localisation, localisation]


def test_a_baseline_of_the_same_share_is_the_control_where_there_is_one():
    more = made_run(Run("X-VLM", "baseline", 100, share=0.01))
    compared = study("Share of images with graphs", final(by_step(pd.concat([made_study(), more]))))[1]
    assert rows(compared)[2:] == [("+both at 1 %", "baseline at 1 %"), ("+both at 5 %", "baseline at 5 %")]


def test_mixtures_stand_in_the_order_of_numbers():
    runs = [Run("ALBEF", "+both", 1, mixture=mixture) for mixture in ("1:3", "1:10", "2:1", "1:1")]
    compared = study("Mixture", by_step(pd.concat(made_run(run, (10,)) for run in runs)))[0]
    assert [label for label, _ in rows(compared)] == ["1:1", "1:3", "1:10", "2:1"]


def test_runs_that_differ_in_something_else_are_no_answer():
    two = [Run("ALBEF", "+both", 1, share=0.2, mixture=mixture) for mixture in ("1:3", "1:1")]
    runs = by_step(pd.concat(made_run(run, (10,)) for run in two))
    assert not [compared for _, _, comparisons in studies(runs) for compared in comparisons]


def test_differences_are_of_the_control():
    (compared,) = study("Visual masking in MRC")
    unmasked, masked = compared.settings
    found = compared.difference(unmasked, HELD_OUT)
    assert found.mean == pytest.approx(0.8 - 0.9, abs=0.02)
    assert found.seeds == 3
    assert compared.difference(masked, HELD_OUT) is None
    assert HELD_OUT in compared.measured()


@pytest.mark.parametrize(
    ("skills", "words"),
    [
        ((0.4, 0.3, 0.2), "not shown to differ, -20.0 points (-44.8 to +4.8)."),
        ((0.4, 0.39, 0.41), "lower, -10.0 points (-12.5 to -7.5)."),
        ((0.6, 0.59, 0.61), "higher, +10.0 points (+7.5 to +12.5)."),
        ((0.6,), "cannot be judged by one seed, +10.0 points (one seed)."),
    ],
)
def test_sentences_say_what_intervals_allow(skills, words):
    results = pd.concat(
        made_run(Run("ALBEF", "+both", seed, masked=masked), (10,)).assign(value=value)
        for seed, skill in enumerate(skills)
        for masked, value in ((True, 0.5), (False, skill))
    )
    sentence = study("Visual masking in MRC", by_step(results))[0].sentence(HELD_OUT)
    assert sentence == (DIFFERS + words).replace("is cannot", "cannot")
