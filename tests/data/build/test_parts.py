"""Shards made by tasks: the same to the byte for any number of them, and after kills."""

import json
import os
import signal

import pytest

from relpretrain.cli import main
from relpretrain.data.build import jobs as parallel
from relpretrain.data.shards import writer as writing
from relpretrain.data.shards.find import resolve_shards
from relpretrain.data.shards.manifest import check_against, manifests
from relpretrain.data.shards.row_index import ShardIndex
from tests.data.build.converting import contents, in_a_child, kill_at, records, words
from tests.data.build.test_pack import GRAPH, joined, picture, samples, two_downloads
from tests.data.test_commands import write_tar


@pytest.fixture(autouse=True)
def _no_array(monkeypatch):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)


def data(*arguments):
    return main(["data", *map(str, arguments)])


def by_tasks(total, out, *arguments):
    for number in reversed(range(total)):
        assert data(*arguments, "--task", f"{number}/{total}") == 0
    assert not list(out.glob("*.tar"))
    assert data("merge", out) == 0
    return contents(out)


@pytest.fixture(scope="module")
def converted(photos, tmp_path_factory):
    """What a single task makes."""
    out = tmp_path_factory.mktemp("single") / "out"
    return by_tasks(1, out, "convert", *words(photos, out))


def test_a_single_task_converts_what_no_tasks_do(photos, converted, tmp_path):
    whole, single = tmp_path / "whole", tmp_path / "single"
    assert data("convert", *words(photos, whole)) == 0
    single.mkdir()
    for name, content in converted.items():
        (single / name).write_bytes(content)
    assert records(single) == records(whole)
    ours, theirs = (json.loads((folder / "index.json").read_text()) for folder in (single, whole))
    for index in (ours, theirs):
        index.pop("shards")
    assert ours == theirs
    assert (single / "relations.json").read_bytes() == (whole / "relations.json").read_bytes().replace(b"whole", b"out")
    assert not list(single.glob(".*"))


@pytest.mark.parametrize(("total", "workers"), [(3, 1), (7, 2)])
def test_convert_by_tasks(photos, converted, tmp_path, monkeypatch, total, workers):
    monkeypatch.setattr(parallel, "CHUNK", 3)
    out = tmp_path / "out"
    assert by_tasks(total, out, "convert", *words(photos, out, workers=workers)) == converted
    for shard, entry in manifests(resolve_shards(str(out))).items():
        check_against(entry, ShardIndex.of(shard))


@pytest.mark.parametrize(("name", "call", "after"), [("write", 6, True), ("finish", 2, True)])
def test_a_killed_task_gives_the_same(photos, converted, tmp_path, name, call, after):
    out = tmp_path / "out"

    def run():
        kill_at(writing.ShardFile, name, call, after)
        data("convert", *words(photos, out, "--task", "0/3"))

    assert in_a_child(run) == -signal.SIGKILL
    assert data("merge", out) == 2
    assert by_tasks(3, out, "convert", *words(photos, out)) == converted


def test_a_killed_merge_goes_on(photos, converted, tmp_path):
    out = tmp_path / "out"
    for number in range(3):
        assert data("convert", *words(photos, out, "--task", f"{number}/3")) == 0

    def run():
        kill_at(os, "replace", 4, after=True)
        data("merge", out)

    assert in_a_child(run) == -signal.SIGKILL
    assert not (out / "index.json").exists()
    assert data("merge", out) == 0
    assert contents(out) == converted


def test_tasks_and_other_work_do_not_meet(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert data("convert", *words(photos, out, "--task", "0/2")) == 0
    assert data("convert", *words(photos, out, "--inverses", "drop", "--task", "1/2")) == 2
    assert "holds work with other arguments or files (options)" in capsys.readouterr().err
    (out / "index.json").write_text("{}")
    assert data("convert", *words(photos, out, "--task", "1/2")) == 2
    assert "holds shards already" in capsys.readouterr().err


@pytest.fixture
def many(tmp_path):
    for name in "abc":
        members = {}
        for number in range(4):
            members |= {
                f"{name}{number}.jpg": picture((60, 40)),
                f"{name}{number}.json": {"caption": f"{name}{number}"},
            }
        write_tar(tmp_path / f"in/{name}.tar", members)
    write_tar(tmp_path / "in/d.tar", {"x.json": b"{}"})
    return tmp_path / "in"


def test_pack_by_tasks_makes_a_shard_of_a_shard(many, tmp_path):
    results = []
    for total in (1, 3, 7):
        out = tmp_path / f"{total}/out"
        results.append(by_tasks(total, out, "pack", many, "--out", out, "--shorter-side", 20, "--workers", 1))
    assert results[0] == results[1] == results[2]
    index = json.loads(results[0]["index.json"])
    assert [(shard["name"], shard["samples"]) for shard in index["shards"]] == [
        (f"shard-{i:06d}.tar", 4) for i in range(3)
    ]
    assert index["dropped"] == {"missing_image": 1}
    assert sorted(samples(tmp_path / "3/out")[0]) == [f"{name}{i}" for name in "abc" for i in range(4)]


def test_a_join_by_tasks_counts_as_one(many, tmp_path, capsys):
    lines = [{"image_id": name, **GRAPH, "width": 600, "height": 400} for name in ("a1", "c2.jpg", "nowhere")]
    file = joined(tmp_path, *lines)
    results = []
    for total in (1, 3):
        out = tmp_path / f"{total}/out"
        options = ("--join", file, "--unmatched", "drop", "--out", out, "--workers", 1)
        results.append(by_tasks(total, out, "pack", many, *options))
        assert "annotation_without_sample: 'nowhere'" in capsys.readouterr().out
    assert results[0] == results[1]
    index = json.loads(results[0]["index.json"])
    assert (index["samples"], index["relations"]) == (2, 2)
    assert index["dropped"] == {"annotation_without_sample": 1, "missing_image": 1, "sample_without_annotation": 10}


def test_a_name_of_two_images_is_told_when_tasks_are_merged(tmp_path, capsys):
    shards = two_downloads(tmp_path)
    file = joined(tmp_path, {"key": "000", "captions": ["more"]})
    words = ("pack", *shards, "--join", file, "--join-by", "key", "--out", tmp_path / "out", "--workers", 1)
    assert data(*words, "--task", "0/2") == data(*words, "--task", "1/2") == 0
    assert data("merge", tmp_path / "out") == 2
    assert "the key '000' is that of two different images" in capsys.readouterr().err


def test_what_is_about_all_shards_is_refused(many, tmp_path, capsys):
    assert data("pack", many, "--out", tmp_path / "out", "--shuffle", 1, "--task", "0/2") == 2
    assert "--shuffle and --max-samples are about all shards together" in capsys.readouterr().err


def test_ids_of_two_downloads_are_told_when_tasks_are_merged(tmp_path, capsys):
    """Keys are unique in a shard, and no task knows another one's: as one, `pack` numbers them."""
    shards = two_downloads(tmp_path)
    out = tmp_path / "out"
    by_tasks(2, out, "pack", *shards, "--out", out, "--workers", 1)
    told = capsys.readouterr().out
    assert "repeated_image_id: '000', '001'" in told
    assert "2 image ids made of a key: an earlier shard has the same, as of two downloads" in told
    index = json.loads((out / "index.json").read_text())
    assert (index["samples"], index["dropped"], index["noted"]) == (4, {}, {"repeated_image_id": 2})
    assert "dropped: nothing\nnoted, but not left out: 2 repeated_image_id\n" in told
    other = tmp_path / "other"
    by_tasks(2, other, "pack", out, "--out", other, "--workers", 1)  # what a record says of itself is believed
    assert "repeated" not in capsys.readouterr().out
