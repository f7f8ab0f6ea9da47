import json
import random

import pytest

from relpretrain.scene_graph import RelationVocabulary, coverage, coverage_lines, tell_outside, warn_outside

VOCABULARY = RelationVocabulary(["on", "left of"], aliases={"on top of": "on"})


def test_counts_go_by_the_vocabularys_own_rules():
    found = coverage({"on": 3, "On  Top of": 2, " LEFT of": 1, "wear": 4, "Wear": 1, "has": 9, "hold": 5}, VOCABULARY)
    assert (found.known, found.unknown) == (6, 19)
    assert found.most_common == (("has", 9), ("hold", 5), ("wear", 5))
    assert found.unknown_fraction == pytest.approx(19 / 25)
    assert coverage({}, VOCABULARY).unknown_fraction == 0


def test_the_line():
    found = {"vrd": coverage({"on": 2, "wear": 1}, VOCABULARY), "gqa": coverage({"on": 7}, VOCABULARY)}
    assert coverage_lines(found, "  ") == [
        "  vrd: 1 of 3 relations (33 %) outside MRC's vocabulary: wear 1",
        "  MRC never learns these: give it a vocabulary that has them (relations.json of packed shards), or aliases.",
    ]
    assert coverage_lines({"gqa": found["gqa"]}) == []


def test_lines_fit_110_columns():
    rng = random.Random(0)
    for size in range(1, 60):
        counts = {f"{'r' * rng.randint(1, 15)}{i}": rng.randint(1, 5000) for i in range(size)}
        lines = coverage_lines({"data": coverage({"on": 50, **counts}, VOCABULARY)}, "    ")
        assert all(len(line) <= 110 for line in lines)
        most = max(counts, key=lambda name: (counts[name], name))
        assert f"{counts[most]:,}" in lines[0]


def test_a_small_share_is_not_called_none():
    (line, _) = coverage_lines({"d": coverage({"on": 9_996, "wear": 4}, VOCABULARY)})
    assert "4 of 10,000 relations (0.04 %) outside" in line


def test_above_a_third_there_is_a_warning(recwarn, capsys):
    warn_outside({"third": coverage({"on": 2, "wear": 1}, VOCABULARY)})
    assert not recwarn
    with pytest.warns(UserWarning, match=r"MRC never learns 40 % of the relations of d: give it a vocabulary"):
        tell_outside({"d": coverage({"on": 3, "wear": 2}, VOCABULARY)})
    assert "d: 2 of 5 relations (40 %) outside MRC's vocabulary: wear 2" in capsys.readouterr().out


def test_the_vrd_photos(realdata):
    """With MRC's default 247 of the 604 relations of its photos are never learned."""
    counts = {}
    annotations = json.loads((realdata / "vrd" / "annotations_test.json").read_text())
    predicates = json.loads((realdata / "vrd" / "predicates.json").read_text())
    photos = {path.name for path in (realdata / "vrd" / "images").iterdir()}
    for name, triplets in annotations.items():
        distinct = {json.dumps([t["subject"], t["predicate"], t["object"]], sort_keys=True) for t in triplets}
        for triplet in distinct if name in photos else ():
            relation = predicates[json.loads(triplet)[1]]
            counts[relation] = counts.get(relation, 0) + 1
    found = coverage(counts, RelationVocabulary.load("gqa"))
    assert (found.unknown, found.known + found.unknown) == (247, 604)
    assert found.most_common[:4] == (("wear", 81), ("has", 49), ("in the front of", 35), ("hold", 20))
