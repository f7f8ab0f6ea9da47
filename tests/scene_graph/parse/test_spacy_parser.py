"""Rules over trees that are written here as word/tag/dependency/head; a test with a pipeline runs where one is."""

from dataclasses import dataclass, field

import pytest

from relpretrain.errors import ConfigError
from relpretrain.scene_graph.parse import ParsedCaption, build_parser
from relpretrain.scene_graph.parse.dependencies import read_tree


@dataclass(eq=False)
class Word:
    """What the rules read of a token of spaCy."""

    text: str
    tag_: str
    dep_: str
    i: int
    idx: int
    head: "Word" = None
    children: list = field(default_factory=list)

    @property
    def lower_(self):
        return self.text.lower()

    @property
    def lefts(self):
        return [child for child in self.children if child.i < self.i]

    @property
    def ancestors(self):
        word = self
        while word.head is not word:
            word = word.head
            yield word

    @property
    def is_punct(self):
        return not self.text.isalnum()


def tree(text):
    rows = [row.rsplit("/", 3) for row in text.split()]
    words, place = [], 0
    for i, (word, tag, dep, _) in enumerate(rows):
        words.append(Word(word, tag, dep, i, place))
        place += len(word) + 1
    for word, row in zip(words, rows, strict=True):
        word.head = words[int(row[3])]
        if word.head is not word:
            word.head.children.append(word)
    return words


def said(parsed):
    return [(parsed.entities[r.subject].label, r.relation, parsed.entities[r.object].label) for r in parsed.relations]


CASES = {
    "a/DT/det/1 cat/NN/ROOT/1 and/CC/cc/1 a/DT/det/4 dog/NN/conj/1 on/IN/prep/4 a/DT/det/7 sofa/NN/pobj/5": [
        "dog|on|sofa",
        "cat|on|sofa",
    ],
    "a/DT/det/1 man/NN/ROOT/1 who/WP/nsubj/4 is/VBZ/aux/4 holding/VBG/relcl/1 a/DT/det/7 red/JJ/amod/7 cup/NN/dobj/4": [
        "man|holding|cup",
    ],
    "the/DT/det/1 snow/NN/nsubjpass/3 is/VBZ/auxpass/3 covered/VBN/ROOT/3 by/IN/agent/3 "
    "two/CD/nummod/6 boards/NNS/pobj/4": [
        "snow|covered by|board",
    ],
    "a/DT/det/1 group/NN/ROOT/1 of/IN/prep/1 people/NNS/pobj/2 sitting/VBG/acl/3 on/IN/prep/4 top/NN/pobj/5 "
    "of/IN/prep/6 a/DT/det/9 bench/NN/pobj/7": ["people|sitting on top of|bench"],
    "the/DT/det/1 man/NN/poss/3 's/POS/case/1 hat/NN/ROOT/3 to/IN/prep/3 the/DT/det/6 left/NN/pobj/4 of/IN/prep/6 "
    "a/DT/det/9 plate/NN/pobj/7": ["man|has|hat", "hat|to the left of|plate"],
    "a/DT/det/1 plate/NN/ROOT/1 with/IN/prep/1 a/DT/det/4 fork/NN/pobj/2 on/IN/prep/4 it/PRP/pobj/5": ["fork|on|plate"],
    "the/DT/det/1 car/NN/nsubj/6 that/WDT/dobj/5 the/DT/det/4 man/NN/nsubj/5 drives/VBZ/relcl/1 "
    "is/VBZ/ROOT/6 red/JJ/acomp/6": [
        "man|driving|car",
    ],
    "there/EX/expl/1 are/VBP/ROOT/1 cars/NNS/attr/1 parked/VBN/acl/2 next/RB/advmod/3 to/IN/prep/4 "
    "a/DT/det/7 building/NN/pobj/5": [
        "car|parked next to|building",
    ],
    "building/VBG/ROOT/0 with/IN/prep/0 windows/NNS/pobj/1": ["building|with|window"],
}


DENIED = {
    "a/DT/det/1 street/NN/ROOT/1 with/IN/prep/1 no/DT/det/4 cars/NNS/pobj/2 or/CC/cc/4 trucks/NNS/conj/4": {"street"},
    "the/DT/det/1 boy/NN/nsubj/4 is/VBZ/aux/4 not/RB/neg/4 wearing/VBG/ROOT/4 a/DT/det/6 helmet/NN/dobj/4": {"boy"},
    "a/DT/det/1 cat/NN/nsubj/2 is/VBZ/ROOT/2 n't/RB/neg/2 on/IN/prep/2 the/DT/det/6 bed/NN/pobj/4": {"cat"},
    "a/DT/det/1 man/NN/ROOT/1 without/IN/prep/1 a/DT/det/4 hat/NN/pobj/2": {"man"},
    "a/DT/det/1 man/NN/ROOT/1 wearing/VBG/acl/1 no/DT/det/4 hat/NN/dobj/2": {"man"},
    "not/RB/neg/2 a/DT/det/2 cloud/NN/ROOT/2 in/IN/prep/2 the/DT/det/5 sky/NN/pobj/3": {"sky"},
    "nothing/NN/ROOT/0 on/IN/prep/0 a/DT/det/3 table/NN/pobj/1": {"table"},
}


@pytest.mark.parametrize("text", DENIED)
def test_what_is_denied_is_no_thing_and_no_relation(text):
    parsed = read_tree(tree(text))
    assert {(entity.label, entity.attributes) for entity in parsed.entities} == {(name, ()) for name in DENIED[text]}
    assert parsed.relations == ()


def test_no_is_said_of_a_list_as_far_as_it_goes():
    text = "no/DT/det/1 cars/NNS/ROOT/1 and/CC/cc/1 a/DT/det/4 dog/NN/conj/1 on/IN/prep/4 grass/NN/pobj/5"
    assert said(read_tree(tree(text))) == [("dog", "on", "grass")]
    text = "no/DT/det/2 parking/NN/compound/2 sign/NN/ROOT/2 on/IN/prep/2 a/DT/det/5 pole/NN/pobj/3"
    assert said(read_tree(tree(text))) == [("sign", "on", "pole")]


@pytest.mark.parametrize("text", CASES)
def test_triplets(text):
    assert ["|".join(triplet) for triplet in said(read_tree(tree(text)))] == CASES[text]


def test_attributes_and_spans():
    text = "the/DT/det/2 red/JJ/amod/2 Cars/NNS/nsubj/3 are/VBP/ROOT/3 big/JJ/acomp/3"
    (car,) = read_tree(tree(text)).entities
    assert (car.label, car.attributes, car.span) == ("car", ("red", "big"), (8, 12))


def test_the_span_of_words_apart_is_their_longest_part():
    text = "man/NN/ROOT/0 eats/VBZ/acl/0 pizza/NN/dobj/1 in/IN/prep/1 front/NN/pobj/3 of/IN/prep/4 house/NN/pobj/5"
    parsed = read_tree(tree(text))
    assert [r.span for r in parsed.relations] == [(4, 8), (15, 26)]


def test_a_tree_too_deep_to_walk_gives_no_record():
    names = " ".join(f"cat/NN/conj/{max(0, i - 1)}" for i in range(3000))
    assert read_tree(tree(f"{names} on/IN/prep/0 sofa/NN/pobj/3000")) == ParsedCaption()


def test_what_is_missing_is_told(monkeypatch):
    spacy = pytest.importorskip("spacy")
    with pytest.raises(ConfigError, match=r"no spaCy pipeline 'none_such'.*python -m spacy download en_core_web_sm"):
        build_parser("spacy", model="none_such")
    monkeypatch.setattr(spacy, "load", lambda name, exclude: spacy.blank("en"))
    with pytest.raises(ConfigError, match="has no parser and no tagger"):
        build_parser("spacy")


def test_without_spacy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)
    with pytest.raises(ConfigError, match=r"relpretrain\[parse\]"):
        build_parser("spacy")


def test_a_pipeline():
    pytest.importorskip("spacy")
    try:
        parser = build_parser("spacy")
    except ConfigError as error:
        pytest.skip(str(error))
    texts = [
        "Two men sitting on top of a wooden bench",
        "",
        "a cat and a dog on a sofa",
        "\ud83d \U0001f600 \u202ecat",
        "x" * 10_000,
    ]
    parsed = parser.parse(texts)
    assert said(parsed[0]) == [("man", "sitting on top of", "bench")]
    assert sorted(said(parsed[2])) == [("cat", "on", "sofa"), ("dog", "on", "sofa")]
    for text, one in zip(texts, parsed, strict=True):
        assert all(text[slice(*entity.span)].strip() for entity in one.entities)
    assert parser.version.startswith("3-en_core_web_sm-")


def test_a_sign_that_forbids_says_what_and_no_stop_sign_is_none():
    forbids = "a/DT/det/3 no/DT/det/3 parking/NN/compound/3 sign/NN/ROOT/3"
    (sign,) = read_tree(tree(forbids)).entities
    assert (sign.label, sign.attributes) == ("sign", ("no parking",))
    assert not read_tree(tree(forbids.replace("parking", "stop").replace("a/DT/det/3", "with/IN/prep/3"))).entities


def test_what_a_thing_only_looks_like_is_not_there():
    text = "a/DT/det/1 kite/NN/ROOT/1 that/WDT/nsubj/3 looks/VBZ/relcl/1 like/IN/prep/3 a/DT/det/6 dragon/NN/pobj/4"
    parsed = read_tree(tree(f"{text} above/IN/prep/1 a/DT/det/9 beach/NN/pobj/7"))
    assert [(e.label, e.attributes) for e in parsed.entities] == [("kite", ("like dragon",)), ("beach", ())]
    assert said(parsed) == [("kite", "above", "beach")]


def test_a_thing_may_look_like_several_others_which_are_described():
    """As the lexicon has it."""
    text = (
        "a/DT/det/1 cloud/NN/ROOT/1 that/WDT/nsubj/3 looks/VBZ/relcl/1 like/IN/prep/3 a/DT/det/7 brown/JJ/amod/7 "
        "dog/NN/pobj/4 ,/,/punct/7 a/DT/det/10 cat/NN/conj/7 and/CC/cc/10 a/DT/det/14 toy/NN/compound/14 car/NN/conj/10"
    )
    (cloud,) = read_tree(tree(text)).entities
    assert (cloud.label, cloud.attributes) == ("cloud", ("like brown dog", "like cat", "like toy car"))
    (alike,) = build_parser("lexicon").parse(["a cloud that looks like a brown dog, a cat and a toy car"])
    (same,) = alike.entities
    assert same.attributes == cloud.attributes


def test_nothing_of_a_list_of_three_is_there_that_is_denied():
    text = (
        "a/DT/det/1 man/NN/ROOT/1 without/IN/prep/1 a/DT/det/4 hat/NN/pobj/2 ,/,/punct/4 a/DT/det/7 coat/NN/conj/4 "
        "and/CC/cc/7 a/DT/det/10 scarf/NN/conj/7"
    )
    assert [entity.label for entity in read_tree(tree(text)).entities] == ["man"]
