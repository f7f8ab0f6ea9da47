import io
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.scene_graph import RelationVocabulary, SceneGraph, holds
from relpretrain.synthetic import RELATIONS, World, generate
from relpretrain.synthetic.render import SHAPES, coverage
from tests.synthetic.reading import KINDS, digest, relation_of, samples, seen_in, true

SIZES = {
    "images_captions": 300,
    "images_regions": 20,
    "images_graphs": 60,
    "images_validation": 20,
    "items_vsr": 90,
    "items_valse": 60,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("world"), **SIZES, **KINDS)


def test_shards_hold_what_their_names_say(folder):
    for split in ("captions", "regions", "graphs", "validation"):
        found = list(samples(folder / split))
        assert len(found) == SIZES[f"images_{split}"]
        for png, record in found:
            assert Image.open(io.BytesIO(png)).size == (record["width"], record["height"]) == (32, 32)
            assert bool(record.get("captions")) == (split in ("captions", "validation"))
            assert len(record.get("entities", ())) == (0 if split == "captions" else 2)
            assert bool(record.get("relations")) == (split in ("graphs", "validation"))


@pytest.mark.parametrize("split", ["graphs", "validation"])
def test_every_relation_is_true_of_its_boxes_and_of_the_pixels(folder, split):
    for png, record in samples(folder / split):
        graph = SceneGraph.from_json(record, 32, 32)
        seen = seen_in(Image.open(io.BytesIO(png)))
        assert {e.label for e in graph.entities} == set(seen)
        assert all(e.box.center == pytest.approx(seen[e.label], abs=1) for e in graph.entities)
        assert len(graph.relations) == 1  # of two that are each other's inverse
        for r in graph.relations:
            subject, object = graph.entities[r.subject], graph.entities[r.object]
            assert holds(r.relation, subject.box, object.box)
            assert true(seen, subject.label, r.relation, object.label)


def test_captions_are_true_and_a_share_mentions_a_relation(folder):
    relational = 0
    for png, record in samples(folder / "captions"):
        (caption,) = record["captions"]
        seen = seen_in(Image.open(io.BytesIO(png)))
        if relation := relation_of(caption):
            relational += 1
            assert true(seen, *relation)
        else:
            assert caption.split(" and ") == sorted(seen)  # the order of naming tells nothing
    assert 0.04 < relational / 300 < 0.17


def test_vsr_labels_tell_the_truth_and_are_balanced(folder):
    for split, count in (("dev", 30), ("test", 60)):
        lines = (folder / f"benchmarks/vsr/synthetic/{split}.jsonl").read_text().splitlines()
        items = [json.loads(line) for line in lines]
        assert len(items) == count
        assert sum(item["label"] for item in items) == count // 2
        for item in items:
            subject, relation, object = relation_of(item["caption"])
            assert relation == item["relation"]
            seen = seen_in(Image.open(folder / "benchmarks/images" / item["image"]))
            assert {subject, object} == set(seen)
            assert true(seen, subject, relation, object) == bool(item["label"])


@pytest.mark.parametrize("piece", ["relations", "actant-swap"])
def test_valse_relation_captions_are_true_and_foils_false(folder, piece):
    items = json.loads((folder / f"benchmarks/valse/{piece}.json").read_text())
    assert len(items) == 60
    for item in items.values():
        seen = seen_in(Image.open(folder / "benchmarks/images" / item["image_file"]))
        caption, foil = relation_of(item["caption"]), relation_of(item["foil"])
        assert true(seen, *caption)
        assert not true(seen, *foil)
        if piece == "relations":
            assert caption[::2] == foil[::2]
            assert (caption[1], foil[1]) == (item["classes"], item["classes_foil"])
        else:
            assert caption == foil[::-1]
        assert item["mturk"]["caption"] == 3


@pytest.mark.parametrize("piece", ["existence", "foil-it"])
def test_valse_noun_captions_are_true_and_foils_false(folder, piece):
    for item in json.loads((folder / f"benchmarks/valse/{piece}.json").read_text()).values():
        seen = seen_in(Image.open(folder / "benchmarks/images" / item["image_file"]))
        assert set(item["caption"].split(" and ")) <= set(seen)
        assert item["classes"] in seen
        assert item["classes_foil"] not in seen
        foiled = item["caption"].replace(item["classes"], item["classes_foil"])
        assert item["foil"].split(" and ") == sorted(foiled.split(" and "))


def test_wording_alone_tells_nothing(folder):
    items = json.loads((folder / "benchmarks/valse/relations.json").read_text()).values()
    for key in ("classes", "classes_foil"):
        counts = Counter(item[key] for item in items)
        assert set(counts) == set(RELATIONS)
        assert max(counts.values()) < 30


def test_the_tokenizer_knows_every_word(folder):
    encoder = TextEncoder(load_tokenizer(folder / "tokenizer"), 30)
    texts = [c for _, record in samples(folder / "captions") for c in record["captions"]]
    valse = json.loads((folder / "benchmarks/valse/existence.json").read_text())
    texts += [i["caption"] for i in valse.values()] + list(RELATIONS)
    for text in texts:
        words = [w for w in encoder.caption(text).words if w >= 0]
        assert len(words) == len(set(words))  # no word is in pieces


def test_the_vocabulary_holds_the_relations_and_their_inverses(folder):
    vocabulary = RelationVocabulary.load(folder / "relations.json")
    assert tuple(vocabulary.names) == RELATIONS
    assert vocabulary.inverses["left of"] == "right of"
    assert vocabulary.inverses["below"] == "above"


def test_equal_seeds_give_equal_bytes_and_no_scene_comes_twice(tmp_path):
    small = dict.fromkeys(SIZES, 6)
    one, same, other = (generate(tmp_path / str(i), seed=s, **small) for i, s in enumerate((1, 1, 2)))
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(same) for p in same.rglob("*") if p.is_file())
    assert all((one / f).read_bytes() == (same / f).read_bytes() for f in files)
    assert (one / "graphs/shard-000000.tar").read_bytes() != (other / "graphs/shard-000000.tar").read_bytes()

    images = [png for split in ("captions", "regions", "graphs", "validation") for png, _ in samples(one / split)]
    images += [p.read_bytes() for p in (one / "benchmarks/images").iterdir()]
    assert len(images) == len(set(images)) == 4 * 6 + 6 + 6


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "1cd88aaa41e6a75d"),
        (
            {
                "seed": 3,
                "mutual": True,
                "shapes": ("square", "circle", "triangle"),
                "colors": ("orange", "black", "red"),
                "objects": 3,
                "image_size": 48,
            },
            "5a0eea099313314c",
        ),
        (
            {
                "relations": ("left of", "above"),
                "noise": 0,
                "relational_captions": 0.5,
                "colors": ("red", "green", "blue"),
            },
            "d3df55e4c4fd3c3b",
        ),
    ],
)
def test_worlds_stay_what_they_were(tmp_path, changes, expected):
    """Published figures are of these worlds: a new dial changes nothing where it is not used."""
    sizes = {"images_captions": 30, "images_regions": 8, "images_graphs": 20, "images_validation": 8}
    assert digest(generate(tmp_path, **sizes, items_vsr=24, items_valse=12, **changes)) == expected


def test_shards_are_not_replaced_unasked(tmp_path):
    small = dict.fromkeys(SIZES, 3)
    generate(tmp_path, **small)
    before = (tmp_path / "world.json").read_text()
    with pytest.raises(FileExistsError, match="overwrite"):
        generate(tmp_path, seed=1, **small)
    assert (tmp_path / "world.json").read_text() == before
    generate(tmp_path, seed=1, overwrite=True, hold_out_pairs=0.2, items_svo=3, **small)
    assert (tmp_path / "held_out_pairs/svo/test.jsonl").exists()
    generate(tmp_path, seed=1, overwrite=True, **small)
    assert not (tmp_path / "held_out_pairs").exists()
    assert not (tmp_path / "benchmarks/svo").exists()
    assert json.loads((tmp_path / "world.json").read_text())["seed"] == 1


@pytest.mark.parametrize("objects", [2, 3, 5])
def test_worlds_with_more_objects_keep_them_apart(objects):
    world = World(48, objects, ("triangle", "cross", "diamond"), ("orange", "black", "cyan"))
    for seed in range(20):
        graph = world.scene(np.random.default_rng(seed)).graph
        assert len({e.label for e in graph.entities}) == objects
        boxes = [e.box for e in graph.entities]
        for i, one in enumerate(boxes):
            assert one.clip(type(one)(0, 0, 48, 48)) == one
            assert not any(one.clip(other).area for other in boxes[:i])


def test_a_world_annotates_only_its_relations():
    world = World(relations=("left of", "right of"))
    names = {r.relation for seed in range(30) for r in world.scene(np.random.default_rng(seed)).graph.relations}
    assert names == {"left of", "right of"}


def _content(scene):
    return sorted((*scene.labels_of(r), r.relation) for r in scene.truths)


def test_equal_scenes_have_equal_graphs():
    """Otherwise two texts would both be true of both images, and negatives of each other."""
    annotated, forms = {}, Counter()
    for seed in range(300):
        scene = World(**KINDS).scene(np.random.default_rng(seed))
        (relation,) = scene.graph.relations
        subject, object = scene.labels_of(relation)
        assert annotated.setdefault(str(_content(scene)), (subject, object)) == (subject, object)
        assert len(scene.truths) == 2
        forms[subject < object] += 1
    assert len(annotated) == 15 * 4
    assert 0.3 < forms[True] / forms.total() < 0.7  # either direction comes


def test_both_directions_are_annotated_on_request():
    for seed in range(20):
        scene = World(mutual=True).scene(np.random.default_rng(seed))
        assert scene.graph.relations == scene.truths
        assert len(scene.truths) == 2


def test_shapes_fill_their_boxes_and_differ():
    drawn = {shape: coverage(shape, 11)[:, :, 0] for shape in SHAPES}
    for mask in drawn.values():
        assert (mask.max(0) > 0).all()
        assert (mask.max(1) > 0).all()
    assert len({mask.tobytes() for mask in drawn.values()}) == len(SHAPES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": ("sqare", "circle")}, "There is no shape 'sqare'; did you mean 'square'"),
        ({"colors": ("red",)}, "1 kinds, but 2 different objects and a foil need 3"),
        ({"relations": ("left",)}, "There is no relation 'left'; did you mean 'left of'"),
        ({"objects": 1}, "objects is 1"),
        ({"image_size": 8}, "image_size is 8"),
        ({"colors": ("red", "red")}, "each once"),
        ({"relations": ("left of",)}, "a foil needs another one"),
        ({"relational_captions": 2.0}, "relational_captions=2 must be a fraction between 0 and 1"),
    ],
)
def test_an_impossible_world_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "world", **changes)
    assert not (tmp_path / "world").exists()
