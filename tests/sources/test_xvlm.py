import base64
import json
from collections import Counter

import pytest

from relpretrain.sources import Rules, check, read_xvlm
from tests.sources.helpers import records, write_image


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "images/sub/a.jpg")
    return tmp_path


def lines(folder, *items):
    path = folder / "part.jsonl"
    path.write_text("\n".join(item if isinstance(item, str) else json.dumps(item) for item in items) + "\n")
    return path


def test_pairs_by_path_and_in_the_line(folder):
    content = (folder / "images/sub/a.jpg").read_bytes()
    path = lines(
        folder,
        {"caption": "a cat", "image_rpath": "sub/a.jpg"},
        {"caption": ["b", "c"], "binary": base64.b64encode(content).decode()},
    )
    first, second = read_xvlm(path, folder / "images", dropped=Counter())
    assert first.image == folder / "images/sub/a.jpg"
    assert second.image == content
    assert [check(a, "s", Rules(), Counter()).record["captions"] for a in (first, second)] == [["a cat"], ["b", "c"]]
    assert (first.image_id, second.image_id) == ("sub/a.jpg", "part-2")


def test_regions_become_entities(folder):
    elems = [
        {"caption": ["red hat", "a hat"], "bb": [1, 2, 10, 20], "attributes": "Red"},
        {"caption": "dog", "bb": [30, 0, 11, 5], "attributes": ["old", "big"]},  # a pixel too far: clipped
        {"caption": "far", "bb": [30, 0, 12, 5]},
        {"caption": "flat", "bb": [3, 3, 0, 5]},
        {"caption": "half", "bb": [3, 3, 5]},
        {"bb": [3, 3, 5, 5]},
        {"caption": [], "bb": [3, 3, 5, 5]},
    ]
    path = lines(folder, {"elems": elems, "caption": "a scene", "image_rpath": "sub/a.jpg"})
    (record,), dropped = records(read_xvlm, path, folder / "images")
    assert record["captions"] == ["a scene"]
    assert record["entities"] == [
        {"label": "red hat", "box": [1, 2, 11, 22], "attributes": ["red"]},
        {"label": "dog", "box": [30, 0, 40, 5], "attributes": ["old", "big"]},
    ]
    assert dropped == {
        "box_outside_image": 1,
        "empty_box": 1,
        "malformed_region": 3,
        "further_caption_of_region": 1,
    }


def test_counts_bad_lines(folder):
    path = lines(folder, "3", {"caption": "x"}, {"caption": "x", "binary": "?"}, "", {"caption": "", "binary": "AAAA"})
    assert records(read_xvlm, path) == (
        [],
        {"malformed_line": 1, "line_without_image": 1, "malformed_base64": 1, "unreadable_image": 1},
    )


def test_refuses_paths_without_a_folder_and_broken_lines(folder):
    with pytest.raises(ValueError, match=r"line 1 names sub/a\.jpg: name the folder"):
        records(read_xvlm, lines(folder, {"caption": "x", "image_rpath": "sub/a.jpg"}))
    with pytest.raises(ValueError, match="line 2 is no JSON"):
        records(read_xvlm, lines(folder, "{}", "{"))


def test_a_text_or_an_object_where_a_list_is_expected(tmp_path):
    write_image(tmp_path / "a.jpg")
    lines = [
        {
            "image_rpath": "a.jpg",
            "caption": "x",
            "elems": {"caption": "dog", "attributes": "brown", "bb": [1, 1, 5, 5]},
        },
        {"image_rpath": "a.jpg", "caption": "x", "elems": [{"caption": "dog", "bb": "1234"}]},
        {"binary": "\u00e9", "caption": "x"},
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, dropped = records(read_xvlm, path, tmp_path)
    assert found[0]["entities"] == [{"label": "dog", "box": [1, 1, 6, 6], "attributes": ["brown"]}]
    assert "entities" not in found[1]
    assert dropped == {"malformed_box": 1, "malformed_base64": 1}
