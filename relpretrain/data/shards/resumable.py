"""Writing shards in a way that goes on after a kill."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from relpretrain.data.shards.writer import (
    ShardFile,
    check_names,
    check_writable,
    lock,
    publish,
    replaceable,
    write_atomically,
)
from relpretrain.reading import read_json
from relpretrain.sources.common.dropped import Dropped

UNFINISHED = ".unfinished"


class ResumableWriter:
    """Write samples into numbered shards, in a way that goes on after a kill.

    A context manager. Finished shards wait in `.unfinished` inside the folder, with a journal of how far the input had
    been used when each was finished; a later writer with the same `arguments` takes them over, and the caller passes
    over `position` items of its input. `publish` gives the shards their place beside an `index.json`. Nothing but the
    journal decides what is finished, so that a kill at any moment loses no more than one shard's work.

    Args:
        folder: Where the shards go; made with the first sample.
        arguments: What the shards' content depends on, of plain types.
        samples_per_shard: Samples in every shard but the last.
        overwrite: Replace the folder's shards, and begin anew where other arguments were used before.

    Raises:
        ValueError: If the folder holds shards, or unfinished ones of other arguments, or another writer uses it.
    """

    def __init__(
        self, folder: Path, arguments: Mapping[str, Any], samples_per_shard: int = 1000, overwrite: bool = False
    ) -> None:
        self.folder = folder
        self.arguments = json.loads(json.dumps(dict(arguments)))
        self.samples_per_shard = samples_per_shard
        self.overwrite = overwrite
        self.position = 0
        self.dropped = Dropped()
        self.shards: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self._work = folder / UNFINISHED
        self._shard: ShardFile | None = None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> ResumableWriter:
        check_writable(self.folder)
        if (self.folder / "index.json").exists() and not self.overwrite:
            raise ValueError(f"--out {self.folder} holds shards already; choose another folder, or add --overwrite")
        if (self.folder / "index.json").exists():
            replaceable(self.folder)  # or tell at once that it is none
        if self._work.is_dir():
            try:
                self._acquire()
                self._take_over()
            except BaseException:
                self._release()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shard is not None:
            self._shard.discard()
        self._release()

    @property
    def samples(self) -> int:
        """Samples so far, the shard that is being written included."""
        finished = sum(int(shard["samples"]) for shard in self.shards)
        return finished + (len(self._shard) if self._shard is not None else 0)

    def add(self, sample: tuple[str, bytes, str, Mapping[str, Any]] | None, dropped: Mapping[str, int]) -> None:
        """Take what became of the next item of the input.

        Args:
            sample: Key, image, ending and record as `ShardWriter.write` takes them, or None.
            dropped: Counts what was left out of it, by reason, and may know where.
        """
        self.position += 1
        self.dropped.include(dropped)
        if sample is None:
            return
        with self._telling():
            if self._shard is None:
                self._begin()
                self._shard = ShardFile(self._work / f"shard-{len(self.shards):06d}.tar")
            self._shard.write(*sample)
            self.keys.add(sample[0])
            if len(self._shard) == self.samples_per_shard:
                self._close()

    def publish(self, extra: Mapping[str, Any]) -> None:
        """Finish: the last shard, all shards' names, and `index.json` with further entries."""
        with self._telling():
            self._close()
            publish(self._work, self.folder, self.shards, extra)
        shutil.rmtree(self._work, ignore_errors=True)

    def _begin(self) -> None:
        if self._lock is None:
            self._work.mkdir(parents=True, exist_ok=True)
            self._acquire()
            write_atomically(self._work / "arguments.json", json.dumps(self.arguments, indent=1).encode())

    def _close(self) -> None:
        if self._shard is None:
            return
        shard = self._shard.finish()
        entry = {"shard": shard, "position": self.position, "dropped": self.dropped}
        entry["examples"] = self.dropped.examples
        with (self._work / "journal.jsonl").open("ab") as file:
            file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.shards.append(shard)
        self._shard = None

    def _take_over(self) -> None:
        path = self._work / "arguments.json"
        old = read_json(path, "the arguments of an unfinished conversion") if path.exists() else self.arguments
        if not isinstance(old, dict):
            raise ValueError(f"{path} is damaged: remove {self._work}")
        journal = self._work / "journal.jsonl"
        if old != self.arguments:
            if not self.overwrite and journal.exists():  # with no finished shard there is nothing to lose
                different = sorted(n for n in {*old, *self.arguments} if old.get(n) != self.arguments.get(n))
                raise ValueError(
                    f"--out {self.folder} holds an unfinished conversion with other arguments or files "
                    f"({', '.join(different)}): repeat those to go on, or add --overwrite to begin anew"
                )
            self._release()
            shutil.rmtree(self._work)
            return
        lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # the line that a kill cut off: its shard is written again
            write_atomically(journal, b"".join(lines))
        for line in lines:
            try:
                entry = json.loads(line)
                shard, self.position = dict(entry["shard"]), int(entry["position"])
                self.dropped = Dropped(entry["dropped"], entry["examples"])
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ValueError(f"{journal} is damaged ({error!r:.80}): remove {self._work}") from None
            check_names(self._work, [shard])
            self.shards.append(shard)
            self.keys.update(_keys(self._place(shard)))

    def _place(self, shard: Mapping[str, Any]) -> Path:
        """Where a finished shard is: a kill while publishing leaves some in either place."""
        for folder in (self._work, self.folder):
            if (folder / shard["name"]).is_file():
                return folder / str(shard["name"])
        raise ValueError(f"{self._work} lacks {shard['name']}, which its journal lists: remove {self._work}")

    def _acquire(self) -> None:
        self._lock = lock(self._work / "lock", f"another process writes to {self.folder} at the moment")

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = f"{len(self.shards)} finished shard{'s' * (len(self.shards) != 1)} kept"
            remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "set this right"
            why = f"{error.strerror or error}; {kept}: {remedy}, then run the same command again to go on"
            raise OSError(error.errno, why, str(self.folder)) from error


def _keys(shard: Path) -> Iterator[str]:
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            if member.name.endswith(".json"):
                yield member.name.removesuffix(".json")
