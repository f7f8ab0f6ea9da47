"""The report of a run: loss curves as a picture, the zero-shot table beside them, and what its data was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relpretrain.data.sampling.summary import RECORD
from relpretrain.inspect.run_report.curves import find_metrics, read_curves, summary
from relpretrain.inspect.run_report.groups import chances, read_settings, shared_chances
from relpretrain.inspect.run_report.page import render
from relpretrain.inspect.run_report.picture import plot_curves
from relpretrain.showing import markdown
from relpretrain.writing import write_text
from relpretrain.zeroshot.report.terminal import (
    JSON_NAME,
    Report,
    comparison_grid,
    markdown_table,
    read_report,
    table_grid,
)
from relpretrain.zeroshot.results.comparison import compare
from relpretrain.zeroshot.results.scores import read_scores, shared_files, split_of, task_of
from relpretrain.zeroshot.tasks import TASKS

PICTURE = "losses.png"
PAGE = "report.md"
HTML = "report.html"


def write_report(runs: Sequence[Path], out: Path, zero_shot: Sequence[Path] = ()) -> Path:
    """Write a report of one run, or of several beside each other.

    Args:
        runs: Folders of the runs, each with a metrics.csv somewhere below.
        out: Folder for `report.html`, and the same as `report.md` with `losses.png`.
        zero_shot: The runs' zero-shot results (JSON, or the folder it was written to); the newest below each run's
            folder if none is given. Two results with score files are compared item by item.

    Returns:
        Path of `report.md`.

    Raises:
        ValueError: If a run has no log, or something given is not what it should be.
    """
    names = _names(runs)
    logs = {name: find_metrics(run) for name, run in zip(names, runs, strict=True)}
    curves = {name: read_curves(log) for name, log in logs.items()}
    out.mkdir(parents=True, exist_ok=True)
    chance = shared_chances(curves, {name: chances(read_settings(log)) for name, log in logs.items()})
    plot_curves(curves, out / PICTURE, chance)
    tables, data = [], []
    parts = [f"# {markdown(' and '.join(names))}\n", f"![Logged values against steps]({PICTURE})\n"]
    results = _results(names, runs, zero_shot)
    for name, result in results:
        report = read_report(result)
        of = f"Zero-shot results of {name}" if name else str(result)
        title = f"# {markdown(of)}\n"
        tables.append((of.removeprefix("Zero-shot results of "), [table_grid(table) for table in report.tables]))
        parts.append(report.to_markdown().replace("# Zero-shot results\n", title, 1))
    if not results:
        parts.append("No zero-shot results.\n")
    if len(results) == 2 and all((result.parent / "scores").is_dir() for _, result in results):
        (one, first_result), (other, second_result) = results
        labels = (one, other) if one and other else ("first", "second")
        comparisons = []
        for first, second in shared_files(first_result.parent, second_result.parent):
            before, after = read_scores(first), read_scores(second)
            task = TASKS[task_of(before, first)]
            comparisons.append(compare(task, before, after, labels, split_of(first, task.name)))
        page = Report((), tuple(comparisons)).to_markdown()
        parts.append(page.replace("# Zero-shot results\n", "# Side by side\n", 1))
        tables.append(("side by side", [comparison_grid(comparison) for comparison in comparisons]))
    for name, run in zip(names, runs, strict=True):
        if (record := run / RECORD).is_file():
            told = record.read_text(encoding="utf-8").rstrip()
            data.append((name, told))
            told = told.replace("```", "'''")
            parts.append(f"# Data of {markdown(name)}\n\n```\n{told}\n```\n")
        header = ["logged value", "points", "first tenth", "last tenth"]
        parts += [f"# Logged values of {markdown(name)}\n", markdown_table(header, summary(curves[name]))]
    write_text(out / PAGE, "\n".join(parts))
    write_text(out / HTML, render(" and ".join(names), curves, chance, tables, data))
    return out / PAGE


def _names(runs: Sequence[Path]) -> list[str]:
    names = [run.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _results(names: Sequence[str], runs: Sequence[Path], given: Sequence[Path]) -> list[tuple[str, Path]]:
    """The zero-shot results, each with the name of its run; "" where it is not known whose they are."""
    if given:
        owners = names if len(names) == len(given) else [""] * len(given)
        return [(name, _json(path)) for name, path in zip(owners, given, strict=True)]
    found = [(name, _newest(run)) for name, run in zip(names, runs, strict=True)]
    return [(name, path) for name, path in found if path is not None]


def _newest(run: Path) -> Path | None:
    found = sorted(run.rglob(JSON_NAME), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def _json(path: Path) -> Path:
    return path / JSON_NAME if path.is_dir() else path
