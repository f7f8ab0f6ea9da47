"""Work by tasks: which part is whose, and that the result depends neither on how many there are nor on kills."""

import argparse
import json
import os
import signal
import subprocess
from itertools import chain
from pathlib import Path

import pytest

import relpretrain
from relpretrain.cli import main
from relpretrain.data.build import tasks as module
from relpretrain.data.build.tasks import Parts, Task, add_task, task_of
from relpretrain.data.shards import manifest
from relpretrain.data.shards.find import resolve_shards
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.identity import file_digest
from tests.data.build.converting import in_a_child, kill_at
from tests.data.shards.test_remote import Server
from tests.data.shards.test_row_index import write_tar
from tests.data.small import write_shards


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith("SLURM_ARRAY")]:
        monkeypatch.delenv(name)


def data(*words):
    return main(["data", *map(str, words)])


def _task_of(*words):
    parser = argparse.ArgumentParser()
    add_task(parser)
    return task_of(parser.parse_args(words))


@pytest.mark.parametrize(
    ("array", "task"),
    [
        ({}, None),
        ({"ID": 3}, None),
        ({"ID": 0, "COUNT": 8}, (0, 8)),
        ({"ID": 8, "COUNT": 8, "MIN": 1, "MAX": 8, "STEP": 1}, (7, 8)),
        ({"ID": 14, "COUNT": 3, "MIN": 10, "STEP": 2}, (2, 3)),
    ],
)
def test_a_job_array_says_which_task_this_is(monkeypatch, array, task):
    for name, value in array.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    assert _task_of() == task
    assert _task_of("--task", "1/2") == (1, 2)


def test_an_array_with_gaps_is_refused(monkeypatch):
    for name, value in {"ID": 9, "COUNT": 3, "MIN": 1}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    with pytest.raises(ValueError, match=r"SLURM_ARRAY_TASK_ID=9 is not one of 3 in a row from 1: name --task"):
        _task_of()


@pytest.mark.parametrize("text", ["8/8", "1", "-1/2", "a/b", "1/0"])
def test_what_is_no_task_is_refused(capsys, text):
    with pytest.raises(SystemExit):
        _task_of(f"--task={text}")
    assert "expected I/N with I from 0 to N - 1" in capsys.readouterr().err


def test_tasks_share_all_parts():
    for count in (1, 3, 7):
        taken = [[part for part in range(20) if Task(number, count).takes(part)] for number in range(count)]
        assert sorted(chain(*taken)) == list(range(20))


def test_others_work_is_neither_mixed_nor_lost(tmp_path):
    parts = Parts(tmp_path / "out/.tasks")
    assert parts.begin(Task(0, 2), ["index"], {"a": 1})
    with pytest.raises(ValueError, match=r"holds the work of 2 tasks, not of 3: name --task I/2"):
        parts.begin(Task(0, 3), ["index"], {"a": 1})
    with pytest.raises(ValueError, match=r"other arguments or files \(a\)"):
        parts.begin(Task(0, 2), ["index"], {"a": 2})
    with pytest.raises(ValueError, match=r"another process does task 0/2"):
        Parts(parts.folder).begin(Task(0, 2), ["index"], {"a": 1})
    parts.mark(Task(0, 2))
    parts = Parts(parts.folder)
    assert not parts.begin(Task(0, 2), ["index"], {"a": 1})
    with pytest.raises(ValueError, match=r"1 of 2 tasks have not finished: run --task 1/2 again"):
        list(parts.stored())


def test_work_of_which_nothing_is_finished_gives_way(tmp_path):
    """A command that was mistaken ends before its first part; the one that is right need not be told to clean up."""
    parts = Parts(tmp_path / "out/.tasks")
    assert parts.begin(Task(0, 2), ["join"], {"on": "url"})
    parts._lock.close()  # ended
    parts = Parts(parts.folder)
    assert parts.begin(Task(0, 3), ["join"], {"on": "key"})
    assert (parts.plan()["total"], parts.plan()["arguments"]) == (3, {"on": "key"})
    parts.store(0, {})
    with pytest.raises(ValueError, match=r"other arguments or files \(on\): .*, or remove it to begin anew"):
        Parts(parts.folder).begin(Task(0, 3), ["join"], {"on": "url"})
    with pytest.raises(ValueError, match=r"other arguments or files \(on\): .*, or add --overwrite to begin anew"):
        Parts(parts.folder).begin(Task(0, 3), ["join"], {"on": "url"}, overwrite=False)
    with pytest.raises(ValueError, match=r"other arguments or files \(on\)"):  # at work
        Parts(parts.folder).begin(Task(0, 3), ["join"], {"on": "url"}, overwrite=True)
    parts._lock.close()
    assert Parts(parts.folder).begin(Task(0, 3), ["join"], {"on": "url"}, overwrite=True)
    assert not parts.place(0).exists()


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
    write_shards(folder, 22, 4)
    (folder / "index.json").unlink()
    write_tar(folder / "z.tar", [("x.json", b"{}"), ("y.jpg", b"i"), ("y.txt", b"a text")])
    return folder


@pytest.mark.parametrize("count", [1, 3, 7])
def test_index_by_tasks(shards, tmp_path, count):
    assert data("index", shards, "--out", tmp_path / "whole.json", "--workers", 1) == 0
    out = tmp_path / "out.json"
    for number in reversed(range(count)):
        assert data("index", shards, "--out", out, "--workers", 1, "--task", f"{number}/{count}") == 0
    assert not out.exists()
    assert data("merge", out) == 0
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} >= {"out.json", "whole.json"}
    assert not list(tmp_path.rglob("*.tasks"))
    found = manifest.manifests(resolve_shards(str(out)), named=[str(out)])
    for shard, entry in found.items():
        index = ShardIndex.of(shard)
        manifest.check_against(entry, index)
        assert entry.relation_counts == index.relation_counts


def test_index_beside_the_shards(shards, capsys, monkeypatch):
    monkeypatch.chdir(shards.parent)
    assert data("index", "shards", "--workers", 1) == 0
    told = capsys.readouterr().out
    assert told.startswith("7 shards: 23 samples, 45 captions, 66 entities, 66 relations\n  z.tar: 1 missing_image\n")
    index = json.loads((shards / "index.json").read_text())
    assert [shard["name"] for shard in index["shards"]] == [*(f"s-{i:06d}.tar" for i in range(6)), "z.tar"]
    monkeypatch.setattr(manifest, "index_shards", lambda missing, workers: pytest.fail("read") if missing else {})
    assert len(manifest.manifests(resolve_shards("shards"))) == 7


def test_a_killed_task_does_only_what_is_missing(shards, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    words = ("index", shards, "--out", out, "--workers", 1, "--task")

    def run():
        kill_at(manifest, "describe", 3, after=False)
        data(*words, "0/2")

    assert in_a_child(run) == -signal.SIGKILL
    assert data("merge", out) == 2
    assert "2 of 2 tasks have not finished: run --task 0/2, 1/2 again" in capsys.readouterr().err
    asked = []
    real = manifest.describe
    monkeypatch.setattr(manifest, "describe", lambda *args: asked.append(args[0].path.name) or real(*args))
    assert data(*words, "0/2") == data(*words, "1/2") == 0
    assert len(asked) == 7 - 2
    assert data(*words, "0/2") == 0
    assert len(asked) == 7 - 2  # marked as done
    assert data("merge", out) == 0
    assert data("index", shards, "--out", tmp_path / "whole", "--workers", 1) == 0
    assert (out / "index.json").read_bytes() == (tmp_path / "whole/index.json").read_bytes()


def test_shards_that_cannot_be_read_are_named_and_the_others_kept(shards, tmp_path, capsys, monkeypatch):
    (shards / "broken.tar").write_bytes(b"no tar" * 500)
    assert data("index", shards, "--out", tmp_path / "out", "--workers", 1) == 2
    error = capsys.readouterr().err
    assert f"{shards}/broken.tar is not an uncompressed tar file" in error
    (shards / "broken.tar").unlink()
    monkeypatch.setattr(manifest, "describe", lambda *found: pytest.fail("read again"))
    assert data("index", shards, "--out", tmp_path / "out", "--workers", 1) == 0
    assert json.loads((tmp_path / "out/index.json").read_text())["samples"] == 23
    assert not (tmp_path / "out/index.json.tasks").exists()


def test_a_shard_that_comes_later_is_told_when_tasks_are_merged(shards, tmp_path, capsys):
    assert data("index", shards, "--out", tmp_path / "out", "--workers", 1, "--task", "0/1") == 0
    write_shards(tmp_path / "new", 2, 2, prefix="new")
    (tmp_path / "new/new-000000.tar").rename(shards / "new.tar")
    assert data("merge", tmp_path / "out") == 2
    assert f"{shards}/new.tar is new or has changed since the tasks began" in capsys.readouterr().err


def test_index_of_remote_shards(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("relpretrain.data.shards.remote.WAIT", 0.01)
    server = Server(shards, {"/s-000001.tar": [503, "cut"]})
    try:
        pattern = server.address + "/s-{000000..000005}.tar"
        assert data("index", pattern, "--workers", 1) == 0
        assert len(server.shards_asked) == 8
        assert server.asked[8:] == ["/index.json"]  # is there another manifest, which would count more?
        found = manifest.manifests(resolve_shards(pattern))
        assert [entry.samples for entry in found.values()] == [4, 4, 4, 4, 4, 2]
        assert server.asked[9:] == ["/index.json"]
        assert not list((tmp_path / "cache").rglob("*.tar"))
    finally:
        server.http.shutdown()
        server.http.server_close()


def test_indexing_some_shards_keeps_what_is_known_of_the_others(shards):
    assert data("index", shards, "--workers", 1) == 0
    whole = (shards / "index.json").read_bytes()
    (shards / "index.json").unlink()
    assert data("index", f"{shards}/s-00000[0-2].tar", "--workers", 1) == 0
    assert data("index", f"{shards}/s-00000[3-5].tar", f"{shards}/z.tar", "--workers", 1) == 0
    assert (shards / "index.json").read_bytes() == whole
    (shards / "s-000000.tar").unlink()
    assert data("index", f"{shards}/z.tar", "--workers", 1) == 0
    names = [shard["name"] for shard in json.loads((shards / "index.json").read_text())["shards"]]
    assert names == [*(f"s-{i:06d}.tar" for i in range(1, 6)), "z.tar"]
    assert data("index", f"{shards}/z.tar", "--out", shards / "own.json", "--workers", 1) == 0
    assert data("index", f"{shards}/s-000001.tar", "--out", shards / "own.json", "--workers", 1) == 0
    assert [e.shard for e in manifest.load_manifest(str(shards / "own.json"))] == [f"{shards}/s-000001.tar"]


def test_index_reads_a_remote_shard_as_it_is_now(shards, capsys):
    """Not as an earlier command has copied it: the remedy for a shard that changed would never help."""
    server = Server(shards)
    try:
        address = f"{server.address}/s-000000.tar"
        ShardIndex.of(address)  # such as the doctor's
        os.replace(shards / "s-000005.tar", shards / "s-000000.tar")
        assert data("index", address, "--workers", 1) == 0
        (entry,) = manifest.manifests([address]).values()
        assert (entry.samples, entry.sha256) == (2, file_digest(shards / "s-000000.tar"))
        assert "counts more" not in capsys.readouterr().out
    finally:
        server.close()


def test_a_manifest_that_another_one_overrules_says_so(shards, capsys):
    assert data("index", shards, "--workers", 1) == 0
    os.replace(shards / "s-000005.tar", shards / "s-000000.tar")
    server = Server(shards)
    try:
        capsys.readouterr()
        assert data("index", f"{server.address}/s-{{000000..000001}}.tar", "--workers", 1) == 0
        told = capsys.readouterr().out
        assert f"{server.address}/index.json counts more, and says something else of 1 shard: put this" in told
    finally:
        server.close()


def test_the_job_array_of_the_recipes(shards, tmp_path, monkeypatch):
    """With an `srun` that writes down what it is to run."""
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$WORDS"\n')
    (tmp_path / "srun").chmod(0o755)
    own = {"SHARDS": f"{shards}/s-{{000000..000005}}.tar", "OUT": f"{tmp_path}/out.json", "WORDS": f"{tmp_path}/words"}
    script = Path(relpretrain.__file__).parents[1] / "recipes/slurm/index.sbatch"
    subprocess.run(["bash", str(script)], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin", **own})
    name, *words = (tmp_path / "words").read_text().splitlines()
    assert name == "relpretrain"
    for number in range(5, 8):
        for variable, value in {"ID": number, "COUNT": 3, "MIN": 5, "STEP": 1}.items():
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{variable}", str(value))
        assert main(words) == 0
    assert data("merge", tmp_path / "out.json") == 0
    assert json.loads((tmp_path / "out.json").read_text())["samples"] == 22


def test_merge_says_what_it_looked_for(tmp_path, capsys):
    assert data("merge", tmp_path) == 2
    assert "holds no work of tasks" in capsys.readouterr().err
    assert module.PLAN == "plan.json"
