import io
import json
import math

import pytest
from rich.console import Console

from relpretrain.identity import folder_digest
from relpretrain.zeroshot.analysis.statistics import Paired
from relpretrain.zeroshot.analysis.table import Table, make_row
from relpretrain.zeroshot.report.terminal import Report, hash_items, read_report, refuse_other_data
from relpretrain.zeroshot.results.comparison import Comparison, ComparisonRow, compare
from relpretrain.zeroshot.tasks import TASKS
from relpretrain.zeroshot.tasks.common.base import Item

ROWS = (
    make_row("overall", 7702, 5738, ties=3, auroc=0.7291),
    make_row("left | right", 10, 10, ties=0),
    make_row("nothing", 0, 0, auroc=math.nan),
)
REPORT = Report(
    (Table("valse", "", "valse-1: strict", ROWS, ("a note",)),), (), {"relpretrain": "0.1", "weights": "ab"}
)


def test_json_round_trip(tmp_path):
    REPORT.write(tmp_path / "out")
    back = read_report(tmp_path / "out" / "zero_shot.json")
    assert back.metadata == REPORT.metadata
    assert back.tables[0].rows[:2] == ROWS[:2]
    assert back.tables[0].notes == ("a note",)
    assert math.isnan(back.tables[0].rows[2].accuracy)
    assert back.to_json() == REPORT.to_json()
    stored = json.loads((tmp_path / "out" / "zero_shot.json").read_text())
    assert stored["tables"][0]["rows"][0]["accuracy"] == 5738 / 7702


def test_markdown_has_the_figures(tmp_path):
    REPORT.write(tmp_path)
    lines = (tmp_path / "zero_shot.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| overall")]
    assert cells[0][:3] == ["overall", "7,702", "74.50"]
    assert cells[0][4:] == ["3", "0.729"]
    assert [float(bound) for bound in cells[0][3].split("-")] == pytest.approx([73.53, 75.47], abs=0.1)
    assert "- a note" in lines
    assert "- weights: ab" in lines
    widths = {line.count(" | ") for line in lines if line.startswith("| ") and "left" not in line}
    assert len(widths) == 1


def test_terminal_table_is_whole_without_a_terminal():
    console = Console(file=io.StringIO(), width=20)
    REPORT.print(console)
    text = console.file.getvalue()
    assert "74.50" in text
    assert "left | right" in text
    assert "…" not in text


def test_a_narrow_terminal_divides_words_and_no_numbers():
    names = ("runs/a_model_of_a_long_name", "runs/another_model_of_a_long_name")
    paired = Paired(0.435, 0.381, 0.485, 5.4e-101, 5, 4)
    rows = tuple(ComparisonRow(name, 12_345, 0.5, 0.935, paired, 1.2e-05) for name in ("overall", "in the middle of"))
    comparison = Comparison("valse", "", names, rows)
    console = Console(file=io.StringIO(), width=110, force_terminal=True, color_system=None)
    Report((), (comparison,)).print(console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 110
    assert all(value in text for value in ("5.4e-101", "1.2e-05", "+38.10 to +48.50", "+43.50", "12,345"))
    assert "…" not in text


def test_comparisons_are_reported():
    def records(scores):
        return [{"label": 1, "score": s, "relation": "in", "id": i} for i, s in enumerate(scores)]

    comparison = compare(TASKS["vsr"], records([0.1, 0.9]), records([0.8, 0.9]), ("old", "new"), "x/test")
    report = Report((), (comparison,))
    lines = [line for line in report.to_markdown().splitlines() if line.startswith("| ")]
    assert lines[2:] == [
        "| old | overall | 2 | 50.00 |  |  |  |  |",
        "| new | overall | 2 | 100.00 | +50.00 | -50.00 to +100.00 | 1 | - |",
    ]
    state = json.loads(report.to_json())["comparisons"][0]
    assert state["rows"][0]["paired"]["difference"] == 0.5


def test_a_file_that_is_no_report_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"tables": [{}]}')
    with pytest.raises(ValueError, match=r"x\.json is not a zero-shot report"):
        read_report(tmp_path / "x.json")


def test_hashes_tell_what_changed(tmp_path):
    (tmp_path / "a").write_text("1")
    before = folder_digest(tmp_path / "a"), folder_digest(tmp_path)
    (tmp_path / "a").write_text("2")
    after = folder_digest(tmp_path / "a"), folder_digest(tmp_path)
    assert all(old != new for old, new in zip(before, after, strict=True))
    item = Item("a.png", ("x",), ({"label": 1, "id": 0},))
    other = Item("a.png", ("y",), ({"label": 1, "id": 0},))
    assert hash_items({"": [item]}) == hash_items({"": [item]}) != hash_items({"": [other]})


def test_prompts_that_all_items_share_are_hashed_once(monkeypatch):
    def items(*prompts):
        return [Item(f"{n}.png", prompts, ({"label": n, "id": n},)) for n in range(50)]

    first = items("a", "b")
    shared = [Item(item.image, first[0].texts, item.records) for item in first]
    other = items("a", "c")
    assert hash_items({"": shared}) != hash_items({"": [Item(i.image, other[0].texts, i.records) for i in shared]})
    dumped = []
    dumps = json.dumps
    monkeypatch.setattr(json, "dumps", lambda state, **options: dumped.append(dumps(state, **options)) or dumped[-1])
    hash_items({"": shared})
    assert sum('"a", "b"' in text for text in dumped) == 1


def test_runs_on_different_annotations_are_not_compared(tmp_path):
    for name, digest in (("a", "1" * 64), ("b", "1" * 64), ("c", "2" * 64)):
        Report((), (), {"data vsr x/test": digest, f"data only {name}": name}).write(tmp_path / name)
    refuse_other_data(tmp_path / "a", tmp_path / "b")
    refuse_other_data(tmp_path / "a", tmp_path / "none.jsonl")
    refuse_other_data(tmp_path / "a", tmp_path / "c", ["valse"])
    with pytest.raises(ValueError, match=r"different annotations of vsr x/test \(hashes 11111111 and 22222222\)"):
        refuse_other_data(tmp_path / "a", tmp_path / "c", ["vsr"])
