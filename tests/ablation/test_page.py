import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.ablation.design import Run, cpu
from benchmarks.ablation.measures import HELD_OUT
from benchmarks.ablation.pages import page
from benchmarks.ablation.pages.page import write_page
from benchmarks.ablation.pages.paragraphs import Context
from benchmarks.ablation.results import by_step, final, read_results
from benchmarks.ablation.studies import claims
from tests.ablation.made import made_run, made_study

DOCS = Path(__file__).parents[2] / "docs"
COMMAND = "python benchmarks/ablation.py --preset cpu --out runs/ablation"
CONTEXT = Context(COMMAND, "abc1234", "2 cores", "torch 9.9", 58.4, "runs/results.csv", "A larger world.")
BOTH = {"backbone": "ALBEF", "arm": "+both"}


def write(folder, results):
    return write_page(folder / "evidence.md", results, cpu(), CONTEXT)


def section(text, title):
    """What stands below a heading, up to the next of its level or above."""
    level, rest = re.search(rf"^(#+) {re.escape(title)}$(.*)", text, re.DOTALL | re.MULTILINE).groups()
    return re.split(rf"^#{{1,{len(level)}}} ", rest, flags=re.MULTILINE)[0]


def cells(text):
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:2] == "| "]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("docs") / "new", made_study())


def test_the_recorded_page_comes_from_the_recorded_results(tmp_path, monkeypatch):
    """To the character; plots are left out, whose bytes depend on the version of matplotlib."""
    for plot in ("plot_lines", "plot_settings"):
        monkeypatch.setattr(page, plot, lambda *arguments: None)
    recorded = (DOCS / "evidence.md").read_text(encoding="utf-8")
    command = re.search(r"^python benchmarks/ablation.py .*", recorded, re.MULTILINE)[0]
    made = re.search(r"^Commit (.*?); (.*?); (.*?); preset `cpu`, all of it in (.*) minutes", recorded, re.MULTILINE)
    notes = (DOCS / "evidence_trials.md").read_text(encoding="utf-8")
    context = Context(command, *made.groups()[:3], float(made[4]), "evidence/results.csv", notes)
    found = write_page(tmp_path / "evidence.md", read_results(DOCS / "evidence" / "results.csv"), cpu(), context)
    assert found.read_text(encoding="utf-8") == recorded


def test_the_first_screen_has_command_claims_figures_and_intervals(whole):
    lines = whole.read_text().splitlines()
    top = "\n".join(lines[:25])
    assert lines[0].startswith("# ")
    assert "8 of 8 claims held in 63 training runs" in top
    assert COMMAND in top
    table = cells(top)
    assert [row[0] for row in table[2:]] == [claim.text for claim in claims(cpu())]
    assert sum(row[4].startswith("yes") for row in table[2:]) == 8
    assert all(re.fullmatch(r"\*\*[+-][\d.]+\*\* \([\d.]+ → [\d.]+\)", row[1]) for row in table[2:])
    assert all(re.fullmatch(r"[+-][\d.]+ to [+-][\d.]+", row[2]) for row in table[2:])
    for word in ("abc1234", "2 cores", "torch 9.9", "58 minutes"):
        assert word in top


def test_every_plot_is_there_and_none_is_left_over(whole):
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", whole.read_text())
    assert len(shown) == len(set(shown)) == 14
    assert {whole.parent / path for path in shown} == set((whole.parent / "evidence").iterdir())


def test_arms_stand_in_the_order_of_their_outcome(whole):
    table = cells(section(whole.read_text(), "ALBEF").split("| VSR")[0])
    assert [row[0] for row in table[2:6]] == ["+both", "+VSG", "+MRC", "baseline"]
    values = HELD_OUT.by_seed(final(by_step(made_study())), **BOTH)
    assert table[2][1].startswith(f"{100 * sum(values) / 3:.1f} (")
    assert table[2][-1] == "3"


def test_figures_that_some_seeds_lack_say_so(tmp_path):
    results = made_study().query("backbone == 'ALBEF' and arm == '+both' and (seed != 101 or metric != 'ir@1')")
    text = write(tmp_path, results).read_text()
    table = cells(section(text, "ALBEF").split("text retrieval TR@1")[1].split("| VSR")[0])
    assert [row[-1] for row in table if row[0] == "+both"] == ["2 to 3"]


def test_vsr_has_accuracy_auroc_and_calibration_beside_each_other(whole):
    table = cells("| VSR" + section(whole.read_text(), "ALBEF").split("| VSR")[1])
    assert [h.partition(" (")[0] for h in table[0]] == ["VSR", "arm", "accuracy at 0.5", "AUROC", "calibration error"]
    assert table[2][:2] == ["held-out combinations", "+both"]
    assert len(table) == 2 + 12


def test_equal_compute_says_what_it_cost(whole):
    table = cells(section(whole.read_text(), "Equal compute").split("**X-VLM**")[0])
    assert [row[:3] for row in table[2:]] == [
        ["baseline at equal steps", "1,000", "700"],
        ["baseline at equal compute", "1,500", "1,050"],
        ["+both", "1,000", "1,050"],
    ]


def test_studies_have_a_sentence_and_a_table(whole):
    masked = section(whole.read_text(), "Visual masking in MRC")
    assert "On held-out relation probes, against masked: not masked is lower, -" in masked
    assert [row[0] for row in cells(masked)[2:]] == ["not masked", "masked"]
    assert cells(masked)[2][-1] == "3"
    assert "K = 3" in section(whole.read_text(), "Relations in a text, K")


def test_what_the_caller_wrote_and_how_to_make_it_again(whole):
    text = whole.read_text()
    assert "`recipes/ablation_cpu.yaml`" in section(text, "How it was measured")
    assert "A larger world." in section(text, "What was tried and did not work")
    assert COMMAND in section(text, "Reproduce")
    assert "`runs/results.csv`" in section(text, "Reproduce")
    assert "nan" not in text


def test_little_is_little_and_says_so(tmp_path):
    results = pd.concat(made_run(Run("ALBEF", arm, 1), steps=(100,)) for arm in ("baseline", "+both"))
    text = write(tmp_path, results).read_text()
    assert "0 of 8 claims held in 2 training runs" in text
    assert text.count("**no**: one seed") == 3
    assert "Not run: +VSG, +MRC." in section(text, "ALBEF")
    assert "Not run: baseline, +VSG, +MRC, +both." in section(text, "X-VLM")
    assert "(one seed)" in section(text, "ALBEF")
    assert "No run was measured while it trained." in section(text, "Learning curves")
    assert "No run of this preset asks this." in section(text, "Equal compute")
    assert text.count("No run of this preset asks this.") == 8
    assert "Not measured: counting." in text
    assert "held-out relation probes 800; held-out VSR accuracy at 0.5 400; existence 200;" in text
    assert "(1 seed, each" in text
    assert "nan" not in text


def test_claims_about_absent_runs_are_not_held(tmp_path):
    text = write(tmp_path, made_run(Run("X-VLM", "+MRC", 1), steps=(9,))).read_text()
    assert text.count("**no**: not run") == 8
    assert "On held-out relation probes: nothing can be compared." in section(text, "X-VLM")


def test_a_baseline_that_ends_at_another_step_each_seed_is_one_curve(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(page, "plot_settings", lambda panels, path: None)
    monkeypatch.setattr(page, "plot_lines", lambda panels, path, axis: drawn.update({path.stem: panels}))
    found = []
    for seed, last in ((1, 140), (2, 160)):
        for run in (Run("ALBEF", "+both", seed), Run("ALBEF", "+both", seed, share=0.2)):
            found.append(made_run(run, steps=(50, 100)))
        found.append(made_run(Run("ALBEF", "baseline", seed, budget="compute"), steps=(last // 2, last)))
    write(tmp_path, pd.concat(found))
    lines = drawn["albef-compute"][0].data
    assert list(lines["baseline at equal compute"]) == pytest.approx([0.7 * 75, 0.7 * 150])
    assert [len(values) for values in lines["baseline at equal compute"].values()] == [2, 2]
    assert list(lines["+both"]) == pytest.approx([0.7 * 75, 0.7 * 150])
    assert [len(values) for values in lines["+both"].values()] == [2, 2]  # none of other shares
    assert list(drawn["albef-curves"][0].data) == ["+both"]
