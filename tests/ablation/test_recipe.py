import json
from dataclasses import replace

import pytest
import yaml

from benchmarks.ablation.design import Run, cpu
from benchmarks.ablation.recipe import base_recipe, parse_settings, recipe_of, shards_of, with_options
from relpretrain.errors import ConfigError


@pytest.fixture
def world(tmp_path):
    """Indices of a world of 4,000 images, 200 to a shard."""
    for name, shards in (("captions", 20), ("graphs", 4)):
        listed = [{"name": f"shard-{i:06d}.tar", "samples": 200} for i in range(shards)]
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.json").write_text(json.dumps({"shards": listed}))
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.txt").write_text("\n".join(f"w{i}" for i in range(100)))
    return tmp_path


@pytest.fixture
def make(world):
    def recipe(*run, settings=None, **factors):
        preset = replace(cpu(), settings=settings or {})
        return recipe_of(preset, Run(*run, **factors), world, world / "run", 80)

    return recipe


def test_the_main_run_is_the_presets_recipe_with_its_own_data(make, world):
    base, made = yaml.safe_load(cpu().recipe.read_text()), make("X-VLM", "+both", 100)
    assert made["model"]["backbone"] == base["model"]["backbone"]
    assert made["model"]["optimizer"] == base["model"]["optimizer"]
    assert list(made["model"]["objectives"]) == list(base["model"]["objectives"])
    for name, stream in base["data"]["streams"].items():
        rest = {k: v for k, v in stream.items() if k != "datasets"}
        assert rest.items() <= made["data"]["streams"][name].items()
    assert made["trainer"]["max_steps"] == 80
    assert made["seed_everything"] == 100


@pytest.mark.parametrize(
    ("arm", "objectives"),
    [("baseline", []), ("+VSG", ["vsg"]), ("+MRC", ["mrc"]), ("+both", ["vsg", "mrc"])],
)
def test_arms_differ_in_their_relation_objectives_alone(make, arm, objectives):
    for backbone, others in (("ALBEF", []), ("X-VLM", ["vma", "box"])):
        made = make(backbone, arm, 0)
        assert list(made["model"]["objectives"]) == ["itc", "itm", "mlm", *others, *objectives]
        streams = made["data"]["streams"]
        assert ("regions" in streams) == (backbone == "X-VLM")
        assert streams.get("graphs", {}).get("objectives", []) == objectives


def test_boxes_and_graphs_are_of_the_first_images(make, world):
    made = make("X-VLM", "+both", 0, share=0.1)
    expected = [str(world / "graphs" / f"shard-{i:06d}.tar") for i in range(2)]
    for stream in ("regions", "graphs"):
        assert made["data"]["streams"][stream]["datasets"] == {"world": expected}
    assert made["data"]["streams"]["captions"]["datasets"] == {"world": str(world / "captions")}


def test_factors_are_written_where_they_belong(make):
    made = make("ALBEF", "+both", 0, max_relations=3, sort=False, masked=False, mixture="2:5")
    objectives, streams = made["model"]["objectives"], made["data"]["streams"]
    assert objectives["vsg"]["init_args"]["max_relations"] == 3
    assert objectives["mrc"]["init_args"]["masked"] is False
    assert streams["graphs"]["sort_relations"] is False
    assert (streams["captions"]["ratio"], streams["graphs"]["ratio"]) == (2, 5)


def test_a_world_of_many_words_gets_a_larger_vocabulary(make, world):
    assert make("ALBEF", "+both", 0)["model"]["backbone"]["init_args"]["vocab_size"] == 144
    (world / "tokenizer" / "vocab.txt").write_text("\n".join(f"w{i}" for i in range(150)))
    assert make("ALBEF", "+both", 0)["model"]["backbone"]["init_args"]["vocab_size"] == 150


def test_a_share_that_no_shards_come_to_is_refused(world):
    assert len(shards_of(world, 0.2)) == 4
    for share in (0.01, 0.3):
        with pytest.raises(ConfigError, match=f"{share:.2%} of the images are"):
            shards_of(world, share)


def test_values_of_settings_are_read_as_yaml_and_as_numbers():
    texts = ["model.optimizer.lr=2e-3", "objects=[2, 3]", "one_corpus=false", "out.page=a=b", "decay=null"]
    assert list(parse_settings(texts).values()) == [0.002, [2, 3], False, "a=b", None]
    for text in ("mirrored", "mirrored=", "=0.5"):
        with pytest.raises(ValueError, match="does not read NAME=VALUE"):
            parse_settings([text])
    with pytest.raises(ValueError, match="cannot be read as YAML"):
        parse_settings(["objects=[2,"])


def test_options_replace_those_of_the_world():
    world = cpu().worlds["main"]
    assert with_options(world, {"mirrored": 0.5, "objects": [2, 3]}) == {**world, "mirrored": 0.5, "objects": (2, 3)}
    assert world["mirrored"] == 1.0
    for name in ("mirror", "seed", "out", "overwrite"):
        with pytest.raises(ValueError, match=f"No dial of a world is called '{name}'; there are alike, "):
            with_options(world, {name: 1})


def test_settings_replace_those_of_the_recipe():
    before = base_recipe(cpu())
    settings = {"model.optimizer.lr": 0.5, "data.streams.graphs.shuffle": 7, "run": "here"}
    changed = base_recipe(replace(cpu(), settings=settings))
    assert changed["model"]["optimizer"] == {**before["model"]["optimizer"], "lr": 0.5}
    assert changed["data"]["streams"]["graphs"] == {**before["data"]["streams"]["graphs"], "shuffle": 7}
    assert changed["run"] == "here"
    with pytest.raises(ConfigError, match=r"no model\.optimiser, so model\.optimiser\.lr cannot be set"):
        base_recipe(replace(cpu(), settings={"model.optimiser.lr": 0.5}))


def test_a_setting_that_a_factor_overrules_is_told(make):
    made = make("ALBEF", "baseline", 0, settings={"data.streams.captions.ratio": 2, "data.streams.regions.ratio": 0.5})
    assert "regions" not in made["data"]["streams"]
    with pytest.raises(ConfigError, match=r"ratio is 2\.0 by the run's own factors, and cannot be set to 1"):
        make("ALBEF", "baseline", 0, settings={"data.streams.captions.ratio": 1})
