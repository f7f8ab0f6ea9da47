import pytest

from relpretrain.sources import read_psg
from tests.sources.helpers import records, triplets, write_image, write_json


def content(*data):
    return {
        "data": list(data),
        "thing_classes": ["person", "horse"],
        "stuff_classes": ["grass"],
        "predicate_classes": ["riding", "on"],
        "test_image_ids": ["12"],
    }


def image(number, name="train2017/000000000001.jpg", **more):
    return {
        "file_name": name,
        "image_id": str(number),
        "width": 40,
        "height": 30,
        "annotations": [
            {"bbox": [2, 1, 12, 20], "bbox_mode": 0, "category_id": 0},
            {"bbox": [0, 5, 30, 28], "bbox_mode": 0, "category_id": 1},
            {"bbox": [0, 20, 40, 30], "bbox_mode": 0, "category_id": 2},
        ],
        "segments_info": [],
        "relations": [[0, 1, 0], [1, 2, 1]],
    } | more


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "train2017/000000000001.jpg")
    write_image(tmp_path / "val2017/000000000002.jpg")
    return tmp_path


def test_reads_one_split(folder):
    path = write_json(folder / "psg.json", content(image(11), image(12, "val2017/000000000002.jpg")))
    (record,), dropped = records(read_psg, folder, path)
    assert record["image_id"] == "000000000001"
    person, horse, grass = ("person", (2, 1, 12, 20)), ("horse", (0, 5, 30, 28)), ("grass", (0, 20, 40, 30))
    assert triplets(record) == [(person, "riding", horse), (horse, "on", grass)]
    assert dropped == {"image_of_other_split": 1}
    (record,), _ = records(read_psg, folder, path, "test")
    assert record["image_id"] == "000000000002"
    assert len(records(read_psg, folder, path, "all")[0]) == 2


def test_counts_what_it_drops(folder):
    boxes = [
        {"bbox": [0, 0, 5, 5], "category_id": 9},
        {"bbox": [0, 0, 5, 5], "category_id": 0, "bbox_mode": 1},
        {"bbox": [0, 0, 50, 5], "category_id": 0},
        {"bbox": [0, 0, 5, 5], "category_id": 1},
    ]
    relations = [[0, 3, 0], [1, 3, 0], [2, 3, 0], [3, 3, 0], [3, 9, 0], [3, 3, 7], [3, 3, -1], [3], None]
    path = write_json(folder / "psg.json", content(image(1, annotations=boxes, relations=relations), {"image_id": 3}))
    (record,), dropped = records(read_psg, folder, path)
    assert triplets(record) == [(("horse", (0, 0, 5, 5)), "riding", ("horse", (0, 0, 5, 5)))]
    assert dropped == {
        "empty_label": 1,
        "malformed_box": 1,
        "box_outside_image": 1,
        "relation_without_entity": 4,
        "malformed_relation": 4,
        "entry_without_file_name": 1,
    }


def test_refuses_other_files(folder):
    with pytest.raises(ValueError, match="expected thing_classes"):
        records(read_psg, folder, write_json(folder / "x.json", {"data": []}))
