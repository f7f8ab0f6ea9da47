"""Foils of triplets: never true of the image, as an independent truth tells."""

from collections import Counter

import numpy as np
import pytest

from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph
from relpretrain.scene_graph.foils import GRAPH_KINDS, Statement, Witness, check_kinds, triplet_foils
from relpretrain.synthetic.relations import INVERSE
from relpretrain.synthetic.world import World

LEFT, RIGHT, FAR = Box(0, 40, 20, 60), Box(60, 40, 80, 60), Box(200, 40, 220, 60)
NAMES = ("elephant", "bus", "banana")


def graph(*labels, relations=(), boxes=None):
    boxes = boxes or [None] * len(labels)
    return SceneGraph(
        tuple(Entity(label, box) for label, box in zip(labels, boxes, strict=True)),
        tuple(Relation(*relation) for relation in relations),
    )


def texts(of, relation=0, **options):
    options = {"names": NAMES} | options
    return {kind: foil.text for kind, foil in triplet_foils(of, of.relations[relation], **options).items()}


def test_each_kind():
    found = texts(graph("red cat", "blue sofa", relations=[(0, "sitting on", 1)]))
    assert found == {
        "swap_so": "blue sofa sitting on red cat",
        "rel_replace": "red cat standing on blue sofa",
        "subj_replace": "elephant sitting on blue sofa",
        "obj_replace": "red cat sitting on elephant",
        "attr_swap": "blue cat sitting on red sofa",
        "attr_replace": "blue cat sitting on blue sofa",
    }


def test_symmetric_relations_are_not_swapped():
    for relation in ("next to", "standing next to", "hugging", "near", "talking to", "smiling at", "sitting at"):
        assert "swap_so" not in texts(graph("man", "dog", relations=[(0, relation, 1)])), relation
    assert "swap_so" in texts(graph("man", "dog", relations=[(0, "riding", 1)]))


def test_a_converse_is_no_foil():
    found = texts(graph("cat", "dog", relations=[(0, "above", 1), (1, "below", 0)]))
    assert found["swap_so"] == "dog above cat"
    assert found["rel_replace"] == "cat under dog"


def test_sides_keep_their_words():
    assert texts(graph("cat", "dog", relations=[(0, "to the left of", 1)]))["rel_replace"] == "cat to the right of dog"


def test_what_another_pair_of_the_same_names_makes_true_is_left_out():
    """A second cat stands on the other side: "cat right of dog" is true."""
    boxes = [LEFT, RIGHT, FAR]
    found = texts(graph("cat", "dog", "cat", relations=[(0, "left of", 1)], boxes=boxes))
    assert "rel_replace" not in found
    assert "swap_so" not in found  # the dog is left of the second cat
    near = [LEFT, RIGHT, Box(30, 40, 50, 60)]
    assert texts(graph("cat", "dog", "cat", relations=[(0, "left of", 1)], boxes=near))["swap_so"] == "dog left of cat"


def test_without_boxes_a_second_thing_of_the_name_is_doubt():
    assert "rel_replace" not in texts(graph("cat", "dog", "cat", relations=[(0, "left of", 1)]))


def test_what_another_relation_of_the_pair_makes_true_is_left_out():
    found = texts(graph("man", "bench", relations=[(0, "sitting on", 1), (0, "standing on", 1)]))
    assert found.get("rel_replace") not in ("man standing on bench", "man sitting on bench")


@pytest.mark.parametrize("relation", ["without", "standing without", "missing", "empty of"])
def test_what_says_that_a_thing_is_not_there_is_true_of_all_that_is_not(relation):
    """There is no elephant: "man without elephant" is true, and so "hat without man" may be."""
    found = texts(graph("man", "hat", relations=[(0, relation, 1)]), kinds=("obj_replace", "swap_so"))
    assert found == {}
    assert Witness(graph("man", "dog")).true(Statement("man", relation, "elephant")) is None
    assert Witness(graph("man", "dog")).true(Statement("bus", relation, "elephant")) is False


def test_who_is_without_a_thing_has_none():
    assert texts(graph("man", "hat", relations=[(0, "without", 1)]))["rel_replace"] == "man with hat"


def test_who_looks_at_a_thing_may_be_far_from_it():
    looking = graph("man", "plane", relations=[(0, "looking at", 1)])
    found = {texts(looking, kinds=("rel_replace",), rng=np.random.default_rng(i))["rel_replace"] for i in range(20)}
    assert found == {"man looking away from plane"}
    for relation in ("pointing at", "staring at", "waving at", "looking down at"):
        assert texts(graph("man", "plane", relations=[(0, relation, 1)]), kinds=("rel_replace",)).keys() <= {
            "rel_replace"
        }
        assert (
            Witness(graph("man", "plane", relations=[(0, relation, 1)])).true(Statement("man", "far from", "plane"))
            is None
        )
    for relation in ("sitting at", "standing at", "at"):
        sitting = graph("man", "table", relations=[(0, relation, 1)])
        assert Witness(sitting).true(Statement("man", "far from", "table")) is False


def test_names_that_may_be_the_same_thing_replace_nothing():
    found = texts(graph("man", "horse", relations=[(0, "riding", 1)]), names=["person", "rider", "boy", "pony"])
    assert "subj_replace" not in found or found["subj_replace"] == "pony riding horse"
    assert found["obj_replace"] != "man riding pony"


def test_adjectives_that_may_be_said_of_the_same_thing_replace_nothing():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = texts(graph("gray cat", "sofa", relations=[(0, "on", 1)]), kinds=["attr_replace"], rng=rng)
        assert found["attr_replace"].split()[0] not in ("grey", "silver", "gray")


def test_attributes_of_the_annotation_count():
    known = SceneGraph(
        (Entity("cat", LEFT, ("black",)), Entity("sofa", RIGHT), Entity("cat", FAR, ("white",))),
        (Relation(0, "watching", 1), Relation(2, "watching", 1)),
    )
    assert Witness(known).true(Statement("white cat", "watching", "sofa")) is True
    assert Witness(known).true(Statement("red cat", "watching", "sofa")) is False


def test_a_thing_that_reaches_out_of_anothers_box_may_be_in_it():
    """Only boxes apart from each other show that it is not, and none that it is not outside of it."""
    boxes = [Box(40, 20, 60, 61), Box(42, 30, 58, 50), Box(20, 30, 80, 60), Box(100, 0, 120, 20)]
    of = graph("man", "shirt", "car", "bus", relations=[(0, "in", 1), (0, "driving", 2)], boxes=boxes)
    assert texts(of, kinds=["obj_replace"], names=["car"]) == {}
    assert texts(of, kinds=["obj_replace"], names=["bus"]) == {"obj_replace": "man in bus"}
    seen = Witness(of)
    assert seen.true(Statement("car", "containing", "man")) is None
    assert seen.true(Statement("man", "outside", "car")) is None


def test_postures_exclude_each_other_of_people_and_beasts_alone():
    """A vase that sits on a table stands on it, too."""
    for subject in ("vase", "plates", "bird", "duck"):
        drawn = {
            texts(
                graph(subject, "table", relations=[(0, "sitting on", 1)]),
                kinds=["rel_replace"],
                rng=np.random.default_rng(seed),
            )["rel_replace"]
            for seed in range(12)
        }
        assert drawn == {f"{subject} under table", f"{subject} far from table"}
    for subject in ("man", "women", "black cat", "tennis player"):
        found = texts(graph(subject, "table", relations=[(0, "sitting on", 1)]), kinds=["rel_replace"])
        assert found["rel_replace"] == f"{subject} standing on table"


def test_random_choices_come_from_the_generator():
    of = graph("red cat", "blue sofa", relations=[(0, "sitting on", 1)])
    drawn = [texts(of, rng=np.random.default_rng(seed)) for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len({str(found) for found in drawn}) > 1


def test_a_misspelt_kind_is_named():
    with pytest.raises(ValueError, match=r"'swp_so' is no kind of foil.*swap_so"):
        check_kinds(["swp_so"])
    with pytest.raises(ValueError, match="no kind of foil is named"):
        check_kinds([])


def test_generated_worlds():
    """No foil of a generated scene is among all that is clearly true of it."""
    world = World(image_size=64, objects=(2, 5), shapes=("square", "circle", "triangle"), relations=tuple(INVERSE))
    rng = np.random.default_rng(7)
    yields: Counter[str] = Counter()
    for _ in range(150):
        scene = world.scene(rng)
        truths = {f"{subject} {r.relation} {object}" for r in scene.truths for subject, object in [scene.labels_of(r)]}
        witness, have = Witness(scene.graph), set()
        for relation in scene.graph.relations:
            found = triplet_foils(scene.graph, relation, rng=rng, names=world.kinds, witness=witness)
            have |= found.keys()
            assert not truths.intersection(foil.text for foil in found.values())
        yields.update(have)
    assert min(yields[kind] for kind in GRAPH_KINDS) > 120, yields


def test_words_that_may_stand_in_the_place_of_others_are_those_of_the_data():
    pair = graph("red cat", "blue sofa", relations=[(0, "above", 1)])
    kinds = ("rel_replace", "attr_replace")
    assert texts(pair, kinds=kinds) == {
        "rel_replace": "red cat under blue sofa",
        "attr_replace": "blue cat above blue sofa",
    }
    assert texts(pair, kinds=kinds, instead=("left of", "below", "crimson", "green")) == {
        "rel_replace": "red cat below blue sofa",
        "attr_replace": "green cat above blue sofa",
    }
    assert texts(pair, kinds=kinds, instead=("over", "red")) == {"attr_replace": "red cat above red sofa"}
