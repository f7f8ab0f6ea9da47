"""The doctor's tables: what a finding is about, in which unit, by which name, and no wider than a page."""

import pytest

from relpretrain.cli import main
from relpretrain.data.shards.writer import ShardWriter
from tests.data.small import picture, record
from tests.inspect.test_doctor import recipe_file


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with a caption of fifty words, and long names of everything."""
    monkeypatch.chdir(tmp_path)
    with ShardWriter("mine") as writer:
        writer.write("a", picture(), "png", record(0) | {"captions": ["word " * 50]})
        wrong = [{"label": "cat", "box": [1, 2, 3000, 4], "attributes": ["a" * 300]}]
        key = "a-key-of-many-letters-" * 4
        writer.write(key, picture(1), "png", record(1) | {"entities": wrong, "relations": []})
    return tmp_path


def doctor(capsys, *words):
    assert main(["data", "doctor", *words, "--workers", "1", "--max-bad", "1"]) == 0
    return capsys.readouterr().out


def test_what_is_too_long_and_too_small_is_said_with_the_limit(mine, capsys):
    told = doctor(capsys, "mine")
    assert "too long (over 40 words)" in told
    assert "2 images with a side under 224 pixels (a usual image size; -c RECIPE takes yours)" in told
    assert "width, pixels" in told
    told = doctor(capsys, "-c", recipe_file(mine, "mine", max_tokens=12))
    assert "too long (over 12 tokens, where training cuts them)" in told
    assert "2 images with a side under 32 pixels (the recipe's image size)" in told


def test_the_data_set_is_called_as_the_user_did(mine, capsys):
    told = doctor(capsys, "mine")
    assert "\nmine: 1 shard, 2 samples" in told
    assert " in mine, within the 100.00% allowed" in told
    assert "\nsmall: 1 shard" in doctor(capsys, "-c", recipe_file(mine, "mine"))


def test_nothing_is_wider_than_110_columns_where_it_is_piped(mine, capsys):
    for words in (["mine"], ["-c", recipe_file(mine, "mine")]):
        told = doctor(capsys, *words)
        assert max(map(len, told.splitlines())) <= 110
        assert "word word" not in told
