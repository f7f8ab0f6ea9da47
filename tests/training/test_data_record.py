from types import SimpleNamespace

from relpretrain.inspect.run_report.__main__ import main
from relpretrain.training.data_record import DataRecord
from tests.inspect.test_run_report import write_log


def trainer(lines, left=(), first=True):
    data = SimpleNamespace(describe=lambda: list(lines), bad_samples=SimpleNamespace(lines=lambda: list(left)))
    return SimpleNamespace(datamodule=data, is_global_zero=first)


def test_the_plan_is_kept_and_then_what_was_left_out(tmp_path):
    record = DataRecord(tmp_path / "run")
    record.on_fit_start(trainer(["Data plan", "  vrd: 247 of 604 relations"]), None)
    path = tmp_path / "run" / "data.txt"
    assert path.read_text() == "Data plan\n  vrd: 247 of 604 relations\n"
    record.on_fit_end(trainer(["Data plan"], ["vrd: relation_outside_vocabulary: 9 times, in part"]), None)
    assert path.read_text() == (
        "Data plan\nLeft out of the data:\n  vrd: relation_outside_vocabulary: 9 times, in part\n"
    )


def test_the_first_process_alone_writes_and_other_data_is_no_hindrance(tmp_path):
    DataRecord(tmp_path).on_fit_start(trainer(["x"], first=False), None)
    DataRecord(tmp_path).on_fit_start(SimpleNamespace(datamodule=None, is_global_zero=True), None)
    assert not (tmp_path / "data.txt").exists()


def test_the_report_shows_it(tmp_path):
    write_log(tmp_path / "run" / "metrics.csv")
    line = "    vrd: 247 of 604 relations (41 %) outside MRC's vocabulary: wear 81, has 49 and 22 more"
    (tmp_path / "run" / "data.txt").write_text(f"Data plan, seed 0\n{line}\n")
    assert main([str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.md").read_text()
    assert f"# Data of run\n\n```\nData plan, seed 0\n{line}\n```\n" in page
