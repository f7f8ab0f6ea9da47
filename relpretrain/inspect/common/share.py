"""Surveys that tasks share: each looks at some shards and keeps what it finds, and merging puts all together."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from relpretrain.data.build.output import plain_options
from relpretrain.data.build.tasks import Parts, Task, is_merging, parts_of, stamp, task_of
from relpretrain.inspect.common.survey import CHUNK, Look, find_indexes, survey


class Share(NamedTuple):
    """What a command does of a survey that tasks share.

    Args:
        parts: Where tasks keep what they found.
        task: Whose shards are looked at; None puts what all tasks have found together.
        first: Number of the first shard.
    """

    parts: Parts
    task: Task | None
    first: int = 0


class Mergeable(Protocol):
    """What was found in some samples, that can be stored and put together."""

    def add(self, other: Any) -> None:
        """Append what was found in further samples."""

    def to_json(self) -> dict[str, Any]:
        """Plain types."""

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Mergeable:
        """What `to_json` made plain types of."""
        ...


def begin_share(args: argparse.Namespace, shards: Sequence[str], outputs: Sequence[Path | None]) -> Share | None:
    """What a command does of its survey: all of it (None), a task's share, or putting the shares together.

    Args:
        args: Its options.
        shards: All shards, as far as the command line names them.
        outputs: Files that it would write; work is kept beside the first.

    Raises:
        ValueError: If it names none, or the folder holds other work, or tasks have not finished.
    """
    task = task_of(args)
    if task is None and not is_merging(args):
        return None
    out = next((out for out in outputs if out is not None), None)
    if out is None:
        raise ValueError("tasks keep what they find beside the report: name --out")
    parts = parts_of(out, is_file=True)
    if task is None:
        parts.check_finished()
        return Share(parts, None)
    files = [str(path) for path in vars(args).values() if isinstance(path, Path) and path.is_file()]
    arguments = {"options": plain_options(args), "files": [stamp(place) for place in [*files, *shards]]}
    parts.begin(task, args.words, arguments)
    return Share(parts, task)


def end_share(share: Share | None) -> None:
    """Say that a task is done, or remove what tasks have kept when it is merged."""
    if share is None:
        return
    if share.task is None:
        share.parts.clear()
        return
    share.parts.mark(share.task)
    out = share.parts.folder.name.removesuffix(".tasks")
    print(f"task {share.task.number} of {share.task.total} is done; when all are: relpretrain data merge "
          f"{share.parts.folder.with_name(out)}")  # fmt: skip


def is_task(share: Share | None) -> bool:
    """Whether only a task's shards are looked at."""
    return share is not None and share.task is not None


def surveyed(
    share: Share | None, shards: Sequence[str], look: Look[Any], kind: type[Mergeable], workers: int = 1
) -> Iterator[Any]:
    """What is found in shards, in their order: by looking at them, or by what tasks have kept; nothing of a task.

    Args:
        share: What tasks do of it.
        shards: Paths or addresses.
        look: What is done with the rows of a shard, some at a time.
        kind: What it returns.
        workers: Processes; 1 reads in this one.

    Raises:
        ConfigError: If some shards cannot be read or are no tars; names all of them.
    """
    if share is None:
        yield from survey(shards, find_indexes(shards, workers), look, workers)
    elif share.task is None:
        yield from (kind.from_json(share.parts.read(share.first + number)) for number in range(len(shards)))
    else:
        _do(share.parts, share.task, share.first, shards, look, kind, workers)


def _do(
    parts: Parts, task: Task, first: int, shards: Sequence[str], look: Look[Any], kind: type[Mergeable], workers: int
) -> None:
    """Look at a task's shards, and keep what is found in each."""
    own = [number for number in range(len(shards)) if parts.wants(task, first + number)]
    indexes = find_indexes([shards[number] for number in own], workers)
    chunks = survey([shards[number] for number in own], indexes, look, workers)
    for number, index in zip(own, indexes, strict=True):
        found = kind()
        for _ in range(0, len(index), CHUNK):
            found.add(next(chunks))
        parts.store(first + number, found.to_json())
