import json
import pickle
from collections import Counter

import pytest

from relpretrain.scene_graph import RelationVocabulary
from relpretrain.scene_graph.vocabulary import evident_inverse


def test_index_normalises_and_applies_aliases():
    vocabulary = RelationVocabulary(["On", "in  front of"], aliases={"in the Front of": "in front of"})
    assert vocabulary.names == ("on", "in front of")
    assert vocabulary.index(" ON ") == 0
    assert vocabulary.index("In the front  of") == 1
    assert vocabulary.index("under") is None
    assert "on" in vocabulary
    assert "under" not in vocabulary
    assert len(vocabulary) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "needs names"),
        ((["on", " "],), "none of them empty"),
        ((["on", "ON"],), "more than once"),
        ((["on"], {"upon": "onn"}), "did you mean 'on'"),
        ((["on", "upon"], {"upon": "on"}), "both names and aliases"),
        ((["a", "b", "c"], {}, {"a": "b", "b": "c"}), "two inverses"),
        ((["a"], {}, {"a": "b"}), "not in the vocabulary"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        RelationVocabulary(*arguments)


def test_from_counts_takes_the_top_with_ties_by_alphabet():
    counts = Counter({"under": 2, "on": 5, "behind": 2, "On": 1, "above": 1})
    assert RelationVocabulary.from_counts(counts).names == ("on", "behind", "under", "above")
    assert RelationVocabulary.from_counts(counts, 2).names == ("on", "behind")
    with pytest.raises(ValueError, match="at least 1"):
        RelationVocabulary.from_counts(counts, 0)


@pytest.mark.parametrize(
    "pair",
    [
        ("parked on the left side of", "parked on the right side of"),
        ("on the left corner of", "on the right corner of"),
        ("on upper left of", "on upper right of"),
        ("in the left hand of", "in the right hand of"),
        ("facing left", "facing right"),
    ],
)
def test_the_other_side_is_no_inverse_of_a_verb_or_of_a_part(pair):
    """A car parked on the right side of a road has no road parked on its left side."""
    vocabulary = RelationVocabulary.from_counts(dict.fromkeys(pair, 1))
    assert [vocabulary.inverse(name) for name in pair] == [None, None]
    assert [evident_inverse(name) for name in pair] == [None, None]


@pytest.mark.parametrize(
    "name", ["left of", "to the left of", "on the left-hand side of", "to the far left of", "left"]
)
def test_sides_are_inverse(name):
    assert evident_inverse(name) == name.replace("left", "right")


def test_from_counts_knows_evident_inverses():
    vocabulary = RelationVocabulary.from_counts({"on the left of": 2, "on the right of": 1, "above": 1, "near": 1})
    assert vocabulary.inverse("On the left of") == "on the right of"
    assert vocabulary.inverse("near") == "near"
    assert vocabulary.inverse("above") is None


def test_save_and_load(tmp_path):
    vocabulary = RelationVocabulary(["on", "über", "under"], {"upon": "on"}, {"über": "under"}, source="a test")
    vocabulary.save(tmp_path / "v.json")
    loaded = RelationVocabulary.load(tmp_path / "v.json")
    assert loaded == vocabulary == pickle.loads(pickle.dumps(vocabulary))
    assert loaded.fingerprint == vocabulary.fingerprint
    assert loaded.source == "a test"


def test_fingerprint_is_about_numbering():
    base = RelationVocabulary(["on", "under"])
    assert (
        base.fingerprint
        == RelationVocabulary(["ON", "under"], source="elsewhere", inverses={"on": "under"}).fingerprint
    )
    others = [RelationVocabulary(["under", "on"]), RelationVocabulary(["on", "under"], {"upon": "on"})]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_gqa():
    vocabulary = RelationVocabulary.load("gqa")
    assert len(vocabulary) == 310
    assert vocabulary.index("to the left of") is not None
    assert vocabulary.inverse("to the left of") == "to the right of"
    assert vocabulary.inverse("behind") == "in front of"
    assert "GQA" in vocabulary.source


def test_gqa_names_are_the_data_sets(realdata):
    names = (realdata / "vocab/gqa_lcgn_rel.txt").read_text().splitlines()
    assert RelationVocabulary.load("gqa").names == tuple(name for name in names if name != "<unk>")


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'gqa'"):
        RelationVocabulary.load("gqaa")
    with pytest.raises(ValueError, match=r"no relation vocabulary .*absent\.json"):
        RelationVocabulary.load(tmp_path / "absent.json")
    for content in (
        "no json",
        json.dumps(["on"]),
        json.dumps({"names": "on"}),
        json.dumps({"names": ["on"], "aliases": 3}),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ValueError, match=r"bad\.json (is not|should hold) a relation vocabulary"):
            RelationVocabulary.load(tmp_path / "bad.json")


def test_counts_are_kept_where_they_are_known(tmp_path):
    made = RelationVocabulary.from_counts({"On": 2, "on": 1, "under": 5}, 2)
    assert made.counts == {"under": 5, "on": 3}
    made.save(tmp_path / "v.json")
    assert RelationVocabulary.load(tmp_path / "v.json") == made
    plain = RelationVocabulary(made.names, aliases={"atop": "on"})
    assert plain.counts == {}
    assert "counts" not in plain.to_json()
    counted = plain.counted({"atop": 4, "ON": 1, "wears": 9})
    assert counted.counts == {"on": 5}
    assert counted.fingerprint == plain.fingerprint


def test_load_skips_a_byte_order_mark_and_names_another_encoding(tmp_path):
    path = tmp_path / "v.json"
    path.write_text("\ufeff" + json.dumps({"names": ["on", "near"]}), encoding="utf-8")
    assert RelationVocabulary.load(path).names == ("on", "near")
    path.write_text(json.dumps({"names": ["on"]}), encoding="utf-16")
    with pytest.raises(ValueError, match=r"v\.json is UTF-16, expected UTF-8"):
        RelationVocabulary.load(path)
