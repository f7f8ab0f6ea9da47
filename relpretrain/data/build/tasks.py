"""Work shared by tasks, such as those of a job array: task i of n does every n-th part, and `merge` joins all.

What a part gives depends on the part alone and is stored under its number. So the result is the same for any number of
tasks, and a task that was killed and starts again does only what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple

from relpretrain.data.shards.manifest import NAME
from relpretrain.data.shards.remote import is_remote, no_commands
from relpretrain.data.shards.writer import check_writable, lock, write_atomically
from relpretrain.reading import parse_json, read_json

PLAN = "plan.json"
_SHARED = ("index", "convert", "pack", "label", "join", "doctor", "audit")  # commands with --task


class Task(NamedTuple):
    """One of several tasks.

    Args:
        number: Which, from 0.
        total: How many there are.
    """

    number: int
    total: int

    def takes(self, part: int) -> bool:
        """Whether a part is this task's."""
        return part % self.total == self.number


def add_task(parser: argparse.ArgumentParser) -> None:
    """Add `--task` to a command; `task_of` reads it."""
    parser.add_argument(
        "--task", type=_task, metavar="I/N",
        help="do part of the work, as task I of N, I from 0; `relpretrain data merge OUT` joins them (default: the "
        "SLURM job array's, if this is a task of one; else everything)",
    )  # fmt: skip


def task_of(args: argparse.Namespace) -> Task | None:
    """The task that the options or a SLURM job array name; None where all is to be done, or to be merged.

    Raises:
        ValueError: If the array's numbers have gaps, so that they do not say which task this is.
    """
    if args.task is not None or is_merging(args):
        return None if is_merging(args) else args.task
    number, count = (os.environ.get(f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "COUNT"))
    if not number or not count:
        return None
    first, step = (int(os.environ.get(f"SLURM_ARRAY_TASK_{n}") or default) for n, default in (("MIN", 0), ("STEP", 1)))
    place, rest = divmod(int(number) - first, max(step, 1))
    if rest or not 0 <= place < int(count):
        raise ValueError(f"SLURM_ARRAY_TASK_ID={number} is not one of {count} in a row from {first}: name --task I/N")
    return Task(place, int(count))


def is_merging(args: argparse.Namespace) -> bool:
    """Whether the command is to join what its tasks have done."""
    return bool(getattr(args, "merging", False))


class Parts:
    """What the tasks of a command have done so far, a file for each part.

    Args:
        folder: Where it is kept, until everything is merged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: IO[bytes] | None = None

    def begin(
        self, task: Task, words: Sequence[str], arguments: Mapping[str, Any], overwrite: bool | None = None
    ) -> bool:
        """Take part; returns whether there is anything left to do for this task.

        Where tasks of another number, or with other arguments, have finished nothing and are not at work any more, as
        after a mistake that ended them, their plan gives way.

        Args:
            task: Which task this is.
            words: The command line, which `merge` repeats.
            arguments: What the parts depend on, of plain types.
            overwrite: Of a command that is alone here, its `--overwrite`: whether what others have finished gives way,
                too.

        Raises:
            ValueError: If other tasks have finished something or are at work, or this one runs already.
        """
        plan = {"total": task.total, "arguments": dict(arguments), "words": list(words), "folder": os.getcwd()}
        plan = parse_json(json.dumps(plan))
        place = self.folder / PLAN
        gives_way = place.exists() and self._gives_way(plan, bool(overwrite))
        if gives_way and overwrite:
            shutil.rmtree(self.folder)
        if gives_way or not place.exists():
            check_writable(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(place, json.dumps(plan, indent=1).encode())
        old = self.plan()
        remedy = "remove it" if overwrite is None else "add --overwrite"
        if (total := old["total"]) != task.total:
            raise ValueError(
                f"{self.folder} holds the work of {total} tasks, not of {task.total}: name --task I/{total}, or "
                f"{remedy} to begin anew"
            )
        if old["arguments"] != plan["arguments"]:
            of_both = {**old["arguments"], **plan["arguments"]}
            different = [n for n in of_both if old["arguments"].get(n) != plan["arguments"].get(n)]
            raise ValueError(
                f"{self.folder} holds work with other arguments or files ({', '.join(different)}): repeat those to go "
                f"on, or {remedy} to begin anew"
            )
        busy = f"another process does task {task.number}/{task.total} in {self.folder} at the moment"
        self._lock = lock(self.folder / f"task-{task.number}.lock", busy)
        return not self._marker(task).exists()

    def _gives_way(self, plan: Mapping[str, Any], overwrite: bool) -> bool:
        """Whether what is here is of another plan, of no use or to be overwritten, and nobody is at work on it."""
        old = self.plan()
        if all(old[name] == plan[name] for name in ("total", "arguments")):
            return False
        names = [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]
        finished = [name for name in names if name != PLAN and not name.endswith(".lock")]
        return (overwrite or not finished) and all(map(_is_free, self.folder.glob("task-*.lock")))

    def plan(self) -> dict[str, Any]:
        """What the first task said of all of them.

        Raises:
            ValueError: If none has begun.
        """
        plan = self._object(self.folder / PLAN, "the plan of a command's tasks")
        for name, kind in {"total": int, "arguments": dict, "words": list, "folder": str}.items():
            if not isinstance(plan.get(name), kind):
                raise ValueError(f"{self.folder / PLAN} is damaged (its {name!r}): remove {self.folder} to begin anew")
        return plan

    def place(self, part: int | str, ending: str = ".json") -> Path:
        """The file of a part, by its number, or of something else, by its name; one that exists is whole."""
        return self.folder / (f"part-{part:06d}{ending}" if isinstance(part, int) else f"{part}{ending}")

    def wants(self, task: Task, part: int) -> bool:
        """Whether a task still has to do a part."""
        return task.takes(part) and not self.place(part).exists()

    def store(self, part: int | str, content: Mapping[str, Any]) -> None:
        """Write the file of a part, or of something else."""
        write_atomically(self.place(part), json.dumps(content, ensure_ascii=False).encode())

    def mark(self, task: Task) -> None:
        """Say that a task has done all its parts."""
        self._marker(task).touch()

    def read(self, part: int | str) -> dict[str, Any]:
        """What `store` has written."""
        return self._object(self.place(part), "what a task has done")

    def stored(self) -> Iterator[dict[str, Any]]:
        """What all parts gave, in order; see `check_finished`."""
        self.check_finished()
        for place in sorted(self.folder.glob("part-*.json"), key=lambda place: int(place.stem[5:])):
            yield self.read(place.stem)

    def check_finished(self) -> None:
        """Check that all tasks are done.

        Raises:
            ValueError: If one is not; names all such.
        """
        total = self.plan()["total"]
        left = [f"{number}/{total}" for number in range(total) if not self._marker(Task(number, total)).exists()]
        if left:
            shown = ", ".join(left[:10]) + (", ..." if len(left) > 10 else "")
            raise ValueError(f"{len(left)} of {total} tasks have not finished: run --task {shown} again, then merge")

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _object(self, place: Path, what: str) -> dict[str, Any]:
        content = read_json(place, what)
        if not isinstance(content, dict):
            raise ValueError(f"{place} is damaged: remove {self.folder} to begin anew")
        return content

    def _marker(self, task: Task) -> Path:
        return self.folder / f"task-{task.number}-of-{task.total}.done"


def _is_free(path: Path) -> bool:
    """Whether nobody holds a lock."""
    try:
        lock(path, "").close()
    except ValueError:
        return False
    return True


def stamp(place: str | Path) -> list[Any]:
    """What tells whether a file is still the same, of plain types: its path, size and time; an address itself."""
    if is_remote(place):
        return [place]
    try:
        stat = os.stat(place)
        return [str(place), stat.st_size, stat.st_mtime_ns]
    except OSError:
        return [str(place)]  # whoever reads it says what is wrong


def parts_of(out: Path, is_file: bool) -> Parts:
    """Where the tasks that write to a file or folder keep their work."""
    return Parts(out.with_name(f"{out.name}.tasks") if is_file else out / ".tasks")


def add_merge(commands: Any, parse: Callable[[Sequence[str]], argparse.Namespace]) -> None:
    """Add `merge` to what `add_subparsers` returned.

    Args:
        commands: The commands of `relpretrain data`.
        parse: Makes the arguments of a command line of one of them.
    """
    merge = commands.add_parser(
        "merge",
        help="join what the tasks of index, convert, pack, label, join, doctor or audit have done",
        description="Join what the tasks of a command have done.",
    )
    merge.add_argument("out", type=Path, help="the --out of the tasks")
    merge.add_argument(
        "--pipes", action="store_true", help="run the `pipe:` commands, too, by which the tasks read their shards"
    )

    def run(args: argparse.Namespace) -> Any:
        found = [parts for parts in map(Parts, _kept_at(args.out)) if (parts.folder / PLAN).exists()]
        if not found:
            raise ValueError(f"{args.out} holds no work of tasks: name the --out that --task I/N was given with")
        plan = found[0].plan()
        kept, here = found[0].folder.resolve(), os.getcwd()
        if plan["words"][:1] not in ([name] for name in _SHARED):
            raise ValueError(f"{kept / PLAN} names no command that tasks share: {plan['words']!r:.80}")
        again = parse(plan["words"])
        again.words, again.merging = plan["words"], True
        os.chdir(plan["folder"])  # paths in the command line count from there
        try:
            if (told := getattr(again, "out", None)) is not None and kept not in _kept_at(told):
                raise ValueError(f"{kept / PLAN} is about {told}, not about {args.out}: it is not carried out")
            why = f"it is a command that {kept / PLAN} names: if all in there is yours, add --pipes"
            with nullcontext() if args.pipes else no_commands(why):
                return again.run_data(again)
        finally:
            os.chdir(here)

    merge.set_defaults(run_data=run)


def _kept_at(out: Path) -> list[Path]:
    """Where tasks with this --out may keep their work."""
    places = (parts_of(out, False), parts_of(out, True), parts_of(out / NAME, True))
    return [parts.folder.resolve() for parts in places]


def _task(text: str) -> Task:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 0 to N - 1, such as 0/8, got {text!r}")
    return Task(int(number), int(count))
