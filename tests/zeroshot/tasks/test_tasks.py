import json

import pytest

from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.common.base import score_items
from relpretrain.zeroshot.tasks.composition.valse import PIECES
from relpretrain.zeroshot.tasks.relations.vsr import CATEGORIES, CATEGORY
from tests.zeroshot.helpers import ColourScorer, write_benchmarks, write_images

VALSE, VSR = TASKS["valse"], TASKS["vsr"]


@pytest.fixture
def data(tmp_path):
    write_images(tmp_path / "data" / "images")
    return write_benchmarks(tmp_path / "data")


def located(task, source, split):
    return task.locate(task.items(source)[split], source)[0]


def test_valse_numbers_items_before_it_drops_invalid_ones(data):
    items = VALSE.items(Source(data))[""]
    assert [(item.records[0]["id"], item.records[0]["instrument"]) for item in items] == [
        (0, "existence"),
        (1, "existence"),
        (2, "foil-it"),
    ]  # number 3 has one vote
    assert items[2].texts == ("a red thing", "a blue thing")
    assert items[2].records == (
        {"label": "2_c", "instrument": "foil-it", "piece": "foil-it", "type": "caption", "id": 2},
        {"label": "2_f", "instrument": "foil-it", "piece": "foil-it", "type": "foil", "id": 2},
    )


def test_valse_counts_of_the_real_files(realdata):
    items = VALSE.items(Source(realdata))[""]
    counts = {name: sum(item.records[0]["instrument"] == name for item in items) for name in PIECES}
    assert len(items) == 7702
    assert counts == {
        "existence": 505,
        "plurals": 851,
        "counting-hard": 868,
        "counting-small-quant": 900,
        "counting-adversarial": 691,
        "relations": 535,
        "action-replacement": 648,
        "actant-swap": 949,
        "coreference-standard": 708,
        "coreference-hard": 104,
        "foil-it": 943,
    }
    assert items[-1].records[0]["id"] == 8781


def test_vsr_splits_of_the_real_files(realdata):
    splits = VSR.items(Source(realdata))
    assert {name: len(items) for name, items in splits.items()} == {
        "random_v1/dev": 1012,
        "random_v1/test": 2024,
        "random_v2/dev": 1097,
        "random_v2/test": 2195,
        "zeroshot/dev": 340,
        "zeroshot/test": 1222,
    }


@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("random_v2/test", [289, 88, 137, 843, 133, 629, 76]),
        ("zeroshot/test", [116, 42, 49, 451, 32, 492, 40]),
        ("random_v1/test", [284, 90, 112, 773, 123, 591, 51]),
    ],
)
def test_vsr_categories_of_the_real_files(realdata, split, counts):
    table = constant_table(VSR, VSR.items(Source(realdata))[split], split)
    assert [row.category for row in table.rows[1:]] == list(CATEGORIES)
    assert [row.n for row in table.rows[1:]] == counts


def constant_table(task, items, split=""):
    records = [{**record, "score": 0.5} for item in items for record in item.records]
    return task.summarise(records, split)


def test_a_constant_scorer_wins_no_pair(realdata):
    table = constant_table(VALSE, VALSE.items(Source(realdata))[""])
    assert all(row.correct == 0 and row.details["ties"] == row.n for row in table.rows)


def test_a_constant_scorer_gets_the_share_of_true_items(realdata):
    table = constant_table(VSR, VSR.items(Source(realdata))["random_v2/test"])
    assert (table.overall.correct, table.overall.n) == (1181, 2195)
    assert table.overall.details["auroc"] == 0.5


def test_the_old_random_split_is_known_by_its_size(tmp_path, realdata):
    (tmp_path / "vsr").mkdir()
    (tmp_path / "vsr" / "random").symlink_to(realdata / "vsr" / "random_old_v1")
    assert list(VSR.items(Source(tmp_path))) == ["random_v1/dev", "random_v1/test"]


def test_categories_are_those_of_the_official_list(realdata):
    official = {}
    for line in (realdata / "vsr" / "rel_meta_category_dict.txt").read_text().splitlines():
        category, _, relations = line.partition(": ")
        official |= {relation.strip(): category for relation in relations.split(",")}
    assert official == CATEGORY
    assert list(CATEGORIES) == list(dict.fromkeys(official.values()))
    assert CATEGORY["among"] == "Unallocated"


def test_an_unknown_relation_counts_overall_only(data):
    table = constant_table(VSR, VSR.items(Source(data))["synthetic/test"])
    assert table.overall.n == 4
    assert sum(row.n for row in table.rows[1:]) == 3
    assert table.notes == ("relations without a category, counted overall only: x",)


def test_splits_are_chosen_by_either_half_of_their_name(data):
    assert list(VSR.items(Source(data, splits=("test",)))) == ["synthetic/test"]
    assert list(VSR.items(Source(data, splits=("synthetic",)))) == ["synthetic/dev", "synthetic/test"]
    with pytest.raises(ValueError, match=r"Unknown split 'syntetic'; did you mean 'synthetic'\?"):
        VSR.items(Source(data, splits=("syntetic",)))


def test_each_image_is_encoded_once(data, monkeypatch):
    monkeypatch.setattr("relpretrain.zeroshot.tasks.common.base._CHUNK", 2)
    scorer = ColourScorer()
    source = Source(data)
    records = score_items(scorer, located(VALSE, source, "") + located(VSR, source, "synthetic/test"))
    assert sorted(scorer.encoded) == ["blue", "green", "red"]
    valse, vsr = records[:6], records[6:]
    assert VALSE.summarise(valse).overall.correct == 3
    assert [record["id"] for record in vsr] == [0, 1, 2, 3]
    assert [record["score"] > 0.5 for record in vsr] == [True, False, False, True]
    assert list(valse[0]) == ["label", "score", "instrument", "piece", "type", "id", "image"]


def test_scores_do_not_depend_on_the_order_of_the_items(data):
    items = located(VALSE, Source(data), "")
    forward, backward = score_items(ColourScorer(), items), score_items(ColourScorer(), items[::-1])
    assert sorted(map(json.dumps, forward)) == sorted(map(json.dumps, backward))


def test_images_are_found_where_they_usually_are(tmp_path):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images", ["red"])
    write_images(data / "valse" / "images", ["blue"])
    write_images(data / "vsr" / "images" / "deep" / "down", ["blue"])
    write_images(tmp_path / "elsewhere" / "photos", ["green"])
    source = Source(data, (tmp_path / "elsewhere",))
    assert {item.image for item in located(VALSE, source, "")} == {
        str(data / "images" / "red.png"),
        str(data / "valse" / "images" / "blue.png"),
    }
    assert {item.image for item in located(VSR, source, "synthetic/test")} == {
        str(data / "images" / "red.png"),
        str(data / "vsr" / "images" / "deep" / "down" / "blue.png"),
        str(tmp_path / "elsewhere" / "photos" / "green.png"),
    }


def test_generated_data_is_found_from_the_folder_above(tmp_path):
    data = write_benchmarks(tmp_path / "world" / "benchmarks")
    write_images(data / "images")
    assert len(located(VALSE, Source(tmp_path / "world"), "")) == 3


def test_two_different_images_of_one_name_are_refused(tmp_path):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images" / "a")
    write_images(data / "images" / "b")
    (data / "images" / "b" / "red.png").write_bytes(b"another one")
    with pytest.raises(ValueError, match=r"Two different images are called 'red.png'"):
        located(VALSE, Source(data), "")
    whole = (data / "images" / "a" / "red.png").read_bytes()
    (data / "images" / "b" / "red.png").write_bytes(whole)
    assert len(located(VALSE, Source(data), "")) == 3  # two copies of one image
    (data / "images" / "b" / "red.png").write_bytes(whole[::-1])  # of the same size, as frames of one video are
    with pytest.raises(ValueError, match=r"Two different images are called 'red.png'"):
        located(VALSE, Source(data), "")


def test_missing_images_are_named_and_an_error(tmp_path):
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images", ["red"])
    items = VSR.items(Source(data))["synthetic/test"]
    with pytest.raises(
        ValueError, match=r"2 of 3 images of vsr were not found \(green.png, blue.png\).*--allow-missing"
    ):
        VSR.locate(items, Source(data))
    kept, notes = VSR.locate(items, Source(data, allow_missing=True))
    assert len(kept) == 2
    assert notes == ("2 of 3 images of vsr were not found (green.png, blue.png): 2 of 4 items left out, n = 2",)


def test_no_image_at_all_is_an_error_whatever_is_allowed(tmp_path):
    data = write_benchmarks(tmp_path / "data")
    items = VALSE.items(Source(data))[""]
    with pytest.raises(
        ValueError, match=r"2 of 2 images of valse were not found.*; looked in .*valse. Name .*--images"
    ):
        VALSE.locate(items, Source(data, allow_missing=True))


def test_a_broken_image_is_named(data):
    (data / "images" / "red.png").write_bytes((data / "images" / "red.png").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"red.png cannot be decoded"):
        score_items(ColourScorer(), located(VALSE, Source(data), ""))


def test_a_model_that_gives_nan_is_refused(data):
    records = VALSE.score(ConstantScorer((float("nan"), 0.0)), located(VALSE, Source(data), ""))
    with pytest.raises(ValueError, match="3 of 3 scores are not finite"):
        VALSE.summarise(records)


def test_what_is_wrong_with_annotations_is_said(tmp_path, data):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"Task 'vsr' expects its annotations in .*empty/vsr"):
        VSR.items(Source(tmp_path / "empty"))
    dev = data / "vsr" / "synthetic" / "dev.jsonl"
    dev.write_text('{"image": "a.png", "caption": "b", "label": 2, "relation": "in"}\n')
    with pytest.raises(ValueError, match=r"Line 1 of .*dev.jsonl: the label must be 0 or 1, not 2"):
        VSR.items(Source(data))
    dev.write_text('{"image": "a.png"}\n')
    with pytest.raises(ValueError, match=r"Line 1 of .*dev.jsonl lacks 'caption', 'label', 'relation'"):
        VSR.items(Source(data))
    (data / "valse" / "existence.json").write_text("{")
    with pytest.raises(ValueError, match=r"existence.json should hold annotations but is no JSON"):
        VALSE.items(Source(data))
    (data / "valse" / "existence.json").write_text('{"k": {"image_file": "a", "caption": "b", "foil": "c"}}')
    with pytest.raises(ValueError, match=r"Item 'k' of .*existence.json lacks 'mturk'"):
        VALSE.items(Source(data))


@pytest.mark.realdata
def test_an_item_file_runs_on_real_pixels(realdata):
    source = Source(realdata / "coco_mini" / "derived_local_benchmark_items.json")
    scorer = ConstantScorer((0.0, 1.0))
    valse = VALSE.summarise(VALSE.score(scorer, located(VALSE, source, "")))
    vsr = VSR.summarise(VSR.score(scorer, located(VSR, source, "items")))
    assert (valse.overall.n, vsr.overall.n) == (45, 28)
    assert valse.overall.correct == 0
    assert vsr.overall.accuracy == vsr.overall.details["true"]


def test_an_item_file_without_the_task_is_refused(tmp_path):
    file = tmp_path / "items.json"
    file.write_text('{"vsr": []}')
    with pytest.raises(ValueError, match="holds no list of items called 'valse', only vsr"):
        VALSE.items(Source(file))
