import json

import pytest

from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks.common.source import Source
from relpretrain.zeroshot.tasks.retrieval.paragraphs import Paragraphs
from tests.zeroshot.helpers import write_images

ADDRESS = "https://cs.stanford.edu/people/rak248/VG_100K"


def write(folder, test=(1, 2)):
    folder.mkdir(parents=True)
    rows = [
        (1, "red", "A red\n thing."),
        (2, "blue", "Blue. Very blue."),
        (1, "red", "Another."),
        (3, "green", "Green."),
    ]
    records = [{"image_id": i, "url": f"{ADDRESS}/{name}.png", "paragraph": text} for i, name, text in rows]
    (folder / "paragraphs_v1.json").write_text(json.dumps(records))
    (folder / "test_split.json").write_text(json.dumps(list(test)))


def test_the_first_paragraph_of_an_image_counts(tmp_path):
    write(tmp_path / "paragraphs", test=[2, 1, 1])
    write_images(tmp_path / "images")
    task, source = Paragraphs(), Source(tmp_path)
    splits = task.items(source)
    assert [(item.image, item.texts) for item in splits["test"]] == [
        ("VG_100K/blue.png", ("Blue. Very blue.",)),
        ("VG_100K/red.png", ("A red thing.",)),
    ]
    items, notes = task.locate(splits["test"], source)
    assert notes == ("further paragraphs of an image left out: 1",)
    table = task.summarise(task.score(ConstantScorer(), items), "test")
    assert [row.correct for row in table.rows[1:]] == [0, 2, 2, 0, 2, 2]
    assert table.protocol.startswith("paragraphs-1:")
    assert task.card.identify("test", task.count(task.score(ConstantScorer(), items))) == ""


def test_broken_files_get_one_line(tmp_path):
    write(tmp_path / "paragraphs", test=[1, 9])
    with pytest.raises(ValueError, match=r"1 of the 2 images of .*test_split.json have no paragraph \(first: 9\)"):
        Paragraphs().items(Source(tmp_path))
    (tmp_path / "paragraphs" / "test_split.json").unlink()
    with pytest.raises(ValueError, match="holds no list of images"):
        Paragraphs().items(Source(tmp_path))
    (tmp_path / "paragraphs" / "paragraphs_v1.json").unlink()
    with pytest.raises(ValueError, match="which holds the paragraphs"):
        Paragraphs().items(Source(tmp_path))


def test_an_item_file_needs_no_lists(tmp_path):
    file = tmp_path / "items.json"
    file.write_text(json.dumps({"paragraphs": [{"image": "red.png", "caption": "A red thing."}]}))
    write_images(tmp_path)
    task, source = Paragraphs(), Source(file)
    items, notes = task.locate(task.items(source)["items"], source)
    assert (len(items), notes) == (1, ())
