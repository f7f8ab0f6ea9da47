import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.ablation import design
from benchmarks.ablation.command import _parser, chosen
from benchmarks.ablation.pages import page as drawing
from benchmarks.ablation.pages.objective_page import BASELINE, TEXTS, TITLES, write_objective_page
from benchmarks.ablation.pages.paragraphs import Context
from benchmarks.ablation.results import read_results
from tests.ablation.made import FOLDERS, table
from tests.ablation.test_page import cells, section

RECORDED = Path(__file__).parents[2] / "docs" / "evidence_objectives.md"
CONTEXT = Context("python benchmarks/ablation.py --preset objectives", "abc1234", "2 cores", "torch 9.9", 50, "x.csv")
SKILLS = {"baseline": 0.5, "+VSG": 0.6, "+both": 0.8, "+NegCLIP": 0.4, "+both+units": 0.9}
"""What arms end with on relations; others end as "+VSG" does."""


def made_run(run):
    """What a run might give: by embeddings, every arm is at chance."""
    rng = np.random.default_rng([run.seed, sum(map(ord, run.name))])
    skill = SKILLS.get(run.arm, 0.6)
    rows = []

    def add(probe, metric, value):
        rows.append((run, 1000, probe, metric, round(float(value + rng.normal(0, 0.003)), 4), 100))

    for way, level in (("", skill), ("itc ", 0.5)):
        for folder in FOLDERS:
            for probe in ("valse/relations", "valse/actant-swap", "hard_positives/augmented"):
                add(f"{folder}/{probe}", f"{way}accuracy", level)
            add(f"{folder}/vsr/test", f"{way}auroc", level)
        for split in ("entities", "relations"):
            for question in ("half-truth", "which", "addition"):
                add(f"benchmarks/half_truth/{split}/{question}", f"{way}accuracy", level)
        add("benchmarks/aro/attribution", f"{way}accuracy", level)
        for metric in ("tr@1", "ir@1"):
            for split in ("val", "test"):
                add(f"benchmarks/coco_retrieval/{split}", f"{way}{metric}", 0.9)
    for folder in FOLDERS:
        add(f"{folder}/vsr/test", "accuracy", skill)
    return table(rows)


def results_of(preset):
    return pd.concat([made_run(run) for run in preset.runs], ignore_index=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    preset, folder = design.objectives(), tmp_path_factory.mktemp("page")
    return write_objective_page(folder / "evidence_objectives.md", results_of(preset), preset, CONTEXT)


def test_the_first_screen_says_what_intervals_show_and_is_fair_to_all(page):
    top = page.read_text().split("```")[0]
    found = re.search(r"- ALBEF, by matching, against same texts, no foils \(VSG\) (.*)", top)[1]
    assert re.search(r"higher: VSG \+ MRC \+\d\S+, VSG \+ MRC \+ units \+\d", found)
    assert re.search(r"lower: captions alone -\d\S+, NegCLIP -\d", found)
    assert re.search(r"not shown to differ: .*TSVLC", found)
    assert re.search(r"X-VLM, by embeddings.*: not shown to differ: captions alone", top)
    assert re.search(r"ALBEF, what is forgotten, against captions alone .*: not shown to differ: same texts", top)


def test_every_arm_has_its_row_in_every_table_of_equal_texts(page):
    text = section(page.read_text(), "Equal texts").partition("## Equal compute")[0]
    arms = [TITLES.get(arm, arm.removeprefix("+")) for arm in design.COMPARED]
    tables = [cells(part) for part in re.split(r"\n\n", text) if part.startswith("| arm")]
    assert len(tables) == 2 * 2 * 5  # backbones, ways
    for rows in tables:
        assert [row[0] for row in rows[2:]] == arms
    assert "nan" not in text


def test_differences_are_from_the_same_texts_and_of_retrieval_from_captions(page):
    text = section(page.read_text(), "ALBEF, by matching")
    relations, *_, retrieval = [cells(part) for part in text.split("\n\n") if part.startswith("| arm")]
    without = {
        rows[0][1].partition(" (")[0]: [row[0] for row in rows[2:] if not row[2]] for rows in (relations, retrieval)
    }
    assert without == {"held-out relation probes": [TEXTS], "text retrieval TR@1": [BASELINE]}


def test_statements_have_no_accuracy_by_embeddings(page):
    text = page.read_text()
    assert "VSR accuracy at 0.5" in section(text, "ALBEF, by matching")
    assert "VSR accuracy at 0.5" not in section(text, "ALBEF, by embeddings")
    assert "VSR AUROC" in section(text, "ALBEF, by embeddings")


def test_equal_compute_has_the_arms_that_were_trained_so(page):
    rows = cells(section(page.read_text(), "Equal compute").split("On held-out")[0])
    assert [row[0] for row in rows[2:]] == [BASELINE, TEXTS, "VSG + MRC", "SGVL", "VSG + MRC + foils"]


def test_plots_are_those_that_the_page_shows(page):
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text())
    assert {page.parent / path for path in shown} == set((page.parent / "evidence_objectives").iterdir())
    assert len(shown) == 4


def test_what_was_not_run_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "plot_settings", lambda *arguments: None)
    preset = design.objectives((1,))
    runs = tuple(run for run in preset.runs if run.backbone == "ALBEF" and run.budget == "steps" and run.arm != "+SGVL")
    text = write_objective_page(
        tmp_path / "page.md", results_of(replace(preset, runs=runs)), preset, CONTEXT
    ).read_text()
    assert "| SGVL |" not in text
    assert "X-VLM, by" not in text
    assert "No run of this preset asks this." in section(text, "Equal compute")
    assert "nan" not in text


@pytest.mark.skipif(not RECORDED.is_file(), reason="no page is recorded")
def test_the_recorded_page_comes_from_the_recorded_results(tmp_path, monkeypatch):
    """To the character; plots are left out, whose bytes depend on the version of matplotlib."""
    monkeypatch.setattr(drawing, "plot_settings", lambda *arguments: None)
    recorded = RECORDED.read_text(encoding="utf-8")
    command = re.search(r"^python benchmarks/ablation.py .*", recorded, re.MULTILINE)[0]
    preset = chosen(_parser().parse_args(shlex.split(command)[2:]))
    line = r"^Commit (.*?); (.*?); (.*?); preset `objectives`, all of it in (.*) minutes"
    made = re.search(line, recorded, re.MULTILINE)
    context = Context(command, *made.groups()[:3], float(made[4]), "evidence_objectives/results.csv")
    results = read_results(RECORDED.with_suffix("") / "results.csv")
    found = write_objective_page(tmp_path / RECORDED.name, results, preset, context)
    assert found.read_text(encoding="utf-8") == recorded
