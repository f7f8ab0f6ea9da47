"""Texts of others are shown as they are, and never do anything."""

import io

import pytest
from rich.console import Console

from relpretrain.inspect.common.tables import print_table
from relpretrain.showing import from_cell, markdown, to_cell, visible
from relpretrain.zeroshot.analysis.table import Row, Table
from relpretrain.zeroshot.report.terminal import Report, print_grids

ODD = ["[/x]", "run[lr=1e-4]", "[red]x", "[link=file:///]y[/link]"]


@pytest.mark.parametrize("text", ODD)
def test_brackets_are_no_markup_in_any_table(text, capsys):
    stream = io.StringIO()
    print_grids([(text, ["category", text], [[text, "1"]], (text,))], Console(file=stream))
    assert stream.getvalue().count(text) == 4
    print_table(text, ["name", text], [(text, 1)])
    assert capsys.readouterr().out.count(text) == 3


def test_brackets_are_no_markup_in_a_bar(monkeypatch):
    from relpretrain import progress

    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    bar = progress._make_bar()
    stream = io.StringIO()
    bar.add_task("reading [/x]", text="[/y]")
    Console(file=stream, width=140).print(bar.make_tasks_table(bar.tasks))
    assert "reading [/x]" in stream.getvalue()
    assert "[/y]" in stream.getvalue()


def test_control_characters_are_written_out(capsys):
    assert visible("a\x1b[2J\x9b1m\u202eb\r\ud83d\tc\nd") == "a\\x1b[2J\\x9b1m\\u202eb\\r\\ud83d\tc\nd"
    print_table("t\x1b]0;", ["name", "n"], [("\x1b[31m", 1)])
    print_grids([("t\x1b]0;", ["category"], [["\x1b[31m"]], ("\x1b[2J",))])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'=1", "''@x", "\n=1", "\uff1d1", "'plain", "a=1", "", "'"]
)
def test_cells_are_no_formulas_and_are_read_back(text):
    cell = to_cell(text)
    assert cell[:1] not in tuple("=+-@\t\r\n\uff1d")
    assert from_cell(cell) == text


def test_markdown_shows_html():
    text = "<img src=x onerror=alert(1)>|[a](javascript:b)`c`"
    assert markdown(text) == "&lt;img src=x onerror=alert(1)>\\|\\[a\\](javascript:b)\\`c\\`"
    assert markdown(r"\[a\](b)\|\`") == r"\\\[a\\\](b)\\\|\\\`"  # a mark of escape does not undo ours
    row = Row(text, 1, 1.0, 0.0, 1.0)
    table = Table("valse", text, "p", (row,), (text,))
    made = Report((table,), (), {"model": text}).to_markdown()
    assert "<img" not in made
    assert made.count("&lt;img") == 4


def test_a_label_of_megabytes_does_not_fill_the_terminal(capsys):
    print_table("t", ["name", "n"], [("word " * 1_000_000, 1)])
    print_grids([("t", ["category"], [["x" * 5_000_000]], ())], Console(width=100))
    assert len(capsys.readouterr().out) < 10_000
