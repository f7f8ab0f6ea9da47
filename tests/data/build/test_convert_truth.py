"""Convert, write shards, read them as training does: the real graphs come back, triple for triple and box for box."""

import json

import pytest

from relpretrain.cli import main
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.scene_graph import SceneGraph
from tests.sources.test_visual_genome import blank_images, clean
from tests.sources.test_visual_genome import end as vg_end


def read_back(tmp_path, *words):
    """Graph and captions of each image, by id, through the command, the tar and the index."""
    options = ("--out", tmp_path / "out", "--samples-per-shard", 25, "--duplicates", "keep", "--workers", 1)
    assert main(["data", "convert", *map(str, (*words, *options))]) == 0
    found = {}
    for path in sorted((tmp_path / "out").glob("*.tar")):
        index = ShardIndex.of(str(path))
        assert not index.problems
        for row in range(len(index)):
            record = json.loads(index.read(row).json)
            graph = SceneGraph.from_json(record, record["width"], record["height"])
            found[record["image_id"]] = graph, record.get("captions", [])
    return found


def triplets(graph):
    ends = [(e.label, tuple(e.box)) for e in graph.entities]
    return [(ends[r.subject], r.relation, ends[r.object]) for r in graph.relations]


def test_vrd(realdata, tmp_path):
    folder = realdata / "vrd"
    found = read_back(tmp_path, "vrd", "--images", folder / "images", "--annotations", folder / "annotations_test.json")
    source = json.loads((folder / "annotations_test.json").read_text())
    objects, predicates = (json.loads((folder / f"{name}.json").read_text()) for name in ("objects", "predicates"))

    def end(item):
        y_min, y_max, x_min, x_max = item["bbox"]
        return objects[item["category"]], (x_min, y_min, x_max, y_max)

    present = {path.stem for path in (folder / "images").iterdir()}
    expected = {
        name.removesuffix(".jpg"): [
            (end(t["subject"]), predicates[t["predicate"]], end(t["object"])) for t in annotated
        ]
        for name, annotated in source.items()
        if name.removesuffix(".jpg") in present
    }
    assert {number: triplets(graph) for number, (graph, _) in found.items()} == expected
    assert (len(expected), sum(map(len, expected.values()))) == (60, 621)


def test_visual_genome(realdata, tmp_path):
    path = realdata / "vg_subset/relationships.json"
    source = json.loads(path.read_text())[:49]
    blank_images(tmp_path / "images", source)
    found = read_back(tmp_path, "visual-genome", "--images", tmp_path / "images", "--relationships", path)
    expected = {
        str(image["image_id"]): [
            (vg_end(r["subject"]), clean(r["predicate"]), vg_end(r["object"])) for r in image["relationships"]
        ]
        for image in source
    }
    assert {number: triplets(graph) for number, (graph, _) in found.items()} == expected
    assert sum(map(len, expected.values())) == 1606


def test_coco(realdata, tmp_path):
    folder = realdata / "coco_mini"
    files = {kind: folder / f"annotations/{kind}_train2017.json" for kind in ("captions", "instances")}
    named = [word for kind, path in files.items() for word in (f"--{kind}", path)]
    found = read_back(tmp_path, "coco", "--images", folder / "train2017", *named)
    captions, instances = (json.loads(files[kind].read_text()) for kind in ("captions", "instances"))
    names = {c["id"]: c["name"] for c in instances["categories"]}
    assert len(found) == 80
    for image in instances["images"]:
        graph, texts = found[f"{image['id']:012d}"]
        said = [a["caption"] for a in captions["annotations"] if a["image_id"] == image["id"]]
        assert texts == [" ".join(caption.split()) for caption in said]
        boxes = [a for a in instances["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        assert [e.label for e in graph.entities] == [names[a["category_id"]] for a in boxes]
        for entity, a in zip(graph.entities, boxes, strict=True):
            x, y, w, h = a["bbox"]
            corners = (x, y, min(x + w, image["width"]), min(y + h, image["height"]))
            assert tuple(entity.box) == pytest.approx(corners, abs=1e-9)
