import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.ablation import design
from benchmarks.ablation.pages import page as drawing
from benchmarks.ablation.pages.graph_page import SOURCES, write_graph_page
from benchmarks.ablation.pages.paragraphs import Context
from benchmarks.ablation.results import read_results
from tests.ablation.made import made_run, table
from tests.ablation.test_page import cells, section

RECORDED = Path(__file__).parents[2] / "docs" / "evidence_graphs.md"
SKILLS = {"human": 0.9, "parsed": 0.9, "tagged": 0.7, "mixed": 0.8, "noise-0.1": 0.8, "noise-0.3": 0.6}
CONTEXT = Context("python benchmarks/ablation.py --preset graphs", "abc1234", "2 cores", "torch 9.9", 22, "x.csv")


def results_of(preset, skills=SKILLS):
    """What its runs might give, with graphs of a quality that follows from their source."""
    found = []
    for run in preset.runs:
        found.append(made_run(run, skill=0.5 if run.arm == "baseline" else skills[run.graphs]))
        if run.arm != "baseline":
            quality = {"precision": skills[run.graphs], "recall": 0.5, "per_image": 0.95}
            rows = table([(run, 1000, "graphs/triplets", *one, 400) for one in quality.items()])
            found.append(rows.assign(teraflops=1050.0))
    return pd.concat(found, ignore_index=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    preset, folder = design.graphs(), tmp_path_factory.mktemp("page")
    return write_graph_page(folder / "evidence_graphs.md", results_of(preset), preset, CONTEXT)


def test_the_first_screen_answers_by_the_intervals(page):
    top = page.read_text().split("```")[0]
    assert re.search(r"Against no graphs .*: higher: parsed \+\d.*, tagged \+\d.*, human and tagged \+\d", top)
    assert re.search(
        r"Against human graphs .*: lower: tagged -\d.*, human and tagged -\d.*; not shown to differ: parsed", top
    )
    assert re.search(r"Noise.*: lower: noise of 10 % -\d.*, noise of 30 % -\d", top)
    assert re.search(r"Retrieval.*not shown to differ: parsed", top)


def test_every_source_has_its_row_and_every_plot_is_there(page):
    text = page.read_text()
    rows = cells(section(text, "What graphs of each source are worth"))
    assert [row[0] for row in rows[2 : 2 + len(SOURCES)]] == list(SOURCES)
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert {page.parent / path for path in shown} == set((page.parent / "evidence_graphs").iterdir())
    assert len(shown) == 6
    assert "nan" not in text


def test_gated_fusion_stands_beside_late_fusion(page):
    rows = [row[0] for row in cells(section(page.read_text(), "Gated fusion"))]
    assert rows.count("human") == rows.count("human, gated fusion") == 2


def test_graphs_are_held_against_the_truth(page):
    rows = {row[0]: row[1:] for row in cells(section(page.read_text(), "How good the graphs are"))}
    assert rows["tagged"] == ["0.95", "70.0 (70.0 to 70.0)", "50.0 (50.0 to 50.0)", "3"]
    assert "baseline" not in rows


def test_what_was_not_run_is_left_out(tmp_path):
    preset = design.graphs((1,))
    runs = tuple(run for run in preset.runs if run.arm == "baseline" or run.graphs == "parsed")
    found = write_graph_page(tmp_path / "page.md", results_of(replace(preset, runs=runs)), preset, CONTEXT)
    top = found.read_text().split("```")[0]
    assert "Against no graphs (held-out relation probes, mean difference in points): one seed: parsed +" in top
    assert "Against human graphs (held-out relation probes, mean difference in points): not run." in top
    assert "nan" not in found.read_text()


@pytest.mark.skipif(not RECORDED.is_file(), reason="no page is recorded")
def test_the_recorded_page_comes_from_the_recorded_results(tmp_path, monkeypatch):
    """To the character; plots are left out, whose bytes depend on the version of matplotlib."""
    for plot in ("plot_lines", "plot_settings"):
        monkeypatch.setattr(drawing, plot, lambda *arguments: None)
    recorded, preset = RECORDED.read_text(encoding="utf-8"), design.graphs()
    command = re.search(r"^python benchmarks/ablation.py .*", recorded, re.MULTILINE)[0]
    made = re.search(r"^Commit (.*?); (.*?); (.*?); preset `graphs`, all of it in (.*) minutes", recorded, re.MULTILINE)
    context = Context(command, *made.groups()[:3], float(made[4]), "evidence_graphs/results.csv")
    results = read_results(RECORDED.with_suffix("") / "results.csv")
    found = write_graph_page(tmp_path / RECORDED.name, results, preset, context)
    assert found.read_text(encoding="utf-8") == recorded
