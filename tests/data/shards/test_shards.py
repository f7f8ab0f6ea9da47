import json
import os
import resource
import signal
import tarfile
from pathlib import Path

import pytest
import webdataset

from relpretrain.cli import main
from relpretrain.data.shards.find import resolve_shards
from relpretrain.data.shards.manifest import ShardEntry, manifests
from relpretrain.data.shards.remote import local_copy
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import ShardWriter
from relpretrain.identity import file_digest
from tests.data.small import write_shards

RECORD = {
    "image_id": "1",
    "captions": ["a", "b"],
    "entities": [{"label": "x", "box": [0, 0, 1, 1]}, {"label": "y", "box": [0, 0, 1, 1]}],
    "relations": [{"subject": 0, "relation": "on", "object": 1}],
}


def _write(folder, count=5, **options):
    with ShardWriter(folder, samples_per_shard=2, **options) as writer:
        for i in range(count):
            writer.write(f"k{i}", b"image%d" % i, "jpg", RECORD)


def test_writer_fills_shards_and_describes_them(tmp_path):
    _write(tmp_path / "a")
    index = json.loads((tmp_path / "a" / "index.json").read_text())
    assert [s["name"] for s in index["shards"]] == [f"shard-{i:06d}.tar" for i in range(3)]
    assert [s["samples"] for s in index["shards"]] == [2, 2, 1]
    assert (index["samples"], index["captions"], index["entities"], index["relations"]) == (5, 10, 10, 5)
    assert index["relation_counts"] == {"on": 5}
    for shard in index["shards"]:
        assert shard["sha256"] == file_digest(tmp_path / "a" / shard["name"])
    assert sorted(os.listdir(tmp_path / "a")) == ["index.json", *[s["name"] for s in index["shards"]]]


def test_webdataset_reads_the_shards(tmp_path):
    _write(tmp_path / "a")
    samples = list(webdataset.WebDataset(resolve_shards(str(tmp_path / "a")), shardshuffle=False))
    assert [s["__key__"] for s in samples] == [f"k{i}" for i in range(5)]
    assert samples[3]["jpg"] == b"image3"
    assert json.loads(samples[3]["json"]) == RECORD


def test_equal_samples_give_equal_bytes(tmp_path):
    _write(tmp_path / "a")
    _write(tmp_path / "b")
    names = sorted(os.listdir(tmp_path / "a"))
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


def test_exception_leaves_nothing_behind(tmp_path):
    def fail():
        with ShardWriter(tmp_path, samples_per_shard=1) as writer:
            writer.write("a", b"1", "jpg", RECORD)
            writer.write("b", b"2", "jpg", RECORD)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert os.listdir(tmp_path) == []


def test_a_shard_for_which_there_is_no_room_is_named(tmp_path):
    """A limit on the size of files stands for the full disk."""
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised, ShardWriter(tmp_path) as writer:
            writer.write("a", bytes(100_000), "jpg", RECORD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert raised.value.filename.endswith("shard-000000.tar")
    assert os.listdir(tmp_path) == []


def test_second_write_is_refused_unless_asked_for(tmp_path):
    _write(tmp_path, 5)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        _write(tmp_path, 1)
    _write(tmp_path, 1, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["index.json", "shard-000000.tar"]


@pytest.mark.parametrize(
    ("key", "extension", "message"),
    [("a.b", "jpg", "dot"), ("", "jpg", "relative name"), ("x", "gif", "must be one of"), ("k", "jpg", "twice")],
)
def test_what_cannot_be_stored_is_refused(tmp_path, key, extension, message):
    with ShardWriter(tmp_path) as writer:
        writer.write("k", b"1", "jpg", RECORD)
        with pytest.raises(ValueError, match=message):
            writer.write(key, b"2", extension, RECORD)


def test_patterns(tmp_path, monkeypatch):
    _write(tmp_path / "a", 20)
    names = [str(tmp_path / "a" / f"shard-{i:06d}.tar") for i in range(10)]
    assert resolve_shards(str(tmp_path / "a")) == names
    assert resolve_shards(str(tmp_path / "a" / "*2.tar")) == [names[2]]
    assert resolve_shards(str(tmp_path / "a" / "shard-{000003..000005}.tar")) == names[3:6]
    assert resolve_shards([names[7], str(tmp_path / "a")]) == [names[7], *names[:7], *names[8:]]
    assert resolve_shards("pipe:cat x-{1..2}.tar") == ["pipe:cat x-1.tar", "pipe:cat x-2.tar"]
    assert resolve_shards("https://host/x.tar") == ["https://host/x.tar"]
    monkeypatch.chdir(tmp_path)
    assert resolve_shards("a/shard-000001.tar") == [names[1]]


COMMAND = "pipe:touch ran; cat a.tar #.tar"


@pytest.mark.parametrize("pattern", [".", "*.tar", "./*.tar", COMMAND, "{tmp_path}", "{tmp_path}/*.tar"])
def test_the_name_of_a_file_is_never_a_command(tmp_path, monkeypatch, pattern):
    _write(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    os.rename("shard-000000.tar", COMMAND)
    shards = resolve_shards(pattern.replace("{tmp_path}", str(tmp_path)))
    assert shards == [str(tmp_path / COMMAND)]
    assert resolve_shards(shards) == shards  # a list that a command hands on
    assert len(ShardIndex.of(shards[0])) == len(ShardIndex.of(Path(COMMAND))) == 1
    assert isinstance(manifests(shards)[shards[0]], ShardEntry)
    assert not os.path.exists("ran")


@pytest.mark.parametrize(
    "words",
    [
        ("pack", ".", "--out", "out", "--workers", "1"),
        ("pack", COMMAND, "--join", ".", "--out", "out", "--workers", "1"),
        ("index", COMMAND, "--workers", "1"),
        ("doctor", ".", "--workers", "1"),
    ],
    ids=lambda words: words[0],
)
def test_no_command_of_ours_runs_the_name_of_a_file(tmp_path, monkeypatch, words):
    write_shards(tmp_path, 2, 2)
    monkeypatch.chdir(tmp_path)
    os.rename("s-000000.tar", COMMAND)
    os.remove("index.json")
    assert main(["data", *words]) == 0
    assert not os.path.exists("ran")


@pytest.mark.parametrize("name", ["a{1,2}.tar", "a[1].tar", "http:x.tar", "a.json.tar"])
def test_odd_names_stay_what_they_are(tmp_path, name):
    _write(tmp_path, 1)
    os.rename(tmp_path / "shard-000000.tar", tmp_path / name)
    shards = resolve_shards(str(tmp_path))
    assert shards == resolve_shards(shards) == [str(tmp_path / name)]


@pytest.mark.parametrize("pattern", ["a/nothing/*.tar", "a/shard-{000000..000007}.tar", "a/b.tar"])
def test_pattern_without_match_says_where_it_looked(tmp_path, monkeypatch, pattern):
    _write(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        resolve_shards(pattern)
    message = str(caught.value)
    assert pattern in message
    assert f"working directory {tmp_path}" in message
    assert f"nearest existing folder {tmp_path / 'a'}" in message


def test_folder_without_shards(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no \*\.tar"):
        resolve_shards(str(tmp_path))


def test_remote_shards_are_copied_once(tmp_path, monkeypatch):
    monkeypatch.setattr("relpretrain.data.shards.remote.WAIT", 0.0)
    _write(tmp_path / "a")
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "a" / "shard-000000.tar"
    copy = local_copy(f"pipe:cat {source}")
    assert copy.is_relative_to(tmp_path / "cache")
    with tarfile.open(copy) as tar:
        assert len(tar.getnames()) == 4
    source.unlink()
    assert local_copy(f"pipe:cat {source}") == copy
    with pytest.raises(OSError, match=r"gone\.tar.*could not be copied"):
        local_copy("pipe:cat gone.tar")
    assert len(os.listdir(tmp_path / "cache" / "shards")) == 1
