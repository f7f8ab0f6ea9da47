"""Any number of result folders side by side: who is best at what, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relpretrain.zeroshot.analysis.statistics import holm
from relpretrain.zeroshot.analysis.table import LOWER_IS_BETTER, Row, Table
from relpretrain.zeroshot.results.comparison import ComparisonRow, compare
from relpretrain.zeroshot.results.leaderboard import Figure, figures_of, to_tables
from relpretrain.zeroshot.results.scores import read_scores, score_file_name
from relpretrain.zeroshot.results.versions import refuse_other_version
from relpretrain.zeroshot.tasks import TASKS
from relpretrain.zeroshot.tasks.common.source import Record


@dataclass(frozen=True)
class Model:
    """A model's results.

    Args:
        name: What it is called.
        tables: Its tables.
        folder: Where its score files are; None where only figures are known.
        data: The hash of the data of each split, as "data <task> <split>".
    """

    name: str
    tables: Sequence[Table]
    folder: Path | None = None
    data: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Entry:
    """A model on one table.

    Args:
        model: The model's name.
        table: Its table.
        test: Its outcomes against those of the best model, item by item; None of that itself, and without scores.
        p: The p-value of that, corrected for the number of models (Holm).
    """

    model: str
    table: Table
    test: ComparisonRow | None = None
    p: float | None = None

    @property
    def headline(self) -> Row:
        """The figure by which models are sorted."""
        return self.table.overall


@dataclass(frozen=True)
class Contest:
    """The models that have the same table: of one split, protocol, version and number of items.

    Args:
        task: Name of the task.
        split: Name of the split.
        protocol: Version of the protocol.
        version: Version of the data.
        n: Number of items.
        entries: The models, best first.
        notes: What a reader must know.
    """

    task: str
    split: str
    protocol: str
    version: str
    n: int
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Task and split."""
        return f"{self.task} {self.split}".strip()

    @property
    def columns(self) -> tuple[str, ...]:
        """The rows of the models' tables, in the order of the best one's."""
        return tuple(dict.fromkeys(row.category for entry in self.entries for row in entry.table.rows))


def contests(models: Sequence[Model], seed: int = 0) -> list[Contest]:
    """Sort models on every table that at least one of them has.

    Models are compared item by item with the best one of which the scores are known. Tables on other numbers of items
    or versions of data are contests of their own.

    Raises:
        ValueError: If two models of a contest were scored on different annotations.
    """
    found: dict[tuple[str, str, str, str, int], list[tuple[Model, Table]]] = {}
    for model in models:
        for table in model.tables:
            if table.rows and table.overall.accuracy == table.overall.accuracy:
                key = (table.task, table.split, table.protocol_name, table.version, table.overall.n)
                found.setdefault(key, []).append((model, table))
    return [_contest(*key, entered, seed) for key, entered in found.items()]


def _contest(
    task: str, split: str, protocol: str, version: str, n: int, entered: list[tuple[Model, Table]], seed: int
) -> Contest:
    ordered = sorted(entered, key=lambda pair: _place(pair[1].overall))
    head = (task, split, protocol, version, n)
    plain = tuple(Entry(model.name, table) for model, table in ordered)
    records = {model.name: lines for model, _ in ordered if (lines := _lines(model, task, split)) is not None}
    best = next((model for model, _ in ordered if model.name in records), None)
    if best is None or task not in TASKS or len(records) < 2:
        return Contest(*head, plain)
    decided = TASKS[task].protocol.partition(":")[0]
    if decided != protocol:  # such as by thresholds, which score files do not tell
        note = f"not compared item by item: score files are decided by protocol {decided}, these figures by {protocol}"
        return Contest(*head, plain, (note,))
    entries, tests = [], {}
    category = ordered[0][1].overall.category
    for model, table in ordered:
        if model is not best and model.name in records:
            _refuse_other_data(best, model, task, split)
            tests[model.name] = _test(task, category, best.name, model.name, records, seed)
        entries.append(Entry(model.name, table))
    adjusted = dict(zip(tests, holm([row.paired.p_value for row in tests.values()]), strict=True))
    entries = [replace(e, test=tests.get(e.model), p=adjusted.get(e.model)) for e in entries]
    asked = next(iter(tests.values())).category
    another = "" if asked == category else f", each item alike, and not on the headline {category!r}"
    note = f"compared item by item with {best.name} on {asked!r}{another}; p: McNemar by images, corrected for "
    note += f"{len(tests)} models (Holm)" if len(tests) > 1 else "nothing"
    return Contest(*head, tuple(entries), (note.removesuffix(", corrected for nothing"),))


def _place(row: Row) -> float:
    """What models are sorted by, the least first."""
    return row.accuracy if row.category in LOWER_IS_BETTER else -row.accuracy


def _lines(model: Model, task: str, split: str) -> list[Record] | None:
    path = None if model.folder is None else model.folder / "scores" / score_file_name(task, split)
    return read_scores(path) if path is not None and path.is_file() else None


def _test(
    task: str, category: str, best: str, other: str, records: dict[str, list[Record]], seed: int
) -> ComparisonRow:
    """The row of the headline in a comparison of a model with the best one, else the first row."""
    refuse_other_version(TASKS[task], (best, other), records[best], records[other])
    rows = compare(TASKS[task], records[best], records[other], (best, other), seed=seed, allow_missing=True).rows
    return next((row for row in rows if row.category == category), rows[0])


def _refuse_other_data(first: Model, second: Model, task: str, split: str) -> None:
    key = f"data {task} {split}".strip()
    a, b = (dict(model.data).get(key) for model in (first, second))
    if a and b and a != b:
        raise ValueError(f"{first.name} and {second.name} were made on different annotations of {task} {split} (hashes "
                         f"{a[:8]} and {b[:8]}): score both on the same.")  # fmt: skip


def models_of(figures: Sequence[Figure]) -> list[Model]:
    """The models of a leaderboard."""
    return [Model(name, tables) for name, tables in to_tables(figures).items()]


def all_figures(models: Sequence[Model]) -> list[Figure]:
    """The rows that models give a leaderboard."""
    return [figure for model in models for table in model.tables for figure in figures_of(model.name, table)]
