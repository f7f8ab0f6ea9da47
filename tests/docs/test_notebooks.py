"""The notebooks' code runs as it stands, without Jupyter, and their files hold no outputs."""

import importlib.util
import json
import math

import pytest

from tests.docs.blocks import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def run(path, names):
    """Run the code cells in one after the other, with their names in `names`."""
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_stored(path):
    code = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert code
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_from_a_photo_to_an_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    names = run(ROOT / "docs" / "notebooks" / "photo_to_answer.ipynb", {})
    assert names["texts"] == ["cup on table", "lamp left of table"]
    assert names["mirrored"] == ["cup on table", "lamp right of table"]
    assert set(names["batch"].relations) == {"on", "under"}
    first, last = names["history"][0], names["history"][-1]
    assert last["mrc"] < 0.5 * first["mrc"]
    assert last["vsg_mlm"] < first["vsg_mlm"]
    assert all(0 <= answer <= 1 for answer in names["answers"])
    printed = capsys.readouterr().out
    assert "  ..#." in printed  # the cup's column of patches


@pytest.mark.skipif(importlib.util.find_spec("relpretrain.explain") is None, reason="needs relpretrain.explain")
def test_where_a_model_looks(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    names = run(ROOT / "docs" / "notebooks" / "explain.ipynb", {})
    grid = names["model"].backbone.patch_grid
    maps = [names["cup"], *names["parts"].values(), names["difference"], names["inside"]]
    assert all(tuple(found.shape) == tuple(grid) for found in maps)
    assert math.isclose(sum(names["relation"].probabilities.values()), 1, rel_tol=1e-4)
    assert 0 <= names["energy"] <= 1
