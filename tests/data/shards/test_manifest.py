"""What is known of shards without opening them."""

import json
import logging
import os
from collections import Counter

import fsspec
import pytest

from relpretrain.cli import main
from relpretrain.data.shards import manifest as module
from relpretrain.data.shards.find import named_manifests, resolve_shards
from relpretrain.data.shards.manifest import ShardEntry, check_against, load_manifest, manifests, relation_total
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import ShardWriter, write_manifest
from relpretrain.identity import file_digest
from tests.data.shards.test_row_index import write_tar
from tests.data.small import picture, record, write_shards


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))


def _mixed(folder):
    """Two shards: five samples with everything, and one without a caption, one without a graph."""
    with ShardWriter(folder, samples_per_shard=5) as writer:
        for i in range(5):
            writer.write(f"k{i}", picture(i), "png", record(i))
        writer.write("k5", picture(5), "png", record(5, captions=0))
        writer.write("k6", picture(6), "png", record(6, graph=False))
    return resolve_shards(str(folder))


@pytest.fixture
def unread(monkeypatch):
    """Opening a shard is an error."""
    monkeypatch.setattr(module, "index_shards", lambda shards, workers: pytest.fail(str(shards)) if shards else {})


def _plain(entry):
    named = {name: getattr(entry, name) for name in ("samples", "bytes", "eligible", "problems", "relation_counts")}
    return json.loads(json.dumps(named))


def test_what_the_writer_says_is_what_the_row_indexes_hold(tmp_path, unread):
    shards = _mixed(tmp_path / "a")
    found = manifests(shards)
    assert list(found) == shards
    assert [entry.eligible for entry in found.values()] == [
        {"captions": 5, "regions": 5, "graphs": 5, "boxed_graphs": 5},
        {"captions": 1, "regions": 1, "graphs": 1, "boxed_graphs": 1},
    ]
    for shard, entry in found.items():
        index = ShardIndex.of(shard)
        assert _plain(entry) == _plain(ShardEntry.of(shard, index))
        assert entry.sha256 == file_digest(index.path)
        check_against(entry, index)
    assert relation_total(found.values()) == Counter({"beside": 6, "on": 6, "under": 6})


def test_folders_of_earlier_versions_and_of_others_are_read_once(tmp_path):
    shards = _mixed(tmp_path / "a")
    expected = [_plain(entry) for entry in manifests(shards).values()]
    index = json.loads((tmp_path / "a/index.json").read_text())
    for shard in index["shards"]:
        for new in ("bytes", "eligible", "relation_numbers"):
            del shard[new]
    (tmp_path / "a/index.json").write_text(json.dumps(index))
    assert [_plain(entry) for entry in manifests(shards).values()] == expected
    (tmp_path / "a/index.json").unlink()
    assert [_plain(entry) for entry in manifests(shards).values()] == expected


def test_a_changed_or_missing_or_empty_shard_is_named(tmp_path):
    first, second = _mixed(tmp_path / "a")
    empty = write_tar(tmp_path / "a/empty.tar", [])
    with open(first, "ab") as file:
        file.write(b"\0" * 512)
    os.rename(second, tmp_path / "elsewhere.tar")
    found = manifests([first, second, empty])
    assert all(isinstance(error, Exception) for error in found.values())
    assert f"{first} has {os.path.getsize(first):,} bytes, but its manifest says" in str(found[first])
    assert second in str(found[second])
    assert f"{empty} holds no samples" in str(found[empty])


def test_a_row_index_that_differs_is_told(tmp_path):
    first, second = _mixed(tmp_path / "a")
    entry = manifests([first])[first]
    with pytest.raises(ValueError, match=r"holds 2 samples, but its manifest says 5"):
        check_against(entry, ShardIndex.of(second))


def test_a_manifest_elsewhere_stands_for_its_shards(tmp_path, unread):
    shards = _mixed(tmp_path / "a")
    described = [module.examine(shard) | {"name": shard} for shard in shards]
    (tmp_path / "a/index.json").unlink()
    place = tmp_path / "elsewhere.json"
    write_manifest(place, described)
    assert resolve_shards(str(place)) == shards
    assert named_manifests([str(tmp_path / "a"), str(place)]) == [str(place)]
    found = manifests(shards, named=named_manifests(str(place)))
    assert [entry.samples for entry in found.values()] == [5, 2]


def test_names_in_a_manifest_are_never_commands(tmp_path):
    shard = write_tar(tmp_path / "pipe:touch ran; cat x #.tar", [("a.jpg", b"1"), ("a.json", b'{"captions": ["x"]}')])
    write_manifest(tmp_path / "index.json", [module.examine(shard)])
    (entry,) = load_manifest(str(tmp_path / "index.json"))
    assert entry.shard == shard
    assert resolve_shards(str(tmp_path / "index.json")) == [shard]


@pytest.mark.parametrize("name", ["pipe:touch ran; cat x://y", "pipe:///bin/touch ran"])
def test_no_name_that_a_manifest_makes_up_is_a_command(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("relpretrain.data.shards.remote.WAIT", 0.0)
    shard = write_tar(tmp_path / "x.tar", [("a.jpg", b"1"), ("a.json", b'{"captions": ["x"]}')])
    write_manifest(tmp_path / "index.json", [module.examine(shard) | {"name": name}])
    assert resolve_shards("index.json") == [f"{tmp_path}/{name}"]
    assert main(["data", "doctor", "index.json", "--workers", "1"]) == 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["[]", '{"shards": 3}', '{"version": 2, "shards": [{"raw_data": {}}]}'])
def test_an_index_of_others_is_passed_over(tmp_path, content):
    write_shards(tmp_path / "a", 3, 3)
    (tmp_path / "a/index.json").write_text(content)
    (entry,) = manifests(resolve_shards(str(tmp_path / "a"))).values()
    assert entry.samples == 3
    assert main(["data", "index", str(tmp_path / "a"), "--workers", "1"]) == 2  # and not overwritten
    assert (tmp_path / "a/index.json").read_text() == content
    with pytest.raises(ValueError, match=r"index\.json is no manifest of shards"):
        resolve_shards(str(tmp_path / "a/index.json"))


@pytest.mark.parametrize("content", ['{"shards": [{"name": "a.tar", "eligible": 1}]}', "{"])
def test_a_damaged_manifest_is_named(tmp_path, content):
    write_shards(tmp_path / "a", 3, 3)
    (tmp_path / "a/index.json").write_text(content)
    (error,) = manifests(resolve_shards(str(tmp_path / "a"))).values()
    assert isinstance(error, ValueError)
    assert f"{tmp_path}/a/index.json" in str(error)


def test_a_page_in_the_place_of_a_remote_manifest_is_named_by_its_address(monkeypatch):
    monkeypatch.setattr(module, "fetch", lambda address, path: path.write_text("<html>log in</html>"))
    (error,) = manifests(["https://host/web/a.tar"]).values()
    assert isinstance(error, ValueError)
    assert str(error).startswith("https://host/web/index.json should hold a manifest of shards but is no JSON")


@pytest.fixture
def store(tmp_path):
    write_shards(tmp_path / "a", 12, 4)
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "a"), "/bucket/web", recursive=True)
    yield store
    store.rm("/bucket", recursive=True)


def test_remote_shards_are_known_by_the_manifest_beside_them(store, unread, tmp_path):
    found = manifests(resolve_shards("memory://bucket/web/*.tar"))
    assert [entry.samples for entry in found.values()] == [4, 4, 4]
    assert not (tmp_path / "cache").exists()


def test_a_signature_does_not_hide_a_shard_from_its_manifest(monkeypatch, unread):
    content = {"shards": [{"name": "a.tar", "samples": 3, "eligible": dict.fromkeys(module.NEEDS, 3)}]}
    monkeypatch.setattr(module, "fetch", lambda address, path: path.write_text(json.dumps(content)))
    shard = "https://host/web/a.tar?signature=x/y"
    assert manifests([shard])[shard].shard == shard


def test_an_index_of_signed_addresses_serves_those_of_the_next_signature(monkeypatch, unread):
    """An address that tells its shard after the "?" is another shard."""
    signed, odd = "https://host/web/a.tar?signature=1", "https://host/web/get?file=a.tar"
    about = {"samples": 3, "eligible": dict.fromkeys(module.NEEDS, 3), "relation_counts": {}}
    about |= dict.fromkeys(module.PARTS, 3)
    write_manifest(module.cached_manifest("https://host/web"), [about | {"name": name} for name in (signed, odd)])

    def absent(address, path):
        raise OSError("nothing there") from FileNotFoundError()

    monkeypatch.setattr(module, "fetch", absent)
    asked = [signed, "https://host/web/a.tar?signature=2", odd, "https://host/web/get?file=b.tar"]
    found = manifests(asked)
    assert [isinstance(entry, ShardEntry) for entry in found.values()] == [True, True, True, False]
    assert [found[shard].shard for shard in asked[:3]] == asked[:3]


def test_remote_shards_without_manifest_are_read_once_with_a_notice(store, tmp_path, caplog, monkeypatch):
    store.rm("/bucket/web/index.json")
    shards = resolve_shards("memory://bucket/web/*.tar")
    with caplog.at_level(logging.WARNING):
        found = manifests(shards)
    assert [entry.samples for entry in found.values()] == [4, 4, 4]
    assert [entry.shard for entry in found.values()] == shards
    assert "3 remote shards, such as memory:///bucket/web/s-000000.tar" in caplog.text
    assert "`relpretrain data index PATTERN`" in caplog.text
    assert not list((tmp_path / "cache").rglob("*.tar"))
    monkeypatch.setattr(module, "examine", None)
    assert manifests(shards) == found


def test_a_manifest_from_before_boxes_could_lack_is_read(tmp_path):
    shards = _mixed(tmp_path / "a")
    expected = [_plain(entry) for entry in manifests(shards).values()]
    index = json.loads((tmp_path / "a/index.json").read_text())
    for shard in index["shards"]:
        del shard["eligible"]["boxed_graphs"]
    (tmp_path / "a/index.json").write_text(json.dumps(index))
    found = manifests(shards)
    assert [_plain(entry) for entry in found.values()] == expected
    for shard, entry in found.items():
        check_against(entry, ShardIndex.of(shard))
