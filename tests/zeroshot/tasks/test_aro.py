"""ARO: the macro averages and their exclusions, crops, tie rules, cleaning and shuffles."""

import importlib.util
import json

import numpy as np
import pytest

from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.common.base import read_image
from relpretrain.zeroshot.tasks.composition.aro import EXCLUDED, MAX_WORDS, order_cases
from relpretrain.zeroshot.tasks.composition.shuffles import Shuffler, clean, official_shuffler
from tests.zeroshot.folders import dump, paint, write_aro

ARO = TASKS["aro"]


def records(subset, categories, options, seed=0, levels=4):
    """An item per category named, with random scores."""
    rng = np.random.default_rng([seed, options, levels])
    return [
        {"label": f"{n}_{o}", "score": float(rng.integers(levels)), "task": "aro", "subset": subset}
        | {"category": category, "option": str(o), "id": f"{subset}/{n}"}
        for n, category in enumerate(categories)
        for o in range(options)
    ]


def right(lines, options, ties_win):
    found = []
    for start in range(0, len(lines), options):
        first, *others = [line["score"] for line in lines[start : start + options]]
        found.append(first >= max(others) if ties_win else first > max(others))
    return found


@pytest.mark.parametrize("levels", [1, 2, 100])
def test_relation_is_the_mean_over_relations_without_the_157(levels):
    names = ["on", "near", "wearing", "riding", "by"]
    categories = [names[i] for i in np.random.default_rng(0).choice(5, 200, p=[0.5, 0.2, 0.1, 0.1, 0.1])]
    lines = records("relation", categories, 2, levels=levels)
    hits = right(lines, 2, False)
    shares = {
        name: np.mean([hit for hit, category in zip(hits, categories, strict=True) if category == name])
        for name in ("on", "wearing", "riding")  # near and by are among the 157
    }
    table = ARO.summarise(lines)
    assert table.overall.category == "mean of 3 relations"
    assert table.overall.accuracy == pytest.approx(np.mean(list(shares.values())))
    assert table.rows[1].accuracy == pytest.approx(np.mean(hits))
    assert {row.category: row.accuracy for row in table.rows[2:]} == pytest.approx(shares)
    assert "2 relations with" in table.notes[0]


def test_attribution_is_the_mean_over_pairs_with_25_items():
    categories = ["a_b"] * 24 + ["c_d"] * 25 + ["e_f"] * 60
    lines = records("attribution", categories, 2)
    hits = right(lines, 2, False)
    table = ARO.summarise(lines)
    assert table.overall.accuracy == pytest.approx((np.mean(hits[24:49]) + np.mean(hits[49:])) / 2)
    assert [row.category for row in table.rows[2:]] == ["c_d", "e_f"]
    assert table.notes == ("not in the mean: 1 pair of attributes with 24 items (fewer than 25 items)",)


@pytest.mark.parametrize("levels", [1, 2, 100])
def test_order_is_argmax_with_the_caption_first(levels):
    lines = records("coco_order", [""] * 200, 5, levels=levels)
    table = ARO.summarise(lines)
    assert table.overall.correct == sum(right(lines, 5, True))
    assert table.overall.details["strict"] == pytest.approx(np.mean(right(lines, 5, False)))
    assert len(table.rows) == 1
    assert sum(o.correct for o in ARO.outcomes(lines).values()) == table.overall.correct


def test_a_macro_interval_holds_the_mean_and_one_relation_has_the_interval_of_its_share():
    lines = records("relation", ["on"] * 50, 2)
    row = ARO.summarise(lines).overall
    assert row.low < row.accuracy < row.high
    assert (row.low, row.high) == pytest.approx(
        (ARO.summarise(lines).rows[1].low, ARO.summarise(lines).rows[1].high), abs=0.03
    )


def test_no_relation_counts():
    table = ARO.summarise(records("relation", ["by"] * 3, 2))
    assert table.overall.n == 0
    assert np.isnan(table.overall.accuracy)


def test_two_sets_in_one_file_are_refused():
    lines = records("relation", ["on"], 2) + records("coco_order", [""], 5)
    with pytest.raises(ValueError, match=r"of one of relation, attribution, coco_order, flickr30k_order; this one of"):
        ARO.summarise(lines)


@pytest.mark.realdata
def test_the_157_relations_are_those_of_the_notebook(realdata):
    listed = json.loads((realdata / "vocab" / "aro_vgr_excluded_relations.json").read_text())
    assert sorted(EXCLUDED) == sorted(listed)
    assert len(EXCLUDED) == 157
    assert {"by", "of", "near", "next to", "with", "beside", "around"} <= EXCLUDED


def test_the_image_is_cut_to_the_box(tmp_path):
    write_aro(tmp_path)
    item = ARO.items(Source(tmp_path))["relation"][2]
    assert item.box == (4, 0, 8, 4)
    paint(tmp_path / "x.png", "red", "blue")
    part = read_image(str(tmp_path / "x.png"), item.box)
    assert part.size == (4, 4)
    assert part.getpixel((0, 0)) == (0, 0, 255)


def test_each_part_of_an_image_is_encoded_once(tmp_path):
    write_aro(tmp_path)

    class Counting(ConstantScorer):
        number = 0

        def encode_images(self, images):
            self.number += len(images)
            return super().encode_images(images)

    scorer, source = Counting(), Source(tmp_path)
    for split in ("relation", "attribution"):
        items, _ = ARO.locate(ARO.items(source)[split], source)
        ARO.score(scorer, items)
    assert scorer.number == 2 + 1  # both halves for the relations, the left one for the attributes


def test_captions_are_cleaned_as_aro_does():
    assert clean("  A dog's tail, (red); runs!\n", 30) == "a dog's tail, red runs"
    assert clean('He said: "well-done" ~ #1*.', 30) == "he said well-done 1"
    assert clean("a b c d", 2) == "a b"
    assert clean("is it?", 30) == "is it?"  # the question mark stays


TAGS = {"dog": "NN", "cats": "NNS", "Bob": "NNP", "red": "JJ", "bigger": "JJR", "runs": "VBZ", "the": "DT"}


def shuffler(seed=1):
    return Shuffler(lambda text: [(word, TAGS.get(word, "IN")) for word in text.split()], str.split, seed)


def test_shuffles_move_what_their_names_say():
    caption = "the red dog near the bigger cats runs past Bob"
    nouns, others, within, threes = shuffler().all(caption)
    words = caption.split()
    for text in (nouns, others, within, threes):
        assert sorted(text.split()) == sorted(words)
    fixed = [i for i, word in enumerate(words) if TAGS.get(word, "")[:2] not in ("NN", "JJ")]
    assert [nouns.split()[i] for i in fixed] == [words[i] for i in fixed]
    assert {nouns.split()[i] for i in (1, 5)} == {"red", "bigger"}
    moved = [i for i in range(len(words)) if i not in fixed]
    assert [others.split()[i] for i in moved] == [words[i] for i in moved]
    for start in range(0, len(words), 3):
        assert sorted(within.split()[start : start + 3]) == sorted(words[start : start + 3])
    whole = [" ".join(words[i : i + 3]) for i in range(0, len(words), 3)]
    assert all(three in threes for three in whole)


def test_shuffles_draw_as_the_global_generators_of_the_official_code_would():
    captions = ["the red dog near the bigger cats runs past Bob", "dog cats Bob dog", "red"]
    ours = [shuffler().nouns(c) for c in captions[:1]]
    rng = np.random.RandomState(1)
    words = np.array(captions[0].split())
    for kind in ("NN", "JJ"):
        places = [i for i, word in enumerate(words) if TAGS.get(word, "")[:2] == kind]
        words[places] = rng.permutation(words[places])
    assert ours == [" ".join(words)]


def test_shuffles_are_the_same_every_time_and_differ_by_seed():
    caption = "the red dog near the bigger cats runs past Bob"
    assert shuffler().all(caption) == shuffler().all(caption)
    assert shuffler().all(caption) != shuffler(2).all(caption)
    assert shuffler().all("") == ("", "", "", "")


def test_cases_are_five_texts_of_at_most_30_words():
    annotations = [{"image": "a.jpg", "caption": ["Red dog.", "the " * 40]}, {"image": "b.jpg", "caption": ["Bob"]}]
    cases = order_cases(annotations, shuffler())
    assert [case["image"] for case in cases] == ["a.jpg", "a.jpg", "b.jpg"]
    assert all(len(case["caption_options"]) == 5 for case in cases)
    assert cases[0]["caption_options"][0] == "red dog"
    assert all(len(text.split()) <= MAX_WORDS for case in cases for text in case["caption_options"])
    assert cases[2]["caption_options"] == ["bob"] * 5  # a shuffle may be the caption


def test_without_the_tools_of_the_shuffles_the_error_says_what_to_do(tmp_path):
    if importlib.util.find_spec("spacy"):
        pytest.skip("spaCy is installed")
    with pytest.raises(ValueError, match=r"need spaCy with en_core_web_sm.*coco_order.json"):
        official_shuffler()
    dump(tmp_path / "aro" / "coco_karpathy_test.json", [{"image": "a.jpg", "caption": ["a dog"]}])
    with pytest.raises(ValueError, match="need spaCy with en_core_web_sm"):
        ARO.items(Source(tmp_path, splits=("coco_order",)))


def test_what_is_wrong_with_annotations_is_said(tmp_path):
    write_aro(tmp_path)
    dump(tmp_path / "aro" / "coco_order.json", [{"image": "a", "caption_options": ["x", "y"]}])
    with pytest.raises(ValueError, match=r"Item 0 of .*coco_order.json has 2 texts instead of 5"):
        ARO.items(Source(tmp_path))
    dump(tmp_path / "aro" / "visual_genome_relation.json", [{"image_path": "a"}])
    with pytest.raises(ValueError, match=r"Item 0 of .*visual_genome_relation.json lacks 'true_caption'"):
        ARO.items(Source(tmp_path, splits=("relation",)))
    with pytest.raises(ValueError, match=r"Unknown split 'relations'; did you mean 'relation'"):
        ARO.items(Source(tmp_path, splits=("relations",)))
