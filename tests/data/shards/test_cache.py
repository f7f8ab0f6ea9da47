"""Copies of remote shards: what came is what was meant, once for all, in bounded room, whatever kills leave."""

import logging
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from relpretrain.data.shards import remote
from relpretrain.data.shards.cache import Cache, room_for
from relpretrain.data.shards.find import resolve_shards
from relpretrain.data.shards.manifest import manifests
from relpretrain.data.shards.opened import OpenShards
from relpretrain.data.shards.row_index import ShardIndex
from tests.data.server import Server
from tests.data.small import write_shards


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "WAIT", 0.01)
    monkeypatch.setattr(remote, "PATIENCE", 0.4)


@pytest.fixture
def served(tmp_path):
    """A server of six shards, and their entries."""
    write_shards(tmp_path / "served", 24, 4)
    server = Server(tmp_path / "served")
    found = manifests(resolve_shards(f"{server.address}/s-{{000000..000005}}.tar"))
    yield server, list(found.values())
    server.close()


def _files(cache):
    return sorted(path.name for path in cache.folder.iterdir()) if cache.folder.exists() else []


def test_a_copy_is_whole_checked_indexed_and_readable_by_others(served):
    server, entries = served
    cache, before = Cache(), os.umask(0o027)
    try:
        assert cache.fetch(entries[0]) == entries[0].bytes
    finally:
        os.umask(before)
    path = cache.path(entries[0])
    assert path.read_bytes() == (server.folder / "s-000000.tar").read_bytes()
    assert path.stat().st_mode & 0o777 == 0o640
    assert _files(cache) == [f".{path.name}.index", path.name]
    assert ShardIndex.at(path, "x").keys == ["k000", "k001", "k002", "k003"]
    assert cache.fetch(entries[0]) == 0
    assert server.shards_asked == ["/s-000000.tar"]


BAD = {
    "html": "came, its manifest says",
    "cut": "ContentLength|not enough data|payload",
    "short": "came, its manifest says",
    "empty": "no bytes arrived",
    "other": "its sha256 is .* its manifest says .*It changed at its address: put it back, or write the manifest anew",
    "stall": "imeout",
    "drip": "only [0-9]+ bytes came in|imeout",
    "more": "more bytes came than",
    503: "503",
}


@pytest.mark.parametrize("answer", BAD)
def test_what_is_not_the_shard_is_refused_and_named(served, answer):
    server, entries = served
    server.answers["/s-000002.tar"] = answer
    cache = Cache()
    with pytest.raises(
        OSError, match=rf"Shard '{entries[2].shard}' could not be copied .*in 5 attempts: .*({BAD[answer]})"
    ):
        cache.fetch(entries[2])
    assert len(server.shards_asked) == 5
    assert _files(cache) == []
    server.answers.clear()
    assert cache.fetch(entries[2]) == entries[2].bytes


@pytest.mark.parametrize("answer", ["html", "short", "empty"])
def test_without_a_manifest_it_must_be_a_whole_tar(served, answer):
    server, entries = served
    server.answers["/s-000002.tar"] = answer
    unknown = replace(entries[2], bytes=None, sha256=None)
    for get in (Cache().fetch, lambda entry: remote.local_copy(entry.shard)):
        with pytest.raises(OSError, match=r"what came is no tar file|what came is cut off|no bytes arrived"):
            get(unknown)
    server.answers.clear()
    assert Cache().fetch(unknown) == entries[2].bytes


def test_a_shard_that_changed_at_its_address_is_fetched_by_its_new_manifest_alone(served, tmp_path):
    server, entries = served
    cache = Cache()
    cache.fetch(entries[0])
    old, new = server.folder / "s-000000.tar", server.folder / "s-000001.tar"
    old.write_bytes(new.read_bytes())
    assert cache.fetch(entries[0]) == 0  # the copy is still what the manifest tells of
    changed = replace(entries[0], bytes=entries[1].bytes, sha256=entries[1].sha256)
    assert cache.path(changed) != cache.path(entries[0])
    cache.fetch(changed)
    assert cache.path(changed).read_bytes() == new.read_bytes()
    cache.path(entries[0]).unlink()
    with pytest.raises(OSError, match="It changed at its address"):
        cache.fetch(entries[0])


def test_many_that_want_one_shard_fetch_it_once(served):
    server, entries = served
    with ThreadPoolExecutor(8) as pool:
        came = list(pool.map(lambda _: Cache().fetch(entries[1]), range(8)))
    assert sorted(came) == [0] * 7 + [entries[1].bytes]
    assert server.shards_asked == ["/s-000001.tar"]
    assert len(_files(Cache())) == 2


def test_room_is_made_by_age_and_never_of_what_is_needed(served):
    _, entries = served
    cache = Cache(sum(map(room_for, entries[:3])))
    for number, entry in enumerate(entries[:3]):
        cache.fetch(entry)
        os.utime(cache.path(entry), ns=(number, cache.path(entry).stat().st_mtime_ns))
    reader = OpenShards(cache)
    assert len(reader.get(entries[0], set).index) == 4  # used again, so no longer the oldest
    cache.fetch(entries[3], lambda: {cache.path(entries[1])})
    assert [cache.path(entry).exists() for entry in entries[:4]] == [True, True, False, True]
    assert cache.used() <= cache.limit
    assert reader.get(entries[0], set).index.read(0).key == "k000"


def test_more_than_the_limit_is_told(served, caplog):
    _, entries = served
    cache = Cache(room_for(entries[0]))
    cache.fetch(entries[0])
    with caplog.at_level(logging.WARNING):
        cache.fetch(entries[1], lambda: {cache.path(entries[0])})
    assert "more than data.cache_gb=" in caplog.text


def _fetch(entry):
    Cache().fetch(entry)


def test_what_a_kill_leaves_is_taken_over_or_cleaned(served):
    server, entries = served
    server.answers["/s-000004.tar"] = ["stall"]
    cache = Cache()
    process = multiprocessing.get_context("fork").Process(target=_fetch, args=(entries[4],))
    process.start()
    while not (parts := list(cache.folder.glob("*.part")) if cache.folder.exists() else []) or not os.path.getsize(
        parts[0]
    ):
        time.sleep(0.005)
    cache.clean()
    assert parts[0].exists()  # somebody is at work on it
    assert cache.fetch(entries[4], wait=False) == 0  # which is not waited for
    assert cache.used() >= entries[4].bytes  # and its room is taken already
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert _files(cache) == [parts[0].name]
    for _ in ("with what was left", "after a cleaning"):
        assert cache.fetch(entries[4]) == entries[4].bytes
        assert _files(cache) == [f".{cache.path(entries[4]).name}.index", cache.path(entries[4]).name]
        cache.path(entries[4]).unlink()
        parts[0].write_bytes(b"half")
        cache.clean()
        assert not parts[0].exists()


def test_a_copy_that_vanishes_is_fetched_again(served, monkeypatch):
    server, entries = served
    cache, fetch = Cache(), Cache.fetch

    def evicted_at_once(self, entry, *args):
        came = fetch(self, entry, *args)
        if len(server.shards_asked) == 1:
            cache.path(entry).unlink()  # by another run
        return came

    monkeypatch.setattr(Cache, "fetch", evicted_at_once)
    assert len(OpenShards(cache).get(entries[0], set).index) == 4
    assert len(server.shards_asked) == 2


def test_a_copy_that_was_cut_off_since_it_came_is_made_anew(served):
    """Else every run would stop at it, and nothing would tell which file to remove."""
    server, entries = served
    cache = Cache()
    cache.fetch(entries[0])
    os.truncate(cache.path(entries[0]), 600)
    assert OpenShards(cache).get(entries[0], set).index.keys == ["k000", "k001", "k002", "k003"]
    assert cache.path(entries[0]).stat().st_size == entries[0].bytes
    assert server.shards_asked == ["/s-000000.tar"] * 2


def test_open_shards_are_those_of_the_time(served):
    _, entries = served
    noted = []
    opened = OpenShards(Cache(), note=lambda name, number: noted.append(name))
    first = opened.get(entries[0], set)
    assert opened.get(entries[0], set) is first
    file = first.index.file
    opened.get(entries[1], lambda: {entries[0].shard})
    assert len(opened) == 2
    opened.get(entries[2], lambda: {entries[1].shard})
    assert (len(opened), opened.opened, file.closed) == (2, 3, True)
    opened.get(entries[0], set)
    assert noted.count("waits") == 3
    assert noted.count("hits") == 1


def test_a_local_shard_that_is_not_what_its_manifest_says(tmp_path):
    write_shards(tmp_path / "a", 8, 4)
    one, two = manifests(resolve_shards(str(tmp_path / "a"))).values()
    content = (tmp_path / "a/s-000000.tar").read_bytes()
    (tmp_path / "a/s-000000.tar").write_bytes(content[:-1024])
    with pytest.raises(OSError, match=r"s-000000\.tar has .* bytes, but its manifest says"):
        OpenShards().get(one, set)
    (tmp_path / "a/s-000000.tar").unlink()
    with pytest.raises(OSError, match=r"s-000000\.tar disappeared during the run\. Put it back"):
        OpenShards().get(one, set)
    with pytest.raises(ValueError, match=r"holds 4 samples, but its manifest says 9"):
        OpenShards().get(replace(two, samples=9), set)


def test_a_folder_that_cannot_be_written_to_is_told(served, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"set RELPRETRAIN_CACHE to a folder that can be written to\): '.*file/shards'"):
        Cache().fetch(served[1][0])
