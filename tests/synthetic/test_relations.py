"""Worlds with more than the four relations, read from boxes by rules of their own."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.synthetic import World, generate
from relpretrain.synthetic.relations import CONTRADICTS, FAMILIES, INVERSE, SYMMETRIC
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.synthetic.reading import samples

EVERY = tuple(INVERSE)
SHAPES = ("square", "circle", "triangle", "diamond", "cross")
SIZE = 48


def reading(subject, object):
    """{relation: True, False, or absent where it is not clear}, from two boxes (x0, y0, x1, y1)."""
    (a0, b0, a1, b1), (c0, d0, c1, d1) = subject, object
    dx, dy = (c0 + c1 - a0 - a1) / 2, (d0 + d1 - b0 - b1) / 2
    within = c0 < a0 and d0 < b0 and a1 < c1 and b1 < d1
    without = a0 < c0 and b0 < d0 and c1 < a1 and d1 < b1
    gap = np.hypot(max(c0 - a1, a0 - c1, 0), max(d0 - b1, b0 - d1, 0))
    contact = gap == 0 and (c0 == a1 or a0 == c1 or d0 == b1 or b0 == d1)
    standing = b1 == d0 and abs(dx) < 1
    carried = d1 == b0 and abs(dx) < 1
    big = (a1 - a0) / (c1 - c0)
    sideways, upright = abs(dx) > 1.5 * abs(dy), abs(dy) > 1.5 * abs(dx)
    return {
        "left of": dx > 0 and sideways and not (within or without),
        "right of": dx < 0 and sideways and not (within or without),
        "above": dy > 0 and upright and not (within or without),
        "below": dy < 0 and upright and not (within or without),
        "inside": within,
        "around": without,
        "on": standing,
        "carrying": carried,
        "near": gap <= 0.2 * SIZE and not (within or without),
        "far from": gap > 0.25 * SIZE,
        "touching": contact,
        "bigger than": big > 1.3,
        "smaller than": big < 1 / 1.3,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sizes = {"images_captions": 150, "images_regions": 10, "images_graphs": 300, "images_validation": 30}
    items = {"items_vsr": 240, "items_valse": 150, "items_svo": 60, "items_paragraphs": 40}
    dials = {"relations": EVERY, "shapes": SHAPES, "image_size": SIZE, "hold_out_combinations": 0.1}
    return generate(tmp_path_factory.mktemp("world"), **sizes, **items, **dials, relational_captions=0.5)


def _boxes(entities):
    return {entity["label"]: tuple(entity["box"]) for entity in entities}


def _said(text):
    """Subject, relation and object of a sentence or phrase."""
    words = text.lower().removeprefix("the ").removesuffix(".").replace(" is ", " ").replace(" the ", " ").split()
    return " ".join(words[:2]), " ".join(words[2:-2]), " ".join(words[-2:])


@pytest.mark.parametrize("split", ["graphs", "validation"])
def test_every_annotated_relation_is_true_of_its_boxes(folder, split):
    counts = Counter()
    for _, record in samples(folder / split):
        boxes = _boxes(record["entities"])
        labels = list(boxes)
        assert record["relations"]
        for relation in record["relations"]:
            subject, object = labels[relation["subject"]], labels[relation["object"]]
            assert reading(boxes[subject], boxes[object])[relation["relation"]]
            counts[relation["relation"]] += 1
            if relation["relation"] in ("inside", "around", "on", "carrying", "touching"):
                assert subject.split()[0] != object.split()[0]  # of one colour they would be one
        told = Counter(frozenset((r["subject"], r["object"])) for r in record["relations"])
        names = [r["relation"] for r in record["relations"]]
        assert all(INVERSE[name] not in names or name in SYMMETRIC for name in names)  # one of two mutual ones
        assert max(told.values()) == len(names)
    if split == "graphs":
        assert set(counts) == set(EVERY)
        families = {family: sum(counts[name] for name in family) for family in FAMILIES}
        assert min(families.values()) >= 0.06 * 300
        assert counts["touching"] >= 0.06 * 300 <= counts["far from"]


def test_what_contradicts_a_true_relation_is_false():
    world = World(relations=EVERY, shapes=SHAPES, image_size=SIZE, objects=3, occlusion=0.3, mutual=True)
    together = Counter()
    for seed in range(150):
        scene = world.scene(np.random.default_rng(seed))
        boxes = [entity.box for entity in scene.graph.entities]
        for r in scene.graph.relations:
            truth = reading(boxes[r.subject], boxes[r.object])
            assert truth[r.relation]
            assert not any(truth[name] for name in CONTRADICTS[r.relation])
        for pair in itertools.permutations(range(3), 2):
            names = [r.relation for r in scene.truths if (r.subject, r.object) == pair]
            together.update(itertools.permutations(names, 2))
    assert together["left of", "far from"]
    assert together["on", "touching"]
    assert not together["above", "on"]


def test_contradictions_are_the_same_from_the_other_side():
    for name, others in CONTRADICTS.items():
        assert name not in others
        assert {INVERSE[other] for other in others} == set(CONTRADICTS[INVERSE[name]])
        assert all(name in CONTRADICTS[other] for other in others)
        assert any(set(others) & set(family) for family in FAMILIES if name in family)


@pytest.mark.parametrize("name", ["benchmarks", "held_out_combinations"])
def test_probes_are_true_and_foils_false(folder, name):
    """By the texts alone: a scene's boxes are not written, but what contradicts a true text is in the table."""
    source = Source(folder / name)
    items = json.loads((folder / name / "valse/relations.json").read_text()).values()
    foils = Counter()
    for item in items:
        (s, true, o), (t, false, p) = _said(item["caption"]), _said(item["foil"])
        assert (s, o) == (t, p)
        assert false in CONTRADICTS[true]
        foils[false] += 1
    swaps = json.loads((folder / name / "valse/actant-swap.json").read_text()).values()
    assert 60 < len(swaps) <= len(items) == 150
    for item in swaps:
        subject, relation, object = _said(item["caption"])
        assert _said(item["foil"]) == (object, relation, subject)
        assert relation not in SYMMETRIC
    if name == "benchmarks":  # the relation alone does not tell true from false
        uses = Counter((_said(i["caption"])[1], 1) for i in items) + Counter((_said(i["foil"])[1], 0) for i in items)
        for relation in EVERY:
            assert abs(uses[relation, 1] - uses[relation, 0]) <= 3 * (uses[relation, 1] + uses[relation, 0]) ** 0.5
    records = [r | {"score": 0.5} for i in TASKS["valse"].items(source)[""] for r in i.records]
    assert TASKS["valse"].summarise(records).overall.correct == 0
    relations = Counter(
        json.loads(line)["relation"] for line in (folder / name / "vsr/synthetic/test.jsonl").read_text().splitlines()
    )
    if name == "benchmarks":
        assert set(relations) | set(foils) == set(EVERY)
        assert max(relations.values()) < 0.25 * 160


def test_held_out_texts_are_never_true_in_training(folder):
    made = json.loads((folder / "world.json").read_text())["held_out"]["combinations"]
    held_out = {tuple(c) for c in made} | {(o, INVERSE[r], s) for s, r, o in made}
    families = {family for family in FAMILIES for _, name, _ in held_out if name in family}
    assert len(families) > 4
    for split in ("graphs", "validation", "captions"):
        for _, record in samples(folder / split):
            labels = [entity["label"] for entity in record.get("entities", ())]
            texts = {(labels[r["subject"]], r["relation"], labels[r["object"]]) for r in record.get("relations", ())}
            texts |= {_said(text) for text in record.get("captions", ()) if " and " not in text}
            assert not texts & held_out
    for piece in ("relations", "actant-swap"):
        for item in json.loads((folder / f"held_out_combinations/valse/{piece}.json").read_text()).values():
            assert {_said(item["caption"]), _said(item["foil"])} <= held_out
        for item in json.loads((folder / f"benchmarks/valse/{piece}.json").read_text()).values():
            assert _said(item["caption"]) not in held_out


def test_contact_and_containment_are_in_the_pixels():
    """A row of pixels between two things that touch or contain holds no ground."""
    world = World(relations=("on", "carrying", "inside", "around"), noise=0, image_size=SIZE)
    found = Counter()
    for seed in range(40):
        scene = world.scene(np.random.default_rng(seed))
        for r in scene.topics[:1]:
            one, other = (scene.graph.entities[i].box for i in (r.subject, r.object))
            x = int((max(one.x_min, other.x_min) + min(one.x_max, other.x_max)) // 2)
            top, bottom = int(min(one.y_min, other.y_min)), int(max(one.y_max, other.y_max))
            column = scene.pixels[top:bottom, x].astype(int)
            assert (np.ptp(column, 1) > 30).all()  # coloured throughout
            changes = (abs(np.diff(column, axis=0)).sum(1) > 30).sum()
            assert changes == (2 if r.relation in ("inside", "around") else 1)
            found[r.relation] += 1
    assert len(found) == 4


def test_vocabulary_and_tokenizer_know_the_new_words(folder):
    vocabulary = RelationVocabulary.load(folder / "relations.json")
    assert {name: vocabulary.inverse(name) for name in EVERY} == INVERSE
    encoder = TextEncoder(load_tokenizer(folder / "tokenizer"), 99)
    for text in (*EVERY, *(text for item in TASKS["paragraphs"].items(Source(folder))["test"] for text in item.texts)):
        words = [word for word in encoder.caption(text).words if word >= 0]
        assert len(words) == len(set(words))


def test_images_of_the_probes_are_there(folder):
    for name in ("benchmarks", "held_out_combinations"):
        for task in ("svo", "vsr", "valse"):
            for items in TASKS[task].items(Source(folder / name)).values():
                located, _ = TASKS[task].locate(items, Source(folder / name))
                assert len(located) == len(items)
                assert Image.open(located[0].image).size == (SIZE, SIZE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relations": ("touching", "left of", "right of")}, "'touching' contradicts none.*Add one of far from"),
        ({"relations": ("bigger than", "smaller than"), "sizes": ("small", "large")}, "labels tell whether"),
        ({"relations": ("inside", "around"), "shapes": ("cross",)}, "'around' needs squares or circles"),
        ({"relations": ("near", "farfrom")}, "There is no relation 'farfrom'; did you mean 'far from'"),
    ],
)
def test_relations_that_cannot_be_asked_about_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        World(**changes)
