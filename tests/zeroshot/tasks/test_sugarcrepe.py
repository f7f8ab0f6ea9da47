"""SugarCrepe and SugarCrepe++: metrics against loops, counts and gaps of the real files."""

import itertools

import numpy as np
import pytest

from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.composition.sugarcrepe import SIZES
from tests.zeroshot.folders import write_folders

SUGARCREPE, PLUS = TASKS["sugarcrepe"], TASKS["sugarcrepe_pp"]


def lines(task, roles, files, seed=0, items=40, levels=4):
    rng = np.random.default_rng([seed, len(roles), levels])
    return [
        {"label": f"{file}/{n}_{role}", "score": float(rng.integers(levels)), "task": task, "file": file}
        | {"option": role, "id": f"{file}/{n}"}
        for file in files
        for n in range(items + 10 * files.index(file))
        for role in roles
    ]


def items(records, roles):
    """Scores by item, in the order of the roles."""
    for start in range(0, len(records), len(roles)):
        yield records[start]["file"], [record["score"] for record in records[start : start + len(roles)]]


@pytest.mark.parametrize("levels", [1, 2, 1000])
def test_accuracy_per_file_and_the_unofficial_averages(levels):
    files = list(SIZES)
    records = lines("sugarcrepe", SUGARCREPE.roles, files, levels=levels)
    hits = {file: [] for file in files}
    for file, (caption, negative) in items(records, SUGARCREPE.roles):
        hits[file].append(caption > negative)
    shares = {file: np.mean(values) for file, values in hits.items()}
    main, averages = SUGARCREPE.tables(records)
    assert [row.category for row in main.rows] == ["overall", *files]
    assert {row.category: row.accuracy for row in main.rows[1:]} == pytest.approx(shares)
    assert main.overall.accuracy == pytest.approx(np.mean(list(itertools.chain(*hits.values()))))
    expected = {"mean of 7 files": np.mean(list(shares.values()))}
    expected |= {k: np.mean([v for f, v in shares.items() if f.startswith(k)]) for k in ("replace", "swap", "add")}
    assert {row.category: row.accuracy for row in averages.rows} == pytest.approx(expected)
    assert averages.notes[0].startswith("unofficial")


@pytest.mark.realdata
def test_counts_and_the_gap_of_the_real_files(realdata):
    found = SUGARCREPE.items(Source(realdata))[""]
    assert SUGARCREPE.count([record for item in found for record in item.records]) == SIZES
    assert len(found) == sum(SIZES.values()) == 7511
    swapped = [item.records[0]["id"] for item in found if item.records[0]["file"] == "swap_obj"]
    assert swapped[-1] == "swap_obj/245"  # of 245 items that begin with 0


@pytest.mark.realdata
def test_an_item_file_runs_on_real_pixels(realdata):
    source = Source(realdata / "coco_mini" / "derived_local_benchmark_items.json")
    found, notes = SUGARCREPE.locate(SUGARCREPE.items(source)[""], source)
    table = SUGARCREPE.summarise(SUGARCREPE.score(ConstantScorer(), found))
    assert (table.overall.n, table.overall.correct, table.overall.details["ties"]) == (211, 0, 211)
    assert notes == ()


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
def test_both_captions_must_beat_the_negative(levels):
    records = lines("sugarcrepe_pp", PLUS.roles, ["swap_obj", "replace_rel"], levels=levels)
    both, first, second = [], [], []
    for _, (caption, caption2, negative) in items(records, PLUS.roles):
        both.append(caption > negative and caption2 > negative)
        first.append(caption > negative)
        second.append(caption2 > negative)
    row = PLUS.summarise(records).overall
    assert row.correct == sum(both)
    assert row.details["caption"] == pytest.approx(np.mean(first))
    assert row.details["caption2"] == pytest.approx(np.mean(second))


@pytest.mark.parametrize("levels", [1, 2, 1000])
def test_the_text_only_task_compares_three_cosines(levels):
    roles = ("caption~caption2", "caption~negative_caption", "caption2~negative_caption")
    records = lines("sugarcrepe_pp", (*PLUS.roles, *roles), ["swap_obj", "swap_att"], levels=levels)
    text = [r for r in records if "~" in r["option"]]
    expected = sum(same > a and same > b for _, (same, a, b) in items(text, roles))
    itt, tot = PLUS.tables(records)
    assert tot.title == "sugarcrepe_pp text only"
    assert (tot.overall.correct, tot.overall.n) == (expected, itt.overall.n)
    outcomes = PLUS.outcomes(records)
    assert {question for question, _ in outcomes} == {"image-text", "caption", "caption2", "text-only"}
    assert sum(o.correct for (question, _), o in outcomes.items() if question == "text-only") == expected


class Letters(ConstantScorer):
    """Embeds a text as how often it has r, e and d."""

    def embed_texts(self, texts):
        vectors = np.array([[text.count(letter) + 1e-3 for letter in "red"] for text in texts])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_texts_are_compared_by_their_embeddings(tmp_path):
    source = Source(write_folders(tmp_path))
    found, _ = PLUS.locate(PLUS.items(source)[""], source)
    scorer = Letters()
    records = PLUS.score(scorer, found)
    vectors = scorer.embed_texts(found[0].texts)
    cosines = [r["score"] for r in records if "~" in r["option"]][:3]
    assert cosines == pytest.approx([vectors[0] @ vectors[1], vectors[0] @ vectors[2], vectors[1] @ vectors[2]])
    assert [table.title for table in PLUS.tables(records)] == ["sugarcrepe_pp", "sugarcrepe_pp text only"]


def test_a_scorer_without_text_embeddings_has_the_image_text_task_only(tmp_path):
    from tests.zeroshot.helpers import ColourScorer

    source = Source(write_folders(tmp_path))
    found, _ = PLUS.locate(PLUS.items(source)[""], source)
    (table,) = PLUS.tables(PLUS.score(ColourScorer(), found))
    assert "the text-only task was not scored" in table.notes[0]


def test_a_scorer_of_texts_alone_has_no_cosines_of_them(tmp_path):
    """Its one number a text, such as the length, is no vector: products of lengths are no text-only task."""
    from relpretrain.zeroshot.scorers.blind import LengthScorer

    source = Source(write_folders(tmp_path), blind=True)
    found, _ = PLUS.locate(PLUS.items(source)[""], source)
    (table,) = PLUS.tables(PLUS.score(LengthScorer(), found))
    assert "the text-only task was not scored" in table.notes[0]


def test_an_item_that_is_none_is_named(tmp_path):
    path = tmp_path / "items.json"
    path.write_text('{"sugarcrepe": ["a text"]}')
    with pytest.raises(ValueError, match=r"SugarCrepe item '0' of .*items.json is not an object"):
        SUGARCREPE.items(Source(path))


def test_what_is_wrong_with_annotations_is_said(tmp_path):
    write_folders(tmp_path)
    path = tmp_path / "sugarcrepe" / "swap_obj.json"
    path.write_text('"text"')
    with pytest.raises(ValueError, match=r"swap_obj.json holds no items: expected an object or a list"):
        SUGARCREPE.items(Source(tmp_path))
    path.write_text('{"3": {"filename": "a.jpg", "caption": "x"}}')
    with pytest.raises(ValueError, match=r"SugarCrepe item '3' of .*swap_obj.json lacks 'negative_caption'"):
        SUGARCREPE.items(Source(tmp_path))


def test_a_split_is_a_file(tmp_path):
    write_folders(tmp_path)
    found = SUGARCREPE.items(Source(tmp_path, splits=("swap_obj",)))[""]
    assert {item.records[0]["id"] for item in found} == {"swap_obj/0", "swap_obj/2"}
    assert [table.title for table in SUGARCREPE.tables(SUGARCREPE.score(ConstantScorer(), found[:0]))] == ["sugarcrepe"]
