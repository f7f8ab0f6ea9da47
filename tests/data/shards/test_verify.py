"""Shards that are not what they were: the doctor fails and names them, and training tells."""

import json
import os
from itertools import islice

import fsspec
import pytest

from relpretrain.cli import main
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.graph_loader import graph_loader
from relpretrain.data.shards.find import resolve_shards
from relpretrain.errors import ConfigError
from tests.data.small import stream, tokenizer, write_shards


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    write_shards(tmp_path / "shards", 24, 8)
    return tmp_path / "shards"


def doctor(*words):
    return main(["data", "doctor", *map(str, words), "--workers", "1", "--max-bad", "1"])


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[700] ^= 1  # within the first image
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "listed", "said"),
    [
        (zeros, True, "s-000001.tar holds no samples"),
        (zeros, False, "s-000001.tar holds no samples"),
        (half, True, "s-000001.tar is cut off"),
        (half, False, "s-000001.tar is cut off"),
        (os.unlink, True, "lacks 1 shard that its index.json lists: s-000001.tar"),
        (flipped, True, "s-000001.tar is not the file that its manifest tells of (SHA-256"),
    ],
)
def test_the_doctor_fails_and_names_the_shard(folder, damage, listed, said, capsys):
    damage(folder / "s-000001.tar")
    if not listed:
        (folder / "index.json").unlink()
    assert doctor(folder) == 1
    out = capsys.readouterr().out
    assert said in out
    assert out.count("PROBLEM") == 1 + (damage is half and listed)  # its counts are not the manifest's, either


def test_a_copy_of_a_remote_shard_is_named(folder, capsys):
    """It stays in the cache: the shard may have been put right since."""
    whole = (folder / "s-000001.tar").read_bytes()
    half(folder / "s-000001.tar")
    (folder / "index.json").unlink()
    with fsspec.filesystem("memory").open("/bucket/a.tar", "wb") as file:
        file.write((folder / "s-000001.tar").read_bytes() + bytes(-(len(whole) // 2) % 512) + bytes(1024))
    assert doctor("memory://bucket/a.tar") == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "PROBLEM" in line]
    copy = next((folder.parent / "cache/shards").glob("*.tar"))
    assert line.endswith(f"It was read from the copy {copy}: remove that if the shard has changed since.")


def test_counts_are_compared(folder, capsys):
    index = folder / "index.json"
    content = json.loads(index.read_text())
    content["shards"][1]["samples"] = 9
    index.write_text(json.dumps(content))
    assert doctor(folder) == 1
    assert "s-000001.tar holds 8 samples, but its manifest says 9" in capsys.readouterr().out
    elsewhere = folder.parent / "all.json"
    content["shards"] = [shard | {"name": str(folder / shard["name"])} for shard in content["shards"]]
    elsewhere.write_text(json.dumps(content))
    index.unlink()
    assert doctor(folder) == 0
    assert doctor(elsewhere) == 1


def test_whole_shards_are_no_problem(folder, capsys):
    assert doctor(folder) == 0
    assert doctor(folder / "s-000000.tar") == 0
    assert "PROBLEM" not in capsys.readouterr().out


def _data(folder):
    return RelationDataModule({"s": stream("captions", str(folder), 4)}, tokenizer(folder.parent), 16)


def test_training_tells_of_a_missing_shard(folder):
    (folder / "s-000001.tar").unlink()
    with pytest.warns(UserWarning, match=r"lacks 1 shard that its index.json lists: s-000001.tar"):
        _data(folder).setup()


def test_names_in_warnings_are_no_commands_for_the_terminal(folder):
    index = folder / "index.json"
    content = json.loads(index.read_text())
    content["shards"].append(content["shards"][0] | {"name": "\x1b[2J.tar"})
    index.write_text(json.dumps(content))
    told = r"lacks 1 shard that its index\.json lists: \\x1b\[2J\.tar"
    with pytest.warns(UserWarning, match=told):
        _data(folder).setup()
    with pytest.warns(UserWarning, match=told):
        graph_loader(str(folder), tokenizer(folder.parent), 4, 16)


def test_training_tells_of_half_a_shard(folder):
    half(folder / "s-000001.tar")
    with pytest.raises(ConfigError, match=r"s-000001.tar has .* bytes, but its manifest says"):
        _data(folder).setup()
    (folder / "index.json").unlink()
    data = _data(folder)
    data.max_bad_fraction = 1.0
    with pytest.warns(UserWarning, match=r"s-000001.tar is cut off"):
        data.setup()


def test_training_refuses_a_shard_of_zeros(folder):
    zeros(folder / "s-000001.tar")
    data = _data(folder)
    data.setup()  # the manifest is believed until a shard is opened
    with pytest.raises(ConfigError, match=r"s-000001.tar holds 0 samples, but its manifest says 8"):
        list(islice(data.train_dataloader(), 20))
    (folder / "index.json").unlink()
    with pytest.raises(ConfigError, match=r"s-000001.tar holds no samples"):
        _data(folder).setup()


@pytest.mark.parametrize("pattern", ["", "s-*.tar", "s-000009.tar", "s-00000{0..9}.tar"])
def test_pipes_and_dead_links_are_named_not_waited_for(folder, pattern):
    os.mkfifo(folder / "s-000009.tar")
    with pytest.raises(FileNotFoundError, match=r"s-000009.tar|s-000003.tar"):
        resolve_shards(str(folder / pattern))
    (folder / "s-000009.tar").unlink()
    (folder / "s-000009.tar").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match=r"s-000009.tar|s-000003.tar"):
        resolve_shards(str(folder / pattern))
