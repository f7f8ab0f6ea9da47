"""Annotations found by the names of samples, and what is said where the two are spelt differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from relpretrain.data.build.pack_sample import Located
from relpretrain.data.shards.writer import IMAGE_EXTENSIONS
from relpretrain.identity import number_of_bytes
from relpretrain.sources.common.dropped import EXAMPLES, note
from relpretrain.sources.common.files import Join


class NameJoin:
    """Annotations by name, on disk.

    Names match with and without the ending of an image file: "a.jpg" finds "a", unless there is an "a.jpg", and "a"
    finds the only one that has an ending; "a.jpg" and "a.png" are two, "a.jpg" and "a.JPG" are one.

    Args:
        annotations: Names and records.
        path: Where they come from, for errors.
        by: What the names are: "image_id", "key" or "url"; an address matches as it stands.
        options: Names of the options that say where they come from and what the names are, for errors.

    Attributes:
        met: Where it is a list, the names of annotations that are met go there, each with a number of its image.
    """

    def __init__(
        self,
        annotations: Iterable[tuple[str, Any]],
        path: Path,
        by: str,
        options: tuple[str, str] = ("--join", "--join-by"),
    ) -> None:
        self.told = f"{options[0]} {path}"
        self.option = options[1]
        self.by = by
        self.met: list[tuple[str, int]] | None = None
        self._join = Join()
        self._first: list[str] = []  # names, as examples of their spelling
        for name, record in annotations:
            self._join.add(self._plain(name), name, record)
            if len(self._first) < EXAMPLES:
                self._first.append(name)

    def check(self, names: Iterable[str]) -> None:
        """Look for a sample that has an annotation; ends with the first one.

        Raises:
            ValueError: If there is none.
        """
        shown: list[str] = []
        for name in names:
            if self._found(name)[1]:
                return
            if len(shown) < EXAMPLES:
                shown.append(name)
        theirs = f"that of the annotations {_quoted(self._first)}" if self._first else "the annotations have none"
        raise ValueError(
            f"{self.told} has an annotation for none of the samples: their {self.by} is {_quoted(shown)}, "
            f"{theirs}; {self.option} says what both share"
        )

    def of(self, sample: Located, name: str) -> list[dict[str, Any]]:
        """The annotations of a sample.

        Raises:
            ValueError: If they were those of another image before: two downloads may give out the same names.
        """
        own, records = self._found(name)
        if records:
            place = [str(sample.path), sample.key, sample.offsets[0], sample.sizes[0]]
            other = self._join.meet(self._plain(own), own, place)
            if other is not None and self.by != "url" and _image(other) != sample.read().image:
                raise ValueError(
                    f"the {self.by} {own!r} is that of two different images, {other[1]} of {other[0]} and "
                    f"{sample.key} of {sample.path}, and {self.told} cannot tell which one it means: take these "
                    f"shards one by one, or {self.option} url"
                )
        self._note_met(sample, own, records)
        return records

    def take_met(self) -> list[tuple[str, int]]:
        """The names met since the last time, each with a number of its image; kept once `met` is a list."""
        taken, self.met = self.met or [], []
        return taken

    def recall(self, name: str, image: int) -> bool:
        """Meet a name that a task has met, with the number of its image; returns whether it was met before.

        Raises:
            ValueError: If it was met with another image.
        """
        self._join.get(name)  # nothing is added any more
        before = self._join.meet(self._plain(name), name, image)
        if before not in (None, image):
            raise ValueError(
                f"the {self.by} {name!r} is that of two different images, and {self.told} cannot tell which one it "
                f"means: take these shards one by one, or {self.option} url"
            )
        return before is not None

    def find(self, sample: Located, name: str) -> list[dict[str, Any]]:
        """The annotations of a sample, which is noted in `met`; `recall` finds whether two images share a name."""
        own, records = self._found(name)
        self._note_met(sample, own, records)
        return records

    def counts(self) -> tuple[int, int]:
        """How many annotations there are, and how many names of images they have."""
        return self._join.counts()

    def note_unmet(self, dropped: Counter[str]) -> None:
        """Count the annotations that no sample had."""
        for _, name in self._join.unmet():
            note(dropped, "annotation_without_sample", repr(name))

    def _note_met(self, sample: Located, own: str, records: list[dict[str, Any]]) -> None:
        if records and self.met is not None:
            self.met.append((own, 0 if self.by == "url" else number_of_bytes(sample.read().image)))

    def _found(self, name: str) -> tuple[str, list[dict[str, Any]]]:
        """The annotations of a name, and how they spell it."""
        plain = self._plain(name)
        spelt = self._join.get(plain) if name else {}
        if name not in spelt:
            same = [other for other in spelt if other.lower() == name.lower()]  # "a.JPG" of "a.jpg"
            others = list(spelt) if name == plain else [plain]  # none of "a.jpg" and "a.png" is that of "a"
            (name,) = next((found for found in (same, others) if len(found) == 1), [name])
        return name, spelt.get(name, [])

    def _plain(self, name: str) -> str:
        stem, _, ending = name.rpartition(".")
        return stem if self.by != "url" and stem and ending.lower() in IMAGE_EXTENSIONS else name


def _image(place: tuple[str, str, int, int]) -> bytes:
    path, _, offset, size = place
    with Path(path).open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "absent"
