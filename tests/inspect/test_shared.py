"""Doctor and audit by tasks: the same report, whatever the number of tasks."""

import json

import pytest

from relpretrain.cli import main
from tests.data.small import write_shards
from tests.inspect.test_doctor import faulty  # noqa: F401


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)


def data(*words):
    return main(["data", *map(str, words)])


@pytest.fixture
def shards(tmp_path, faulty):  # noqa: F811
    return [faulty, write_shards(tmp_path / "more", 40, 9)]


@pytest.mark.parametrize("total", [1, 3, 7])
def test_doctor_by_tasks(shards, tmp_path, capsys, total):
    words = ("doctor", *shards, "--workers", 1, "--max-bad", 1)
    assert data(*words, "--out", tmp_path / "whole.json") == 0
    told = capsys.readouterr().out
    out = tmp_path / "out.json"
    for number in reversed(range(total)):
        assert data(*words, "--out", out, "--task", f"{number}/{total}") == 0
    assert not out.exists()
    capsys.readouterr()
    assert data("merge", out) == 0
    assert capsys.readouterr().out == told.replace("whole.json", "out.json")
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not list(tmp_path.glob("*.tasks"))


def test_the_doctor_judges_when_tasks_are_merged(shards, tmp_path, capsys):
    words = ("doctor", *shards, "--workers", 1, "--out", tmp_path / "out.json", "--task")
    assert data(*words, "0/2") == 0
    assert data("merge", tmp_path / "out.json") == 2
    assert "1 of 2 tasks have not finished: run --task 1/2 again" in capsys.readouterr().err
    assert data(*words, "1/2") == 0
    assert data("merge", tmp_path / "out.json") == 1  # more than 5 % are bad
    assert data("doctor", *shards, "--task", "0/2") == 2
    assert "name --out" in capsys.readouterr().err


@pytest.mark.parametrize("total", [1, 3, 7])
def test_audit_by_tasks(shards, tmp_path, capsys, total):
    (tmp_path / "b/vsr").mkdir(parents=True)
    items = [{"image": f"{n}.jpg", "caption": "a cat", "label": 1, "relation": "on"} for n in (3, 17, 99)]
    (tmp_path / "b.json").write_text(json.dumps({"vsr": items}))
    words = ("audit", *shards, "--benchmarks", tmp_path / "b.json", "--workers", 1)
    assert data(*words, "--out", tmp_path / "whole.json", "--details", tmp_path / "whole_details.json") == 0
    told = capsys.readouterr().out
    for number in reversed(range(total)):
        outputs = ("--out", tmp_path / "out.json", "--details", tmp_path / "out_details.json")
        assert data(*words, *outputs, "--task", f"{number}/{total}") == 0
    assert not (tmp_path / "out.json").exists()
    capsys.readouterr()
    assert data("merge", tmp_path / "out.json") == 0
    assert capsys.readouterr().out == told.replace("whole.json", "out.json")
    for name in ("out.json", "out_details.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("out", "whole")).read_bytes()
    assert json.loads((tmp_path / "out.json").read_text())["image_ids"]
