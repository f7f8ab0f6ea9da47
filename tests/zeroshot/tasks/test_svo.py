"""SVO-Probes: both metrics against loops in the words of their authors, and the forms of the files."""

import json

import numpy as np
import pytest

from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.folders import write_svo

SVO = TASKS["svo"]
FLAGS = {"subj": "subj_neg", "verb": "verb_neg", "obj": "obj_neg"}


def random_records(seed, rows=200, levels=4):
    """Rows over few sentences and images, so that pairs repeat; a pair has one score, as a model gives it."""
    rng = np.random.default_rng([seed, levels])
    score = {}
    records = []
    for number in range(rows):
        sentence, flags = f"s{rng.integers(5)}", rng.random(3) < 0.4
        if not flags.any():
            flags[rng.integers(3)] = True
        for role in "pn":
            image = f"{rng.integers(4) + (4 if role == 'n' else 0)}.jpg"
            value = score.setdefault((sentence, image), float(rng.integers(levels + 1)) / levels)
            named = {name: bool(flag) for name, flag in zip(FLAGS.values(), flags, strict=True)}
            records.append({"label": f"{number}_{role}", "score": value, **named, "sentence": sentence, "image": image})
    return records


def ranking(records):
    """Shares right by the first flag that is set, and overall."""
    hits = {"overall": []}
    for positive, negative in zip(records[::2], records[1::2], strict=True):
        part = "subj" if positive["subj_neg"] else "verb" if positive["verb_neg"] else "obj"
        for name in ("overall", part):
            hits.setdefault(name, []).append(positive["score"] > negative["score"])
    return {name: sum(values) / len(values) for name, values in hits.items()}


def official(records, flag=None):
    """Mean of the accuracies on distinct positives and negatives, among rows with exactly one flag."""
    kept = [r for r in records if sum(r[f] for f in FLAGS.values()) == 1 and (flag is None or r[flag])]
    sides = []
    for role in "pn":
        distinct = {(r["sentence"], r["image"], r["score"] >= 0.5) for r in kept if r["label"].endswith(role)}
        sides.append(sum(match == (role == "p") for *_, match in distinct) / len(distinct))
    return sum(sides) / 2


@pytest.mark.parametrize("levels", [1, 2, 4, 1000])
def test_both_metrics_are_those_of_loops(levels):
    records = random_records(0, levels=levels)
    first, second = SVO.tables(records)
    assert {row.category: row.accuracy for row in first.rows} == pytest.approx(ranking(records))
    assert second.overall.accuracy == pytest.approx(official(records))
    assert {row.category: row.accuracy for row in second.rows[1:]} == pytest.approx(
        {name: official(records, flag) for name, flag in FLAGS.items()}
    )


def test_the_two_metrics_differ():
    records = random_records(1)
    first, second = SVO.tables(records)
    assert first.overall.accuracy != pytest.approx(second.overall.accuracy, abs=0.01)
    assert first.overall.n == 200
    assert second.overall.n == 40  # of 5 sentences with 8 images


def test_one_kind_of_rows_only():
    records = [{**r, "subj_neg": True, "verb_neg": False, "obj_neg": False} for r in random_records(2)]
    first, second = SVO.tables(records)
    assert [row.category for row in first.rows] == ["overall", "subj"]
    assert [row.category for row in second.rows] == ["overall", "subj"]


def test_published_score_files_say_no_images_and_count_every_pair():
    keys = ("label", "score", *FLAGS.values())
    records = [{**{key: r[key] for key in keys}, "id": n} for n, r in enumerate(random_records(3))]
    assert SVO.recognises(records[0])
    first, second = SVO.tables(records)
    assert first.overall.accuracy == pytest.approx(ranking(records)["overall"])
    assert second.overall.n > 100
    assert any("repeated pairs count repeatedly" in note for note in second.notes)


def test_the_lines_of_fine_grained_evals_are_read_too(tmp_path):
    write_svo(tmp_path)
    (tmp_path / "svo" / "svo_probes.csv").unlink()
    row = {"svo_index": 7, "caption": "it is red", "pos_image": "1.jpg", "neg_image": "2.jpg"}
    row |= {"pos_triplet": "a,b,c", "neg_triplet": "d,b,c", "subj_neg": True, "verb_neg": False, "obj_neg": False}
    (tmp_path / "svo" / "test.jsonl").write_text(json.dumps(row) + "\n")
    items = SVO.items(Source(tmp_path))[""]
    assert [item.records[0]["label"] for item in items] == ["7_p", "7_n"]
    assert {item.group for item in items} == {"7"}


def test_the_table_says_true_and_false_in_words(tmp_path):
    write_svo(tmp_path)
    items = SVO.items(Source(tmp_path))[""]
    assert [item.records[0]["subj_neg"] for item in items[::2]] == [True, True, False, False, True]
    path = tmp_path / "svo" / "svo_probes.csv"
    path.write_text(path.read_text().replace("True", "yes"))
    with pytest.raises(ValueError, match="True or False, not 'yes'"):
        SVO.items(Source(tmp_path))


def test_half_a_row_is_refused():
    records = random_records(4)
    with pytest.raises(ValueError, match=r"SVO-Probes item 0 needs one score for its positive image and one"):
        SVO.summarise(records[1:])
    with pytest.raises(ValueError, match=r"SVO-Probes item 0 has two scores for its positive image"):
        SVO.summarise([*records, records[0]])


def test_a_pair_decided_alike_counts_once_and_decided_otherwise_twice():
    flags = {"subj_neg": True, "verb_neg": False, "obj_neg": False}
    pairs = [("p", "a", 0.7), ("n", "b", 0.2), ("p", "a", 0.70001), ("n", "b", 0.9)]
    records = [
        {"label": f"{n // 2}_{role}", "score": score, **flags, "sentence": "s", "image": image}
        for n, (role, image, score) in enumerate(pairs)
    ]
    row = SVO.tables(records)[1].overall
    assert row.n == 3
    assert row.details["positives"] == 1.0
    assert row.details["negatives"] == 0.5
    assert row.accuracy == 0.75
