"""Score files: one JSON line per scored text, enough to compute every table again without the model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relpretrain.writing import write_text
from relpretrain.zeroshot.tasks import TASKS
from relpretrain.zeroshot.tasks.common.base import Item
from relpretrain.zeroshot.tasks.common.rows import read_rows
from relpretrain.zeroshot.tasks.common.source import Record, numbered_lines


class _Kind(NamedTuple):
    """What a value of a line may be.

    Args:
        said: In words.
        fits: Whether a value is so.
    """

    said: str
    fits: Callable[[Any], bool]


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**31


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


_TEXTS = "task subset category instrument piece type preposition relation by pairs question file set pos_triplet"
_TEXTS += " neg_triplet sentence things collapsed_tag corpus direction box option probe"
_COUNTS = "turn class best tied num_main_preds k_test cosine_text_rank cosine_text_tied cosine_image_rank"
_COUNTS += " cosine_image_tied text_rank text_tied image_rank image_tied"
_KINDS = {
    "score": _Kind("a finite number", _finite),
    **dict.fromkeys(
        ("id", "label", "caption"), _Kind("a text or a number", lambda v: isinstance(v, str | int | float))
    ),
    **dict.fromkeys(("image", "secondary_tag"), _Kind("a text or null", lambda v: v is None or isinstance(v, str))),
    **dict.fromkeys(_TEXTS.split(), _Kind("a text", lambda value: isinstance(value, str))),
    **dict.fromkeys(_COUNTS.split(), _Kind("a whole number from 0", _whole(0))),
    **dict.fromkeys(("classes", "templates", "choices", "texts", "images"), _Kind("a whole number from 1", _whole(1))),
    **dict.fromkeys(("rank", "free_rank"), _Kind("a whole number or null", lambda v: v is None or _whole(0)(v))),
}
"""By the name of a value."""


def score_file_name(task: str, split: str) -> str:
    """Name of the score file of a split, inside the folder `scores` of a report."""
    return re.sub(r"[^\w.-]", "_", f"{task}.{split}".strip(".")) + ".jsonl"


def split_of(path: Path, task: str) -> str:
    """The split in a name that `score_file_name` made."""
    return path.stem.removeprefix(task).strip(".")


def tell_apart(first: Path, second: Path) -> tuple[str, str]:
    """Short names of two paths: their last parts that differ, as "a" and "b" of runs/a/report and runs/b/report."""
    for a, b in zip(reversed(first.resolve().parts), reversed(second.resolve().parts), strict=False):
        if a != b:
            return a.removesuffix(".jsonl"), b.removesuffix(".jsonl")
    return str(first), str(second)


def models_of_files(paths: Sequence[Path], tasks: Sequence[str]) -> list[str]:
    """What the model of each score file is called: the report folder that it is in, so that its files are of one.

    A file that lies elsewhere, or whose name is not made by `score_file_name`, is a model of its own name.

    Args:
        paths: The files.
        tasks: The task of each.
    """
    homes = homes_of_files(paths, tasks)
    alike = Counter(home.name for home in dict.fromkeys(homes) if home is not None)
    return [
        path.stem if home is None else home.name if alike[home.name] == 1 else str(home)
        for path, home in zip(paths, homes, strict=True)
    ]


def homes_of_files(paths: Sequence[Path], tasks: Sequence[str]) -> list[Path | None]:
    """The report folder that each score file is in; None of one that lies elsewhere or is named otherwise."""
    homes = []
    for path, task in zip(paths, tasks, strict=True):
        place = path.resolve().parent
        made = place.name == "scores" and path.stem.partition(".")[0] == task
        homes.append(place.parent if made else None)
    return homes


def kept_names(files: Sequence[tuple[Path, str, str]]) -> list[str]:
    """What score files that were read are called in a report folder.

    A file is called as `score_file_name` has it. Where the split is not known, a name that was made so is kept; another
    is that of the task, or, where several files would be called so, has its old name behind that.

    Args:
        files: Path, task and split of each.
    """
    names = []
    for path, task, split in files:
        made = path.stem == task or path.stem.startswith(f"{task}.")
        names.append(path.name if made and not split else score_file_name(task, split))
    return [
        name if names.count(name) == 1 else score_file_name(task, path.stem.removeprefix(f"{task}."))
        for (path, task, _), name in zip(files, names, strict=True)
    ]


def shared_files(first: Path, second: Path) -> list[tuple[Path, Path]]:
    """The score files to compare: two files, or those that two report folders both have.

    Raises:
        ValueError: If two folders have none in common.
    """
    if missing := [path for path in (first, second) if not path.exists()]:
        raise ValueError(f"There is no score file or folder {missing[0]}.")
    if first.is_dir() != second.is_dir():
        folder, file = (first, second) if first.is_dir() else (second, first)
        raise ValueError(f"{folder} is a folder and {file} is not: compare two score files, or two --out folders.")
    if not first.is_dir():
        return [(first, second)]
    held = [{path.name: path for path in sorted((folder / "scores").glob("*.jsonl"))} for folder in (first, second)]
    for folder, files in zip((first, second), held, strict=True):
        if not files:
            raise ValueError(f"{folder} holds no scores (scores/*.jsonl): make it by --checkpoint or --scores with "
                             "--out.")  # fmt: skip
    names = [name for name in held[0] if name in held[1]]
    if not names:
        a, b = (", ".join(name.removesuffix(".jsonl") for name in files) for files in held)
        raise ValueError(f"{first} and {second} have no score file in common: {a} in one, {b} in the other. Score "
                         "both on the same tasks.")  # fmt: skip
    return [(held[0][name], held[1][name]) for name in names]


def write_scores(path: Path, records: Sequence[Record]) -> None:
    """Write a score file, in the form of the published files of fine-grained-evals."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def read_scores(path: Path) -> list[Record]:
    """Read a score file, or a CSV file of outcomes item by item, as BiVLC's authors publish them.

    Raises:
        ValueError: If it does not exist, is empty, a line is not a JSON object, or a value is of the wrong kind.
    """
    if not path.is_file():
        if path.is_dir():
            raise ValueError(
                f"{path} is a folder: name a score file, as those in the folder scores of an --out folder."
            )
        raise ValueError(f"There is no score file {path}.")
    if path.suffix == ".csv":
        return [{"id": int(key)} | _without_objects(row) for key, row in read_rows(path, "outcomes")]
    records: list[Record] = []
    for number, record in numbered_lines(path):
        for name, value in record.items():
            if name in _KINDS and not _KINDS[name].fits(value):
                raise ValueError(f"Line {number} of {path}: {name!r} must be {_KINDS[name].said}, not {value!r:.80}.")
        records.append({"id": len(records)} | record)
    if not records:
        raise ValueError(f"{path} holds no scores.")
    return records


def _without_objects(row: Record) -> Record:
    """A row without cells that only say that there was an object, "<PIL...>"."""
    return {name: value for name, value in row.items() if not str(value).startswith("<")}


def task_of(records: Sequence[Record], path: Path) -> str:
    """Name of the task whose scores these are.

    Raises:
        ValueError: If they look like no task's.
    """
    for name, task in TASKS.items():
        if task.recognises(records[0]):
            odd = next((n for n, record in enumerate(records, start=1) if not task.recognises(record)), None)
            if odd is not None:
                raise ValueError(f"{path} holds scores of {name}, but those of its line {odd} are of something else: "
                                 "give each task a file of its own.")  # fmt: skip
            return name
    raise ValueError(f"{path} is no score file of a known task: its lines have {', '.join(records[0])}.")


def find_split(
    records: Sequence[Record], splits: Mapping[str, Sequence[Item]], path: Path, allow_missing: bool = False
) -> tuple[str, tuple[str, ...]]:
    """Find the split that a score file is of, by comparing its lines with the annotations.

    Published files may lack keys that ours have, and number lines instead of items: where labels are texts, these say
    what a line is of.

    Args:
        records: The score file's lines.
        splits: The annotated items by split.
        path: The file, for messages.
        allow_missing: Whether items of the split may lack scores.

    Returns:
        Name of the split, and a note if items lack scores.

    Raises:
        ValueError: If the lines fit no split, or a part of one only.
    """
    task = TASKS[task_of(records, path)]
    pairs = [record for record in records if task.is_pair(record)]
    number = "id" if isinstance(records[0].get("label"), str) else ""
    candidates = {}
    for name, items in splits.items():
        expected = [record for item in items for record in item.records]
        keys = [key for key in sorted(expected[0]) if key == "label" or (key in records[0] and key != number)]
        wanted = {_signature(record, keys) for record in expected}
        if all(_signature(record, keys) in wanted for record in pairs):
            candidates[name] = len(expected)
    for name, size in sorted(candidates.items(), key=lambda candidate: candidate[1]):
        if len(pairs) >= size:
            return name, ()
        part = f"{path.name} has {len(pairs)} of the {size} scores of {name or 'the task'}"
        if allow_missing:
            return name, (part,)
        raise ValueError(f"{part}; --allow-missing accepts that.")
    sizes = ", ".join(f"{name or 'all'}: {sum(len(i.records) for i in items)}" for name, items in splits.items())
    raise ValueError(f"The {len(records)} scores of {path} belong to none of the annotated splits ({sizes}): their "
                     "labels or ids differ from the annotations.")  # fmt: skip


def complete(records: Sequence[Record], items: Sequence[Item]) -> list[Record]:
    """Give the lines of a published score file what the annotations say of them, such as Winoground's tags."""
    known = {record["label"]: record for item in items for record in item.records if isinstance(record["label"], str)}
    return [record | known.get(record["label"], {}) for record in records]


def _signature(record: Record, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(record.get(key) for key in keys)
