"""Shards from http servers, object stores and commands: whole, once, after failures, or with a clear error."""

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import fsspec
import pytest

from relpretrain import progress
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.shards import remote
from relpretrain.data.shards.find import resolve_shards
from relpretrain.data.shards.indexing import index_shards
from relpretrain.data.shards.row_index import ShardIndex
from tests.data.server import Server
from tests.data.small import stream, tokenizer, write_shards


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "WAIT", 0.01)


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(**failures):
        write_shards(tmp_path / "served", 12, 4)
        by_path = {f"/s-00000{name[-1]}.tar": answers for name, answers in failures.items()}
        by_path = {path: answers if isinstance(answers, int) else list(answers) for path, answers in by_path.items()}
        servers.append(Server(tmp_path / "served", by_path))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_a_run_reads_over_http_as_from_the_disk(serve, tmp_path):
    server, words = serve(), tokenizer(tmp_path)

    def keys(shards):
        data = RelationDataModule({"c": stream("captions", shards)}, words, 16)
        data.prepare_data()
        data.setup()
        assert not [path for path in server.asked if path.endswith(".tar")] or shards == address
        found = [batch.keys for batch in islice(iter(data.train_dataloader()), 6)]
        data.teardown("fit")
        return found

    address = ""
    expected = keys(str(tmp_path / "served"))
    address = server.address + "/s-{000000..000002}.tar"
    assert keys(address) == expected
    assert len(server.shards_asked) == 3  # each once
    assert keys(address) == expected
    assert len(server.shards_asked) == 3  # now from the cache


@pytest.mark.parametrize("answers", [[503, 503], ["cut", 500]])
def test_a_server_that_fails_twice_is_asked_again(serve, tmp_path, caplog, answers):
    server = serve(shard1=list(answers))
    with caplog.at_level(logging.WARNING):
        index = ShardIndex.of(f"{server.address}/s-000001.tar")
    assert index.name == "s-000001"
    assert index.keys == ["k004", "k005", "k006", "k007"]
    assert index.path.read_bytes() == (tmp_path / "served/s-000001.tar").read_bytes()
    assert len(server.asked) == 3
    assert ["s-000001.tar" in record.message for record in caplog.records] == [True, True]
    assert "attempt 2 of 5" in caplog.records[0].message


def test_pauses_grow(serve, monkeypatch):
    server, pauses = serve(shard0=503), []
    monkeypatch.setattr(remote, "WAIT", 1.0)
    monkeypatch.setattr(remote.time, "sleep", pauses.append)
    with pytest.raises(OSError, match="in 5 attempts"):
        remote.local_copy(f"{server.address}/s-000000.tar")
    assert pauses == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_server_that_never_answers_well_is_named(serve, tmp_path, workers):
    server = serve(shard1=503)
    data = RelationDataModule(
        {"c": stream("captions", server.address + "/s-{000000..000002}.tar")}, tokenizer(tmp_path), 16,
        num_workers=workers,
    )  # fmt: skip
    data.prepare_data()
    data.setup()
    with pytest.raises(OSError, match=rf"Shard '{server.address}/s-000001\.tar' could not be copied .*in 5 .*503"):
        list(islice(iter(data.train_dataloader()), 20))
    data.teardown("fit")
    assert workers or not list((tmp_path / "cache/shards").glob("*.part"))  # a worker may be at its next batch


def test_what_is_not_there_is_not_asked_for_again(serve):
    server = serve()
    with pytest.raises(OSError, match=r"gone\.tar' could not be copied"):
        ShardIndex.of(f"{server.address}/gone.tar")
    assert len(server.asked) == 1


def test_nobody_listens():
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9/x\.tar' could not be copied"):
        remote.local_copy("http://127.0.0.1:9/x.tar")


def test_an_object_store(tmp_path):
    write_shards(tmp_path / "a", 12, 4)
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "a"), "/bucket/web", recursive=True)
    try:
        found = resolve_shards("memory://bucket/web/*.tar")
        assert found == [f"memory:///bucket/web/s-00000{i}.tar" for i in range(3)]
        assert resolve_shards("memory://bucket/web/s-{000000..000001}.tar")[1] == "memory://bucket/web/s-000001.tar"
        indexes = index_shards(found)
        assert [key for index in indexes.values() for key in index.keys] == [f"k{i:03d}" for i in range(12)]
        with pytest.raises(FileNotFoundError, match="matches nothing"):
            resolve_shards("memory://bucket/none-*.tar")
    finally:
        store.rm("/bucket", recursive=True)


@pytest.mark.parametrize("address", ["nostore://bucket/x.tar", "nostore://bucket/*.tar"])
def test_a_store_that_nothing_can_open(address):
    with pytest.raises(OSError, match=r"'nostore://bucket/.*Protocol not known"):
        remote.local_copy(resolve_shards(address)[0])


def test_two_that_copy_at_once_get_one_whole_file(serve, tmp_path):
    server = serve()
    shard = f"{server.address}/s-000002.tar"
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(remote.local_copy, [shard] * 8))
    assert len(paths) == 1
    assert paths.pop().read_bytes() == (tmp_path / "served/s-000002.tar").read_bytes()
    assert len(list((tmp_path / "cache/shards").iterdir())) == 1


def test_a_full_disk_is_told_at_once(serve, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    server = serve()
    monkeypatch.setattr(remote, "_fetch", full)
    with pytest.raises(OSError, match=r"No space left on device\. Set RELPRETRAIN_CACHE to a folder with room"):
        remote.local_copy(f"{server.address}/s-000000.tar")


@pytest.mark.parametrize("workers", [0, 3])
def test_indexing_in_processes_gives_the_same(tmp_path, workers):
    write_shards(tmp_path / "a", 12, 2)
    (tmp_path / "a/x.tar").write_bytes(b"no tar" * 200)
    shards = resolve_shards([str(tmp_path / "a"), str(tmp_path / "a/s-000001.tar")])
    found = index_shards(shards, workers)
    assert set(found) == set(shards)
    bad = found.pop(str(tmp_path / "a/x.tar"))
    assert isinstance(bad, ValueError)
    assert sum(map(len, found.values())) == 12
    assert index_shards(["gone.tar"], workers)["gone.tar"].errno == 2


def test_indexing_shows_progress(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    index_shards(resolve_shards(write_shards(tmp_path / "a", 6, 2)))
    assert capsys.readouterr().err.splitlines()[0].startswith("1 of 3 shards indexed, ")
