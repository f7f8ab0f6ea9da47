import json
import re
from pathlib import Path

import pytest
from PIL import Image

from relpretrain.cli import main
from relpretrain.errors import ConfigError
from relpretrain.sources import read_own
from tests.sources.helpers import records, triplets, write_image

DOCS = Path(__file__).parents[2] / "docs/data.md"


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.png"):
        write_image(tmp_path / "photos" / name, (64, 48))
    return tmp_path


def lines(folder, *items):
    path = folder / "graphs.jsonl"
    path.write_text("\ufeff" + "".join(json.dumps(item) + "\r\n" for item in items), encoding="utf-8")
    return path


def test_names_and_numbers_with_and_without_captions(folder):
    path = lines(
        folder,
        {
            "image": "a.jpg",
            "boxes": {"man": [1, 1, 20, 40], "horse": [10, 10, 60, 46]},
            "relations": [["man", "rides", "horse"]],
            "attributes": {"man": "tall"},
        },
        {
            "image": "c",
            "captions": "two cats",
            "entities": [{"label": "cat", "box": [1, 1, 9, 9]}, {"label": "cat", "box": [30, 1, 50, 20]}],
            "relations": [[0, "beside", 1], {"subject": 1, "relation": "near", "object": 0}],
        },
        {"image": "b.jpg", "captions": ["no graph"]},
    )
    found, dropped = records(read_own, folder / "photos", path)
    assert not dropped
    assert [record["image_id"] for record in found] == ["a.jpg", "c.png", "b.jpg"]
    man, horse, first, second = (
        ("man", (1, 1, 20, 40)),
        ("horse", (10, 10, 60, 46)),
        ("cat", (1, 1, 9, 9)),
        ("cat", (30, 1, 50, 20)),
    )
    assert triplets(found[0]) == [(man, "rides", horse)]
    assert found[0]["entities"][0]["attributes"] == ["tall"]
    assert triplets(found[1]) == [(first, "beside", second), (second, "near", first)]
    assert (found[1]["captions"], found[2]["captions"]) == (["two cats"], ["no graph"])

    path.write_text(json.dumps([{"image": "b.jpg", "caption": "a list, too"}], indent=1))
    assert records(read_own, folder / "photos", path)[0][0]["captions"] == ["a list, too"]


def test_how_sure_a_relation_is_is_kept(folder):
    """A stream's `min_confidence` goes by it: all would be certain without."""
    ends = {"subject": "man", "object": "horse"}
    told = [{**ends, "relation": name, "confidence": c} for name, c in (("on", 0.25), ("near", None), ("by", "0.5"))]
    boxes = {"man": [1, 1, 20, 40], "horse": [10, 10, 60, 46]}
    path = lines(folder, {"image": "a.jpg", "boxes": boxes, "relations": [*told, ["man", "rides", "horse"]]})
    (found,), dropped = records(read_own, folder / "photos", path)
    assert not dropped
    assert [r.get("confidence") for r in found["relations"]] == [0.25, None, 0.5, None]  # certain where it is absent


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"image": "a.jpeg", "captions": "x"}, "there is no image 'a.jpeg' in .*; did you mean 'a.jpg'"),
        ({"captions": "x"}, "expected the name of a file in 'image'"),
        ({"image": "a.jpg"}, "expected captions, or boxes and relations, got neither"),
        ({"image": "a.jpg", "boxs": {}}, "unknown key 'boxs'; did you mean 'boxes'"),
        ({"image": "a.jpg", "boxes": {"man": [0, 0, 9, 9]}, "relations": [["man", "on", "mat"]]}, "'mat' has no box"),
        ({"image": "a.jpg", "relations": [["man", "on", "mat"]]}, "'man' has no box: give one in \"boxes\""),
        ({"image": "a.jpg", "boxes": {"man": [0, 0, 9, 9]}, "relations": [[0, "on", 1]]}, "names entity 1, of 1"),
        (
            {"image": "a.jpg", "boxes": {"man": [0, 0, 9, 9]}, "relations": [[0, "on"]]},
            r"\[subject, relation, object\]",
        ),
        ({"image": "a.jpg", "boxes": {"man": [0, 0, 9, 9]}, "relations": [[0, " ", 0]]}, "name of a relation"),
        (
            {
                "image": "a.jpg",
                "boxes": {"man": [0, 0, 9, 9]},
                "relations": [{"subject": 0, "relation": "on", "object": 0, "confidence": 80}],
            },
            r"the confidence of \{.*\.* is 80, expected a number from 0 to 1",
        ),
        ({"image": "a.jpg", "boxes": {"man": [9, 9, 0, 0]}}, r"the box of 'man' is \[9, 9, 0, 0\], expected \[x_min"),
        ({"image": "a.jpg", "boxes": {"man": [1, 2, 3, float("nan")]}}, "the box of 'man'"),
        ({"image": "a.jpg", "boxes": {"man": [0.1, 0.2, 0.9, 1.0]}}, "expected pixels, not fractions"),
        ({"image": "/elsewhere/a.jpg", "captions": "x"}, "'/elsewhere/a.jpg' is not in .*: name it from there"),
        ({"image": "a" * 300, "captions": "x"}, "there is no image 'aaa"),
        ({"image": "a.jpg", "boxes": [[0, 0, 9, 9]]}, "expected boxes by name"),
        ({"image": "a.jpg", "entities": [{"label": "man", "bbox": [0, 0, 9, 9]}]}, "an entity with 'label' and 'box'"),
        (
            {"image": "a.jpg", "entities": [{"label": "m", "box": [0, 0, 9, 9]}] * 2, "relations": [["m", "on", "m"]]},
            r"'m' is the name of entities \[0, 1\]: use their numbers",
        ),
        ({"image": "a.jpg", "captions": [3]}, "captions that are texts"),
        ("a.jpg", "expected an object"),
    ],
)
def test_each_mistake_is_a_line_with_its_place(folder, item, message):
    good = {"image": "b.jpg", "captions": "x"}
    with pytest.raises(ConfigError, match=rf"graphs\.jsonl, line 2: .*{message}") as caught:
        records(read_own, folder / "photos", lines(folder, good, item, item))
    assert all("\n" not in problem for problem in caught.value.problems)
    assert len(caught.value.problems) == 2  # of every line that has one


def test_boxes_of_photos_that_viewers_turn_are_told(folder):
    """A tool that shows such a photo turned has its boxes in other pixels than those that are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(folder / "photos/turned.jpg", exif=exif)
    boxes, size = {"boxes": {"man": [1, 1, 9, 9]}}, {"width": 64, "height": 48}
    for more, counted in ((boxes, 1), (boxes | size, 0), ({"captions": "a man"}, 0)):
        found, dropped = records(read_own, folder / "photos", lines(folder, {"image": "turned.jpg", **more}))
        assert (found[0]["width"], found[0]["height"]) == (64, 48)
        assert (dropped["image_turned_by_exif"], dropped.total()) == (counted, counted)


def test_endings_in_capitals_are_found_too(folder):
    write_image(folder / "photos/d.JPG", (64, 48))
    found, _ = records(read_own, folder / "photos", lines(folder, {"image": "d", "captions": "x"}))
    assert [record["image_id"] for record in found] == ["d.JPG"]


def test_an_image_on_two_lines_is_refused(folder):
    twice = {"image": "b.jpg", "captions": "x"}, {"image": "b", "captions": "y"}
    with pytest.raises(ConfigError, match=r"line 2: .*b\.jpg was on line 1 already"):
        records(read_own, folder / "photos", lines(folder, *twice))


def test_the_example_of_the_documentation(folder, capsys, monkeypatch):
    text = DOCS.read_text(encoding="utf-8")
    example = re.search(r"```jsonl\n(.*?)```", text, re.DOTALL)[1]
    command = re.search(r"relpretrain (data convert own .*)\n", text)[1].split()
    for line in map(json.loads, example.splitlines()):
        write_image(folder / "photos" / line["image"], (640, 480))
    (folder / "graphs.jsonl").write_text(example)
    monkeypatch.chdir(folder)
    assert main([*command, "--workers", "1"]) == 0
    assert capsys.readouterr().out.startswith("2 samples, 1 caption, 4 entities, 2 relations\ndropped: nothing\n")


def test_entities_of_the_sample_format_may_be_without_a_box(folder):
    entities = [{"label": "man"}, {"label": "hat", "box": None}, {"label": "horse", "box": [1, 1, 20, 40]}]
    path = lines(folder, {"image": "a.jpg", "entities": entities, "relations": [[0, "has", 1]]})
    (record,) = records(read_own, folder / "photos", path)[0]
    assert [e.get("box") for e in record["entities"]] == [None, None, [1, 1, 20, 40]]
    assert record["relations"] == [{"subject": 0, "relation": "has", "object": 1}]


def test_a_line_that_is_no_json_hides_no_other_mistake(folder):
    good, wrong = '{"image": "b.jpg", "captions": "x"}', '{"image": "z.jpg", "captions": "x"}'
    path = folder / "graphs.jsonl"
    path.write_bytes("\n".join(['{"image": "a.jpg",', good, wrong, '{"image": }', "caf\xe9"]).encode("latin1"))
    with pytest.raises(ConfigError) as caught:
        records(read_own, folder / "photos", path)
    told = [problem.removeprefix(f"{path}, ") for problem in caught.value.problems]
    assert [line.split(":")[0] for line in told] == [
        "line 1 is no JSON",
        "line 3",
        "line 4 is no JSON",
        "line 5 is not UTF-8 (byte 0xe9)",
    ]
    assert told[0].endswith("(column 19)")  # of that line


def test_of_a_file_without_any_json_line_one_is_told(folder):
    path = folder / "graphs.jsonl"
    for item in ({"image": "a.jpg", "captions": "x"}, {"image": "a.jpg", "captions": ["x", "y"]}):
        path.write_text(json.dumps(item, indent=2) + "\n")
        with pytest.raises(ConfigError, match=r"line 1 is no JSON: .*; no line is: write one JSON object") as caught:
            records(read_own, folder / "photos", path)
        assert len(caught.value.problems) == 1


def test_a_long_file_without_any_json_line_is_not_read_to_its_end(folder):
    path = folder / "graphs.jsonl"
    path.write_text("{\n" * 20 + '{"image": "b.jpg", "captions": "x"}\n')
    with pytest.raises(ConfigError, match="none of the first 20 lines is: write one JSON object") as caught:
        records(read_own, folder / "photos", path)
    assert len(caught.value.problems) == 1


def test_of_many_mistakes_the_first_are_told_and_the_others_counted(folder):
    items = [{"image": "b.jpg", "captions": "x"}, *({"image": "z.jpg", "captions": "x"} for _ in range(22))]
    with pytest.raises(ConfigError) as caught:
        records(read_own, folder / "photos", lines(folder, *items))
    assert len(caught.value.problems) == 21
    assert "line 21: there is no image 'z.jpg'" in caught.value.problems[19]
    assert caught.value.problems[20] == "and 2 more mistakes"


def test_items_of_a_list_are_told_as_such_where_none_is_an_object(folder):
    path = folder / "graphs.json"
    path.write_text("[" + ", ".join(["1"] * 25) + "]")
    with pytest.raises(ConfigError) as caught:
        records(read_own, folder / "photos", path)
    assert "item 19: expected an object" in caught.value.problems[19]
    assert caught.value.problems[20] == "and 5 more mistakes"


def test_a_list_that_breaks_off_hides_no_mistake_before_it(folder):
    path = folder / "graphs.json"
    path.write_text('[{"image": "z.jpg", "captions": "x"}, {"image": ')
    with pytest.raises(ConfigError) as caught:
        records(read_own, folder / "photos", path)
    first, second = caught.value.problems
    assert "there is no image 'z.jpg'" in first
    assert "no JSON" in second
