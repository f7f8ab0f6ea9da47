import json
from collections import Counter

import pytest

from relpretrain.scene_graph import SceneGraph
from relpretrain.sources import read_vrd
from tests.sources.helpers import write_image, write_json


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
    dropped = Counter()
    samples = list(read_vrd(folder, write_json(folder / "annotations.json", content), dropped=dropped, **more))
    return samples, +dropped


def test_reads_graphs_and_merges_entities(folder):
    (sample,), dropped = read(folder, {"a.jpg": [triplet(), triplet(predicate=1), triplet()]})
    assert sample.record == {
        "image_id": "a",
        "source": "vrd",
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
    (sample,), dropped = read(folder, {"a.jpg": [*bad, triplet()], "b.jpg": [], "c.jpg": [triplet()]})
    assert len(sample.record["relations"]) == 1
    assert len(sample.record["entities"]) == 2
    assert dropped == {
        "box_outside_image": 1,
        "empty_box": 1,
        "malformed_relation": 5,
        "image_without_annotation": 1,
        "missing_image": 1,
    }


def test_refuses_wrong_files(folder):
    with pytest.raises(ValueError, match="not in VRD's format"):
        read(folder, [])
    with pytest.raises(ValueError, match="list of names"):
        read(folder, {}, objects=write_json(folder / "o.json", {"0": "person"}))
    with pytest.raises(ValueError, match="cannot read"):
        read(folder, {}, predicates=folder / "absent.json")


def test_real_photos(realdata):
    dropped = Counter()
    samples = list(read_vrd(realdata / "vrd/images", realdata / "vrd/annotations_test.json", dropped=dropped))
    truth = json.loads((realdata / "vrd/derived_vg_style_60images.json").read_text())
    assert len(samples) == len(truth) == 60
    graphs = {}
    for sample in samples:
        graph = SceneGraph.from_json(sample.record, sample.record["width"], sample.record["height"])
        graphs[sample.image_path.name] = graph
    assert sum(len(g.relations) for g in graphs.values()) + dropped["repeated_relation"] == 621
    assert set(+dropped) == {"repeated_relation", "missing_image"}

    def corners(entity):
        return entity["name"], entity["x"], entity["y"], entity["x"] + entity["w"], entity["y"] + entity["h"]

    for image in truth:
        graph = graphs[image["file_name"]]
        ends = [(e.label, *e.box) for e in graph.entities]
        found = {(ends[r.subject], r.relation, ends[r.object]) for r in graph.relations}
        assert found == {(corners(r["subject"]), r["predicate"], corners(r["object"])) for r in image["relationships"]}
        assert len(graph.entities) == len(image["objects"])
