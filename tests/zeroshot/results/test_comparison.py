import json
from pathlib import Path

import pytest

from relpretrain.zeroshot.analysis.statistics import holm
from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.results.comparison import compare
from relpretrain.zeroshot.results.scores import kept_names, read_scores, write_scores
from relpretrain.zeroshot.tasks import TASKS


@pytest.mark.realdata
def test_categories_are_corrected_together(realdata):
    folder = realdata / "golden_scores" / "VSR_random"
    first, second = (read_scores(folder / f"{name}_test.jsonl") for name in ("albef_14m", "x-vlm_16m"))
    result = compare(TASKS["vsr"], first, second, ("ALBEF", "X-VLM"))
    overall, *categories = result.rows
    assert overall.p_holm is None
    assert len(categories) == 7
    assert [row.p_holm for row in categories] == holm([row.paired.p_value for row in categories])
    assert all(row.p_holm >= row.paired.p_value for row in categories)
    assert result.notes == ("Holm p: McNemar p corrected for the 7 categories; overall is a test of its own",)
    assert [row["p_holm"] for row in result.to_dict()["rows"]] == [row.p_holm for row in result.rows]


@pytest.mark.realdata
def test_two_models_at_a_given_threshold(realdata, tmp_path, capsys):
    folder = realdata / "golden_scores" / "VSR_random"
    files = [str(folder / f"{name}_test.jsonl") for name in ("albef_14m", "x-vlm_16m")]
    rest = ["--data", str(realdata), "--out", str(tmp_path)]
    assert main(["--compare", *files, *rest, "--threshold", "0.3"]) == 0
    state = json.loads((tmp_path / "zero_shot.json").read_text())
    row = state["comparisons"][0]["rows"][0]
    for name, path in zip(("first", "second"), files, strict=True):
        records = read_scores(type(tmp_path)(path))
        assert row[name] == pytest.approx(sum((r["score"] >= 0.3) == r["label"] for r in records) / 2024)
    assert state["comparisons"][0]["notes"][0].startswith("protocol vsr-1t: true if the score >= 0.3 (given)")
    assert sum(key.startswith("scores ") for key in state["metadata"]) == 2
    assert row["paired"]["gained"] + row["paired"]["lost"] == sum(
        state["comparisons"][0]["disagreements"][side] for side in ("gained", "lost")
    )
    capsys.readouterr()
    assert main(["--compare", *files, *rest, "--threshold", "dev"]) == 2
    assert "--compare takes a number" in capsys.readouterr().err


def test_reports_of_scores_can_be_compared(tmp_path, capsys):
    """Two `--scores ... --out` folders, of score files with names of their own, as those of models can."""
    lines = [{"label": 1, "relation": "in", "id": n, "score": score} for n, score in enumerate((0.9, 0.2, 0.7))]
    write_scores(tmp_path / "first model.jsonl", lines)
    write_scores(tmp_path / "second.jsonl", [line | {"score": 1 - line["score"]} for line in lines])
    other = [{"label": f"{n}_{end}", "score": 0.5, "instrument": "plurals", "type": kind, "id": n}
             for n in (0, 1) for end, kind in (("c", "caption"), ("f", "foil"))]  # fmt: skip
    write_scores(tmp_path / "other.jsonl", other)
    for name in ("first model", "second", "other"):
        assert main(["--scores", str(tmp_path / f"{name}.jsonl"), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "first model" / "scores" / "vsr.jsonl").is_file()
    compared = ["--compare", str(tmp_path / "first model"), str(tmp_path / "second"), "--out", str(tmp_path / "c")]
    assert main(compared) == 0
    (comparison,) = json.loads((tmp_path / "c" / "zero_shot.json").read_text())["comparisons"]
    assert [comparison["rows"][0][name] for name in ("n", "first", "second")] == pytest.approx([3, 2 / 3, 1 / 3])
    capsys.readouterr()
    for folder, message in [
        ("other", "no score file in common: vsr in one, valse in the other. Score both on the same tasks"),
        ("nothing", "holds no scores"),
        ("second.jsonl", "is a folder and"),
    ]:
        (tmp_path / "nothing").mkdir(exist_ok=True)
        assert main(["--compare", str(tmp_path / "second"), str(tmp_path / folder)]) == 2
        assert message in capsys.readouterr().err


def test_several_files_of_one_task_keep_their_names():
    files = [(Path(f"{name}.jsonl"), "vsr", split) for name, split in (("a", ""), ("b", ""), ("c", "x/dev"))]
    assert kept_names(files) == ["vsr.a.jsonl", "vsr.b.jsonl", "vsr.x_dev.jsonl"]
    assert kept_names([(Path("scores/vsr.x_dev.jsonl"), "vsr", "")]) == ["vsr.x_dev.jsonl"]


def test_another_average_than_the_share_of_items_is_told():
    """SPEC's headline is the mean over its sets; a comparison counts items."""

    def lines(right):
        return [
            {"label": f"i2t/{name}/{n}_c{c}_i0", "score": float(good == (c == 0)), "task": "spec", "category": name,
             "direction": "i2t", "option": f"c{c}_i0", "id": f"i2t/{name}/{n}"}
            for name, goods in right.items() for n, good in enumerate(goods) for c in (0, 1)
        ]  # fmt: skip

    first = lines({"count": [True] * 8, "existence": [True, False]})
    second = lines({"count": [True] * 4 + [False] * 4, "existence": [True, True]})
    assert [TASKS["spec"].summarise(records).overall.value for records in (first, second)] == [0.75, 0.75]
    found = compare(TASKS["spec"], first, second, ("a", "b"))
    assert [found.rows[0].first, found.rows[0].second] == [0.9, 0.6]
    said = "the headline of SPEC is another average, 'mean of the sets': a 75.00, b 75.00"
    assert any(said in note for note in found.notes)
    # Of one item that the second lacks, the first one's answer does not count.
    found = compare(TASKS["spec"], lines({"count": [True, False], "existence": [True]}),
                    lines({"count": [True], "existence": [True]}), ("a", "b"), allow_missing=True)  # fmt: skip
    assert found.rows[0].n == 2
    assert any("'mean of the sets': a 100.00, b 100.00" in note for note in found.notes)


def test_the_other_average_of_shared_items_where_a_task_asks_several_questions():
    def lines(ranks):
        keys = [f"cosine_{way}_{what}" for way in ("text", "image") for what in ("rank", "tied")]
        return [{"label": f"{n}_{c}", "task": "coco_retrieval", "id": n, "caption": c}
                | {key: rank if key.endswith("rank") else 0 for key in keys}
                for (n, c), rank in ranks.items()]  # fmt: skip

    task, first = TASKS["coco_retrieval"], {(0, 0): 1, (0, 1): 1, (1, 0): 1, (2, 0): 20, (3, 0): 20}
    second = {(0, 0): 1, (0, 1): 1, (1, 0): 1, (2, 0): 1, (2, 1): 1}  # image 2 has another caption, image 3 is missing
    found = compare(task, lines(first), lines(second), ("a", "b"), allow_missing=True)
    assert any(note.endswith("'r_mean': a 100.00, b 100.00") for note in found.notes)
    nothing = compare(task, lines({(2, 0): 20}), lines({(2, 0): 1, (2, 1): 1}), ("a", "b"), allow_missing=True)
    assert not any("r_mean" in note for note in nothing.notes)  # no item is whole in both


def test_differences_are_clustered_by_the_images_of_the_lines():
    def lines(right, images):
        shared = {"instrument": "plurals", "piece": "plurality"}
        return [{"label": f"{n}_{kind[0]}", "score": float(r == (kind == "caption")), "type": kind, "id": n, **shared}
                | ({"image": images[n]} if images else {})
                for n, r in enumerate(right) for kind in ("caption", "foil")]  # fmt: skip

    first, second = [True] * 80, [n // 4 % 2 == 0 for n in range(80)]
    images = [f"{n // 4}.jpg" for n in range(80)]
    plain, clustered = (
        compare(TASKS["valse"], lines(first, of), lines(second, of), ("a", "b")).rows[0] for of in (None, images)
    )
    assert clustered.paired.high - clustered.paired.low > 1.7 * (plain.paired.high - plain.paired.low)
    # Published files name no images: those of the other file count, whichever comes first.
    for of in ((None, images), (images, None)):
        one = compare(TASKS["valse"], lines(first, of[0]), lines(second, of[1]), ("a", "b")).rows[0]
        assert one.paired == clustered.paired


def test_what_was_asked_in_different_ways_is_noted():
    def line(rank, **more):
        ranks = {f"cosine_{way}_{what}": rank for way in ("text", "image") for what in ("rank", "tied")}
        ranks |= {f"{way}_{what}": rank for way in ("text", "image") for what in ("rank", "tied")} if more else {}
        return [{"label": "0_0", "task": "coco_retrieval", "id": 0, "caption": 0, **ranks, **more}]

    task, names = TASKS["coco_retrieval"], ("a", "b")
    assert "re-ranked candidates: a 16, b none" in compare(task, line(1, k_test=16), line(1), names).notes
    assert "re-ranked candidates: a 16, b 256" in compare(task, line(1, k_test=16), line(1, k_test=256), names).notes
    same = compare(task, line(1, k_test=16), line(2, k_test=16), names)
    assert not any("re-ranked" in note for note in same.notes)


def test_tasks_choose_among_what_two_folders_have(tmp_path, capsys):
    lines = [{"label": 1, "relation": "in", "id": n, "score": score} for n, score in enumerate((0.9, 0.2))]
    for name in "ab":
        write_scores(tmp_path / name / "scores" / "vsr.jsonl", lines)
    folders = ["--compare", str(tmp_path / "a"), str(tmp_path / "b")]
    assert main([*folders, "--tasks", "winoground"]) == 2
    assert "have no scores of winoground in common: leave --tasks out" in capsys.readouterr().err
    for asked in (["--tasks", "all"], ["--tasks", "vsr"], []):
        assert main([*folders, *asked]) == 0
        assert "vsr: a and b" in capsys.readouterr().out
    assert main(["--scores", str(tmp_path / "a" / "scores" / "vsr.jsonl"), "--tasks", "all"]) == 0
