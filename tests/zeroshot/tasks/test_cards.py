"""The cards: complete, shown by the command, and the same in the documentation."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from relpretrain.zeroshot.command import cards, main
from relpretrain.zeroshot.report.published import published_line
from relpretrain.zeroshot.tasks import TASKS
from relpretrain.zeroshot.tasks.common.card import Card

DOCS = Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md"


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_complete_card(name):
    task = TASKS[name]
    assert task.card.task == task.name == name
    assert task.protocol == task.card.protocol
    assert re.match(r"[a-z0-9_]+-\d: ", task.protocol)
    for field in fields(Card):
        assert getattr(task.card, field.name) or field.name in ("versions", "downloads"), field.name


def test_the_documentation_has_the_cards_as_they_are():
    text = DOCS.read_text(encoding="utf-8")
    begin, end = "<!-- cards: python benchmarks/zero_shot.py --card -->\n", "<!-- end of cards -->"
    assert begin in text
    assert text.partition(begin)[2].partition(end)[0].strip() == cards(list(TASKS)).strip()


def test_the_command_lists_tasks_and_shows_cards(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TASKS)
    assert main(["--card", "aro"]) == 0
    shown = capsys.readouterr().out
    assert shown == TASKS["aro"].card.markdown() + published_line("aro")
    assert "visual_genome_relation.json" in shown
    assert "relation`: 23,937 items" in shown
    assert main(["--list", "--tasks", "cola", "aro"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["cola", "aro"]
    assert main(["--card"]) == 0
    assert capsys.readouterr().out == cards(list(TASKS))


def test_a_misspelt_task_gets_a_suggestion(capsys):
    for what in (["--card", "winogrund"], ["--list", "--tasks", "winogrund"], ["--card", "--tasks", "winogrund"]):
        assert main(what) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert "Unknown task 'winogrund'; did you mean 'winoground'?" in said.err
