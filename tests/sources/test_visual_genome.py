import json
from collections import Counter

import pytest

from relpretrain.sources import Rules, read_visual_genome
from tests.sources.helpers import records, triplets, write_image, write_json


def thing(number, name, x, y, w, h, **more):
    return {"object_id": number, "x": x, "y": y, "w": w, "h": h, "name": name} | more


MAN = thing(5, "Man", 2, 3, 10, 20)
HAT = {"object_id": 7, "names": ["hat"], "merged_object_ids": [8], "x": 4, "y": 1, "w": 6, "h": 5}


def triplet(predicate="WEARS", subject=MAN, object_=HAT):
    return {"predicate": predicate, "subject": subject, "object": object_, "relationship_id": 1, "synsets": []}


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "VG_100K_2/1.jpg")
    write_image(tmp_path / "VG_100K/77.jpg")
    return tmp_path


def test_one_image_from_all_files(folder):
    files = {
        "image_data": [
            {"image_id": 2, "url": "https://x/VG_100K/77.jpg", "width": 40, "height": 30, "coco_id": 9},
            {"image_id": 1, "url": "https://x/VG_100K_2/1.jpg", "width": 40, "height": 30, "coco_id": None},
        ],
        "relationships": [{"image_id": 1, "relationships": [triplet(), triplet(" On  Top of ", HAT, MAN)]}],
        "objects": [
            {"image_id": 2, "objects": [thing(1, "dog", 0, 0, 5, 5)]},
            {"image_id": 1, "objects": [HAT | {"x": 0}, thing(9, "tree", 0, 0, 9, 9)]},
        ],
        "attributes": [{"image_id": 1, "attributes": [HAT | {"object_id": 8, "attributes": ["Red ", "red", "big"]}]}],
        "regions": [
            {"id": 1, "regions": [{"phrase": "a man ", "x": 1, "y": 1, "width": 9, "height": 8, "image_id": 1}]}
        ],
    }
    paths = {part: write_json(folder / f"{part}.json", content) for part, content in files.items()}
    found, dropped = records(read_visual_genome, folder, **paths)
    assert [(r["image_id"], len(r["entities"])) for r in found] == [("2", 1), ("1", 4)]  # image_data's order
    record = found[1]
    assert [(e["label"], e["box"], e["attributes"]) for e in record["entities"]] == [
        ("man", [2, 3, 12, 23], []),
        ("hat", [4, 1, 10, 6], ["red", "big"]),  # the relation's own box, by its id and by a merged one
        ("tree", [0, 0, 9, 9], []),
        ("a man", [1, 1, 10, 9], []),
    ]
    assert [(r["subject"], r["relation"], r["object"]) for r in record["relations"]] == [
        (0, "wears", 1),
        (1, "on top of", 0),
    ]
    assert not dropped


def test_scene_graphs_name_objects_by_id(folder):
    objects = [thing(5, "man", 2, 3, 10, 20, attributes=["tall"]), HAT]
    relations = [
        {"predicate": "wears", "subject_id": 5, "object_id": 8},
        {"predicate": "on", "subject_id": 5, "object_id": 99},
        {"predicate": "on", "subject_id": 5},
    ]
    content = [{"image_id": 1, "objects": objects, "relationships": relations}]
    (record,), dropped = records(read_visual_genome, folder, scene_graphs=write_json(folder / "s.json", content))
    assert triplets(record) == [(("man", (2, 3, 12, 23)), "wears", ("hat", (4, 1, 10, 6)))]
    assert record["entities"][0]["attributes"] == ["tall"]
    assert dropped == {"relation_without_entity": 1, "malformed_relation": 1}


def test_the_name_of_the_file_is_the_urls(folder):
    data = write_json(folder / "d.json", [{"image_id": 1, "url": "http://x/VG_100K/77.jpg", "coco_id": 9}])
    relations = write_json(folder / "r.json", [{"image_id": 1, "relationships": [triplet()]}])
    (annotation,) = read_visual_genome(folder, data, relations, dropped=Counter())
    annotation = annotation.now(Counter())
    assert annotation.image == folder / "VG_100K/77.jpg"
    assert (annotation.image_id, annotation.other_ids) == ("1", ("77", "000000000009"))
    objects = write_json(
        folder / "o.json", [{"image_id": 3, "image_url": "http://x/VG_100K_2/1.jpg", "objects": [HAT]}]
    )
    (annotation,) = read_visual_genome(folder, objects=objects, dropped=Counter())
    assert annotation.now(Counter()).image == folder / "VG_100K_2/1.jpg"


def test_counts_what_it_drops(folder):
    relations = [
        triplet(subject=MAN | {"w": 99}),
        triplet(subject=MAN | {"w": 0}),
        triplet(subject=MAN | {"w": None}),
        triplet(subject={"object_id": 1, "x": 0, "y": 0, "w": 1, "h": 1}),
        triplet(predicate=" "),
        triplet(predicate=None),
        "on",
        triplet(object_=HAT | {"names": ["hat", "cap"]}),
    ]
    content = [{"relationships": [triplet()]}, {"image_id": 1, "relationships": relations}, {"image_id": 4}]
    (record,), dropped = records(read_visual_genome, folder, relationships=write_json(folder / "r.json", content))
    assert len(record["relations"]) == 1
    assert dropped == {
        "entry_without_image_id": 1,
        "box_outside_image": 1,
        "empty_box": 1,
        "malformed_box": 1,
        "relation_without_entity": 3,
        "malformed_relation": 2,
        "empty_relation": 2,
        "further_name_of_object": 1,
        "image_without_annotation": 1,
    }


def test_an_end_that_is_no_object_is_counted(folder):
    path = write_json(folder / "r.json", [{"image_id": 1, "relationships": [triplet(), triplet(object_="hat")]}])
    (record,), dropped = records(read_visual_genome, folder, relationships=path)
    assert (len(triplets(record)), dropped) == (1, {"malformed_relation": 1})


def test_an_image_of_another_size_is_left_out(folder):
    data = write_json(folder / "d.json", [{"image_id": 1, "url": "x/1.jpg", "width": 41, "height": 30}])
    relations = write_json(folder / "r.json", [{"image_id": 1, "relationships": [triplet()]}])
    assert records(read_visual_genome, folder, data, relations) == ([], {"image_of_another_size": 1})


def test_refuses_wrong_files(folder):
    with pytest.raises(ValueError, match="got none"):
        records(read_visual_genome, folder)
    listed = write_json(folder / "r.json", [])
    with pytest.raises(ValueError, match="name one of them"):
        records(read_visual_genome, folder, relationships=listed, scene_graphs=listed)
    with pytest.raises(ValueError, match="expected a list, got an object"):
        records(read_visual_genome, folder, relationships=write_json(folder / "o.json", {}))


def clean(text):
    return " ".join(text.lower().split())


def end(item):
    name = item["name"] if "name" in item else item["names"][0]
    return clean(name), (item["x"], item["y"], item["x"] + item["w"], item["y"] + item["h"])


def blank_images(folder, *files):
    """Images, each just large enough for its boxes, for annotations that come without."""
    sizes = {}
    for content in files:
        for image in content:
            if "image_id" not in image:
                continue
            ends = [r[e] for r in image.get("relationships", ()) for e in ("subject", "object")]
            for item in ends + image.get("objects", []):
                width, height = sizes.get(image["image_id"], (1, 1))
                sizes[image["image_id"]] = max(width, item["x"] + item["w"]), max(height, item["y"] + item["h"])
    for number, size in sizes.items():
        write_image(folder / f"{number}.jpg", size)
    return sizes


def test_real_relationships_triple_for_triple(realdata, tmp_path):
    path = realdata / "vg_subset/relationships.json"
    truth = json.loads(path.read_text())
    assert len(blank_images(tmp_path, truth)) == 49
    found, dropped = records(read_visual_genome, tmp_path, relationships=path, rules=Rules(duplicates="keep"))
    assert dropped == {"entry_without_image_id": 1}  # the file is cut off by hand
    assert [r["image_id"] for r in found] == [str(image["image_id"]) for image in truth[:49]]
    for record, image in zip(found, truth, strict=False):
        expected = [(end(r["subject"]), clean(r["predicate"]), end(r["object"])) for r in image["relationships"]]
        assert triplets(record) == expected
    assert sum(len(r["relations"]) for r in found) == 1650 - len(truth[49]["relationships"])


def test_real_objects_and_regions(realdata, tmp_path):
    folder = realdata / "vg_subset"
    objects = json.loads((folder / "objects.json").read_text())
    blank_images(tmp_path, objects)
    found, dropped = records(read_visual_genome, tmp_path, objects=folder / "objects.json")
    expected = {str(image["image_id"]): [end(o) for o in image["objects"]] for image in objects}
    assert {r["image_id"]: [(e["label"], tuple(e["box"])) for e in r["entities"]] for r in found} == expected
    assert sum(map(len, expected.values())) == 460
    assert set(dropped) <= {"further_name_of_object"}

    regions = json.loads((folder / "region_graphs.json").read_text())
    found, dropped = records(read_visual_genome, tmp_path, regions=folder / "region_graphs.json")
    kept = sum(len(r["entities"]) for r in found)
    assert kept + sum(dropped.values()) == sum(len(image["regions"]) for image in regions) == 3028
    assert kept > 2900


def test_a_text_or_an_object_where_a_list_is_expected(tmp_path):
    write_image(tmp_path / "1.jpg")
    place = {"x": "1", "y": 1, "w": 9, "h": 9}
    man = {"object_id": 1, "names": "Man", **place}
    relationships = [{"image_id": "1", "relationships": {"predicate": "on", "subject": man, "object": man}}]
    attributes = [
        {"image_id": 1.0, "attributes": [{"object_id": "1", **place, "names": ["man"], "attributes": "tall"}]},
        {"image_id": 1, "attributes": {"object_id": 1, **place, "names": ["man"], "attributes": float("nan")}},
        {"image_id": 1, "attributes": 7},
    ]
    data = [{"image_id": 1, "width": None, "height": float("nan"), "url": "http://["}]
    (record,), dropped = records(
        read_visual_genome,
        tmp_path,
        write_json(tmp_path / "data.json", data),
        write_json(tmp_path / "relationships.json", relationships),
        attributes=write_json(tmp_path / "attributes.json", attributes),
    )
    assert record["entities"] == [{"label": "man", "box": [1, 1, 10, 10], "attributes": ["tall"]}]
    assert record["relations"] == [{"subject": 0, "relation": "on", "object": 0}]
    assert dropped == {"malformed_object": 1}
