"""Copies of remote shards that are read for ever, unless someone says so."""

import os
from pathlib import Path

import pytest

import relpretrain
from relpretrain.cli import main
from relpretrain.data.shards.find import tell_copies
from relpretrain.data.shards.remote import place_of
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.inspect.common.survey import sample_name
from tests.data.small import write_shards

DAY = 86_400
HOME = Path(relpretrain.__file__).parent


@pytest.fixture
def shard(tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    return f"pipe:cat {write_shards(tmp_path / 's', 2)}/s-000000.tar"


def test_commands_say_that_they_read_a_copy_and_how_old_it_is(shard, tmp_path, capsys):
    for number, words in enumerate((["doctor", shard], ["pack", shard, "--out", str(tmp_path / "out")])):
        assert main(["data", *words, "--workers", "1"]) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if "read from copies" in line]
        assert len(told) == number  # the first one has fetched it
        os.utime(place_of(shard), times=(0, 365.5 * DAY))
    (line,) = told
    assert "not anew: 1 of 1 remote shard, the oldest copy of 1971-01-" in line
    assert f"remove {tmp_path}/cache/shards to fetch them again" in line


def test_every_command_that_is_given_shards_says_so():
    given = [path for path in HOME.rglob("*.py") if "resolve_shards(args.shards)" in path.read_text(encoding="utf-8")]
    assert {path.stem for path in given} >= {"index", "command", "output", "commands", "calibrate", "dialogues"}
    assert [path for path in given if "tell_copies(" not in path.read_text(encoding="utf-8")] == []


def test_nothing_is_said_of_local_shards_and_of_those_that_come(shard, tmp_path, capsys):
    tell_copies([shard, str(tmp_path / "s/s-000000.tar"), "https://host/a.tar"])
    assert capsys.readouterr().err == ""


def test_a_copy_that_goes_while_it_is_looked_at_ends_nothing(shard, monkeypatch, capsys):
    ShardIndex.of(shard)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    place_of(shard).unlink()
    tell_copies([shard])
    assert capsys.readouterr().err == ""


def test_the_folder_of_copies_is_no_part_of_a_samples_name(shard, tmp_path):
    copied = ShardIndex.of(shard)
    assert sample_name(copied, 0) == f"{copied.name}/{copied.keys[0]}"
    local = ShardIndex.of(Path(tmp_path / "s/s-000000.tar"))
    assert sample_name(local, 0) == f"s/s-000000/{local.keys[0]}"
