"""Random hostile inputs; `python -m tests.fuzz` runs many more."""

from __future__ import annotations

import numpy as np
import pytest

from tests import fuzz


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return fuzz.Targets(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize(
    "name",
    [
        "record",
        "graph",
        "mirror",
        "tar",
        "table",
        "json lines",
        "json items",
        "descriptor",
        "items",
        "leaderboard",
        "report",
    ],
)
def test_only_documented_errors_come_out(targets, name):
    ends = {targets.run(name, np.random.default_rng([1, number])) for number in range(250)}
    assert "read" in ends  # not all are refused at the door
    assert len(ends) > 1


@pytest.mark.parametrize("name", ["tokens", "caption", "graph text", "row table"])
def test_texts_of_any_length_become_tokens_and_broken_tables_are_made_again(targets, name):
    assert {targets.run(name, np.random.default_rng([1, number])) for number in range(60)} == {"read"}


def test_score_files_end_in_a_report_or_in_a_line(targets):
    ends = {targets.run("scores", np.random.default_rng([1, number])) for number in range(40)}  # each takes its time
    assert ends == {"read", "ValueError"}


def test_every_reader_is_named(targets):
    assert len(targets.all) == 16


def test_what_is_not_documented_is_told(monkeypatch):
    monkeypatch.setattr(fuzz, "mirror_relation", lambda text: {}[text])
    with pytest.raises(AssertionError, match=r"mirror, seed .*KeyError"):
        fuzz.run(2000)
