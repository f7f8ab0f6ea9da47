"""Tars and row tables that somebody has made to hurt: read as far as they are sound, or refused."""

import io
import json
import os
import signal
import tarfile

import numpy as np
import pytest

from relpretrain.data.shards import row_index
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.data.shards.scan import scan
from tests.data.small import picture, record, write_shards


@pytest.fixture(autouse=True)
def in_time():
    """What waits, or goes round and round, fails."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it would never end"))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


SAMPLE = (("good.png", picture()), ("good.json", json.dumps(record()).encode()))


def _tar(path, *headers):
    """A sound sample, and behind it headers as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in SAMPLE:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        end = tar.offset
    path.write_bytes(buffer.getvalue()[:end] + b"".join(headers))
    return path


def _header(name="x.json", size=b"00000000010\0", kind=b"0"):
    made = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT)[:512])
    made[124:136], made[156:157] = size, kind
    made[148:156] = b"%06o\0 " % (sum(made) - sum(made[148:156]) + 8 * 32)
    return bytes(made)


def _pax(records, size=None):
    return _header("pax", b"%011o\0" % len(records) if size is None else size, b"x") + records.ljust(512, b"\0")


def _pair(name, value):
    body = f" {name}={value}\n"
    return f"{len(body) + len(str(len(body) + 2))}{body}".encode()


HUGE, BACK = b"\x80" + b"\xff" * 11, b"\xff" * 10 + b"\xfe\0"
ODD = {
    "pax size of no digits": _pax(_pair("size", "abc")) + _header(),
    "pax size below zero": _pax(_pair("size", "-2048")) + _header(),
    "pax size of many digits": _pax(_pair("size", "9" * 40)) + _header(),
    "pax size of thousands of digits": _pax(_pair("size", "9" * 400)) + _header(),
    "pax length that lies": _pax(b"99999999 size=1\n") + _header(),
    "pax length of zero": _pax(b"0 size=1\n") + _header(),
    "pax of terabytes": _pax(b"11 size=1\n", b"\x80\0\0\0\0\0\x10\0\0\0\0\0") + _header(),
    "member of a huge size": _header(size=HUGE),
    "member that goes back": _header(size=BACK),
    "long name that goes back": _header(size=BACK, kind=b"L"),
    "sparse": _pax(_pair("GNU.sparse.map", "0,x") + _pair("GNU.sparse.size", "y")) + _header(),
    "sparse of version one": _pax(_pair("GNU.sparse.major", 1) + _pair("GNU.sparse.minor", 0)) + _header() + b"x" * 512,
    "old sparse": _header(kind=b"S") + b"y" * 512,
}


@pytest.mark.parametrize("name", ODD)
def test_broken_headers_end_a_shard(tmp_path, name):
    columns, problems, _ = scan(_tar(tmp_path / "x.tar", ODD[name]))
    assert list(columns.keys) == ["good"]
    assert {problem.reason for problem in problems} <= {"truncated_shard", "missing_image"}
    assert problems


@pytest.mark.parametrize("name", ["member that goes back", "pax of terabytes"])
def test_they_are_refused_at_the_beginning(tmp_path, name):
    (tmp_path / "x.tar").write_bytes(ODD[name])
    with pytest.raises(ValueError, match="is not an uncompressed tar"):
        scan(tmp_path / "x.tar")


@pytest.fixture
def shard(tmp_path, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    write_shards(tmp_path / "shards", 4, 4)
    path = tmp_path / "shards" / "s-000000.tar"
    ShardIndex.of(path)
    row_index._mapped.cache_clear()
    return path


def _table(shard):
    return shard.with_name(f".{shard.name}.index")


def _with_head(shard, **changes):
    data = _table(shard).read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8 : 8 + length]) | changes).encode().ljust(length + 512)
    _table(shard).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": "4"}, {"samples": None}, {"bytes": 5}, {"bytes": []}, {"problems": 5}, {"problems": [[1, 2]]},
        {"problems": [["a"]]}, {"relations": []}, {"relations": {"on": "x"}}, {"relations": {"on": -1}}, {"stamp": 0},
    ],
    ids=str,
)  # fmt: skip
def test_a_table_with_an_odd_head_is_made_again(shard, changes):
    _with_head(shard, **changes)
    index = ShardIndex.of(shard)
    assert len(index) == 4
    assert index.relation_counts == {"beside": 4, "on": 4, "under": 4}
    assert index.problems == []


@pytest.mark.parametrize("head", [b"[]", b"5", b"[" * 100_000, b"\xff", b""])
def test_a_table_without_head_is_made_again(shard, head):
    _table(shard).write_bytes(len(head).to_bytes(8, "little") + head + bytes(64))
    assert len(ShardIndex.of(shard)) == 4


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("value", [-5, 1 << 40, (1 << 63) - 1])
def test_columns_that_lead_out_of_the_shard_are_made_again(shard, place, value):
    data = bytearray(_table(shard).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little") + (0, 4 * 24, 4 * 48, 4 * 56, 4 * 64)[place]
    width = 4 if place == 4 else 8
    data[start : start + width] = int(np.clip(value, -5, 2**31 - 1) if width == 4 else value).to_bytes(
        width, "little", signed=True
    )
    _table(shard).write_bytes(data)
    index = ShardIndex.of(shard)
    if place == 4 and value > 0:
        return  # more captions than there are: whoever reads the sample finds none
    assert [index.read(row).key for row in range(4)] == ["k000", "k001", "k002", "k003"]
    assert index.image_ids == ["0", "1", "2", "3"]
    assert index.counts.tolist() == [[2, 3, 3, 3, 3]] * 4


def test_a_table_that_is_a_pipe_is_not_waited_for(shard):
    _table(shard).unlink()
    os.mkfifo(_table(shard))
    assert len(ShardIndex.of(shard)) == 4
