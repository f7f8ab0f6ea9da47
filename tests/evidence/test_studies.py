from dataclasses import replace

import pytest

from relpretrain.evidence.design import Run
from relpretrain.evidence.probes import HELD_OUT, LONG_TEXT_RETRIEVAL
from relpretrain.evidence.results import final
from relpretrain.evidence.studies import percent, studies
from tests.evidence.made import made_run, made_study

FIGURES = final(made_study())


def study(title, figures=FIGURES):
    return {s.title: s for s in studies(figures)}[title]


def rows(comparison):
    return [(s.label, s.control) for s in comparison.settings]


def test_every_question_finds_its_runs():
    found = {s.title: [c.title for c in s.comparisons] for s in studies(FIGURES)}
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
    assert rows(study("Relations in a text, K").comparisons[0]) == [
        ("K = 3", "K = 8"),
        ("K = 8", ""),
        ("K = 16", "K = 8"),
    ]
    baseline, usual = f"baseline at {percent(Run.share)}", f"+both at {percent(Run.share)}"
    assert rows(study("Share of images with graphs").comparisons[1]) == [
        (baseline, ""),
        ("+both at 1 %", baseline),
        (usual, baseline),
    ]
    assert [control for _, control in rows(study("Relations or localisation").comparisons[0])] == [
        *("localisation (X-VLM)", "", "localisation (X-VLM)", "localisation (X-VLM)")
    ]


def test_a_baseline_of_the_same_share_is_the_control_where_there_is_one():
    more = made_run(Run("X-VLM", "baseline", 100, share=0.01))
    compared = study("Share of images with graphs", final([*FIGURES, *more])).comparisons[1]
    usual = percent(Run.share)
    assert rows(compared)[2:] == [("+both at 1 %", "baseline at 1 %"), (f"+both at {usual}", f"baseline at {usual}")]


def test_mixtures_stand_in_the_order_of_numbers():
    runs = [Run("ALBEF", "+both", 1, mixture=mixture) for mixture in ("1:3", "1:10", "2:1", "1:1")]
    figures = [figure for run in runs for figure in made_run(run, steps=(10,))]
    compared = study("Mixture", figures).comparisons[0]
    assert [label for label, _ in rows(compared)] == ["1:1", "1:3", "1:10", "2:1"]


def test_runs_that_differ_in_something_else_are_no_answer():
    two = [Run("ALBEF", "+both", 1, share=0.2, mixture=mixture) for mixture in ("1:3", "1:1")]
    figures = [figure for run in two for figure in made_run(run, steps=(10,))]
    assert all(not s.comparisons for s in studies(figures))
    assert all(not s.comparisons for s in studies([]))


def test_differences_are_of_the_control():
    compared = study("Visual masking in MRC").comparisons[0]
    unmasked, masked = compared.settings
    found = compared.difference(unmasked, HELD_OUT, FIGURES)
    assert found.mean == pytest.approx(0.8 - 0.9, abs=0.02)
    assert found.seeds == 3
    assert compared.difference(masked, HELD_OUT, FIGURES) is None
    assert compared.measured(FIGURES)[0] is HELD_OUT
    assert LONG_TEXT_RETRIEVAL not in compared.measured(FIGURES)


def test_sentences_say_what_intervals_allow():
    run = Run("ALBEF", "+both", 0)

    def sentence(*skills):
        figures = [
            replace(figure, value=skill)
            for seed, skill in enumerate(skills)
            for figure in made_run(replace(run, seed=seed, masked=False), steps=(10,))
        ]
        figures += [
            replace(f, value=0.5) for seed in range(len(skills)) for f in made_run(replace(run, seed=seed), steps=(10,))
        ]
        return study("Visual masking in MRC", figures).comparisons[0].sentence(HELD_OUT, figures)

    start = "On held-out relation probes, against masked: not masked"
    assert sentence(0.4, 0.3, 0.2) == f"{start} is lower, -20.0 points (-44.8 to +4.8).".replace(
        "is lower", "is not shown to differ"
    )
    assert sentence(0.4, 0.39, 0.41) == f"{start} is lower, -10.0 points (-12.5 to -7.5)."
    assert sentence(0.6, 0.59, 0.61) == f"{start} is higher, +10.0 points (+7.5 to +12.5)."
    assert sentence(0.6) == f"{start} cannot be judged by one seed, +10.0 points (one seed)."
