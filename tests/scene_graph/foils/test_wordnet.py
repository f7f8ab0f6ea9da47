"""Synonyms by WordNet: on a small made one, and on nltk's where its data is there."""

import pickle

import pytest

from relpretrain.errors import ConfigError
from relpretrain.scene_graph import Entity, Relation, SceneGraph
from relpretrain.scene_graph.foils import WORDS, Statement, Witness, WordNetRules, triplet_foils, word_rules, wordnet


class Lemma:
    def __init__(self, name, count):
        self._name, self._count = name, count

    def name(self):
        return self._name

    def count(self):
        return self._count


class Sense:
    """A synset: its words with their counts, what it is a kind of, and what it is like."""

    def __init__(self, words, kind_of=(), like=()):
        self._lemmas = [Lemma(*item) for item in words.items()]
        self._kind_of, self._like = list(kind_of), list(like)

    def lemmas(self):
        return self._lemmas

    def hypernyms(self):
        return self._kind_of

    def instance_hypernyms(self):
        return []

    def similar_tos(self):
        return self._like

    def closure(self, kinds):
        for wider in kinds(self):
            yield wider
            yield from wider.closure(kinds)


class Small:
    """A WordNet of a few words, which counts how often it is asked."""

    def __init__(self):
        tool = Sense({"tool": 5})
        ladder = Sense({"ladder": 4, "stepladder": 1}, [tool])
        stairs = Sense({"ladder": 0, "stairs": 9})  # nobody calls stairs so
        faded = Sense({"faded": 2})
        self.known = {
            ("tool", "n"): [tool],
            ("ladder", "n"): [ladder, stairs],
            ("stepladder", "n"): [ladder],
            ("stairs", "n"): [stairs],
            ("hydrant", "n"): [Sense({"hydrant": 3}, [Sense({"pipe": 1})])],
            ("faded", "a"): [faded],
            ("bleached", "a"): [Sense({"bleached": 1}, like=[faded])],
            ("spotted", "a"): [Sense({"spotted": 1})],
        }
        self.asked = []

    def synsets(self, lemma, pos):
        self.asked.append(lemma)
        return self.known.get((lemma, pos), [])


@pytest.fixture
def rules():
    return WordNetRules(Small())


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("ladder", "stepladder", True),  # synonyms
        ("ladder", "tool", True),  # a kind of it
        ("tool", "stepladders", True),
        ("wooden ladder", "tool", True),  # by the last word
        ("ladder", "stairs", False),  # a sense that does not occur
        ("ladder", "hydrant", False),
        ("dog", "puppy", True),  # by the tables
        ("dog", "zebu", False),  # WordNet has neither
    ],
)
def test_nouns(rules, one, other, may):
    assert rules.may_be_one(one, other) is may
    assert rules.may_be_one(other, one) is may


def test_the_tables_alone_know_less():
    assert not WORDS.may_be_one("ladder", "stepladder")
    assert not WORDS.alike("faded", "bleached")


def test_adjectives(rules):
    assert rules.alike("bleached", "faded")
    assert rules.alike("faded", "bleached")
    assert not rules.alike("faded", "spotted")
    assert rules.alike("gray", "grey")
    assert "blue" in rules.instead_of("red")


def test_no_synonym_takes_the_place_of_a_thing(rules):
    graph = SceneGraph((Entity("ladder"), Entity("house")), (Relation(0, "behind", 1),))
    names = ["stepladder", "tool", "hydrant"]
    by_tables = triplet_foils(graph, graph.relations[0], ["subj_replace"], names=names)
    assert by_tables["subj_replace"].text == "stepladder behind house"
    witness = Witness(graph, words=rules)
    found = triplet_foils(graph, graph.relations[0], ["subj_replace"], names=names, witness=witness)
    assert found["subj_replace"].text == "hydrant behind house"


def test_a_statement_about_a_synonym_is_one_about_the_thing(rules):
    graph = SceneGraph((Entity("ladder"), Entity("house")), (Relation(0, "behind", 1),))
    claim = Statement("stepladder", "behind", "house")
    assert Witness(graph, words=rules).true(claim) is True
    assert Witness(graph).true(claim) is False  # by the tables there is no stepladder


def test_a_word_is_looked_up_once(rules):
    for _ in range(3):
        rules.may_be_one("ladder", "hydrant")
    assert sorted(rules._reader.asked) == ["hydrant", "ladder"]


def test_it_goes_to_data_workers(rules):
    assert pickle.loads(pickle.dumps(rules)).may_be_one("ladder", "tool")


def test_the_choice(monkeypatch):
    assert word_rules("table") is WORDS
    monkeypatch.setattr(wordnet, "_is_there", lambda: False)
    assert (word_rules("auto"), wordnet.chosen("auto")) == (WORDS, "table")
    monkeypatch.setattr(wordnet, "_is_there", lambda: True)
    assert wordnet.chosen("auto") == "wordnet"
    with pytest.raises(ConfigError, match="auto, table or wordnet, got 'words'"):
        word_rules("words")


def test_nltks_wordnet():
    if wordnet.chosen("auto") == "table":
        with pytest.raises(ConfigError, match=r"nltk\.downloader wordnet"):
            word_rules("wordnet")
        pytest.skip("nltk's WordNet is not on this machine: only the made one is looked at")
    rules = word_rules()
    assert rules.may_be_one("sofa", "furniture")
    assert rules.may_be_one("hydrant", "fireplug")
    assert not rules.may_be_one("cat", "dog")
    assert not rules.may_be_one("cat", "man")
