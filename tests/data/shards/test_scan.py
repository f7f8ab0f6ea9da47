"""What is read of a tar without `tarfile` is what `tarfile` reads of it."""

import io
import random
import re
import tarfile
from itertools import chain

import pytest

from relpretrain.data.shards import scan as module
from relpretrain.data.shards.scan import scan

JSON = b'{"captions": ["a cat"], "relations": [{"relation": "on"}]}'
USTAR, GNU, PAX = tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT


def _member(name, content=b"x", kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def _sample(name, **fields):
    return [
        _member(f"{name}.jpg", b"image of " + name.encode(errors="replace"), **fields),
        _member(f"{name}.json", JSON),
    ]


def _tar(members, form=USTAR, **options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, **options) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _without_magic(members):
    """As the seventh edition of Unix wrote it."""
    content = bytearray(_tar(members))
    for start in range(0, 1024 * len(members), 1024):
        content[start + 257 : start + 265] = bytes(8)
        content[start + 148 : start + 156] = b" " * 8
        content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    return bytes(content)


LONG = "folder/" * 18 + "name"
PLAIN = [*_sample("a"), *_sample("d/b"), *_sample("c"), _member("c.txt", b"text")]
LINKS = [
    *_sample("a"),
    _member("b", b"", tarfile.DIRTYPE),
    _member("b/c.jpg", b"", tarfile.SYMTYPE, linkname="a.jpg"),
    _member("b/d.jpg", b"", tarfile.LNKTYPE, linkname="a.jpg"),
    _member("e.jpg", b"", tarfile.CHRTYPE, devmajor=1, devminor=3),
    _member("f.jpg", b"", tarfile.FIFOTYPE),
    _member("g.jpg", b"contiguous", tarfile.CONTTYPE),
    *_sample("h"),
]
TARS = {
    "ustar": _tar(PLAIN),
    "gnu": _tar(PLAIN, GNU),
    "pax": _tar(PLAIN, PAX),
    "v7": _without_magic(PLAIN),
    "links": _tar(LINKS),
    "long ustar": _tar([*_sample("a"), *_sample(LONG), *_sample("b")]),
    "long gnu": _tar([*_sample("a"), *_sample(LONG * 2), *_sample("b")], GNU),
    "long pax": _tar([*_sample("a"), *_sample(LONG * 2), *_sample("b")], PAX),
    "hundred bytes": _tar(_sample("x" * 95)),
    "pax size": _tar([*_sample("a"), _member("b.jpg", b"12345", pax_headers={"size": "5"}), *_sample("c")], PAX),
    "pax global": _tar([*_sample("a"), *_sample("b")], PAX, pax_headers={"comment": "x"}),
    "pax global path": _tar(_sample("a"), PAX, pax_headers={"path": "other.jpg"}),
    "large owner": _tar([*_sample("a", uid=1 << 25), *_sample("b")], GNU),
    "names that are no text": _tar([*_sample("caf\udce9"), *_sample("größe"), *_sample("b")]),
    "a folder as a file": _tar([_member("a/", b"", tarfile.AREGTYPE), *_sample("b")]),
    "foreign endings": _tar([*_sample("a"), _member("a.cls"), _member("a.seg.png"), _member("README"), *_sample("b")]),
    "hidden": _tar([_member(".x.jpg"), *_sample("a")]),
    "repeated": _tar([*_sample("a"), *_sample("a"), *_sample("b"), _member("b.jpg", b"again")]),
    "empty": _tar([]),
    "blanks in numbers": _tar(PLAIN).replace(b"0000644\0", b"000644 \0"),  # another sum: corrupt
    "zeros in the middle": _tar(PLAIN)[:1024] + bytes(1024) + _tar(PLAIN),
    "no end": _tar(PLAIN)[: -tarfile.RECORDSIZE + 100].rstrip(b"\0"),
    "rubbish behind": _tar(PLAIN) + b"rubbish" * 100,
    "no tar": b"rubbish" * 300,
    "nothing": b"",
}  # fmt: skip


def _found(path):
    try:
        columns, problems, relations = scan(path)
    except ValueError as error:
        return str(error)
    arrays = [array.tolist() for array in columns[:3]]
    return arrays, list(columns.keys), list(columns.image_ids), problems, relations


def _both(path, monkeypatch):
    """What is found as always, and by `tarfile` alone."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "_PLAIN", re.compile(rb"(?!)"))
        expected = _found(path)
    return _found(path), expected


@pytest.mark.parametrize("name", TARS)
def test_odd_tars(tmp_path, monkeypatch, name):
    path = tmp_path / "a.tar"
    path.write_bytes(TARS[name])
    found, expected = _both(path, monkeypatch)
    assert found == expected
    if not isinstance(found, str):
        with tarfile.open(path) as tar:
            there = {m.offset_data: m.size for m in tar if m.isreg()}
        (offsets, sizes, _), *_ = found
        places = zip(chain(*offsets), chain(*sizes), strict=True)
        assert all(there[offset] == size for offset, size in places if offset >= 0)


def test_plain_headers_are_read_without_tarfile(tmp_path, monkeypatch):
    path = tmp_path / "a.tar"
    for form in ("ustar", "gnu", "pax"):
        path.write_bytes(TARS[form])
        expected = _found(path)
        with monkeypatch.context() as patch:
            asked = []
            patch.setattr(module, "_odd", lambda tar, place, asked=asked: asked.append(place))
            assert _found(path) == expected
        assert len(asked) == 1  # the end


@pytest.mark.parametrize("name", ["pax", "long gnu", "long pax"])
def test_tars_cut_anywhere(tmp_path, monkeypatch, name):
    path = tmp_path / "a.tar"
    end = len(TARS[name].rstrip(b"\0")) + 1300
    for cut in range(0, end, 193):
        path.write_bytes(TARS[name][:cut])
        found, expected = _both(path, monkeypatch)
        assert found == expected, cut


def test_corrupt_headers(tmp_path, monkeypatch):
    rng = random.Random(0)
    path = tmp_path / "a.tar"
    for _ in range(200):
        content = bytearray(TARS["pax"])
        header = 1024 * rng.randrange(7)
        for _ in range(rng.randrange(1, 3)):
            content[header + rng.choice([rng.randrange(100, 345), rng.randrange(512)])] = rng.choice(b"\0 07a\x80\xff")
        if rng.random() < 0.5:  # with a checksum that is right
            content[header + 148 : header + 156] = b" " * 8
            content[header + 148 : header + 156] = b"%06o\0 " % sum(content[header : header + 512])
        path.write_bytes(content)
        found, expected = _both(path, monkeypatch)
        assert found == expected
