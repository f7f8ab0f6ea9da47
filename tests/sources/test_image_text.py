import json
import os
from collections import Counter

import pytest

from relpretrain.sources import Rules, check, read_albef, read_image_text
from tests.sources.helpers import records, write_image, write_json

EXPECTED = {"a.jpg": ["a cat", "one, two"], "sub/b.png": ["a dog"]}


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_image(tmp_path / "sub/b.png")
    return tmp_path


def read(folder, captions=None):
    found, dropped = records(read_image_text, folder, captions)
    return {record["image_id"]: record["captions"] for record in found}, dropped


def table(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


ROWS = [
    {"image": "a.jpg", "caption": "a cat"},
    {"image": "sub/b.png", "text": "a dog"},
    {"file": "a.jpg", "text": "one, two"},
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'image,caption\na.jpg,a cat\nsub/b.png,a dog\na.jpg,"one, two"\n'),
        ("t.tsv", "n\ttext\tfile_name\n1\ta cat\ta.jpg\n2\ta dog\tsub/b.png\n3\tone, two\ta.jpg\n"),
        ("t.jsonl", "\n".join(json.dumps(row) for row in ROWS) + "\n\n"),
        ("t.json", json.dumps(ROWS)),
        ("t.json", json.dumps({"a.jpg": ["a cat", "one, two"], "sub/b.png": "a dog"})),
    ],
)
def test_tables(folder, name, text):
    assert read(folder, table(folder, name, text)) == (EXPECTED, {})


def test_text_files_beside_images(folder):
    table(folder, "a.txt", "a cat\n\none,  two\n")
    table(folder / "sub", "b.txt", "a dog")
    assert read(folder) == (EXPECTED, {})


def test_the_ending_follows_the_content(tmp_path):
    write_image(tmp_path / "a.jpg", image_format="PNG")
    (annotation,) = read_image_text(tmp_path, write_json(tmp_path / "t.json", {"a.jpg": "x"}), dropped=Counter())
    assert check(annotation, "s", Rules(), Counter()).extension == "png"


def test_counts_what_it_drops(folder):
    rows = {"a.jpg": ["", None, "a cat"], "sub/b.png": " ", "c.jpg": "gone"}
    kept, dropped = read(folder, write_json(folder / "t.json", rows))
    assert kept == {"a.jpg": ["a cat"]}
    assert dropped == {"empty_caption": 3, "image_without_annotation": 1, "missing_image": 1}

    assert read(folder, table(folder, "t.csv", "image,caption\n,gone\na.jpg,x\n")) == (
        {"a.jpg": ["x"]},
        {"entry_without_file_name": 1},
    )

    (folder / "a.txt").write_bytes(b"\xff\xfe\xfa")
    assert read(folder) == ({}, {"unreadable_caption_file": 1, "missing_caption_file": 1})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "picture,caption\na.jpg,x\n", "line 2 has no image: expected one of image, .* got picture, caption"),
        ("t.csv", "image,title\na.jpg,x\n", "has no caption"),
        ("t.jsonl", '{"image": "a.jpg", "caption": "x"}\n{', "line 2 is no JSON"),
        ("t.json", "3", "expected an object, got no JSON"),
        ("t.json", '["a.jpg"]', "item 0 should be an object"),
        ("t.xlsx", "", "expected .csv, .tsv, .json or .jsonl"),
    ],
)
def test_refuses_wrong_tables(folder, name, text, message):
    with pytest.raises(ValueError, match=message):
        read(folder, table(folder, name, text))


def test_refuses_an_absent_table(folder):
    with pytest.raises(ValueError, match="cannot read images and captions from"):
        read(folder, folder / "absent.csv")


def test_albef(folder):
    rows = [
        {"image": "a.jpg", "caption": "a cat"},
        {"image": str(folder / "sub/b.png"), "caption": ["a dog", "one, two"]},
        {"image": "a.jpg", "caption": "again"},
        {"image": "gone.jpg", "caption": "x"},
    ]
    found, dropped = records(read_albef, folder, write_json(folder / "pairs.json", rows))
    assert [r["captions"] for r in found] == [["a cat", "again"], ["a dog", "one, two"]]
    assert dropped == {"missing_image": 1}
    with pytest.raises(ValueError, match="item 0 has no caption"):
        records(read_albef, folder, write_json(folder / "pairs.json", [{"image": "a.jpg"}]))
    with pytest.raises(ValueError, match="expected a list, got an object"):
        records(read_albef, folder, write_json(folder / "pairs.json", {}))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.json", None])
def test_marks_and_half_characters_in_every_form(folder, name):
    """A byte order mark is skipped, half an emoji becomes U+FFFD and is counted, U+2028 is a character."""
    caption = "a\u2028cat \ud83d"
    rows = {
        "t.csv": "image,caption\r\na.jpg,a\u2028cat \ufffd\r\n",
        "t.tsv": "image\tcaption\na.jpg\ta\u2028cat \ufffd\n",
        "t.jsonl": json.dumps({"image": "a.jpg", "caption": caption}) + "\r\n",
        "t.json": json.dumps([{"image": "a.jpg", "caption": caption}]),
        None: "a\u2028cat \ufffd\r\n",
    }
    path = table(folder, name or "a.txt", "\ufeff" + rows[name])
    found, dropped = records(read_image_text, folder, path if name else None)
    assert [(record["image_id"], record["captions"]) for record in found] == [("a.jpg", ["a cat \ufffd"])]
    assert dropped["replaced_character"] == 1


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.json"])
def test_another_encoding_is_refused_in_one_line(folder, name):
    (folder / name).write_text('[{"image": "a.jpg", "caption": "x"}]', encoding="utf-16")
    with pytest.raises(ValueError, match=rf"{name}.* is UTF-16, expected UTF-8: convert it") as caught:
        read(folder, folder / name)
    assert "\n" not in str(caught.value)


def test_a_file_whose_name_is_no_text(folder):
    os.rename(folder / "a.jpg", os.fsencode(folder) + b"/caf\xe9.jpg")
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("a cat")
    found, _ = records(read_image_text, folder)
    assert [(record["image_id"], record["captions"]) for record in found] == [("caf\ufffd.jpg", ["a cat"])]
