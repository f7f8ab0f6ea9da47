"""Tasks of several texts and images on made folders: constant and colour scorers, missing files, score files."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F

from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.evaluate import evaluate, prepare, summarise
from relpretrain.zeroshot.report.terminal import read_report
from relpretrain.zeroshot.results.items import item_results
from relpretrain.zeroshot.results.scores import read_scores, task_of, write_scores
from relpretrain.zeroshot.scorers import ConstantScorer
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.helpers import COLOURS
from tests.zeroshot.helpers import ColourScorer as Colours
from tests.zeroshot.more_folders import WRITERS, write_more_folders


class ColourScorer(Colours):
    """Has embeddings, too: a text is the sum of the colours that it names."""

    fuses = False

    def embed_images(self, features):
        return torch.eye(3)[[list(COLOURS).index(name) for name in features]]

    def embed_texts(self, texts):
        return F.normalize(torch.tensor([[float(name in text) for name in COLOURS] for text in texts]), dim=-1)

    def similarities(self, features, texts):
        return self.embed_images(features) @ self.embed_texts(texts).T


SQUARE = {"group": 1 / 3, "text": 1 / 3, "image": 1 / 3, "GroupMatch": 1 / 3}
KNOWN = {
    "mmvp": {"image": 1 / 2, "text": 1 / 2, "group": 1 / 2, "GroupMatch": 1 / 2},
    "colorswap": SQUARE | {"one-sided": 1 / 2},  # both of the first, none of the equal texts, one of two red images
    "cola": SQUARE,
    "bivlc": {
        "group": 1 / 3,
        "I2T": 1 / 3,
        "T2I": 1 / 3,
        "Ipos2T": 2 / 3,
        "Ineg2T": 1 / 3,
        "Tpos2I": 1 / 3,
        "Tneg2I": 1 / 3,
    },
    "rocketscience": SQUARE,
    "eqben": SQUARE,
    "vismin": SQUARE,
    "vl_checklist relation/vg_spatial": {"overall": 1 / 3},
    "vl_checklist relation/vg_spatial first 1,000": {"overall": 1 / 3},
    "vl_checklist means": {"mean of 2 corpora": 2 / 3, "relation: mean of 2 corpora": 2 / 3},
    "hard_positives relations": {"augmented": 1 / 4, "original": 1 / 2, "brittleness": 0},
    "crepe swap": {"R@1": 1 / 2, "R@3": 1 / 2, "R@5": 1.0, "R@10": 1.0},
    "crepe mean over kinds": {"R@1: mean over atom, swap": 1 / 3},
    "negbench coco": {"overall": 7 / 8, "positive": 1.0, "negative": 0.0},
    "spec i2t": {"mean of the sets": 5 / 6, "count": 0.0, "existence": 1.0},
    "spec t2i": {"mean of the sets": 1.0},
    "snare relation": {
        "text": 0.0,
        "exchanged": 0.0,
        '"and"': 0.0,
    },  # "the red cup and the mat" ties with the true text
    "snare multi_spatial": {"R@1": 0.0, "R@2": 0.0, "R@3": 0.0},
    "snare ownership": {"text": 0.0, "exchanged": 0.0, "respectively": 0.0},  # likewise
    "snare logic": {"text": 0.0, "negated": 0.0},
    "fgovd hard": {"overall": 2 / 3},
    "urban1k test": {"TR@1": 1.0, "IR@1": 1.0},
    "dci test": {"TR@1": 1.0},
    "docci test": {"TR@1": 1.0},
    "iiw test": {"TR@1": 1.0},
    "classification colours": {"top-1": 3 / 7, "top-5": 3 / 7, "mean over classes": 3 / 7},
}
"""Figures of a scorer that finds the image's colour in the text, worked out by hand."""

HIGH = {"negbench coco": {"overall": 3 / 8}, "fgovd hard": {"overall": 1.0}, "crepe swap": {"R@1": 0.0, "R@5": 1.0}}
"""What a constant scorer gets where it is not nothing: options move on from item to item; ties are right."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_more_folders(tmp_path_factory.mktemp("more") / "data")


def tables(data, scorer, wanted=tuple(WRITERS)):
    ready, _ = prepare(wanted, Source(data))
    return {table.title: table for table in summarise(evaluate(scorer, ready))}


def figures(table):
    return {row.category: row.accuracy for row in table.rows}


def test_a_scorer_of_colours_gets_what_was_worked_out_by_hand(data):
    found = tables(data, ColourScorer())
    for title, wanted in KNOWN.items():
        assert {name: figures(found[title])[name] for name in wanted} == pytest.approx(wanted), title


def test_a_constant_scorer_gets_nothing_or_chance(data):
    for title, table in tables(data, ConstantScorer()).items():
        wanted = HIGH.get(title, {})
        if "voc2007" in title or "atom" in title or table.task in ("classification", "urban1k", "dci", "docci", "iiw"):
            continue  # like coco; a single wrong text is no R@3; less than ten candidates
        assert {n: v for n, v in figures(table).items() if n in wanted} == pytest.approx(wanted), title
        if not wanted:
            assert all(v == 0 for n, v in figures(table).items() if not n.startswith(("R@5", "R@10"))), title
    assert figures(tables(data, ConstantScorer(), ["classification"])["classification colours"])["top-5"] == 0


def test_a_constant_scorer_is_at_chance_on_negbench_whatever_the_number_of_items():
    task = TASKS["negbench"]
    lines = [
        {"id": f"coco/{n}", "option": f"c{c}_i0", "turn": n % 4, "score": 0.5, "category": "positive"}
        for n in range(400)
        for c in range(4)
    ]
    row = task.summarise(lines).overall
    assert (row.accuracy, row.details["ties"], row.details["strict"], row.details["chance"]) == (0.25, 400, 0.0, 0.25)


def test_score_files_give_the_same_tables_and_items(data, tmp_path):
    ready, _ = prepare(tuple(WRITERS), Source(data))
    for number, part in enumerate(evaluate(ColourScorer(), ready)):
        path = tmp_path / f"{number}.jsonl"
        write_scores(path, part.records)
        records = read_scores(path)
        assert task_of(records, path) == part.task.name
        assert part.task.tables(records, part.split) == part.task.tables(part.records, part.split)
        results = item_results(part)
        assert results
        if part.task.name not in ("classification", "urban1k", "dci", "docci", "iiw"):
            assert all(len(r.texts) == len(r.scores) for r in results), part.task.name
        assert set(part.task.count(part.records)) == set(part.task.count([r for i in part.items for r in i.records]))


def test_equal_texts_and_short_items_are_told(data):
    found = tables(data, ConstantScorer(), ["vl_checklist", "fgovd"])
    assert found["vl_checklist relation/vg_spatial"].notes[0].startswith("1 of 3 items have two equal texts")
    assert "1 item with fewer than 3 texts" in found["fgovd hard"].notes
    assert "boxes were cut out" in found["fgovd hard"].notes
    assert found["fgovd hard"].overall.details["chance"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 3) / 3)


def test_boxes_are_encoded_in_their_image_where_a_scorer_can(data):
    class Regions(ColourScorer):
        def encode_regions(self, images, index, boxes):
            self.seen = [(images[i].size, box) for i, box in zip(index, boxes, strict=True)]
            return self.encode_images([images[i].crop(box) for i, box in zip(index, boxes, strict=True)])

    scorer = Regions()
    assert tables(data, scorer, ["fgovd"])["fgovd hard"].overall.accuracy == pytest.approx(2 / 3)
    assert scorer.seen == [((8, 4), (0.0, 0.0, 4.0, 4.0)), ((8, 4), (4.0, 0.0, 8.0, 4.0))]


MISSING = {
    "mmvp": "Questions.csv",
    "cola": "COLA_multiobjects_matching_benchmark.json",
    "negbench": "VOC2007_mcq_llama3.1_rephrased.csv",
    "hard_positives": "swapped_data/vl_checklist_relations.json",
    "snare": "visual_genome_relation.json",
}


@pytest.mark.parametrize("task", WRITERS)
def test_what_is_missing_is_named_with_the_folder(data, tmp_path, task):
    (tmp_path / task).mkdir()
    with pytest.raises(ValueError, match=str(tmp_path / task)):
        TASKS[task].items(Source(tmp_path))
    if task in MISSING:
        shutil.rmtree(tmp_path / task)
        shutil.copytree(data / task, tmp_path / task)
        (tmp_path / task / MISSING[task]).unlink()
        with pytest.raises(ValueError, match=MISSING[task].rpartition("/")[2].replace(".", r"\.")):
            TASKS[task].items(Source(tmp_path))


def test_items_of_one_id_are_told_before_anything_is_scored(data, tmp_path):
    shutil.copytree(data / "vismin", tmp_path / "vismin")
    path = tmp_path / "vismin" / "test.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"VisMin: 2 items in .* have the id 'vismin/object/0'"):
        TASKS["vismin"].items(Source(tmp_path))


def texts_of_vismin(folder):
    return [item.texts for item in TASKS["vismin"].items(Source(folder))[""][::2]]


def test_vismin_texts_stand_as_the_solution_says_or_in_order(data, tmp_path):
    folder = tmp_path / "vismin"
    shutil.copytree(data / "vismin", folder)
    swapped, straight = ("red", "blue"), ("blue", "red")
    assert texts_of_vismin(tmp_path)[0] == swapped
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    (folder / "test.jsonl").write_text("".join(json.dumps(r | {"id": 7 + n}) + "\n" for n, r in enumerate(rows)))
    assert texts_of_vismin(tmp_path)[0] == swapped  # other numbers, the same rows
    (folder / "test.jsonl").write_text("".join(json.dumps(r | {"id": 7 + n}) + "\n" for n, r in enumerate(rows[1:])))
    with pytest.raises(ValueError, match="says nothing of VisMin item relation/7: it is of another version"):
        texts_of_vismin(tmp_path)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = (folder / "sim_solution.csv").read_text()
    (folder / "sim_solution.csv").write_text(said + said.splitlines()[-1] + "\n")
    with pytest.raises(ValueError, match="is a second one of relation 1"):
        texts_of_vismin(tmp_path)
    (folder / "sim_solution.csv").unlink()
    assert texts_of_vismin(tmp_path)[0] == straight
    (part, *_), _ = prepare(["vismin"], Source(tmp_path))
    assert "texts in the order of their images" in part.notes[0]


def test_files_that_the_datasets_library_writes_beside_rows_are_no_rows(data, tmp_path):
    shutil.copytree(data / "eqben", tmp_path / "eqben")
    (tmp_path / "eqben" / "eqben_subset_10percent_final.json").rename(tmp_path / "eqben" / "rows.json")
    for name in ("dataset_dict.json", "state.json", "dataset_info.json"):
        (tmp_path / "eqben" / name).write_text('{"splits": ["test"]}')
    assert len(TASKS["eqben"].items(Source(tmp_path))[""]) == 6


def test_pairs_of_two_types_are_refused(data, tmp_path):
    shutil.copytree(data / "mmvp", tmp_path / "mmvp")
    path = tmp_path / "mmvp" / "Questions.csv"
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([rows[0], *rows[2:4]]))
    with pytest.raises(ValueError, match=r"pair 0 .* is of two types"):
        TASKS["mmvp"].items(Source(tmp_path))
    path.write_text("".join(rows[:4]))
    with pytest.raises(ValueError, match="3 statements"):
        TASKS["mmvp"].items(Source(tmp_path))


def test_all_takes_what_is_there_and_says_what_is_not(data, tmp_path, capsys):
    for task in ("cola", "urban1k", "mmvp"):
        shutil.copytree(data / task, tmp_path / "data" / task)
    (tmp_path / "data" / "mmvp" / "Questions.csv").unlink()
    assert main(["--blind", "length", "--tasks", "all", "--data", str(tmp_path / "data"), "--out", str(tmp_path)]) == 0
    err = capsys.readouterr().err
    assert "skipped colorswap: Task 'colorswap' expects its annotations in" in err
    assert "skipped mmvp:" in err
    assert "lacks the file with the statements: expected Questions.csv" in err
    report = read_report(tmp_path / "zero_shot.json")
    assert {table.task for table in report.tables} == {"cola", "urban1k"}
    assert "skipped mmvp" in report.metadata
    assert (
        main(["--blind", "length", "--tasks", "all", "--data", str(tmp_path / "scores"), "--out", str(tmp_path)]) == 2
    )
    assert "holds no task that can be scored" in capsys.readouterr().err


def test_a_task_that_a_scorer_cannot_serve_is_skipped_by_all(data, tmp_path, capsys):
    ready, _ = prepare(["urban1k", "cola"], Source(data))

    class NoVectors(Colours):
        pass

    skipped = {}
    assert [part.task.name for part in evaluate(NoVectors(), ready, skipped=skipped)] == ["cola"]
    assert list(skipped) == ["urban1k test"]
    with pytest.raises(ValueError, match="ranks by embeddings"):
        evaluate(NoVectors(), ready)


def test_files_may_lie_a_folder_deeper_and_columns_be_written_otherwise(data, tmp_path):
    shutil.copytree(data / "spec", tmp_path / "spec" / "data")
    (tmp_path / "colorswap" / "data").mkdir(parents=True)
    rows = json.loads((data / "colorswap" / "test.json").read_text())
    others = {"caption_1": "Caption 1", "caption_2": "Caption 2", "image_1": "Image_1", "image_2": "IMAGE_2"}
    rows = [{others[name]: value for name, value in row.items()} for row in rows]
    (tmp_path / "colorswap" / "data" / "test.json").write_text(json.dumps(rows))
    shutil.copytree(data / "colorswap" / "images", tmp_path / "colorswap" / "images")
    found = tables(tmp_path, ColourScorer(), ["spec", "colorswap"])
    assert figures(found["spec i2t"])["mean of the sets"] == pytest.approx(5 / 6)
    assert figures(found["colorswap"])["group"] == pytest.approx(1 / 3)


def unsized(lines):
    """Lines that do not say how many texts and images an item has, as those of others."""
    return [{name: value for name, value in line.items() if name not in ("texts", "images")} for line in lines]


def test_lines_that_do_not_say_how_many_options_there_are_get_a_note(data, tmp_path, capsys):
    part = prepare(["crepe"], Source(data))[0][0]
    records = part.task.score(ConstantScorer(), part.items)
    for name, lines in (("ours", records), ("theirs", unsized(records))):
        write_scores(tmp_path / f"{name}.jsonl", lines)
        assert main(["--scores", str(tmp_path / f"{name}.jsonl")]) == 0
        assert ("do not say how many options" in capsys.readouterr().out.replace("\n", " ")) == (name == "theirs")


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("snare", lambda lines: lines[:1], "of its 3 texts with each of its 1 images; it has 1 of 3"),
        ("snare", lambda lines: unsized(lines[:1]), "has scores of 1 texts and 1 images only, too few for"),
        ("crepe", lambda lines: lines[:-1], "of its 2 texts with each of its 1 images; it has 1 of 2"),
        ("fgovd", lambda lines: lines[:-1], "of its 3 texts with each of its 1 images; it has 2 of 3"),
        ("spec", lambda lines: lines[:-1], "of its 3 texts with each of its 1 images; it has 2 of 3"),
        ("hard_positives", lambda lines: lines[:2], "of its 3 texts with each of its 1 images; it has 2 of 3"),
        ("colorswap", lambda lines: lines[:2], "of its 2 texts with each of its 2 images; it has 2 of 4"),
        ("colorswap", lambda lines: lines[:1], "of its 2 texts with each of its 2 images; it has 1 of 4"),
        ("urban1k", lambda lines: [*lines, lines[0]], "comes twice in the scores"),
        ("classification", lambda lines: [*lines, lines[0]], "comes twice in the scores"),
    ],
)
def test_scores_that_lack_texts_or_come_twice_are_told(data, task, change, said):
    part = prepare([task], Source(data))[0][0]
    records = part.task.score(ConstantScorer(), part.items)
    part.task.tables(records, part.split)
    with pytest.raises(ValueError, match=said):
        part.task.tables(change(records), part.split)
