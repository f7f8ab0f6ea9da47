"""Parts of captions exchanged by parts of speech: NegCLIP's negatives, without those that say the same."""

import importlib.util

import numpy as np
import pytest

from relpretrain.errors import ConfigError
from relpretrain.scene_graph import Entity, Relation, SceneGraph
from relpretrain.scene_graph.foils import KINDS, Witness, build_tagger, caption_foils, read_caption, swapped


def all_of(caption, witness=None, tagger=None):
    found = (swapped(caption, np.random.default_rng(seed), tagger, witness) for seed in range(40))
    return {text for text in found if text is not None}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog chases a cat", {"A cat chases a dog"}),
        ("a black cat and a white dog", {"a white cat and a black dog"}),
        ("an old man rides a horse", {"an old horse rides a man"}),
        ("two dogs behind some trees", {"two trees behind some dogs"}),
        ("the man is quickly eating and the boy is slowly drinking", {
            "the boy is quickly eating and the man is slowly drinking",
            "the man is slowly eating and the boy is quickly drinking",
            "the man is slowly drinking and the boy is quickly eating",
        }),
    ],
)  # fmt: skip
def test_two_parts_change_places(caption, expected):
    assert expected & (found := all_of(caption)), found
    assert caption.lower() not in {text.lower() for text in found}


def test_whole_phrases_change_places_and_the_capital_stays():
    found = all_of("The big black dog is on a small green sofa")
    assert "A small green sofa is on the big black dog" in found


@pytest.mark.parametrize(
    "caption",
    [
        "a cat is not on the bed",
        "a cat isn't chasing a dog",
        "a red cup without a white saucer",
        "a street with no cars",
        "a cat and a dog",
        "a cat, a dog and a bird",
        "a dog next to a cat",
        "a big red car",
        "a red and white kite",
        "a man is walking and talking",
        "a dog",
        "a man looking at a person",  # which may be one
        "a man and a person behind a kid",
        "a dog behind a dog",
        "",
        "?!",
    ],
)
def test_what_says_the_same_is_left_out(caption):
    assert all_of(caption) == set()


def test_what_is_said_of_two_in_turn_stays():
    for seed in range(20):
        text = swapped("a man in a red shirt and a man in a blue shirt", np.random.default_rng(seed))
        assert text != "a man in a blue shirt and a man in a red shirt"


def test_items_of_a_list_stay_where_they_are():
    found = all_of("a man and a woman on a bench")
    assert found == {"a bench and a woman on a man", "a man and a bench on a woman"}


def test_ends_of_a_symmetric_relation_stay_whatever_else_is_said():
    found = all_of("a kitchen with a cat standing next to a dog")
    assert found
    assert "a kitchen with a dog standing next to a cat" not in found


def test_what_is_annotated_is_left_out():
    entities = (Entity("dog"), Entity("cat"))
    both = SceneGraph(entities, (Relation(0, "chases", 1), Relation(1, "chases", 0)))
    assert all_of("a dog chases a cat", Witness(both)) == set()
    one = SceneGraph(entities, (Relation(0, "chases", 1),))
    assert all_of("a dog chases a cat", Witness(one)) == {"a cat chases a dog"}


def test_it_is_a_kind_of_foil_of_captions():
    caption = "a dog chases a cat"
    foils = caption_foils(caption, read_caption(caption), ["swap"], np.random.default_rng(0))
    assert {kind: foil.text for kind, foil in foils.items()} == {"swap": "a cat chases a dog"}
    assert "swap" in KINDS


def test_equal_seeds_give_equal_texts():
    caption = "the big black dog is on a small green sofa"
    drawn = [swapped(caption, np.random.default_rng(seed)) for seed in (1, 1, *range(20))]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 2


def test_a_tagger_of_another_name_is_told():
    with pytest.raises(ConfigError, match=r"no tagger 'spacey'; choose from lexicon, spacy.*did you mean 'spacy'"):
        build_tagger("spacey")


def test_spacy_finds_the_parts_where_it_is_installed():
    if importlib.util.find_spec("spacy") is None:
        with pytest.raises(ConfigError, match="pip install"):
            build_tagger("spacy")
        pytest.skip("spaCy is not installed: its tags are not looked at")
    try:
        tagger = build_tagger("spacy")
    except ConfigError as error:
        pytest.skip(str(error))
    assert "a cat chases a dog" in all_of("a dog chases a cat", tagger=tagger)
    assert all_of("a cat and a dog", tagger=tagger) == set()
