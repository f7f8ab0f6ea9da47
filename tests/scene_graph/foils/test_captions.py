"""Foils of captions: one thing changed in place, never a caption that is still true."""

import numpy as np
import pytest

from relpretrain.scene_graph import Box, Entity, Relation, SceneGraph
from relpretrain.scene_graph.foils import GRAPH_KINDS, caption_foils, read_caption
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity, ParsedRelation

NAMES = ("elephant", "bus", "apple")


def parsed(caption, things, relations=()):
    """What a caption says: things as (label, attributes) and relations as (subject, words, object), all found in it."""
    entities, places = [], {}
    for label, *attributes in things:
        start = caption.index(label, places.get(label, 0))
        places[label] = start + 1
        entities.append(ParsedEntity(label, (start, start + len(label)), tuple(attributes)))
    found = []
    for subject, words, object in relations:
        start = caption.index(words)
        found.append(ParsedRelation(subject, words, object, (start, start + len(words))))
    return ParsedCaption(tuple(entities), tuple(found))


def foils(caption, things, relations=(), **options):
    options = {"names": NAMES} | options
    return {k: f.text for k, f in caption_foils(caption, parsed(caption, things, relations), **options).items()}


def test_each_kind_changes_its_words_alone():
    caption = "A black cat is sitting on an orange sofa."
    found = foils(caption, [("cat", "black"), ("sofa", "orange")], [(0, "sitting on", 1)], rng=None)
    assert found["swap_so"] == "A black sofa is sitting on an orange cat."
    assert found["rel_replace"] == "A black cat is standing on an orange sofa."
    assert found["subj_replace"] == "A black elephant is sitting on an orange sofa."
    assert found["obj_replace"] == "A black cat is sitting on an orange elephant."
    assert found["attr_swap"] == "An orange cat is sitting on a black sofa."
    assert found["attr_replace"] == "A red cat is sitting on an orange sofa."
    assert "order" not in found  # nothing is drawn without a generator


def test_what_stays_true_is_no_foil():
    assert foils("a cat and a dog", [("cat",), ("dog",)]).keys() == set()
    assert "swap_so" not in foils("a cat next to a dog", [("cat",), ("dog",)], [(0, "next to", 1)])
    assert "swap_so" in foils("a cat chasing a dog", [("cat",), ("dog",)], [(0, "chasing", 1)])


def test_what_is_joined_in_another_order_says_the_same():
    """However the rest is parsed: here "in" is read as a relation of the two shirts, too."""
    things = [("man",), ("shirt", "red"), ("man",), ("shirt", "blue")]
    found = foils("a man in a red shirt and a man in a blue shirt", things, [(0, "in", 1), (1, "in", 3), (2, "in", 3)])
    assert "attr_swap" not in found
    assert {"swap_so", "attr_replace", "rel_replace"} <= found.keys()


@pytest.mark.parametrize(
    "caption", ["a street with no cars", "a cat is not on the red bed", "a man without a hat", "no dogs or red cats"]
)
def test_what_is_denied_is_not_changed(caption):
    """There are no elephants either: "a street with no elephants" would be true."""
    found = caption_foils(caption, read_caption(caption), GRAPH_KINDS, names=NAMES)
    assert {kind for kind, foil in found.items() if "elephant" in foil.text and kind == "obj_replace"} == set()
    assert not found.keys() & {"obj_replace", "attr_replace", "swap_so", "rel_replace"}


def test_the_annotation_of_the_image_is_asked():
    """The graph says that the dog chases the cat as well."""
    mutual = SceneGraph((Entity("dog", Box(0, 0, 9, 9)), Entity("cat", Box(0, 0, 9, 9))), (Relation(0, "chasing", 1),))
    things, relations = [("cat",), ("dog",)], [(0, "chasing", 1)]
    assert "swap_so" in foils("a cat chasing a dog", things, relations)
    assert "swap_so" not in foils("a cat chasing a dog", things, relations, graph=mutual)


def test_other_captions_of_the_image_are_asked():
    """No foil is one of them, and nothing comes in that they speak of."""
    others = ["a gray cat lies on a blanket next to a kitten", "An old sofa in the middle of it"]
    caption, things, relations = "a red cat on a sofa", [("cat", "red"), ("sofa",)], [(0, "on", 1)]
    for seed in range(20):
        options = {"rng": np.random.default_rng(seed), "names": ["blanket", "bus", "sofa"], "others": others}
        found = foils(caption, things, relations, **options)
        assert found["obj_replace"] == "a red cat on a bus"
        assert not {"grey", "gray", "silver"} & set(found["attr_replace"].split())
    assert "swap_so" not in foils(caption, things, relations, others=["A red sofa on a cat."])


def test_order():
    rng = np.random.default_rng(0)
    caption = "a cat chasing a small dog"
    for _ in range(20):
        text = foils(caption, [], kinds=["order"], rng=rng)["order"]
        assert sorted(text.split()) == sorted(caption.split())
        assert text != caption
    assert foils("word", [], kinds=["order"], rng=rng) == {}
    assert foils("go go go go", [], kinds=["order"], rng=rng) == {}


def test_articles_follow():
    found = foils("an apple under a red plate", [("apple",), ("plate", "red")], [(0, "under", 1)], names=["bus"])
    assert found["subj_replace"] == "a bus under a red plate"
    assert found["swap_so"] == "a plate under a red apple"


def test_without_places_there_is_nothing_to_change():
    record = ParsedCaption((ParsedEntity("cat", None), ParsedEntity("dog", None)), (ParsedRelation(0, "chasing", 1),))
    assert list(caption_foils("a cat chasing a dog", record, names=NAMES)) == ["swap"]  # by parts of speech alone
