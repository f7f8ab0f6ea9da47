import pytest

from relpretrain.sources import Rules, read_gqa
from tests.sources.helpers import records, triplets, write_image, write_json


def thing(name, x, relations=(), **more):
    return {"name": name, "x": x, "y": 2, "w": 10, "h": 10, "attributes": [], "relations": list(relations)} | more


def relation(name, target):
    return {"name": name, "object": target}


def graph(**objects):
    return {"width": 40, "height": 30, "location": "room", "weather": None, "objects": objects}


MIRRORED = graph(
    a=thing("cup", 0, [relation("to the left of", "b"), relation("on", "b")], attributes=["white", "small"]),
    b=thing("table", 20, [relation("to the right of", "a"), relation("near", "a")]),
)


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "2407890.jpg")
    return tmp_path


def read(folder, content, **more):
    return records(read_gqa, folder, write_json(folder / "g.json", content), **more)


def test_reads_graphs(folder):
    (record,), dropped = read(folder, {"2407890": MIRRORED})
    assert record["image_id"] == "2407890"
    assert record["entities"][0] == {"label": "cup", "box": [0, 2, 10, 12], "attributes": ["white", "small"]}
    cup, table = ("cup", (0, 2, 10, 12)), ("table", (20, 2, 30, 12))
    assert triplets(record) == [
        (cup, "to the left of", table),
        (cup, "on", table),
        (table, "to the right of", cup),
        (table, "near", cup),
    ]
    assert not dropped


def test_mirrored_copies_go_on_request(folder):
    (record,), dropped = read(folder, {"2407890": MIRRORED}, rules=Rules(inverses="drop"))
    assert [name for _, name, _ in triplets(record)] == ["to the left of", "on", "near"]
    assert dropped == {"inverse_relation": 1}


def test_counts_what_it_drops(folder):
    objects = {
        "1": thing("cup", 0, [relation("on", "9"), relation("on", "2"), relation("on", "3"), {"name": "on"}]),
        "2": thing("edge", 31),  # a pixel too far: clipped
        "3": thing("far", 33),
        "4": {"name": "x"},
    }
    empty = graph() | {"objects": {}}
    small = graph(a=thing("a", 0)) | {"width": 41}
    content = {"2407890": graph(**objects), "5": graph(a=thing("a", 0)), "6": empty, "7": [], "2407890 ": small}
    (record,), dropped = read(folder, content)
    assert [e["box"] for e in record["entities"]] == [[0, 2, 10, 12], [31, 2, 40, 12]]
    assert [name for _, name, _ in triplets(record)] == ["on"]
    assert dropped == {
        "relation_without_entity": 2,
        "malformed_relation": 1,
        "box_outside_image": 1,
        "malformed_object": 1,
        "malformed_graph": 1,
        "image_without_annotation": 1,
        "missing_image": 2,
    }


def test_refuses_a_list(folder):
    with pytest.raises(ValueError, match="scene graphs of GQA: expected an object, got a list"):
        read(folder, [])


def test_a_text_or_an_object_where_a_list_is_expected(tmp_path):
    write_image(tmp_path / "1.jpg")
    place = {"x": 1, "y": 1, "w": 9, "h": 9}
    objects = {
        "7": {"name": "man", **place, "attributes": "tall", "relations": {"object": 8, "name": "near"}},
        "8": {"name": "dog", **place, "attributes": 3, "relations": "near"},
    }
    graphs = write_json(tmp_path / "g.json", {"1": {"width": "40", "height": None, "objects": objects}})
    (record,), dropped = records(read_gqa, tmp_path, graphs)
    assert [entity["attributes"] for entity in record["entities"]] == [["tall"], []]
    assert record["relations"] == [{"subject": 0, "relation": "near", "object": 1}]
    assert dropped == {"malformed_attribute": 1, "malformed_relation": 1}
