"""The card of a task: what a reader of its figures must know, and which versions of its data are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Version:
    """A published version of a benchmark's data.

    Args:
        name: What it is called.
        split: The split that it describes.
        parts: Number of items by part (file, category of files); one part "" where a task has none.
        digest: `digest` of its items; "" where only the numbers are known.
    """

    name: str
    split: str
    parts: Mapping[str, int]
    digest: str = ""

    @property
    def n(self) -> int:
        """Number of items."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Card:
    """What a reader of a task's figures must know.

    Args:
        task: Name of the task, which is also the folder of its files.
        title: Name of the benchmark.
        question: What it asks.
        paper: Authors, venue and address.
        licence: Of the annotations, and of the images where that is known.
        files: What lies in the folder of the task, as its authors publish it.
        source: Where the files come from.
        images: Where the images come from.
        protocol: How an item is decided, in words, beginning with a version of ours such as "valse-1".
        ties: What equal scores mean.
        constant: What a model earns that gives every pair the same score.
        comparable: Which published figures these can be compared with.
        not_comparable: With which they cannot, and what else misleads.
        versions: Known versions of the data.
        downloads: Addresses of files that anybody may fetch, by the path below the task's folder.
    """

    task: str
    title: str
    question: str
    paper: str
    licence: str
    files: tuple[str, ...]
    source: str
    images: str
    protocol: str
    ties: str
    constant: str
    comparable: str
    not_comparable: str
    versions: tuple[Version, ...] = field(default=())
    downloads: Mapping[str, str] = field(default_factory=dict)

    def identify(self, split: str, parts: Mapping[str, int], found: str = "") -> str:
        """Name of the version of some data, "" if it is none that is known.

        Args:
            split: Name of the split, or "" where it is not known.
            parts: Number of items by part.
            found: `digest` of the items, or "" where only scores are at hand.
        """
        for version in self.versions:
            same = version.parts == dict(parts) and split in ("", version.split)
            if same and (not found or not version.digest or found == version.digest):
                return version.name
        return ""

    def markdown(self) -> str:
        """The card as a section of Markdown."""
        lines = [f"### {self.title} (`{self.task}`)", "", f"{self.question} {self.paper}", ""]
        shown = {
            "Protocol": self.protocol,
            "Ties": self.ties,
            "A constant scorer gets": self.constant,
            "Comparable": self.comparable,
            "Not comparable": self.not_comparable,
            "Files": "; ".join(self.files),
            "From": self.source,
            "Images": self.images,
            "Licence": self.licence,
            "Known versions": "; ".join(map(_describe, self.versions)) or "none",
        }
        return "\n".join([*lines, *(f"- **{name}**: {text}" for name, text in shown.items())]) + "\n"


def overview(tasks: Iterable[Any]) -> str:
    """A line per task: its name, benchmark and question."""
    width = max(len(task.card.task) for task in tasks)
    return "".join(f"{task.card.task:{width}}  {task.card.title}: {task.card.question}\n" for task in tasks)


def digest(items: Sequence[Any]) -> str:
    """First 16 characters of the SHA-256 of items' image names, texts and records, in their order."""
    state = hashlib.sha256()
    for item in items:
        state.update(json.dumps([item.image, item.texts, item.records, item.box], sort_keys=True).encode())
    return state.hexdigest()[:16]


def _describe(version: Version) -> str:
    parts = ", ".join(f"{name} {n:,}" for name, n in version.parts.items()) if len(version.parts) > 1 else ""
    where = " ".join(filter(None, (version.name, f"`{version.split}`" if version.split else "")))
    known = f"{where}: {version.n:,} items" + (f" ({parts})" if parts else "")
    return known + (f", digest `{version.digest}`" if version.digest else "")
