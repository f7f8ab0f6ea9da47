from collections import Counter

import pytest

from relpretrain.scene_graph import SceneGraph
from relpretrain.sources import read_coco
from tests.sources.helpers import write_image, write_json


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
    dropped = Counter()
    (sample,) = read_coco(tmp_path, captions, instances, dropped=dropped)
    assert (sample.image_path, sample.extension) == (tmp_path / "a.jpg", "jpg")
    assert sample.record == {
        "image_id": "a",
        "source": "coco",
        "width": 40,
        "height": 30,
        "captions": ["A light."],
        "entities": [{"label": "traffic light", "box": [1, 2, 11.5, 22], "attributes": []}],
    }
    assert not +dropped


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
    ]
    captions, instances = files(
        tmp_path, [image(i, n) for i, n in enumerate(names)], [(0, " "), (0, "a"), (1, "b")], boxes
    )
    dropped = Counter()
    (sample,) = read_coco(tmp_path, captions, instances, dropped=dropped)
    assert sample.record["captions"] == ["a"]
    assert [e["box"] for e in sample.record["entities"]] == [[0, 0, 40, 30]]
    assert +dropped == dict.fromkeys(
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
    with pytest.raises(ValueError, match="not in COCO's format"):
        read(captions=write_json(tmp_path / "list.json", []))
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


def test_real_photos(realdata):
    folder = realdata / "coco_mini"
    dropped = Counter()
    annotations = folder / "annotations"
    samples = list(
        read_coco(
            folder / "train2017",
            annotations / "captions_train2017.json",
            annotations / "instances_train2017.json",
            dropped=dropped,
        )
    )
    assert len(samples) == 80
    assert sum(len(s.record["captions"]) for s in samples) == 400
    entities = sum(len(s.record.get("entities", ())) for s in samples)
    assert entities + dropped["crowd_box"] == 739
    assert set(+dropped) == {"crowd_box"}
    for sample in samples:
        SceneGraph.from_json(sample.record, sample.record["width"], sample.record["height"])
