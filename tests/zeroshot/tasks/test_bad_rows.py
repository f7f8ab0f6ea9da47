"""Annotation files that cannot be read are told: the file, the row, and what it should hold."""

import json

import pytest

from relpretrain.zeroshot.evaluate import prepare
from relpretrain.zeroshot.tasks import TASKS, Source

BROKEN = {
    "cola/COLA_multiobjects_matching_benchmark.json": ([["a", "b", "c"]], r"must be \[image, text, image, text\]"),
    "colorswap/test.json": ([{"caption_1": "a", "image_1": "x"}], "lacks 'caption_2' or 'caption2'; it has caption_1"),
    "vl_checklist/Relation/vg/spatial.json": ([["a.jpg", {"POS": ["a"], "NEG": []}]], "'NEG' holds no text"),
    "spec/count/text2image.json": (
        [{"query": "a", "keys": ["b"], "label": 3}],
        "'label' is the number of a key, 0 to 0",
    ),
    "spec/count/image2text.json": ([{"query": "a", "keys": [], "label": 0}], "'keys' is empty"),
    "eqben/rows.json": (
        [{"caption0": "a", "caption1": "b", "image0": "c", "image1": None}],
        "lacks 'image1' or 'image_1'; it has caption0, caption1, image0",
    ),
    "fgovd/h_attributes_llava.jsonl": (
        {"img_path": "a", "pos_expression": "a", "neg_expression": []},
        "at least one false",
    ),
}


@pytest.mark.parametrize("file", BROKEN)
def test_malformed_rows_are_named(tmp_path, file):
    state, message = BROKEN[file]
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(state))
    with pytest.raises(ValueError, match=message) as error:
        TASKS[file.partition("/")[0]].items(Source(tmp_path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("file", "rows", "said"),
    [
        ("docci/docci_descriptions.jsonlines", [], "must be an object with"),
        (
            "winoground/examples.jsonl",
            {"id": 1, "caption_0": "a", "caption_1": "b", "image_0": "x", "image_1": "y", "collapsed_tag": [1]},
            "'collapsed_tag' must be a text or a number",
        ),
        (
            "winoground/examples.jsonl",
            {"id": "a", "caption_0": "a", "caption_1": "b", "image_0": "x", "image_1": "y"},
            "'id' must be a whole number, not 'a'",
        ),
        (
            "coco_retrieval/captions_a.json",
            {"images": [{"id": [1], "file_name": "a.jpg"}], "annotations": []},
            r"Image 0 of .*: the id of an image is a number or a text, not \[1\]",
        ),
        (
            "coco_retrieval/dataset_coco.json",
            {"images": [{"filename": 5, "split": "test", "sentences": [{"raw": "a"}]}]},
            "'filename' must be a text, not 5",
        ),
        (
            "paragraphs/paragraphs_v1.json",
            [{"image_id": [1], "url": "http://a/b.jpg", "paragraph": "c"}],
            r"Paragraph 0 of .*: 'image_id' is a number, not \[1\]",
        ),
        (
            "snare/visual_genome_relation.json",
            [{"true_caption": "a", "false_caption": "b", "relation_name": "wearing"}],
            "holds no item that multi_spatial asks about",
        ),
        (
            "snare/visual_genome_attribution.json",
            [{"true_caption": "a", "false_caption": "b", "obj1_name": "c", "obj2_name": "d", "attributes": ["e"]}],
            r"Item 0 of .*: 'attributes' must be two texts, not \['e'\]",
        ),
        (
            "snare/visual_genome_attribution.json",
            [{"true_caption": "a", "false_caption": "b", "obj1_name": "c", "obj2_name": "d", "attributes": 5}],
            "'attributes' must be a list of texts, not 5",
        ),
    ],
)
def test_rows_of_another_kind_are_told(tmp_path, file, rows, said):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(rows))
    task = TASKS[path.parent.name]
    splits = {"visual_genome_relation": ("multi_spatial",), "visual_genome_attribution": ("logic",)}.get(path.stem, ())
    with pytest.raises(ValueError, match=said):
        task.items(Source(tmp_path, splits=splits))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2,Texts,a dog, to the left", "begins a row of 4 cells under a head of 3: quote cells that hold commas"),
        ('2,Texts,"a dog', "is no row of a table: close every quote"),
    ],
)
def test_rows_whose_texts_would_be_cut_or_run_on_are_named(tmp_path, row, said):
    path = tmp_path / "mmvp" / "Questions.csv"
    path.parent.mkdir()
    head, first = "Question ID,Type,Statement", '1,Texts,"a cat, to the right"'
    path.write_text(f"{head}\n{first},,\n\n2,Texts,a dog\n")  # empty cells at the end mean nothing
    source = Source(tmp_path)
    assert TASKS["mmvp"].items(source)[""][0].texts == ("a photo of a cat, to the right", "a photo of a dog")
    path.write_text(f"{head}\n{first}\n{row}\n3,Texts,a\n4,Texts,b\n")
    with pytest.raises(ValueError, match=f"Line 3 of {path} {said}"):
        TASKS["mmvp"].items(source)


def test_two_items_of_one_id_are_told_before_anything_is_scored(tmp_path):
    path = tmp_path / "winoground" / "examples.jsonl"
    path.parent.mkdir()
    row = {"id": 7, "caption_0": "a", "caption_1": "b", "image_0": "x", "image_1": "y"}
    path.write_text(2 * (json.dumps(row) + "\n"))
    with pytest.raises(ValueError, match="Winoground: 2 items have the same id, that of the line '7_c0_i0'"):
        prepare(["winoground"], Source(tmp_path, blind=True))
