import json
from collections import Counter

import pytest

from relpretrain.sources import read_coco
from tests.sources.helpers import records, write_image, write_json


def image(number, name, width=40, height=30):
    return {"id": number, "file_name": name, "width": width, "height": height}


def box(number, bbox, **more):
    return {"image_id": number, "category_id": 1, "bbox": bbox, "iscrowd": 0, "segmentation": [[0] * 8]} | more


def files(folder, images, captions=(), boxes=()):
    caption_file = {"images": images, "annotations": [{"image_id": n, "caption": c} for n, c in captions]}
    instance_file = {"images": images, "annotations": list(boxes), "categories": [{"id": 1, "name": "traffic light"}]}
    return write_json(folder / "captions.json", caption_file), write_json(folder / "instances.json", instance_file)


def test_reads_captions_and_boxes(tmp_path):
    write_image(tmp_path / "a.jpg")
    captions, instances = files(tmp_path, [image(7, "a.jpg")], [(7, " A \n light. ")], [box(7, [1, 2, 10.5, 20])])
    (record,), dropped = records(read_coco, tmp_path, captions, instances)
    assert record == {
        "image_id": "a",
        "source": "s",
        "width": 40,
        "height": 30,
        "captions": ["A light."],
        "entities": [{"label": "traffic light", "box": [1, 2, 11.5, 22], "attributes": []}],
    }
    assert not dropped


def test_counts_what_it_drops(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_image(tmp_path / "small.jpg", (20, 15))
    write_image(tmp_path / "bare.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    write_image(tmp_path / "drawing.bmp")
    names = ["a.jpg", "small.jpg", "bare.jpg", "text.jpg", "drawing.bmp", "absent.jpg"]
    boxes = [
        box(0, [0, 0, 41, 30]),  # a pixel too far: clipped
        box(0, [0, 0, 45, 30]),
        box(0, [5, 5, 0, 5]),
        box(0, [0, 0, 9, 9], iscrowd=1),
        box(0, [0, 0, 9, 9], category_id=3),
        box(0, [0, 0, 9]),
        box(99, [0, 0, 9, 9]),
        box(1, [0, 0, 9, 9]),
    ]
    captions, instances = files(
        tmp_path,
        [image(i, n) for i, n in enumerate(names)],
        [(0, " "), (0, "a"), *((i, "b") for i in (3, 4, 5))],
        boxes,
    )
    (record,), dropped = records(read_coco, tmp_path, captions, instances)
    assert record["captions"] == ["a"]
    assert [e["box"] for e in record["entities"]] == [[0, 0, 40, 30]]
    assert dropped == dict.fromkeys(
        [
            *("box_outside_image", "empty_box", "crowd_box", "unknown_category", "malformed_box", "empty_caption"),
            *("annotation_of_unknown_image", "image_of_another_size", "image_without_annotation", "unreadable_image"),
            *("unsupported_image", "missing_image"),
        ],
        1,
    )


def test_refuses_wrong_files(tmp_path):
    def read(**files):
        return list(read_coco(tmp_path, dropped=Counter(), **files))

    with pytest.raises(ValueError, match="neither"):
        read()
    with pytest.raises(ValueError, match=r"cannot read COCO annotations from .*absent\.json"):
        read(captions=tmp_path / "absent.json")
    with pytest.raises(ValueError, match="COCO annotations: expected an object, got a list"):
        read(captions=write_json(tmp_path / "list.json", []))
    with pytest.raises(ValueError, match="not in COCO's format"):
        read(captions=write_json(tmp_path / "other.json", {"items": []}))
    with pytest.raises(ValueError, match="without file_name"):
        read(
            captions=write_json(
                tmp_path / "c.json", {"images": [{"id": 1, "width": 1, "height": 1}], "annotations": []}
            )
        )
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        read(instances=tmp_path / "broken.json")
    with pytest.raises(ValueError, match="not a folder"):
        list(read_coco(tmp_path / "absent", tmp_path / "broken.json", dropped=Counter()))


@pytest.mark.parametrize(("split", "images", "boxes"), [("train2017", 80, 739), ("val2017", 79, 624)])
def test_real_photos_box_for_box(realdata, split, images, boxes):
    folder = realdata / "coco_mini"
    instances = folder / f"annotations/instances_{split}.json"
    found, dropped = records(read_coco, folder / split, folder / f"annotations/captions_{split}.json", instances)
    truth = json.loads(instances.read_text())
    names = {c["id"]: c["name"] for c in truth["categories"]}
    expected = {f"{image['id']:012d}": [] for image in truth["images"]}
    for a in truth["annotations"]:
        if not a["iscrowd"]:
            x, y, w, h = a["bbox"]
            expected[f"{a['image_id']:012d}"].append((names[a["category_id"]], [x, y, x + w, y + h]))
    crowds = sum(a["iscrowd"] for a in truth["annotations"])
    assert sum(map(len, expected.values())) + crowds == boxes
    assert dropped == ({"crowd_box": crowds} if crowds else {})
    by_id = {record["image_id"]: record for record in found}
    assert len(expected) == images
    for number, entities in expected.items():
        got = [(e["label"], e["box"]) for e in by_id[number].get("entities", ())]
        assert [label for label, _ in got] == [label for label, _ in entities]
        for (_, box), (_, true) in zip(got, entities, strict=True):
            assert box == pytest.approx(true, abs=0.02)  # a few reach over the border by the rounding of the sum
            inside = record_size(by_id[number])
            assert all(0 <= v <= limit for v, limit in zip(box, inside * 2, strict=True))


def record_size(record):
    return [record["width"], record["height"]]


def test_odd_values_concern_their_field_alone(tmp_path):
    """Truth values and ids in any spelling, numbers as texts, NaN, sizes that are not told."""
    for number in range(8):
        write_image(tmp_path / f"{number}.jpg")
    images = [image(number, f"{number}.jpg") for number in range(8)]
    images[2] |= {"width": "40", "height": 30.0}
    images[3] |= {"width": -1, "height": -1}
    images[4] = {"id": 4, "file_name": "4.jpg"}
    images[5]["file_name"] = None
    images[6]["id"] = float("nan")
    good = [1, 2, 10, 10]
    boxes = [
        *(box("0", good, iscrowd=flag) for flag in ("0", 0.0, "false", False, None)),
        *(box(0.0, good, iscrowd=flag) for flag in ("1", 1.0, "true", True)),
        box(0, good, iscrowd="maybe"),
        box(1, ["1", "2", "10", "10"], category_id="1", score=float("nan")),
        box(1, [1, 2, float("nan"), 10]),
        box(1, [1, 2, 10**400, 10]),
        *(box(number, good) for number in (2, 3, 4)),
    ]
    captions, instances = files(tmp_path, images, [(4, ["one", "two"]), (7, float("nan"))], boxes)
    found, dropped = records(read_coco, tmp_path, captions, instances)
    by_id = {record["image_id"]: record for record in found}
    assert [len(by_id[number].get("entities", ())) for number in "012"] == [5, 1, 1]
    assert by_id["1"]["entities"][0]["box"] == [1, 2, 11, 12]
    assert by_id["4"]["captions"] == ["one", "two"]
    assert "entities" not in by_id["4"]
    assert "3" not in by_id
    assert dropped == {
        "crowd_box": 4,
        "malformed_iscrowd": 1,
        "malformed_box": 2,
        "box_without_size": 2,
        "entry_without_file_name": 2,  # of either file
        "entry_without_image_id": 2,
        "empty_caption": 1,
        "image_without_annotation": 2,
    }


def test_captions_need_no_size_and_boxes_of_another_size_go_alone(tmp_path):
    write_image(tmp_path / "a.jpg", (20, 15))
    captions, instances = files(tmp_path, [image(0, "a.jpg")], [(0, "small")], [box(0, [0, 0, 9, 9])])
    (record,), dropped = records(read_coco, tmp_path, captions, instances)
    assert record["captions"] == ["small"]
    assert "entities" not in record
    assert dropped == {"image_of_another_size": 1}
    bare = write_json(
        tmp_path / "bare.json",
        {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "x"}]},
    )
    (record,), dropped = records(read_coco, tmp_path, bare)
    assert (record["captions"], dropped) == (["x"], {})


@pytest.mark.parametrize("category", [{"id": 1, "supercategory": "x"}, {"id": 1, "name": None}, {"name": "dog"}, "dog"])
def test_a_category_without_a_name_is_one_line(tmp_path, category):
    content = {"images": [image(1, "a.jpg")], "annotations": [box(1, [0, 0, 9, 9])], "categories": [category]}
    with pytest.raises(ValueError, match=r"i\.json has a category without (name|id): ") as caught:
        records(read_coco, tmp_path, None, write_json(tmp_path / "i.json", content))
    assert str(category) in str(caught.value)
