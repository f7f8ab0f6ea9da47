import io
import json
import os
import tarfile

import numpy as np
import pytest

from relpretrain.data.shards.packed import PackedTexts
from relpretrain.data.shards.record import caption_weights_of, captions_of, texts_of
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.writer import ShardWriter

GRAPH = {
    "entities": [{"label": "x", "box": [0, 0, 1, 1]}, {"label": "y", "box": [0, 0, 1, 1]}],
    "relations": [{"subject": 0, "relation": "on", "object": 1}],
}


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def _shard(folder, count=4):
    with ShardWriter(folder) as writer:
        for i in range(count):
            writer.write(f"k{i}", b"image%d" % i, "png", {"captions": ["a"] * i, **(GRAPH if i % 2 else {})})
    return str(folder / "shard-000000.tar")


def test_samples_are_found_and_counted(tmp_path):
    index = ShardIndex.of(_shard(tmp_path))
    assert index.name == "shard-000000"
    assert index.keys == ["k0", "k1", "k2", "k3"]
    assert index.counts.tolist() == [[0] * 5, [1, 2, 1, 2, 1], [2, 0, 0, 0, 0], [3, 2, 1, 2, 1]]
    assert index.eligible("captions").tolist() == [1, 2, 3]
    assert index.eligible("regions").tolist() == index.eligible("graphs").tolist() == [1, 3]
    for i in (3, 0, 2, 1):
        raw = index.read(i)
        assert (raw.key, raw.image, raw.txt) == (f"k{i}", b"image%d" % i, None)
        assert json.loads(raw.json)["captions"] == ["a"] * i


def test_stored_index_is_used_until_the_shard_changes(tmp_path, monkeypatch):
    shard = _shard(tmp_path)
    first = ShardIndex.of(shard)
    assert os.path.exists(tmp_path / ".shard-000000.tar.index")
    with monkeypatch.context() as patch:
        patch.setattr("relpretrain.data.shards.row_index.scan", None)
        again = ShardIndex.of(shard)
    assert again.keys == first.keys
    assert np.array_equal(again.offsets, first.offsets)
    assert np.array_equal(again.counts, first.counts)
    os.utime(shard, ns=(1, 1))
    write_tar(shard, [("z.jpg", b"1"), ("z.json", b"{}")])
    assert ShardIndex.of(shard).keys == ["z"]


def test_index_goes_to_the_cache_where_the_folder_is_read_only(tmp_path, monkeypatch):
    shard = _shard(tmp_path / "a")
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a").chmod(0o555)
    ShardIndex.of(shard)
    (tmp_path / "a").chmod(0o755)
    assert sorted(os.listdir(tmp_path / "a")) == ["index.json", "shard-000000.tar"]
    assert len(os.listdir(tmp_path / "cache" / "indexes")) == 1
    monkeypatch.setattr("relpretrain.data.shards.row_index.scan", None)
    assert ShardIndex.of(shard).keys == ["k0", "k1", "k2", "k3"]


def test_damaged_stored_index_is_made_anew(tmp_path):
    shard = _shard(tmp_path)
    (tmp_path / ".shard-000000.tar.index").write_bytes(b"\x10\0\0\0\0\0\0\0not a table")
    assert len(ShardIndex.of(shard)) == 4


def test_img2dataset_members(tmp_path):
    members = [
        ("d/1.jpg", b"i1"), ("d/1.json", b'{"caption": "from json"}'), ("d/1.txt", b"from txt"),
        ("d/2.jpg", b"i2"), ("d/2.txt", b"only txt"),
        ("d/3.JPG", b"i3"), ("d/3.json", b'{"caption": null}'), ("d/3.txt", b" "),
    ]  # fmt: skip
    index = ShardIndex.of(write_tar(tmp_path / "a.tar", members))
    assert index.keys == ["d/1", "d/2", "d/3"]
    assert index.counts[:, 0].tolist() == [1, 1, 0]
    assert index.read(1) == ("d/2", b"i2", None, b"only txt")


def test_what_cannot_be_used_is_named(tmp_path):
    members = [
        ("ok.jpg", b"1"), ("ok.json", b"{}"),
        ("no_image.json", b"{}"),
        ("no_text.jpg", b"1"),
        ("broken.jpg", b"1"), ("broken.json", b"{"),
        ("number.jpg", b"1"), ("number.json", b'{"captions": 3}'),
        ("ok.jpg", b"2"), ("ok.json", b"{}"),
        ("ok.jpg", b"3"), ("ok.json", b"{}"),
    ]  # fmt: skip
    index = ShardIndex.of(write_tar(tmp_path / "a.tar", members))
    assert index.keys == ["ok"]
    assert index.read(0).image == b"1"
    assert [tuple(p) for p in index.problems] == [
        ("missing_image", "no_image"),
        ("missing_annotation", "no_text"),
        ("malformed_json", "broken"),
        ("malformed_json", "number"),
        ("repeated_key", "ok"),
        ("repeated_key", "ok"),
    ]
    assert ShardIndex.of(str(tmp_path / "a.tar")).problems == index.problems  # from the stored index


@pytest.mark.parametrize(("cut", "whole"), [(10_000, 5), (4096, 2), (4700, 2), (5120, 2), (5220, 2), (5820, 3)])
def test_truncated_tar_yields_what_is_whole(tmp_path, cut, whole):
    members = [(f"{i}.{ending}", b"{}" + b" " * i) for i in range(5) for ending in ("jpg", "json")]  # 2048 bytes each
    path = tmp_path / "a.tar"
    write_tar(path, members)
    path.write_bytes(path.read_bytes()[:cut])
    index = ShardIndex.of(str(path))
    assert index.keys == [str(i) for i in range(whole)]
    assert [p.reason for p in index.problems] == ["truncated_shard"]


def test_files_that_are_no_tar(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ValueError, match=r"a\.tar is not an uncompressed tar"):
        ShardIndex.of(str(tmp_path / "a.tar"))
    (tmp_path / "b.tar").write_bytes(b"\x1f\x8b" + b"x" * 2000)
    with pytest.raises(ValueError, match="gunzip"):
        ShardIndex.of(str(tmp_path / "b.tar"))


def test_web_captions_are_read_as_they_are(realdata, tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path))
    index = ShardIndex.of(str(realdata / "webdataset" / "cc12m-train-0000.tar"))
    assert len(index) == 32
    assert not index.problems
    assert (index.counts == [1, 0, 0, 0, 0]).all()
    with tarfile.open(realdata / "webdataset" / "cc12m-train-0000.tar") as tar:
        for row, key in enumerate(index.keys):
            raw = index.read(row)
            assert raw.image == tar.extractfile(f"{key}.jpg").read()
            assert raw.txt == tar.extractfile(f"{key}.txt").read()


def test_image_ids_are_the_records(tmp_path):
    members = [
        ("a.jpg", b"1"), ("a.json", b'{"image_id": "42"}'),
        ("b.jpg", b"1"), ("b.json", b'{"key": "000000007", "caption": "x"}'),
        ("c.jpg", b"1"), ("c.txt", b"x"),
    ]  # fmt: skip
    shard = write_tar(tmp_path / "a.tar", members)
    assert ShardIndex.of(shard).image_ids == ["42", "000000007", "c"]
    assert ShardIndex.of(shard).image_ids == ["42", "000000007", "c"]  # from the stored index


@pytest.mark.parametrize("texts", [[], ["a"], ["", "x", ""], ["größe", "\udcff name", "日本"]])
def test_packed_texts_are_a_sequence(texts):
    packed = PackedTexts.of(texts)
    assert packed == texts
    assert len(packed) == len(texts)
    assert packed[1:] == texts[1:]
    assert [packed[i] for i in range(-len(texts), len(texts))] == texts + texts
    assert packed != [*texts, "more"]
    with pytest.raises(IndexError):
        packed[len(texts)]


@pytest.mark.parametrize(
    ("record", "txt", "captions"),
    [
        ({"caption": "   "}, "in txt", ["in txt"]),
        ({"caption": None}, "\ufeffin txt\r\n", ["in txt"]),
        ({"caption": float("nan"), "captions": float("nan")}, "in txt", ["in txt"]),
        ({"caption": ["two", None, " captions "]}, "in txt", ["two", "captions"]),
        ({"captions": "one"}, None, ["one"]),
        ({"captions": []}, "in txt", []),
        ({"captions": ["a", float("nan"), 3, " "], "caption": "x"}, None, ["a"]),
        ({"caption": "cut \ud83d"}, None, ["cut \ufffd"]),
    ],
)
def test_captions_as_downloads_have_them(tmp_path, record, txt, captions):
    members = [("a.jpg", b"i"), ("a.json", json.dumps(record).encode())]
    members += [("a.txt", txt.encode())] if txt is not None else []
    index = ShardIndex.of(write_tar(tmp_path / "a.tar", members))
    raw = index.read(0)
    assert captions_of(*texts_of(raw.json, raw.txt)) == captions
    assert index.counts[0].tolist() == [len(captions), 0, 0, 0, 0]
    assert not index.problems


def test_texts_that_cannot_be_read_leave_their_sample_out(tmp_path):
    members = [
        *(("a.jpg", b"i"), ("a.txt", "a cat".encode("utf-16"))),
        *(("b.jpg", b"i"), ("b.json", b'{"caption": "caf\xe9"}')),
        *(("c.jpg", b"i"), ("c.json", b"[" * 100_000)),
        *(("d.jpg", b"i"), ("d.json", b'{"captions": {"a": 1}}')),
        *(("e.jpg", b"i"), ("e.txt", b"caf\xe9")),
    ]
    index = ShardIndex.of(write_tar(tmp_path / "a.tar", members))
    assert index.keys == ["e"]
    assert [tuple(p) for p in index.problems] == [
        ("malformed_text", "a"),
        ("malformed_json", "b"),
        ("malformed_json", "c"),
        ("malformed_json", "d"),
    ]


@pytest.mark.parametrize(
    ("record", "image_id"),
    [
        ({"image_id": 0}, "0"),
        ({"image_id": float("nan"), "key": "k"}, "k"),
        ({"image_id": "x\ud83d"}, "x\ufffd"),
        ({"image_id": {}}, "a"),
        ({"image_id": ""}, "a"),
        ({"image_id": 10**400}, "a"),
    ],
)
def test_odd_image_ids(tmp_path, record, image_id):
    members = [("a.jpg", b"i"), ("a.json", json.dumps({"caption": "c", **record}).encode())]
    assert ShardIndex.of(write_tar(tmp_path / "a.tar", members)).image_ids == [image_id]


def test_names_that_are_no_text_are_mended(tmp_path):
    members = [(f"{stem}.{ending}", b"x") for stem in ("caf\udce9", "caf\udce8") for ending in ("jpg", "txt")]
    index = ShardIndex.of(write_tar(tmp_path / "a.tar", members))
    assert index.keys == ["caf\ufffd", "caf\ufffd"]
    assert not index.problems


def test_rows_serve_what_their_boxes_allow(tmp_path):
    """Of a graph from a caption, boxes are what regions and MRC need; a malformed item is for the reader to judge."""
    cat, dog, idea = {"label": "cat", "box": [0, 0, 5, 5]}, {"label": "dog"}, {"label": "idea", "box": None}
    graphs = [
        {"entities": [cat, dog], "relations": [{"subject": 0, "relation": "near", "object": 1}]},
        {"entities": [dog, idea], "relations": [{"subject": 0, "relation": "has", "object": 1}]},
        {"entities": [cat, dog, cat], "relations": [{"subject": 0, "relation": "near", "object": 2}]},
        {"entities": [dog, 3], "relations": ["near", {"subject": 0, "object": 5}]},
    ]
    with ShardWriter(tmp_path) as writer:
        for i, graph in enumerate(graphs):
            relations = [r if isinstance(r, dict) else {"relation": r} for r in graph["relations"]]
            sound = graph | {"relations": [{"relation": "near"} | r for r in relations]}
            writer.write(f"k{i}", b"image", "png", sound)
    index = ShardIndex.of(str(tmp_path / "shard-000000.tar"))
    assert index.counts.tolist() == [[0, 2, 1, 1, 0], [0, 2, 1, 0, 0], [0, 3, 1, 2, 1], [0, 2, 2, 1, 1]]
    assert index.eligible("regions").tolist() == [0, 2, 3]
    assert index.eligible("graphs").tolist() == [0, 1, 2, 3]
    assert index.eligible("boxed_graphs").tolist() == [2, 3]
    (listed,) = json.loads((tmp_path / "index.json").read_text())["shards"]
    assert listed["eligible"] == {"captions": 0, "regions": 3, "graphs": 4, "boxed_graphs": 2}
    assert (listed["entities"], listed["relations"]) == (9, 5)


@pytest.mark.parametrize(
    ("captions", "weights", "expected"),
    [
        (["a", "b"], None, None),
        (["a", "b"], [1, 0], [1, 0]),
        (["a", " ", "b"], [1, 2, "3"], [1, 3]),  # that of a blank caption goes with it
        ("a", [2], [2]),
    ],
)
def test_caption_weights(captions, weights, expected):
    record = {"captions": captions, "caption_weights": weights}
    assert caption_weights_of(record, captions_of(record, None)) == expected


@pytest.mark.parametrize("weights", [[1], [0, 0], [1, -1], [1, float("nan")], "1 2", [1, None]])
def test_malformed_caption_weights(weights):
    with pytest.raises(ValueError, match="caption_weights must be 2 numbers"):
        caption_weights_of({"captions": ["a", "b"], "caption_weights": weights}, ["a", "b"])
