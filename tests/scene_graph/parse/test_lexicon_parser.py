import json
import time

import numpy as np
import pytest

from relpretrain.errors import ConfigError
from relpretrain.scene_graph.parse import build_parser
from relpretrain.scene_graph.parse.clauses import LONGEST_LIST
from relpretrain.scene_graph.parse.triplets import CONFIDENCE
from tests.fuzz import caption

PARSER = build_parser("lexicon")


def said(text):
    """The triplets of a caption in words."""
    (parsed,) = PARSER.parse([text])
    return [(parsed.entities[r.subject].label, r.relation, parsed.entities[r.object].label) for r in parsed.relations]


def things(text):
    (parsed,) = PARSER.parse([text])
    return {entity.label: entity.attributes for entity in parsed.entities}


@pytest.mark.parametrize(
    ("text", "triplets"),
    [
        ("a cup on a table", ["cup|on|table"]),
        ("a cat and a dog on a sofa", ["cat|on|sofa", "dog|on|sofa"]),
        ("a dog between a chair and a lamp", ["dog|between|chair", "dog|between|lamp"]),
        (
            "A man is sitting on top of a bench in front of a lake.",
            ["man|sitting on top of|bench", "man|in front of|lake"],
        ),
        ("a car parked next to the building", ["car|parked next to|building"]),
        ("a cup to the left of a plate", ["cup|to the left of|plate"]),
        ("a red cup is left of a plate", ["cup|left of|plate"]),
        ("a dog lying right of the couch", ["dog|lying right of|couch"]),
        ("the left arm of a man", ["left arm|of|man"]),
        ("a triangle above a square", ["triangle|above|square"]),
        ("a sign on side of the road", ["sign|on the side of|road"]),
        ("a man who is holding a cup", ["man|holding|cup"]),
        ("a woman holds an umbrella", ["woman|holding|umbrella"]),
        ("a cake cut by a man", ["cake|cut by|man"]),
        ("the leg of a table", ["leg|of|table"]),
        ("a bowl of fruit", ["bowl|has|fruit"]),
        ("a man's dog chasing a cat", ["man|has|dog", "dog|chasing|cat"]),
        ("a dog whose tail is on the floor", ["dog|has|tail", "tail|on|floor"]),
        ("a plate with a fork and a knife on it", ["fork|on|plate", "knife|on|plate"]),
        ("a truck with a plant on top", ["plant|on top of|truck"]),
        ("a woman sitting at a table and eating pizza", ["woman|sitting at|table", "woman|eating|pizza"]),
        ("a man holding a bat and a woman is sitting on a chair", ["man|holding|bat", "woman|sitting on|chair"]),
        (
            "a woman walking across the street holding an umbrella",
            ["woman|walking across|street", "woman|holding|umbrella"],
        ),
        ("the waves the surfer is riding", ["surfer|riding|wave"]),
        ("a man riding a wave on a surfboard", ["man|riding|wave", "man|on|surfboard"]),
        ("a girl in a blue shirt", ["girl|wearing|shirt"]),
        ("there is a car on the road", ["car|on|road"]),
        (
            "The man in the red shirt and blue jeans is holding a leash",
            ["man|wearing|shirt", "man|wearing|jeans", "man|holding|leash"],
        ),
        (
            "A man wearing glasses and a black hat is talking on a phone",
            ["man|wearing|glasses", "man|wearing|hat", "man|talking on|phone"],
        ),
        ("a man holding a cup and a dog is on the sofa", ["man|holding|cup", "dog|on|sofa"]),
        ("There is a dog under the table and a cat on it", ["dog|under|table"]),
        ("A zebra is laying down while another zebra stands over a log", ["zebra|standing over|log"]),
        ("a man walking a dog while holding an umbrella", ["man|walking|dog", "man|holding|umbrella"]),
        ("a clock tower rising above the trees", ["clock tower|rising above|tree"]),
        ("two men sharing a bench", ["man|sharing|bench"]),
        ("a red car", []),
        ("", []),
    ],
)
def test_triplets(text, triplets):
    assert ["|".join(triplet) for triplet in said(text)] == triplets


@pytest.mark.parametrize(
    ("text", "entities"),
    [
        ("the car is red", {"car": ("red",)}),
        ("a big black and white cat", {"cat": ("big", "black", "white")}),
        ("two brown wooden benches", {"bench": ("two", "brown", "wooden")}),
        ("a group of people", {"people": ("group of",)}),
        ("a brick wall", {"wall": ("brick",)}),
        ("tennis rackets", {"tennis racket": ()}),
        ("light blue curtains", {"curtain": ("light blue",)}),
        ("several women are walking", {"woman": ("walking",)}),
        ("the man on the left", {"man": ("on the left",)}),
        ("wearing", {}),
    ],
)
def test_things_and_attributes(text, entities):
    assert things(text) == entities


@pytest.mark.parametrize(
    ("text", "there", "triplets"),
    [
        ("a street with no cars", "street", []),
        ("there are no people on the beach", "beach", []),
        ("a bathroom with no toilet or sink", "bathroom", []),
        ("a street with no cars and a dog on a bench", "street dog bench", ["street|with|dog", "dog|on|bench"]),
        ("neither the cat nor the dog is on the sofa", "sofa", []),
        ("an empty room with nothing on the floor", "room floor", []),
        ("not a cloud in the sky", "sky", []),
        ("two men without shoes or shirts", "man", []),
        ("a man wearing no shirt", "man", []),
        ("a cat is not on the bed", "cat", []),
        ("a dog that isn't on a leash", "dog", []),
        ("a dog that isn\u2019t on a leash", "dog", []),
        ("a man who ca n't see the car", "man", []),
        ("a ca with a dog", "ca dog", ["ca|with|dog"]),
        ("the man doesn't have a hat", "man", []),
        ("the boy is not wearing a helmet or a scarf", "boy", []),
        ("a plate of food that is not eaten by the dog", "plate food", ["plate|has|food"]),
        ("a woman no longer holding an umbrella", "woman", []),
        ("a pole with no one holding it", "pole", []),
        ("a cup instead of a plate on the table", "cup table", []),
        ("all the animals except a dog are on the grass", "animal grass", ["animal|on|grass"]),
        ("a man riding a bike and not wearing a helmet", "man bike", ["man|riding|bike"]),
        ("people aren't on the bench, a dog is on the grass", "people dog grass", ["dog|on|grass"]),
        ("not only a cat but a dog on a sofa", "cat dog sofa", ["cat|on|sofa", "dog|on|sofa"]),
        ("a no parking sign on a pole", "sign pole", ["sign|on|pole"]),
        ("no parking sign on a pole", "sign pole", ["sign|on|pole"]),
        ("zebra no 2 next to a tree", "zebra tree", ["zebra|next to|tree"]),
    ],
)
def test_what_is_denied_is_no_thing_and_no_relation(text, there, triplets):
    assert ["|".join(triplet) for triplet in said(text)] == triplets
    assert list(things(text)) == there.split()


@pytest.mark.parametrize(
    ("text", "entities"),
    [
        ("a cat that is not black or white", {"cat": ()}),
        ("the cat is not black but gray", {"cat": ("gray",)}),
        ("a man not smiling or waving", {"man": ()}),
        ("a dog not on the left", {"dog": ()}),
        ("a bed not made", {"bed": ()}),
        ("I'm near a dog, we've a cat", {"dog": (), "cat": ()}),
    ],
)
def test_nothing_is_like_what_it_is_said_not_to_be(text, entities):
    assert things(text) == entities


def test_spans_are_where_the_caption_says_it():
    text = "Two MEN are sitting on  the left side of a Wooden bench."
    (parsed,) = PARSER.parse([text])
    assert [text[slice(*entity.span)] for entity in parsed.entities] == ["MEN", "bench"]
    assert [text[slice(*relation.span)] for relation in parsed.relations] == ["sitting on  the left side of"]
    assert parsed.relations[0].relation == "sitting on the left side of"


def test_confidence_falls_where_a_choice_was_made():
    first, second = PARSER.parse(["a man in a park with a hat"])[0].relations
    assert (first.confidence, second.confidence) == (CONFIDENCE["direct"], CONFIDENCE["attached"])
    assert first.confidence > second.confidence


def test_a_caption_is_parsed_alike_whatever_stands_beside_it():
    texts = ["a cat on a mat", "dogs", "", "a man with a hat on"]
    assert PARSER.parse(texts) == [PARSER.parse([text])[0] for text in texts]


def test_odd_texts_give_records_whose_spans_lie_inside():
    rng = np.random.default_rng(0)
    for _ in range(300):
        text = caption(rng)
        (parsed,) = PARSER.parse([text])
        for place in [entity.span for entity in parsed.entities] + [r.span for r in parsed.relations if r.span]:
            assert 0 <= place[0] < place[1] <= len(text)
            assert text[slice(*place)].strip()
        for entity in parsed.entities:
            assert entity.label.strip() == entity.label.lower() != ""
        json.dumps([entity.label for entity in parsed.entities])


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10_000_000,
        "a " * 200_000,
        "a cat and " * 2000,
        "on " * 5000,
        "man's " * 3000,
        "very " * 5000,
        "big, " * 5000,
    ],
    ids=["one word", "articles", "list", "prepositions", "owners", "adverbs", "adjectives"],
)
def test_long_texts_take_no_time(text):
    start = time.process_time()
    (parsed,) = PARSER.parse([text])
    assert time.process_time() - start < 2
    assert len(parsed.relations) < 4000


def test_a_list_relates_so_many_things_at_most():
    subjects, objects = ("a cat, " * 30).rstrip(", "), ("a dog, " * 30).rstrip(", ")
    assert LONGEST_LIST < len(said(f"{subjects} on {objects}")) <= LONGEST_LIST**2


def test_unknown_parser_and_missing_data_say_what_to_do(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="no parser 'lexikon'; did you mean 'lexicon'"):
        build_parser("lexikon")
    with pytest.raises(ConfigError, match="lexicon takes no option 'modle'"):
        build_parser("lexicon", modle="x")
    import nltk.data

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match=r"python -m nltk.downloader averaged_perceptron_tagger_eng wordnet"):
        build_parser("lexicon", nltk_data=True)


@pytest.mark.parametrize(
    ("text", "there", "triplets"),
    [
        ("a no parking sign on a pole", {"sign": ("no parking",), "pole": ()}, ["sign|on|pole"]),
        ("cars beside a no turn sign", {"car": (), "sign": ("no turn",)}, ["car|beside|sign"]),
        ("a street with no parking signs", {"street": (), "sign": ("no parking",)}, ["street|with|sign"]),
        ("a street with no signs", {"street": ()}, []),
        ("there is no stop sign beside the car", {"car": ()}, []),
    ],
)
def test_a_sign_that_forbids_is_there_and_no_sign_is_not(text, there, triplets):
    assert things(text) == there
    assert ["|".join(triplet) for triplet in said(text)] == triplets


@pytest.mark.parametrize(
    ("text", "there", "triplets"),
    [
        (
            "a cloud that looks like a dog above a house",
            {"cloud": ("like dog",), "house": ()},
            ["cloud|above|house"],
        ),
        ("a man that looks like a snow queen wearing a red shirt", {"man": ("like snow queen",), "shirt": ("red",)},
         ["man|wearing|shirt"]),
        ("a kite that looks like a dragon is flying above a beach", {"kite": ("like dragon",), "beach": ()},
         ["kite|flying above|beach"]),
        ("a chair shaped like a hand beside a bed", {"chair": ("shaped like hand",), "bed": ()}, ["chair|beside|bed"]),
        ("a wall painted to look like ice", {"wall": ("like ice",)}, []),
        ("a dog that does not look like a wolf", {"dog": ()}, []),
        ("the bird looks like it is flying over a lake", {"bird": (), "lake": ()}, ["bird|flying over|lake"]),
        ("it looks like a man is riding a horse", {"man": (), "horse": ()}, ["man|riding|horse"]),
        ("the picture looks like a man is riding a horse", {"picture": (), "man": (), "horse": ()},
         ["man|riding|horse"]),
        ("a man looking at a cat", {"man": (), "cat": ()}, ["man|looking at|cat"]),
    ],
)  # fmt: skip
def test_what_a_thing_only_looks_like_is_not_there(text, there, triplets):
    assert things(text) == there
    assert ["|".join(triplet) for triplet in said(text)] == triplets


@pytest.mark.parametrize(
    ("text", "triplets"),
    [
        ("a man about to hit a ball", ["man|hitting|ball"]),
        ("the player is about to swing his bat", ["player|swinging|bat"]),
        ("a batter ready to hit a ball with a bat", ["batter|hitting|ball", "batter|with|bat"]),
        ("a dog trying to catch a frisbee", ["dog|catching|frisbee"]),
        ("a surfer about to fall off his board", ["surfer|falling off|board"]),
        ("a book about dogs", ["book|about|dog"]),
    ],
)
def test_what_somebody_is_about_to_do_is_told_as_done(text, triplets):
    """As FACTUAL's annotators have it."""
    assert ["|".join(triplet) for triplet in said(text)] == triplets
