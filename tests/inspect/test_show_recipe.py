"""The page of samples as a recipe has them: its tokenizer, objectives, vocabulary and exclusion list."""

import argparse
import json

import pytest

import relpretrain.objectives as all_objectives
from relpretrain.cli import main
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.stream import with_defaults
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.inspect.common.recipe_data import read_data
from relpretrain.inspect.show.command import _choose, _lenses, _stride, add_subcommands
from relpretrain.inspect.show.samples import look
from relpretrain.scene_graph import RelationVocabulary
from tests.data.small import picture, stream, tokenizer, write_shards


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ({"class_path": "XVLM", "init_args": {"size": "tiny", "image_size": 32}}, 8),
        ({"class_path": "relpretrain.backbones.ALBEF"}, 16),
        ({"class_path": "XVLM", "init_args": {"vision": "swin"}}, 32),
        ({"class_path": "mine.Model"}, None),
        (None, None),
    ],
)
def test_patches_of_a_recipes_backbone(backbone, expected):
    assert _stride({"backbone": backbone}) == expected


def test_the_command_with_a_recipe(tmp_path):
    shards = write_shards(tmp_path / "s", 6, 6)
    options = {"kind": "graphs", "datasets": {"small": shards}, "batch_size": 2, "objectives": ["mrc"]}
    data = {"tokenizer": tokenizer(tmp_path), "image_size": 32, "streams": {"mine": options}}
    model = {"backbone": {"class_path": "XVLM", "init_args": {"size": "tiny", "image_size": 32}}}
    recipe, page = tmp_path / "r.yaml", tmp_path / "page.html"
    recipe.write_text(json.dumps({"model": model, "data": data}))
    assert main(["data", "show", "-c", str(recipe), "--out", str(page), "--n", "2"]) == 0
    text = page.read_text()
    assert "Stream mine (graphs)" in text
    assert "4 × 4 patches" in text
    assert "As captions" not in text


def test_a_named_tokenizer_reads_what_the_recipe_cleans(tmp_path):
    """ "A cat-dog!" is cleaned to "a cat dog" by the recipe, whoever splits it."""
    with ShardWriter(tmp_path / "s") as writer:
        writer.write("k", picture(0), "png", {"captions": ["A cat-dog!"]})
    options = {"kind": "captions", "datasets": {"small": str(tmp_path / "s")}, "batch_size": 1}
    words = tokenizer(tmp_path)
    data = {"tokenizer": words, "image_size": 32, "clean": True, "streams": {"mine": options}}
    recipe, pages = tmp_path / "r.yaml", []
    recipe.write_text(json.dumps({"data": data}))
    for number, more in enumerate(([], ["--tokenizer", words])):
        page = tmp_path / f"{number}.html"
        assert main(["data", "show", "-c", str(recipe), "--out", str(page), "--n", "1", *more]) == 0
        pages.append(page.read_text())
    assert pages[0] == pages[1]


def _lenses_of(recipe, shards, *words):
    parser = argparse.ArgumentParser()
    add_subcommands(parser.add_subparsers())
    args = parser.parse_args(["show", "--out", "p.html", *words])
    return _lenses(args, read_data(recipe), {"small": [ShardIndex.of(f"{shards}/s-000000.tar")]}, [])


def _recipe(tmp_path, shards, objectives, **data):
    options = {"kind": "graphs", "datasets": {"small": shards}, "batch_size": 2, "objectives": list(objectives)}
    data = {"tokenizer": tokenizer(tmp_path), "image_size": 32, "streams": {"mine": options}, **data}
    (tmp_path / "r.yaml").write_text(json.dumps({"model": {"objectives": objectives}, "data": data}))
    return tmp_path / "r.yaml"


def test_a_recipes_streams_have_what_their_objectives_ask_for(tmp_path):
    """As training fills it in: else the page shows other texts and triplets than those that are trained on."""
    shards = write_shards(tmp_path / "s", 6, 6)
    RelationVocabulary(["on"]).save(tmp_path / "v.json")
    own = {"vocabulary": str(tmp_path / "v.json")}
    vsg = {"class_path": "VSG", "init_args": {"max_relations": 1}}
    for objectives, expected in (
        ({"vsg": vsg, "mrc": {"class_path": "MRC", "init_args": own | {"relations_per_image": 5}}}, (False, 1, 5, 0)),
        ({"mrc": {"class_path": "relpretrain.objectives.MRC", "init_args": own}}, (True, 8, 2, 0)),
        ({"tag": {"class_path": "RelationTagger", "init_args": own}}, (True, 8, 2, 8)),
        ({"vsg": {"class_path": "VSG"}, "mine": {"class_path": "mine.Objective"}}, (False, 8, 2, 0)),
    ):
        (lens,) = _lenses_of(_recipe(tmp_path, shards, objectives), shards).values()
        found = lens.stream
        asked = (found.boxed, found.relations_per_text, found.relations_per_image, found.boxes_per_image)
        assert asked == expected
        built = {n: getattr(all_objectives, o["class_path"].rpartition(".")[2])(**o.get("init_args", {}))
                 for n, o in objectives.items() if n != "mine"}  # fmt: skip
        if "mine" not in objectives:
            real = with_defaults(stream("graphs", shards, objectives=list(objectives)), built)
            assert asked == (real.boxed, real.relations_per_text, real.relations_per_image, real.boxes_per_image)
        assert (lens.vocabulary is None) == ("mine" in objectives)


def test_triplets_outside_the_vocabulary_are_not_shown_for_mrc(tmp_path):
    shards = write_shards(tmp_path / "s", 6, 6)
    RelationVocabulary(["on"]).save(tmp_path / "v.json")
    RelationVocabulary(["under"]).save(tmp_path / "w.json")
    objectives = {"mrc": {"class_path": "MRC", "init_args": {"vocabulary": str(tmp_path / "v.json")}}}
    recipe = _recipe(tmp_path, shards, objectives)
    index = ShardIndex.of(f"{shards}/s-000000.tar")
    for words, expected in (((), {"on"}), (("--vocabulary", str(tmp_path / "w.json")), {"under"})):
        lenses = _lenses_of(recipe, shards, *words)
        draws = [draw for row in range(6) for draw in look("small", index, row, lenses).draws["mine"]]
        assert {masked.relation for draw in draws for masked in draw.masked} == expected


def test_cleaning_and_exclusion_are_the_recipes_with_another_tokenizer_too(tmp_path):
    shards = write_shards(tmp_path / "s", 6, 6)
    Exclusion(frozenset("0123")).save(tmp_path / "list.json")
    data = {"clean": True, "separator": False, "exclude": str(tmp_path / "list.json")}
    recipe = _recipe(tmp_path, shards, {"vsg": {"class_path": "VSG"}}, **data)
    for words in ((), ("--tokenizer", str(tmp_path / "tokenizer"))):
        (lens,) = _lenses_of(recipe, shards, *words).values()
        assert (lens.encoder.clean, lens.encoder.separator) == (True, False)
        index = ShardIndex.of(f"{shards}/s-000000.tar")
        assert {row for _, _, row, _ in _choose({"small": [index]}, {"mine": lens}, 6, 0)} == {4, 5}
