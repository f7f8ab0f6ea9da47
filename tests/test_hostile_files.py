"""Files of unknown origin that are read whole: recipes, score files, reports; and disks that are full."""

import csv
import json

import numpy as np
import pytest

import relpretrain
from relpretrain.cli import main, user_message
from relpretrain.errors import CheckpointError, ConfigError
from relpretrain.inspect.run_report.groups import read_settings
from relpretrain.objectives import MRC
from relpretrain.reading import read_json
from relpretrain.recipe_files import bundled, check_recipe
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.sources.common.files import json_items, json_lines
from relpretrain.training.command.recipe_checks import read_recipe
from relpretrain.zeroshot.report.terminal import Report, read_report
from relpretrain.zeroshot.results.items import ItemResult, read_items, write_items
from relpretrain.zeroshot.tasks.choices.crepe import _puzzle
from relpretrain.zeroshot.tasks.common.base import read_image

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]\n", "a: &a {b: *a}\n", "[" * 1000])
def test_recipes_that_unpack_without_end_are_refused(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    for read in (check_recipe, read_recipe):
        with pytest.raises(ConfigError, match=r"r\.yaml (holds more than|is nested)"):
            read(path)
    for command in (["fit"], ["data", "doctor"], ["data", "show", "--out", str(tmp_path / "o")]):
        assert main([*command, "-c", str(path)]) == 2


def test_tags_of_a_recipe_run_nothing(tmp_path):
    path, ran = tmp_path / "r.yaml", tmp_path / "ran"
    path.write_text(f"run: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{ran}]]\n")
    for command in (["fit"], ["data", "doctor"], ["data", "show", "--out", str(tmp_path / "o")]):
        assert main([*command, "-c", str(path)]) == 2
    assert not ran.exists()


def test_recipes_with_some_aliases_are_read(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("a: &a {b: 1}\nc: *a\nd: *a\n")
    check_recipe(path)
    assert read_recipe(path)["d"] == {"b": 1}
    for recipe in bundled().values():
        check_recipe(recipe)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_json_that_is_nested_without_end_is_no_json(tmp_path, text):
    path = tmp_path / "zero_shot.json"
    path.write_text(text)
    for read in (
        lambda: read_json(path, "numbers"),
        lambda: list(json_lines(path, "lines")),
        lambda: list(json_items(path, "items")),
        lambda: read_report(path),
    ):
        with pytest.raises(ValueError, match=r"zero_shot\.json"):
            read()
    assert main(["zeroshot", "--scores", str(path)]) == 2
    assert main(["zeroshot", "--side-by-side", str(tmp_path)]) == 2


def test_nesting_without_end_beside_weights_shards_and_runs(tmp_path):
    for name in ("config.json", "index.json", "config.yaml"):
        (tmp_path / name).write_text("[" * 100_000)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"cannot be read: .*nested too deeply"):
        relpretrain.load(tmp_path)
    with pytest.raises(ValueError, match="has no counts of relations"):
        MRC(RelationVocabulary(("on",)), relation_counts=str(tmp_path))
    assert read_settings(tmp_path / "metrics.csv") == {}


@pytest.mark.parametrize("text", ["-" * 100_000 + "1", "1+" * 100_000 + "1", "[" * 100_000])
def test_lists_in_a_table_that_are_nested_without_end_are_named(text):
    with pytest.raises(ValueError, match="Row 0: 'hard_negs' must be a list of texts"):
        _puzzle("swap", 4, "0", {"hard_negs": text}, "Row 0")


@pytest.mark.parametrize("shape", [(10**15, 1000, 3), (10**20, 3, 3), (-5, 3, 3)])
def test_an_array_that_tells_of_more_than_it_holds_is_no_image(tmp_path, shape):
    path = tmp_path / "frame.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(bytes(64))
    with pytest.raises(ValueError, match=r"frame\.npy cannot be decoded"):
        read_image(str(path))


LINE = {"id": 1, "label": 1, "relation": "on", "score": 0.5, "image": "x.jpg"}


@pytest.mark.parametrize("name", LINE)
@pytest.mark.parametrize("value", [[], {}, None, "x", [1], 10**400, True, -1.5], ids=lambda v: str(v)[:9])
def test_score_files_with_odd_values_end_in_a_line(tmp_path, capsys, name, value):
    path = tmp_path / "odd.jsonl"
    path.write_text(
        "".join(json.dumps(line) + "\n" for line in (LINE, LINE | {name: value, "id": 2}, LINE | {"id": 3}))
    )
    assert main(["zeroshot", "--scores", str(path)]) in (0, 2)
    captured = capsys.readouterr()
    assert captured.out or (captured.err.startswith("relpretrain zeroshot: error: ") and captured.err.count("\n") == 1)


@pytest.mark.parametrize(
    "state",
    [5, [], {"tables": 5, "metadata": {}}, {"tables": [5], "metadata": {}}, {"tables": [{"rows": 5}], "metadata": 1}],
)
def test_odd_reports_are_named(tmp_path, state):
    path = tmp_path / "zero_shot.json"
    path.write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"zero_shot\.json is not a zero-shot report"):
        read_report(path)


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    odd = '=HYPERLINK("http://x","y")'
    result = ItemResult("vsr", odd, "@x", "-1+1", "+y.jpg", (odd,), ("caption",), (0.5,), True, "\t=1")
    write_items(tmp_path / "items.csv", [result])
    with (tmp_path / "items.csv").open(newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert read_items(tmp_path / "items.csv") == [result]


def test_a_report_is_on_the_disk_before_it_is_printed(tmp_path, monkeypatch):
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps(LINE) + "\n" + json.dumps(LINE | {"id": 2, "label": 0}) + "\n")

    def fail(self, console=None):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(Report, "print", fail)
    assert main(["zeroshot", "--scores", str(path), "--out", str(tmp_path / "out")]) == 2
    assert {"zero_shot.json", "zero_shot.md", "zero_shot.html", "items.csv"} <= {
        found.name for found in (tmp_path / "out").iterdir()
    }


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "a file cannot be written, for there is no space left"),
        (OSError(28, "No space left on device", "/x/metrics.csv"), "/x/metrics.csv: no space left on device"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "no space left"),
        (RuntimeError("unable to write to file </torch_12_3>: No space left on device (28)"), "want of shared memory"),
    ],
)
def test_a_full_disk_is_told_in_a_line(error, said):
    (line,) = user_message(error)
    assert said in line
    assert "\n" not in line


def test_errors_hold_no_commands_for_the_terminal(tmp_path, capsys):
    assert main(["data", "doctor", str(tmp_path / "a\x1b[31mb.tar")]) == 2
    assert "a\\x1b[31mb.tar" in capsys.readouterr().err
