"""What rows of published formats mean; the forms are those of the projects' own files."""

import sys
from collections import Counter

import pytest

from relpretrain.data.join.formats import FORMATS, annotated
from relpretrain.data.join.records import Choice
from relpretrain.data.join.rows import annotation_files, rows
from relpretrain.progress import Meter


def desc(text, label):
    return {"text": text, "label": label, "full_label": f"{label}-x"}


def vertex(name, label, box, descs=(), edges=(), confidence=None):
    sides = dict(zip(("left", "top", "right", "bottom"), box, strict=True))
    return {
        "vertex_id": name, "label": label, "bbox": sides | {"confidence": confidence}, "descs": list(descs),
        "in_edges": [{"source": s, "text": t, "target": name} for s, t in edges], "out_edges": [],
    }  # fmt: skip


def graph(sentence):
    relation = vertex("[cup|table]", "relation", (0, 0, 1, 1), [desc(sentence, "relation")])
    relation["out_edges"] = [{"source": "[cup|table]", "text": n, "target": n} for n in ("cup", "table")]
    return {
        "img_url": "https://a.example/1.jpg",
        "original_caption": "my kitchen",
        "vertices": [
            vertex("", "image", (0, 0, 1, 1), [desc("A long text.", "detail"), desc("A cup.", "short")]),
            vertex("cup", "entity", (0.1, 0.2, 0.3, 0.4), [desc("A red cup.", "detail")], [("", "cup")], 0.8),
            vertex("table", "composition", (0, 0.4, 1, 1), [desc("One of two.", "short")], [("", "table")]),
            vertex("chair_1", "entity", (0.5, 0.5, 0.9, 1), (), [("chairs", "Chair 2")], 0.1),
            relation,
        ],
    }


@pytest.mark.parametrize(
    ("sentence", "relation"),
    [
        ("The cup is standing on the table.", "standing on"),
        ("The cup rests on a table.", "rests on"),
        ("The table is behind the cup.", None),  # the table is the subject here
        ("The cup, which is red, is on the table.", None),
        ("A cup is one of the many things that are on the table.", None),
        ("The cup and another cup are on the table.", None),
        ("The cups are on the table.", None),
    ],
)
def test_gbc_relations_are_the_words_between(sentence, relation):
    dropped = Counter()
    record = FORMATS["gbc"].record(graph(sentence), Choice(), dropped, "a")
    found = [(r["subject"], r["relation"], r["object"]) for r in record["relations"]]
    if sentence.startswith("The table"):
        assert found == [(1, "behind", 0)]
    else:
        assert found == ([(0, relation, 1)] if relation else [])
        assert dropped["relation_without_name"] == (relation is None)


def test_gbc_captions_and_boxes():
    record = FORMATS["gbc"].record(graph("The cup is on the table."), Choice(), Counter(), "a")
    assert record["captions"] == ["my kitchen", "A long text.", "A cup."]
    assert record["fractions"]
    assert [entity["label"] for entity in record["entities"]] == ["cup", "table", "chair"]
    assert record["entities"][0]["box"] == [0.1, 0.2, 0.3, 0.4]
    choice = Choice(("short", "relation"), regions="description", min_score=0.5)
    record = FORMATS["gbc"].record(graph("The cup is on the table."), choice, Counter(), "a")
    assert record["captions"] == ["A cup.", "The cup is on the table."]
    assert [entity["label"] for entity in record["entities"]] == ["A red cup.", "One of two."]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("odd", [None, 3, "x", [], [3], {"a": 1}, [[]], [{"descs": 3, "bbox": [], "in_edges": "x"}]])
def test_odd_values_are_no_crash(name, odd):
    columns = ("vertices", "original_caption", "labels", "bboxes", "relations", "attributes", "captions", "weights")
    for column in (*columns, "vlm_caption", "raw_caption", "entities", "caption_weights", "caption", "det_scores"):
        FORMATS[name].record({column: odd, "width": odd}, Choice(), Counter(), "a")


def test_provision_files_go_together(tmp_path):
    (tmp_path / "a-objects.json").write_text(
        '{"7": {"data_path": "x/7.jpg", "source": null, "annotation": {"width": 40, "height": 20, '
        '"labels": ["bat", "man", "hat"], "bboxes": [[0, 0, 4, 4], [5, 0, 9, 9], [5, 0, 9, 3]], '
        '"det_scores": [0.9, 0.8, 0.05]}}}'
    )
    (tmp_path / "b-attributes.json").write_text('{"7": {"annotation": {"attributes": [["red"], [], ["old"]]}}}')
    (tmp_path / "c-relations.json").write_text(
        '{"7": {"annotation": {"relations": [[1, "holding", 0], [1, "wearing", 2], [1, "of"]]}}}'
    )
    dropped = Counter()
    files = annotation_files([tmp_path])
    (found,) = annotated(files, "provision", "image_id", Choice(min_score=0.1), dropped, Meter())
    name, record = found
    assert name == "7"
    assert record["entities"] == [
        {"label": "bat", "box": [0, 0, 4, 4], "attributes": ["red"]},
        {"label": "man", "box": [5, 0, 9, 9], "attributes": []},
    ]
    assert record["relations"] == [{"subject": 1, "relation": "holding", "object": 0}]
    assert (record["width"], record["height"]) == (40, 20)
    assert dropped == {"relation_without_entity": 1, "malformed_relation": 1}


def test_json_files_of_one_image_each_are_named_by_their_path(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/1.json").write_text('{"ImagePath": "b/0007.jpg", "raw_caption": "r", "longSV_captions": "l"}')
    (tmp_path / "x/2.json").write_text('{"raw_caption": "of the file"}')
    found = dict(annotated(annotation_files([tmp_path]), "dreamlip", "key", Choice(), Counter(), Meter()))
    assert found == {"0007.jpg": {"captions": ["r", "l"]}, "2": {"captions": ["of the file"]}}


def test_rows_without_name_or_content_are_counted(tmp_path):
    (tmp_path / "a.csv").write_text("url,vlm_caption\n,lost\nhttps://a.example,\nhttps://b.example,kept\n")
    dropped = Counter()
    found = list(annotated([tmp_path / "a.csv"], "pixelprose", "url", Choice(), dropped, Meter()))
    assert found == [("https://b.example", {"captions": ["kept"]})]
    assert dropped == {"annotation_without_name": 1, "empty_annotation": 1}


def test_parquet_without_pyarrow_is_a_line(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"which pyarrow reads: pip install \"relpretrain\[join\]\""):
        next(rows(tmp_path / "a.parquet", (), Counter(), Meter()))


def test_parquet_reads_the_wanted_columns_in_batches(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"url": [f"u{i}" for i in range(1200)], "vlm_caption": ["c"] * 1200, "toxicity": [0.5] * 1200}
    table = pyarrow.table(columns)
    parquet.write_table(table, tmp_path / "a.parquet")
    found = list(rows(tmp_path / "a.parquet", ("url", "vlm_caption", "absent"), Counter(), Meter()))
    assert len(found) == 1200
    assert found[-1].cells == {"url": "u1199", "vlm_caption": "c"}
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"b.parquet cannot be read as Parquet"):
        next(rows(tmp_path / "b.parquet", (), Counter(), Meter()))
