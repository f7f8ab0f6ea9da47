"""From annotations to tables: read and locate items, let a model score them, summarise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from relpretrain.distributed import rank
from relpretrain.errors import counted
from relpretrain.types import PairScorer
from relpretrain.zeroshot.analysis.table import Table
from relpretrain.zeroshot.report.terminal import hash_items
from relpretrain.zeroshot.results.items import Scored
from relpretrain.zeroshot.results.scores import score_file_name, write_scores
from relpretrain.zeroshot.results.versions import version_note, version_of_scores, version_of_source
from relpretrain.zeroshot.tasks import TASKS, Source, Task
from relpretrain.zeroshot.tasks.common.ahead import Ahead, View, looking_ahead
from relpretrain.zeroshot.tasks.common.base import PairTask
from relpretrain.zeroshot.tasks.common.shares import FailedTogether, exchange, share_limits, together
from relpretrain.zeroshot.tasks.common.source import Record


@dataclass(frozen=True)
class Ready:
    """A split whose items can be scored.

    Args:
        task: The task.
        split: Name of the split.
        items: Its items, located.
        notes: What was left out.
        version: Version of the data; "" where it is none that is known.
    """

    task: Task
    split: str
    items: list[Any]
    notes: tuple[str, ...]
    version: str = ""


def prepare(
    tasks: Sequence[str], source: Source, skipped: dict[str, str] | None = None
) -> tuple[list[Ready], dict[str, str]]:
    """Read the items of tasks and find their images: everything that can fail before a model is needed.

    Args:
        tasks: Names of tasks.
        source: Where their files are.
        skipped: Gets the reason why a task is left out; None to fail instead.

    Returns:
        The splits to score, and the hash of each one's data, as "data <task> <split>".
    """
    ready: list[Ready] = []
    hashes: dict[str, str] = {}
    for name in tasks:
        try:
            some, found = _prepare(name, source)
        except (ValueError, OSError) as error:
            if skipped is None:
                raise
            skipped[name] = " ".join(str(error).split()).partition(", but ")[0]
            continue
        ready += some
        hashes |= found
    return ready, hashes


def _prepare(name: str, source: Source) -> tuple[list[Ready], dict[str, str]]:
    task, ready, hashes = TASKS[name], [], {}
    for split, items in annotated(task, source).items():
        hashes[f"data {name} {split}".strip()] = hash_items({split: items})
        located, notes = task.locate(items, source)
        ready.append(Ready(task, split, located, notes, version_of_source(task, split, items, source)))
    return ready, hashes


def annotated(task: Task, source: Source) -> dict[str, list[Any]]:
    """The annotated items of a task by split, none of which is empty.

    Raises:
        ValueError: If a split has no items, naming where it should have, or as `Task.items` and `Task.check` do.
    """
    splits = task.items(source)
    for split, items in splits.items():
        if not items:
            place = source.path if source.is_item_file else source.folder(task.name)
            others = "; --split chooses others" if len(splits) > 1 else ""
            raise ValueError(
                f"{place} holds no items of {task.card.title}{f', split {split}' if split else ''}: a file of it is "
                f"empty. `relpretrain data fetch {task.name}` says where a whole one comes from{others}."
            )
        task.check(items)
    return splits


def evaluate(
    scorer: PairScorer, ready: Sequence[Ready], out: Path | None = None, skipped: dict[str, str] | None = None
) -> list[Scored]:
    """Score splits. What was scored is kept: a score file is left even when a later item fails.

    Several processes share the work, and each has all lines in the end; the first one writes them. Images that several
    splits ask about are encoded once, see `tasks.common.ahead`.

    Args:
        scorer: The model.
        ready: What to score, from `prepare`.
        out: Folder for the score files, or None.
        skipped: Gets the reason why a split is left out that cannot be scored; None to fail instead.

    Raises:
        ValueError: If an item cannot be scored; says where the scores of those before it are.
    """
    with looking_ahead(Ahead([_texts(part) for part in ready if scored_as_pairs(part.task)])):
        return list(_evaluate(scorer, ready, out, skipped))


def scored_as_pairs(task: Task) -> bool:
    """Whether a task is scored as pairs of an image and a text, and in no way of its own."""
    kinds = type(task).__mro__
    return isinstance(task, PairTask) and all("score" not in vars(kind) for kind in kinds[: kinds.index(PairTask)])


def _texts(part: Ready) -> dict[View, list[str]]:
    """The texts that a split asks of each of its images."""
    asked: dict[View, list[str]] = {}
    for item in part.items:
        asked.setdefault((item.image, item.box), []).extend(item.texts)
    return asked


def _evaluate(
    scorer: PairScorer, ready: Sequence[Ready], out: Path | None, skipped: dict[str, str] | None
) -> Iterator[Scored]:
    for part in ready:
        path = None if out is None or rank() else out / "scores" / score_file_name(part.task.name, part.split)
        try:
            with together():
                records = _score(scorer, part, path)
                share_limits(scorer)
        except ValueError as error:
            if skipped is None:
                raise
            skipped[f"{part.task.name} {part.split}".strip()] = " ".join(str(error).split())
            continue
        if path is not None:
            write_scores(path, records)
        notes = (*part.notes, *getattr(scorer, "notes", tuple)())
        yield Scored(part.task, part.split, records, notes, part.items, part.version)


def _score(scorer: PairScorer, part: Ready, path: Path | None) -> list[Record]:
    """The lines of a split."""
    done: list[Record] = []
    try:
        records = part.task.score(scorer, part.items, done)
    except (ValueError, OSError) as error:
        failure = ValueError(f"{error}{_keep(path, done)}")
        if not isinstance(error, FailedTogether):
            exchange(None, failure)
        raise failure from error
    except BaseException:
        _keep(path, done)
        raise
    exchange(None)
    return records


def _keep(path: Path | None, done: Sequence[Record]) -> str:
    """Write what was scored before a failure, and say so."""
    if path is None or not done:
        return ""
    write_scores(path, done)
    return f" What was scored before is in {path} ({counted(len(done), 'line')}); --scores makes its tables."


def summarise(scored: Sequence[Scored]) -> list[Table]:
    """The tables of scored splits."""
    tables = []
    for part in scored:
        version = part.version or ("" if part.items else version_of_scores(part.task, part.split, part.records))
        for table in part.task.tables(part.records, part.split):
            data = version_note(part.task, part.split, version, sum(part.task.count(part.records).values()))
            tables.append(replace(table, notes=(*table.notes, *part.notes, data), version=version))
    return tables + averages(scored)


@runtime_checkable
class Averaged(Task, Protocol):
    """A task whose authors average over its splits."""

    def split_of(self, records: Sequence[Record]) -> str:
        """The split that lines are of."""
        ...

    def across(self, parts: Mapping[str, Sequence[Record]]) -> tuple[Table, ...]:
        """The averages, from the lines of several splits."""
        ...


def averages(scored: Sequence[Scored]) -> list[Table]:
    """The tables over the splits of a task, of tasks whose authors average over them, by model."""
    found: dict[tuple[str, str], list[Scored]] = {}
    for part in scored:
        found.setdefault((part.model, part.task.name), []).append(part)
    tables: list[Table] = []
    for parts in found.values():
        task = parts[0].task
        if not isinstance(task, Averaged):
            continue
        splits = {part.split or task.split_of(part.records): part.records for part in parts}
        if len(splits) > 1:
            tables += task.across(splits)
    return tables
