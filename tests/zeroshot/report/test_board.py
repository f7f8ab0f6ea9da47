"""Result folders side by side, and the leaderboard file."""

import csv
import json
import re
from dataclasses import replace

import pytest

from relpretrain.zeroshot.analysis.statistics import compare_paired, holm
from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.report.board import Board, read_models
from relpretrain.zeroshot.results.board import all_figures, contests, models_of
from relpretrain.zeroshot.results.leaderboard import Figure, add_to_leaderboard, read_leaderboard
from relpretrain.zeroshot.results.scores import write_scores
from relpretrain.zeroshot.tasks import TASKS


def lines(right):
    """COLA scores of which these items are right; items 2k and 2k + 1 share an image."""
    rows = []
    for n, good in enumerate(right):
        for c in (0, 1):
            for i in (0, 1):
                score = float((c == i) == good)
                record = {"label": f"cola/{n}_c{c}_i{i}", "score": score, "task": "cola", "option": f"c{c}_i{i}"}
                rows.append(record | {"id": f"cola/{n}", "image": f"{n // 2}.jpg" if i == 0 else f"x{n}.jpg"})
    return rows


MODELS = {
    "good": [True] * 20,
    "middling": [True] * 12 + [False] * 8,
    "poor": [False] * 16 + [True] * 4,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("board")
    for name, right in MODELS.items():
        write_scores(root / f"{name}.jsonl", lines(right))
        assert main(["--scores", str(root / f"{name}.jsonl"), "--out", str(root / name)]) == 0
    return root


def board(folders, names=("poor", "good", "middling")):
    return contests(read_models([folders / name for name in names]))


def test_models_are_sorted_and_tested_against_the_best(folders):
    (contest,) = [c for c in board(folders) if c.title == "cola"]
    assert [entry.model for entry in contest.entries] == ["good", "middling", "poor"]
    assert contest.columns == ("image", "group", "text", "GroupMatch")
    assert contest.entries[0].test is None
    clusters = [n // 2 for n in range(20)]
    found = [compare_paired(MODELS["good"], MODELS[name], clusters=clusters) for name in ("middling", "poor")]
    assert [entry.test.paired for entry in contest.entries[1:]] == found
    assert [entry.p for entry in contest.entries[1:]] == holm([paired.p_value for paired in found])
    assert (
        "compared item by item with good on 'image'; p: McNemar by images, corrected for 2 models (Holm)"
        in contest.notes
    )


def test_other_data_is_a_contest_of_its_own(folders, tmp_path):
    write_scores(tmp_path / "fewer.jsonl", lines([True] * 6))
    assert main(["--scores", str(tmp_path / "fewer.jsonl"), "--out", str(tmp_path / "fewer")]) == 0
    found = contests([*read_models([folders / "good"]), *read_models([tmp_path / "fewer"])])
    assert sorted(c.n for c in found if c.title == "cola") == [6, 20]


def test_different_annotations_of_the_same_split_are_refused(folders):
    models = read_models([folders / "good", folders / "poor"])
    models = [replace(m, data=(("data cola", name * 8),)) for m, name in zip(models, "ab", strict=True)]
    with pytest.raises(ValueError, match=r"different annotations of cola .*aaaaaaaa and bbbbbbbb"):
        contests(models)


def test_others_add_rows_to_the_leaderboard(folders, tmp_path):
    path = tmp_path / "board.csv"
    figures = all_figures(read_models([folders / "good", folders / "poor"]))
    number = add_to_leaderboard(path, figures)
    assert number == len(figures) == len(read_leaderboard(path))
    assert read_leaderboard(path) == [replace(f) for f in figures]
    with path.open("a") as stream:
        stream.write("theirs,cola,,image,cola-1,,20,77.5,,,https://example.org\n")
    mine = replace(figures[0], value=12.0)
    again = [mine, *(figure for figure in figures[1:] if figure.head == mine.head)]
    assert add_to_leaderboard(path, again) == number + 1  # takes the place of the table of its key
    found = read_leaderboard(path)
    assert mine in found
    (contest,) = [c for c in contests([*read_models([folders / "middling"]), *models_of(found)]) if c.title == "cola"]
    assert [entry.model for entry in contest.entries] == ["theirs", "middling", "poor", "good"]
    assert contest.entries[0].table.notes == ("https://example.org",)


def test_a_table_takes_the_place_of_its_own_whatever_its_other_rows_count(tmp_path):
    """Rows on what a blind model gets wrong, or by images, may be of another number of items each time."""
    head = ("m", "cola", "further figures")

    def table(*rows):
        return [Figure(*head, name, "cola-1", "", n, value) for name, n, value in rows]

    path = tmp_path / "board.csv"
    add_to_leaderboard(path, table(("GroupMatch 2x2", 20, 50.0), ("not blind", 8, 25.0)))
    later = table(("GroupMatch 2x2", 20, 60.0), ("not blind", 7, 30.0))
    assert add_to_leaderboard(path, later) == 2
    assert [(f.category, f.n, f.value) for f in read_leaderboard(path)] == [(f.category, f.n, f.value) for f in later]
    assert [len(contest.columns) for contest in contests(models_of(later))] == [2]
    assert add_to_leaderboard(path, table(("GroupMatch 2x2", 19, 60.0), ("not blind", 7, 30.0))) == 4  # of other items


def test_two_runs_of_a_model_are_two_tables(folders, tmp_path):
    """On fewer items, as where images are missing: rows that have the same name are of different runs."""
    head = ("theirs", "valse", "")
    rows = [("overall", 70, 60.0), ("existence", 40, 61.0), ("overall", 69, 50.0), ("plurals", 29, 51.0)]
    figures = [Figure(*head, name, "valse-1", "", n, value) for name, n, value in rows]
    first, second = contests(models_of(figures))
    assert (first.n, second.n) == (70, 69)
    assert [(row.category, row.accuracy) for row in first.entries[0].table.rows] == [
        ("overall", 0.6), ("existence", 0.61)]  # fmt: skip
    assert [(row.category, row.accuracy) for row in second.entries[0].table.rows] == [
        ("overall", 0.5), ("plurals", 0.51)]  # fmt: skip


def test_less_is_better_where_that_is_the_figure():
    name = "items that equal scores decide"
    figures = [Figure(m, "valse", "further figures", name, "valse-1", "", 9, v) for m, v in (("a", 5.0), ("b", 1.0))]
    found = contests(models_of(figures))
    assert [entry.model for entry in found[0].entries] == ["b", "a"]
    assert Board(found).models == ["b", "a"]


def test_figures_of_chosen_thresholds_are_not_tested_at_one_half(tmp_path, capsys):
    """Cosines have no 0.5 at all, and figures at a threshold are no figures at 0.5."""
    for name, calibrated in (("cosines", False), ("more cosines", False), ("itm", True), ("more itm", True)):
        lines = [{"label": n % 2, "relation": "in", "id": n, "score": (n % 7) / 9} for n in range(20)]
        write_scores(tmp_path / f"{name}.jsonl", lines if calibrated else [r | {"calibrated": False} for r in lines])
        arguments = ["--scores", str(tmp_path / f"{name}.jsonl"), "--threshold", "0.3"]
        assert main([*arguments, "--out", str(tmp_path / name)]) == 0
    for names in (("cosines", "more cosines"), ("itm", "more itm")):
        capsys.readouterr()
        assert main(["--side-by-side", *(str(tmp_path / name) for name in names)]) == 0
        said = capsys.readouterr().out
        assert "score files are decided by protocol vsr-1, these figures by vsr-1t" in said
        assert "to the best" not in said


def test_no_cell_of_the_leaderboard_is_a_formula(folders, tmp_path):
    path = tmp_path / "board.csv"
    (figure, *_) = all_figures(read_models([folders / "good"]))
    odd = replace(figure, model='=HYPERLINK("http://x","y")', version="@x", category="-1")
    add_to_leaderboard(path, [odd])
    with path.open(newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert read_leaderboard(path) == [odd]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("m,cola,,image,cola-1,,20,,,,", r"Row 2 of .*: value is in percent"),
        ("m,cola,,image,cola-1,,many,5,,,", "n, value, low and high are numbers"),
        ("m,cola,,image,cola-1,,20,0.5e3,,,", "0 to 100, not '0.5e3'"),
    ],
)
def test_rows_that_are_no_figures_are_named(tmp_path, row, message):
    names = ",".join(Figure.__dataclass_fields__)
    (tmp_path / "board.csv").write_text(f"{names}\n{row}\n")
    with pytest.raises(ValueError, match=message):
        read_leaderboard(tmp_path / "board.csv")
    (tmp_path / "short.csv").write_text("model,task\nm,cola\n")
    with pytest.raises(ValueError, match="lacks split, category, protocol, version, n, value"):
        read_leaderboard(tmp_path / "short.csv")


def test_one_command_writes_one_page(folders, tmp_path, capsys):
    shared = ["--side-by-side", *(str(folders / name) for name in MODELS), "--leaderboard", str(tmp_path / "b.csv")]
    assert main([*shared, "--add", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert shown.index("good") < shown.index("middling") < shown.index("poor")
    page = (tmp_path / "out" / "board.html").read_text()
    assert "3 models side by side" in page
    assert "<strong>100.00</strong>" in page
    assert page.count('<section id="contest-') == len(set(re.findall(r'href="#(contest-\d+)"', page)))
    state = json.loads((tmp_path / "out" / "board.json").read_text())
    assert [e["model"] for e in state["contests"][0]["entries"]] == ["good", "middling", "poor"]
    assert (tmp_path / "out" / "board.md").read_text().startswith("# Results side by side")
    assert main(["--leaderboard", str(tmp_path / "b.csv")]) == 0  # the file alone
    capsys.readouterr()
    for options, message in (
        (["--side-by-side", str(tmp_path)], "holds no zero_shot.json"),
        ([*shared, "--constant"], "leave the other modes out"),
        (["--side-by-side", str(folders / "good"), "--add"], "--add needs --leaderboard"),
        ([*shared, "--tasks", "vsr"], "There are no figures to show"),
    ):
        assert main(options) == 2
        assert message in capsys.readouterr().err


def test_published_rows_stand_among_the_models(tmp_path):
    rows = [
        {"id": n, "type": kind.split()[0], "subtype": kind.split()[1]}
        | dict.fromkeys(("text_score_i0", "text_score_i1", "image_score_c0", "image_score_c1"), str(n % 2 == 0))
        for kind, size in TASKS["bivlc"].card.versions[0].parts.items()
        for n in range(size)
    ]
    names = list(rows[0])
    text = [",".join(names), *(",".join(str(r[name]) for name in names) for r in rows)]
    (tmp_path / "half.csv").write_text("\n".join(text) + "\n")
    assert main(["--scores", str(tmp_path / "half.csv"), "--out", str(tmp_path / "half")]) == 0
    page = Board(contests(read_models([tmp_path / "half"]))).to_html()
    assert "Published figures among these" in page
    assert "CLIP TROHN-Img" in page
