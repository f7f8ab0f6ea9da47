import pickle
from typing import ClassVar

import pytest

from relpretrain.scene_graph.tying import Names, resolve_synonyms
from relpretrain.scene_graph.tying import names as module


@pytest.mark.parametrize(
    ("mention", "label", "agreement"),
    [
        ("dog", "dog", 1.0),
        ("dogs", "Dog", 1.0),  # lemmas, in any case
        ("coffee cups", "coffee cup", 1.0),
        ("puppy", "dog", 0.9),  # narrower
        ("woman", "person", 0.9),
        ("sofa", "couch", 0.9),
        ("couch", "sofa", 0.9),
        ("coffee cup", "cup", 0.8),  # one head
        ("cup", "coffee cup", 0.8),
        ("old puppy", "dog", 0.8),
        ("dog", "puppy", 0.0),  # broader
        ("cat", "dog", 0.0),
        ("man", "woman", 0.0),  # whole words: no "man" in "woman"
        ("artist", "person", 0.0),
        ("fist", "art", 0.0),
        ("cap", "bottle cap", 0.8),
        ("cup", "cup board", 0.0),  # the head is the last word
        ("hot dog", "dog", 0.0),
        ("teddy bear", "bear", 0.0),
        ("stuffed animal", "teddy bear", 0.9),
        ("skis", "skis", 1.0),
        ("shoes", "shoe", 1.0),
        ("sneakers", "shoes", 0.9),
    ],
)
def test_names_are_compared_by_whole_words_and_lemmas(mention, label, agreement):
    assert Names("table").agreement(mention, label) == agreement


class Sense:
    """A synset as nltk has it."""

    def __init__(self, *broader):
        self.broader = broader

    def hypernyms(self):
        return list(self.broader)

    def closure(self, of):
        for sense in of(self):
            yield sense
            yield from sense.closure(of)


class WordNet:
    animal, toy, fish = Sense(), Sense(), Sense()
    bird = Sense(animal)
    robin = Sense(bird)
    seahorse = Sense(fish)
    horse = Sense(animal)
    known: ClassVar = {
        "animal": [animal],
        "bird": [bird],
        "robin": [robin, Sense(toy)],
        "toy": [toy],
        "sea_horse": [seahorse],
        "horse": [horse],
    }

    def synsets(self, name, part):
        assert part == "n"
        return self.known.get(name, [])


def test_wordnet_knows_what_the_table_lacks(monkeypatch):
    monkeypatch.setattr(module, "_wordnet", WordNet)
    assert resolve_synonyms("auto") == "wordnet"
    names = Names("wordnet")
    assert names.agreement("robin", "bird") == names.agreement("robin", "animal") == 0.9
    assert names.agreement("robin", "toy") == 0.0  # what it seldom means
    assert names.agreement("bird", "robin") == 0.0
    assert names.agreement("little robin", "bird") == 0.8
    assert names.agreement("sea horse", "horse") == 0.0  # a name of its own
    assert Names("table").agreement("robin", "bird") == 0.0
    assert pickle.loads(pickle.dumps(names)).source == "wordnet"


def test_wordnet_without_its_data_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setattr(module, "_wordnet", lambda: None)
    assert resolve_synonyms("auto") == "table"
    with pytest.raises(ValueError, match=r"nltk\.downloader wordnet"):
        Names("wordnet")
