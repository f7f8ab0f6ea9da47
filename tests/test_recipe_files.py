"""Recipes are found by name, in a checkout and in a wheel."""

import sys
from pathlib import Path

import pytest
import yaml

from relpretrain import recipe_files
from relpretrain.cli import main
from relpretrain.inspect.common.recipe_data import read_data
from relpretrain.recipe_files import bundled, find_recipe

ROOT = Path(__file__).parents[1]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_checkouts_recipes_are_found():
    assert bundled() == {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml"))}


def test_a_wheels_recipes_are_found(tmp_path, monkeypatch):
    wheel = tmp_path / "relpretrain" / "recipes"
    wheel.mkdir(parents=True)
    (wheel / "albef.yaml").write_text("# ALBEF: mine\n")
    monkeypatch.setattr(recipe_files, "_PLACES", (wheel, ROOT / "recipes"))
    assert find_recipe("albef") == wheel / "albef.yaml"
    assert list(bundled()) == ["albef"]


@pytest.mark.parametrize("name", ["rex_vlm", "rex_vlm.yaml", "recipes/rex_vlm.yaml"])
def test_a_name_means_the_bundled_recipe(name, elsewhere):
    assert find_recipe(name) == ROOT / "recipes" / "rex_vlm.yaml"
    (elsewhere / "recipes").mkdir()
    (elsewhere / name).write_text("run: mine")
    assert find_recipe(name) == Path(name)  # a file wins


@pytest.mark.parametrize("name", ["rexvlm", "own/rex_vlm.yaml", "rex_vlm.json", "/rex_vlm.yaml"])
def test_other_paths_stay(name, elsewhere):
    assert find_recipe(name) == Path(name)


def test_commands_take_names(elsewhere, capsys):
    assert main(["fit", "-c", "quickstart", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["run"] == "runs/quickstart"
    assert main(["fit", "--config=recipes/quickstart.yaml", "--print_config"]) == 0
    assert list(read_data(Path("quickstart")).streams) == ["captions", "regions", "graphs"]


def test_a_near_name_is_suggested(elsewhere, capsys):
    assert main(["fit", "-c", "quikstart"]) == 2
    assert "recipe quikstart does not exist; did you mean 'quickstart'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_a_command_alone_says_what_it_lacks(command, elsewhere, capsys):
    assert main([command]) == 2
    said = capsys.readouterr().err
    assert said.startswith("relpretrain: error: ")
    assert "zip" not in said
    assert "model" in said or "data" in said


def test_hidden_files_are_no_recipes(elsewhere, capsys):
    Path(".pre-commit-config.yaml").write_text("a: 1")
    assert main(["fit", "-c", "quite_another"]) == 2
    assert "pre-commit" not in capsys.readouterr().err


def test_list_show_copy(elsewhere, capsys):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [*bundled(), "finetune_clip.py"]
    assert "Quickstart: a tiny REX-VLM on generated images, on two CPU cores, in minutes." in "\n".join(listed)
    assert main(["recipes", "show", "albef"]) == 0
    text = (ROOT / "recipes" / "albef.yaml").read_text()
    assert capsys.readouterr().out == text
    assert main(["recipes", "copy", "albef", "mine"]) == 0
    assert Path("mine/albef.yaml").read_text() == text
    assert main(["recipes", "copy", "albef", "mine"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["recipes", "copy", "finetune_clip.py"]) == 0
    assert Path("finetune_clip.py").read_text() == (ROOT / "recipes" / "finetune_clip.py").read_text()
    assert main(["recipes", "show", "albeff"]) == 2
    assert "did you mean 'albef'?" in capsys.readouterr().err


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_wheel_holds_every_recipe_that_runs_from_it():
    import tomllib

    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    runs = [path.name for path in bundled().values() if not path.stem.startswith("ablation")]
    runs.append("finetune_clip.py")
    assert wheel["force-include"] == {f"recipes/{name}": f"relpretrain/recipes/{name}" for name in runs}
    assert "benchmarks/" not in "".join((ROOT / "recipes" / name).read_text() for name in runs)
