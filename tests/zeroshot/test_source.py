import csv
import json

import pytest

from relpretrain.zeroshot.results.scores import read_scores
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.folders import write_folders
from tests.zeroshot.helpers import write_benchmarks

FILES = (".json", ".jsonl", ".csv")


def items(root):
    found = {}
    for folder in sorted(p.name for p in root.iterdir() if p.name in TASKS):
        splits = ("vrd/all",) if folder == "predcls" else ("relation", "attribution") if folder == "aro" else ()
        found[folder] = TASKS[folder].items(Source(root, splits=splits))
    return found


@pytest.fixture
def root(tmp_path):
    return write_folders(tmp_path)


@pytest.mark.parametrize("change", ["bom", "crlf"])
def test_marks_and_line_ends_change_nothing(root, change):
    before = items(root)
    for path in root.rglob("*"):
        if path.suffix in FILES and path.parent.name != "predcls":
            data = path.read_bytes()
            lines = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            path.write_bytes(b"\xef\xbb\xbf" + data if change == "bom" else lines)
    assert items(root) == before


def test_a_line_ends_at_a_line_feed_only(tmp_path):
    write_benchmarks(tmp_path)
    row = {"image": "a.png", "caption": "one\u2028two\x85three", "label": 1, "relation": "in"}
    (tmp_path / "vsr" / "synthetic" / "dev.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    (item,) = TASKS["vsr"].items(Source(tmp_path, splits=("dev",)))["synthetic/dev"]
    assert item.texts == ("one\u2028two\x85three",)


def test_half_characters_are_replaced(tmp_path):
    write_benchmarks(tmp_path)
    row = {"image": "a.png", "caption": "half \ud83d an emoji, whole \U0001f600", "label": 1, "relation": "in"}
    (tmp_path / "vsr" / "synthetic" / "dev.jsonl").write_text(json.dumps(row))
    (item,) = TASKS["vsr"].items(Source(tmp_path, splits=("dev",)))["synthetic/dev"]
    assert item.texts == ("half \ufffd an emoji, whole \U0001f600",)


@pytest.mark.parametrize("task", ["aro", "sugarcrepe", "sugarcrepe_pp", "valse", "vsr", "whatsup", "winoground"])
@pytest.mark.parametrize("content", ["7", "[7]", '{"a": 7}', "null", '"text"', "[[1, 2]]", "{", "\xff", '[{"x": NaN}]'])
def test_whatever_a_file_holds_there_is_one_line(root, task, content):
    for path in (root / task).rglob("*.json*"):
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=str(root)):
        TASKS[task].items(Source(root))


@pytest.mark.parametrize(
    ("task", "file", "key", "value", "message"),
    [
        ("aro", "visual_genome_relation.json", "bbox_x", float("nan"), "'bbox_x' must be a finite number, not nan"),
        ("aro", "visual_genome_relation.json", "true_caption", ["a"], r"'true_caption' must be a text, not \['a'\]"),
        (
            "aro",
            "visual_genome_attribution.json",
            "attributes",
            "tall",
            "'attributes' must be a list of texts, not 'ta",
        ),
        ("aro", "coco_order.json", "caption_options", "words", "must be a list of texts, not 'words'"),
        ("whatsup", "controlled_images_dataset.json", "caption_options", "four", "must be a list of texts, not 'four'"),
        ("sugarcrepe", "swap_obj.json", "caption", None, "'caption' must be a text, not None"),
        ("valse", "foil-it.json", "mturk", {"caption": float("nan")}, "'caption' must be a finite number, not nan"),
        ("valse", "foil-it.json", "foil", "", "'foil' must be a text, not ''"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(root, task, file, key, value, message):
    path = root / task / file
    state = json.loads(path.read_text())
    first = state[0] if isinstance(state, list) else next(iter(state.values()))
    first[key] = value
    path.write_text(json.dumps(state))
    with pytest.raises(ValueError, match=f"tem '?[k0]+'? of {path}.*{message}"):
        TASKS[task].items(Source(root))


def test_rows_that_do_not_fit_the_head_are_named(root):
    path = root / "svo" / "svo_probes.csv"
    whole = path.read_text().replace("\r\n", "\n")
    head = len(next(csv.reader(whole.splitlines())))
    path.write_text(whole + "too,short\n")
    with pytest.raises(ValueError, match=f"Line 7 of {path} begins a row of 2 cells under a head of {head}"):
        TASKS["svo"].items(Source(root))
    path.write_text(whole + '"never closed, a, b\n')
    with pytest.raises(ValueError, match=f"Line 7 of {path} is no row of a table: close every quote"):
        TASKS["svo"].items(Source(root))


@pytest.mark.parametrize("score", ["NaN", "Infinity", '"0.5"', "true", "null"])
def test_a_score_is_a_finite_number(tmp_path, score):
    (tmp_path / "s.jsonl").write_text('{"label": 1, "score": 0.5}\n{"label": 1, "score": ' + score + "}\n")
    with pytest.raises(ValueError, match=r"Line 2 of .*s.jsonl: 'score' must be a finite number"):
        read_scores(tmp_path / "s.jsonl")
