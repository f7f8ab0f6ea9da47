import io
import struct
import zlib
from collections import Counter

import pytest

from relpretrain.sources import Annotation, Rules, check
from relpretrain.sources.common.annotation import RawEntity, load_aliases, probe_image
from tests.sources.helpers import write_image


def checked(folder, entities, relations, rules=None, **more):
    dropped = Counter()
    annotation = Annotation(write_image(folder / "a.jpg"), "a", entities=entities, relations=relations, **more)
    result = check(annotation, "s", rules or Rules(), dropped)
    return result and result.record, +dropped


CUP, TABLE = RawEntity(" Coffee  CUP ", (0, 0, 5, 5)), RawEntity("table", (10, 10, 20, 20))


def names(record):
    return [(r["subject"], r["relation"], r["object"]) for r in record["relations"]]


def test_names_are_normalised(tmp_path):
    entity = RawEntity(" Coffee  CUP ", (0, 0, 5, 5), ["Red", " red ", None, ""])
    record, dropped = checked(tmp_path, [entity, TABLE], [(0, "Stands\tON", 1)])
    assert record["entities"][0]["label"] == "coffee cup"
    assert record["entities"][0]["attributes"] == ["red"]
    assert names(record) == [(0, "stands on", 1)]
    assert dropped == {"malformed_attribute": 2}


def test_copies(tmp_path):
    twin = RawEntity("coffee cup", (0, 0, 5, 5))  # the same name and box again
    relations = [(0, "on", 1), (0, "ON", 1), (2, "on", 1), (1, "on", 0)]
    record, dropped = checked(tmp_path, [CUP, TABLE, twin], relations)
    assert names(record) == [(0, "on", 1), (1, "on", 0)]
    assert dropped == {"repeated_relation": 2}
    record, dropped = checked(tmp_path, [CUP, TABLE, twin], relations, Rules(duplicates="keep"))
    assert len(record["relations"]) == 4
    assert not dropped


@pytest.mark.parametrize(
    ("first", "second"),
    [("left of", "right of"), ("above", "below"), ("in front of", "behind"), ("near", "near"), ("under", "over")],
)
def test_inverses(tmp_path, first, second):
    both = [(0, first, 1), (1, second, 0), (1, "on", 0)]
    record, dropped = checked(tmp_path, [CUP, TABLE], both, Rules(inverses="drop"))
    assert names(record) == [(0, first, 1), (1, "on", 0)]
    assert dropped == {"inverse_relation": 1}
    assert len(checked(tmp_path, [CUP, TABLE], both)[0]["relations"]) == 3
    same_way = [(0, first, 1), (0, second, 1)]
    if first != second:
        assert len(checked(tmp_path, [CUP, TABLE], same_way, Rules(inverses="drop"))[0]["relations"]) == 2


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((0, 0, float("nan"), 5), "malformed_box"),
        ((0, 0, float("inf"), 5), "malformed_box"),
        ((0, 0, "five", 5), "malformed_box"),
        ((0, 0, 5), "malformed_box"),
        ((5, 0, 5, 5), "empty_box"),
        ((0, 0, 42, 5), "box_outside_image"),
        ((-2, 0, 4, 5), "box_outside_image"),
    ],
)
def test_bad_boxes_go_with_their_relations(tmp_path, box, reason):
    record, dropped = checked(tmp_path, [RawEntity("x", box), TABLE], [(0, "on", 1), (1, "on", 1)])
    assert [e["label"] for e in record["entities"]] == ["table"]
    assert names(record) == [(0, "on", 0)]
    assert dropped == {reason: 1, "relation_without_entity": 1}


def test_a_pixel_over_the_border_is_clipped(tmp_path):
    record, _ = checked(tmp_path, [RawEntity("x", (-1, 0, 41, 31))], [])
    assert record["entities"][0]["box"] == [0, 0, 40, 30]


def test_aliases(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("near,Next  To,beside\n\non, upon\nupon,atop of\ncup,mug\nmug,cup\nx,near\n")
    assert load_aliases(path) == {
        "next to": "x",
        "beside": "x",
        "near": "x",
        "upon": "on",
        "atop of": "on",
        "mug": "cup",
        "cup": "cup",
    }
    path.write_text("near\n")
    with pytest.raises(ValueError, match=r"a\.txt, line 1: expected a name and its other spellings, got 'near'"):
        load_aliases(path)
    with pytest.raises(ValueError, match="cannot read aliases"):
        load_aliases(tmp_path / "absent")


def test_aliases_of_vg150(realdata):
    relations = load_aliases(realdata / "vocab/vg150_predicate_alias.txt")
    assert relations["next to"] == "near"
    objects = load_aliases(realdata / "vocab/vg150_object_alias.txt")
    assert objects["walls"] == "wall"
    for aliases in (relations, objects):
        assert all(aliases.get(name, name) == name for name in aliases.values())  # once is enough


def png_bomb(side):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [50_000, 10_000])
def test_a_bomb_is_counted(side):
    dropped = Counter()
    assert probe_image(io.BytesIO(png_bomb(side)), dropped) is None
    assert dropped == {"decompression_bomb": 1}


def test_aliases_begin_with_no_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffnear,next to\r\non,on top of\r\n".encode())
    assert load_aliases(path) == {"next to": "near", "on top of": "on"}
    path.write_text("near,next to", encoding="utf-16")
    with pytest.raises(ValueError, match=r"cannot read aliases .* is UTF-16"):
        load_aliases(path)
