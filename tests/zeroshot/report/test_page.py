import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from relpretrain.zeroshot.analysis.table import Table, make_row
from relpretrain.zeroshot.command import main
from relpretrain.zeroshot.report.page import to_html
from relpretrain.zeroshot.report.plot import Axis, symmetric_axis
from relpretrain.zeroshot.report.terminal import Report
from relpretrain.zeroshot.results.comparison import compare
from relpretrain.zeroshot.results.items import Scored, disagreements, item_results
from relpretrain.zeroshot.results.scores import find_split, read_scores, write_scores
from relpretrain.zeroshot.tasks import TASKS, Source
from tests.zeroshot.helpers import ColourScorer, write_benchmarks, write_images

VALSE = TASKS["valse"]
VOID = {"meta", "img", "line", "circle", "br", "polyline"}


class Balanced(HTMLParser):
    """Follows the tags of a page, and notes what it loads from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.sources, self.ids, self.anchors = [], [], [], set(), set()
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [attrs[name] for name in ("src", "srcset", "data") if name in attrs]
        self.sources += [attrs["href"]] if tag == "link" else []
        self.ids |= {attrs["id"]} if "id" in attrs else set()
        self.anchors |= {attrs["href"][1:]} if tag == "a" else set()
        assert tag != "script"

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page_of(report, **options):
    text = to_html(report, **options)
    page = Balanced(text)
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "@import" not in text
    assert "url(" not in text
    assert page.anchors <= page.ids
    return text, page


def test_figures_plots_and_notes_are_on_the_page():
    rows = (make_row("overall", 7702, 5738, chance=0.5), make_row("a < b", 40, 10, chance=0.25), make_row("none", 0, 0))
    table = Table("valse", "", "valse-1: strict", rows, ("5 <lost>",))
    text, page = page_of(Report((table,), (), {"command": "zero_shot <x>"}))
    words = " ".join(page.text).replace("\N{NO-BREAK SPACE}", " ")
    assert all(
        part in words for part in ("74.50 %", "n = 7,702", "a < b", "25.00", "5 <lost>", "zero_shot <x>", "chance")
    )
    assert text.count('class="dot" cx="') == 3  # two rows with items, and the legend
    assert 'class="dot" cx="25.00%"' in text
    assert 'class="chance" x1="25.00%"' in text
    assert "prefers-color-scheme: dark" in text


def test_marks_lie_where_their_values_are():
    axis = Axis(-10, 30, (-10, 0, 30), "points", zero=True)
    assert [axis.place(value) for value in (5, 0, -10, 30, 99)] == ["37.50%", "25.00%", "0.00%", "100.00%", "100.00%"]


@pytest.mark.parametrize(("bound", "end"), [(0.5, 0.5), (1.1, 2), (4.9, 5), (26, 50), (51, 100), (0, 1)])
def test_an_axis_of_differences_is_round(bound, end):
    assert symmetric_axis(bound, "points") == Axis(-end, end, [-end, -end / 2, 0, end / 2, end], "points", zero=True)


@pytest.mark.realdata
def test_published_rows_stand_beside_ours(realdata):
    path = realdata / "golden_scores" / "VALSE" / "x-vlm_16m.jsonl"
    records = read_scores(path)
    split, _ = find_split(records, VALSE.items(Source(realdata)), path)
    table = VALSE.summarise(records, split)
    text, page = page_of(Report((table,)))
    words = " ".join(page.text)
    assert "all 12 figures equal those published for X-VLM-16M" in words
    assert "REX-VLM-13M" in words
    row = re.search(r'<tr class="ours">(.*?)</tr>', text, re.DOTALL)[1]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", row)[:3] == ["this model", "74.5", "83.6"]
    part = replace(table, rows=(make_row("overall", 45, 20),))
    assert "Published" not in " ".join(page_of(Report((part,)))[1].text)


@pytest.fixture
def two(tmp_path):
    """A comparison of a scorer that knows colours with its opposite, on three items with images."""
    data = write_benchmarks(tmp_path / "data")
    write_images(data / "images")
    source = Source(data)
    items, _ = VALSE.locate(VALSE.items(source)[""], source)
    first = VALSE.score(ColourScorer(), items)
    second = [{**record, "score": 1 - record["score"]} for record in first]
    results = [item_results(Scored(VALSE, "", records, items=items)) for records in (first, second)]
    comparison = compare(VALSE, first, second, ("knows", "does not"))
    return data, first, second, replace(comparison, disagreements=disagreements(*results, limit=2, seed=5))


def test_disagreements_are_shown_with_their_images(two):
    data, _, _, comparison = two
    _, page = page_of(Report((), (comparison,)), find=lambda name: data / "images" / name)
    words = " ".join(page.text)
    assert "Where the two disagree: 3 items" in words
    assert "knows alone is right on 3, does not alone on 0. 2 of them, drawn at random with seed 5" in words
    assert words.count("knows right") == words.count("does not wrong") == 2
    assert len(page.sources) == 2
    assert "(caption)" in words
    assert "(foil)" in words
    _, bare = page_of(Report((), (comparison,)))
    assert bare.sources == []


def test_the_command_needs_no_model_for_images(two, tmp_path):
    data, first, second, _ = two
    for name, records in (("a", first), ("b", second)):
        write_scores(tmp_path / name / "scores" / "valse.jsonl", records)
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["--compare", *folders, "--data", str(data), "--out", str(tmp_path / "c"), "--examples", "1"]) == 0
    page = Balanced((tmp_path / "c" / "zero_shot.html").read_text())
    assert len(page.sources) == 1
    scores = str(tmp_path / "a" / "scores" / "valse.jsonl")
    assert main(["--scores", scores, "--data", str(data), "--out", str(tmp_path / "a")]) == 0
    # Now a table of items lies beside the scores of one of the two.
    images = ["--images", str(data / "images")]
    assert main(["--compare", *folders, *images, "--out", str(tmp_path / "d")]) == 0
    page = Balanced((tmp_path / "d" / "zero_shot.html").read_text())
    assert len(page.sources) == 3
    assert any("a red thing" in text for text in page.text)


def test_a_page_says_of_which_model_it_is_and_rows_carry_the_names_of_their_columns():
    table = Table("valse", "", "valse-1: strict", (make_row("overall", 80, 51, chance=0.5),))
    text, page = page_of(Report((table,), (), {"model": "runs/<a>/last.ckpt"}))
    assert "<title>Zero-shot results of runs/&lt;a&gt;/last.ckpt</title>" in text
    assert '<td data-name="accuracy %">63.75</td>' in text
    assert "63.75 %" in " ".join(page.text)  # the headline has the decimals of the table
    assert "63.7 " not in " ".join(page.text)
    assert "<title>Zero-shot results</title>" in to_html(Report((table,)))


def test_a_file_that_is_no_image_costs_only_its_picture(two, tmp_path):
    _, _, _, comparison = two
    (tmp_path / "broken.png").write_text("<html>")
    _, page = page_of(Report((), (comparison,)), find=lambda name: tmp_path / "broken.png")
    assert page.sources == []


def test_no_line_end_divides_a_figure_from_its_name(two):
    _, _, _, comparison = two
    text, _ = page_of(Report((), (comparison,)))
    row = comparison.rows[0]
    assert f"n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{row.n}" in text
    assert f"McNemar\N{NO-BREAK SPACE}p\N{NO-BREAK SPACE}{row.paired.p_value:.2g}<" in text
    assert "p 0." not in text
