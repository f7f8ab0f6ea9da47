import json

import pytest

from relpretrain.sources import Rules, read_vrd
from tests.sources.helpers import records, triplets, write_image, write_json


def end(category, bbox):
    return {"category": category, "bbox": bbox}


PERSON, HAT = end(0, [10, 28, 5, 20]), end(1, [2, 10, 8, 16])  # y_min, y_max, x_min, x_max


def triplet(subject=PERSON, predicate=0, object_=HAT):
    return {"subject": subject, "predicate": predicate, "object": object_}


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_json(tmp_path / "objects.json", ["person", "hat"])
    write_json(tmp_path / "predicates.json", ["wear", "below"])
    return tmp_path


def read(folder, content, **more):
    return records(read_vrd, folder, write_json(folder / "annotations.json", content), **more)


def test_reads_graphs_and_merges_entities(folder):
    (record,), dropped = read(folder, {"a.jpg": [triplet(), triplet(predicate=1), triplet()]})
    assert record == {
        "image_id": "a",
        "source": "s",
        "width": 40,
        "height": 30,
        "entities": [
            {"label": "person", "box": [5, 10, 20, 28], "attributes": []},
            {"label": "hat", "box": [8, 2, 16, 10], "attributes": []},
        ],
        "relations": [
            {"subject": 0, "relation": "wear", "object": 1},
            {"subject": 0, "relation": "below", "object": 1},
        ],
    }
    assert dropped == {"repeated_relation": 1}


def test_counts_what_it_drops(folder):
    write_image(folder / "b.jpg")
    bad = [
        triplet(end(0, [0, 35, 0, 10])),
        triplet(end(0, [5, 5, 0, 10])),
        triplet(end(2, [0, 5, 0, 10])),
        triplet(end(-1, [0, 5, 0, 10])),
        triplet(predicate=9),
        {"subject": PERSON},
        "wear",
    ]
    (record,), dropped = read(folder, {"a.jpg": [*bad, triplet()], "b.jpg": [], "c.jpg": [triplet()]})
    assert len(record["relations"]) == 1
    assert len(record["entities"]) == 2
    assert dropped == {
        "box_outside_image": 1,
        "empty_box": 1,
        "relation_without_entity": 2,
        "malformed_relation": 5,
        "image_without_annotation": 1,
        "missing_image": 1,
    }


def test_refuses_wrong_files(folder):
    with pytest.raises(ValueError, match="VRD annotations: expected an object, got a list"):
        read(folder, [])
    with pytest.raises(ValueError, match="list of triplets for each image"):
        read(folder, {"a.jpg": {}})
    with pytest.raises(ValueError, match="list of names: expected a list, got an object"):
        read(folder, {}, objects=write_json(folder / "o.json", {"0": "person"}))
    with pytest.raises(ValueError, match="expected a list of names"):
        read(folder, {}, objects=write_json(folder / "o.json", [1]))
    with pytest.raises(ValueError, match="cannot read"):
        read(folder, {}, predicates=folder / "absent.json")


def test_real_photos_triple_for_triple(realdata):
    found, dropped = records(
        read_vrd, realdata / "vrd/images", realdata / "vrd/annotations_test.json", rules=Rules(duplicates="keep")
    )
    truth = json.loads((realdata / "vrd/derived_vg_style_60images.json").read_text())
    assert len(found) == len(truth) == 60
    assert dropped == {"missing_image": 895, "image_without_annotation": 45}

    def corners(entity):
        return entity["name"], (entity["x"], entity["y"], entity["x"] + entity["w"], entity["y"] + entity["h"])

    by_name = {record["image_id"]: record for record in found}
    for image in truth:
        record = by_name[image["file_name"].removesuffix(".jpg")]
        expected = [(corners(r["subject"]), r["predicate"], corners(r["object"])) for r in image["relationships"]]
        assert triplets(record) == expected
        assert len(record["entities"]) == len(image["objects"])
