"""VSR (Liu et al., TACL 2023): is the spatial relation that a text states true of the image?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from relpretrain.zeroshot.decisions import auroc, calibration_error, threshold_correct
from relpretrain.zeroshot.table import OVERALL, Table, make_row
from relpretrain.zeroshot.tasks.base import Item, Outcome, PairTask, Record, Source, require, suggest

CATEGORIES = {
    "Adjacency": "adjacent to, alongside, at the side of, at the right side of, at the left side of, attached to, "
    "at the back of, ahead of, against, at the edge of",
    "Directional": "off, past, toward, down, deep down, up, away from, along, around, from, into, to, across, "
    "across from, through, down from",
    "Orientation": "facing, facing away from, parallel to, perpendicular to",
    "Projective": "on top of, beneath, beside, behind, left of, right of, under, in front of, below, above, over, "
    "in the middle of",
    "Proximity": "by, close to, near, far from, far away from",
    "Topological": "connected to, detached from, has as a part, part of, contains, within, at, on, in, with, "
    "surrounding, consists of, out of, between, inside, outside, touching",
    "Unallocated": "beyond, next to, opposite to, after, among, enclosed by",
}
"""Relations by category. The official list has "among" twice; as in its code, the last mention counts."""

CATEGORY = {relation: name for name, relations in CATEGORIES.items() for relation in relations.split(", ")}
"""Category of each relation."""

PARTS = ("dev", "test")
_FOLDER_NAMES = {"random_old_v1": "random_v1", "random": "random_v2"}
_FIRST_VERSION_SIZES = {"dev": 1012, "test": 2024}  # of the preprint's random split, whatever its folder is called


class VSR(PairTask):
    """Accuracy of P(match) >= 0.5 against the label, over all items and per category of relations.

    There are two random splits: "random_v1", of the preprint, which published zero-shot results use, and "random_v2",
    of the TACL version. Figures on the two cannot be compared.
    """

    name = "vsr"
    protocol = "vsr-1: true if p(match) >= 0.5, micro average"

    def items(self, source: Source) -> dict[str, list[Item]]:
        """The items of DIR/vsr/<split>/{dev,test}.jsonl by "<split>/<part>", or those of an item file."""
        splits = self._listed(source) if source.is_item_file else self._annotated(source)
        return select_splits(splits, source.splits)

    def _annotated(self, source: Source) -> dict[str, list[Item]]:
        folder = source.folder(self.name)
        files = [
            path for split in sorted(folder.iterdir()) for part in PARTS if (path := split / f"{part}.jsonl").exists()
        ]
        if not files:
            raise ValueError(f"{folder} holds no VSR annotations (<split>/dev.jsonl or <split>/test.jsonl).")
        splits: dict[str, list[Item]] = {}
        for file in files:
            items = [_item(number, record) for number, record in enumerate(_records(file))]
            name = f"{_version(file, len(items))}/{file.stem}"
            if name in splits:
                raise ValueError(f"{file} and another file of {folder} both hold the VSR split {name}; keep one.")
            splits[name] = items
        return splits

    def _listed(self, source: Source) -> dict[str, list[Item]]:
        splits: dict[str, list[Item]] = {}
        for number, record in enumerate(source.listed_items(self.name)):
            _check(record, f"VSR item {number} of {source.path}")
            items = splits.setdefault("items", [])
            items.append(_item(len(items), record))
        return splits

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether the decision was right, by item number."""
        scores, labels = _tensors(records)
        correct = threshold_correct(scores, labels).tolist()
        categories = [CATEGORY.get(record["relation"], "") for record in records]
        return {r["id"]: Outcome(k, c) for r, k, c in zip(records, categories, correct, strict=True)}

    def summarise(self, records: Sequence[Record], split: str = "", seed: int = 0) -> Table:
        """Accuracy over all items and per category, with the share of true items, AUROC and calibration error."""
        scores, labels = _tensors(records)
        names = list(CATEGORIES)
        index = torch.tensor(
            [names.index(CATEGORY[r["relation"]]) if r["relation"] in CATEGORY else -1 for r in records]
        )
        right = threshold_correct(scores, labels)
        rows = []
        present = [(number, name) for number, name in enumerate(names) if (index == number).any()]
        for number, name in [(None, OVERALL), *present]:
            which = torch.ones_like(right) if number is None else index == number
            details = {
                "true": float(labels[which].double().mean()),
                "auroc": float(auroc(scores[which], labels[which])),
                "calibration_error": float(calibration_error(scores[which], labels[which])),
            }
            rows.append(make_row(name, int(which.sum()), int(right[which].sum()), seed, **details))
        unknown = sorted({r["relation"] for r in records if r["relation"] not in CATEGORY})
        notes = (f"relations without a category, counted overall only: {', '.join(unknown)}",) if unknown else ()
        return Table(self.name, split, self.protocol, tuple(rows), notes)


def select_splits(splits: dict[str, list[Any]], wanted: Sequence[str]) -> dict[str, list[Any]]:
    """The splits "<split>/<part>" whose whole name, split or part is wanted; all if none is.

    Raises:
        ValueError: If a wanted name fits none.
    """
    if not wanted:
        return splits
    for name in wanted:
        known = list(dict.fromkeys(n for split in splits for n in (split, *split.split("/"))))
        if name not in known:
            raise ValueError(suggest(name, known, "split"))
    return {name: items for name, items in splits.items() if {name, *name.split("/")} & set(wanted)}


def _version(file: Path, number: int) -> str:
    folder = file.parent.name
    if folder in _FOLDER_NAMES and number == _FIRST_VERSION_SIZES[file.stem]:
        return "random_v1"
    return _FOLDER_NAMES.get(folder, folder)


def _records(file: Path) -> Iterator[Record]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"Line {number} of {file} is not valid JSON: {error}") from error
            _check(record, f"Line {number} of {file}")
            yield record


def _check(record: Record, where: str) -> None:
    require(record, ("image", "caption", "label", "relation"), where)
    if record["label"] not in (0, 1):
        raise ValueError(f"{where}: the label must be 0 or 1, not {record['label']!r}.")


def _item(number: int, record: Record) -> Item:
    line = {"label": int(record["label"]), "relation": record["relation"], "id": number}
    return Item(record["image"], (record["caption"],), (line,))


def _tensors(records: Sequence[Record]) -> tuple[torch.Tensor, torch.Tensor]:
    seen: set[Any] = set()
    for record in records:
        require(record, ("id", "label", "relation", "score"), "A VSR score record")
        if record["id"] in seen:
            raise ValueError(f"VSR item {record['id']} has two scores.")
        seen.add(record["id"])
    scores = torch.tensor([record["score"] for record in records], dtype=torch.float64)
    return scores, torch.tensor([record["label"] for record in records])
