import pytest
import yaml

from relpretrain.errors import ConfigError
from relpretrain.evidence.presets import cpu
from relpretrain.evidence.settings import check_settings, parse, with_dials, with_settings


def test_values_are_read_as_yaml_and_as_numbers():
    texts = ["model.optimizer.lr=2e-3", "mirrored=0.5", "objects=[2, 3]", "one_corpus=false", "colors=[red, teal]"]
    assert parse([*texts, "out.page=a=b", "decay=null"]) == {
        "model.optimizer.lr": 0.002,
        "mirrored": 0.5,
        "objects": [2, 3],
        "one_corpus": False,
        "colors": ["red", "teal"],
        "out.page": "a=b",
        "decay": None,
    }


@pytest.mark.parametrize("text", ["mirrored", "mirrored=", "=0.5"])
def test_what_is_no_setting_is_told(text):
    with pytest.raises(ValueError, match="does not read NAME=VALUE"):
        parse([text])
    with pytest.raises(ValueError, match="cannot be read as YAML"):
        parse(["objects=[2,"])


def test_dials_replace_those_of_the_world():
    world = cpu().worlds["main"]
    changed = with_dials(world, {"mirrored": 0.5, "objects": [2, 3]})
    assert changed == {**world, "mirrored": 0.5, "objects": (2, 3)}
    assert world["mirrored"] == 1.0
    for name in ("mirror", "seed", "out", "overwrite"):
        with pytest.raises(ValueError, match=f"No dial of a world is called '{name}'; there are alike, "):
            with_dials(world, {name: 1})


def test_settings_replace_those_of_the_recipe():
    recipe = yaml.safe_load(cpu().recipe.read_text())
    before = yaml.safe_dump(recipe)
    changed = with_settings(recipe, {"model.optimizer.lr": 0.5, "data.streams.graphs.shuffle": 7, "run": "here"})
    assert changed["model"]["optimizer"] == {**recipe["model"]["optimizer"], "lr": 0.5}
    assert changed["data"]["streams"]["graphs"] == {**recipe["data"]["streams"]["graphs"], "shuffle": 7}
    assert changed["run"] == "here"
    assert yaml.safe_dump(recipe) == before
    with pytest.raises(ConfigError, match=r"no model\.optimiser, so model\.optimiser\.lr cannot be set"):
        with_settings(recipe, {"model.optimiser.lr": 0.5})


def test_a_setting_that_a_factor_overrules_is_told():
    recipe = {"data": {"streams": {"captions": {"ratio": 2.0}}}}
    check_settings(
        recipe, {"data.streams.captions.ratio": 2, "data.streams.regions.ratio": 0.25, "data.streams.graphs": {}}
    )
    with pytest.raises(ConfigError, match=r"ratio is 2\.0 by the run's own factors, and cannot be set to 1"):
        check_settings(recipe, {"data.streams.captions.ratio": 1})
