"""VALSE (Parcalabescu et al., ACL 2022): does the caption match the image better than a foil of it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from relpretrain.zeroshot.decisions import count_by_category, pairwise_correct
from relpretrain.zeroshot.table import OVERALL, Table, make_row
from relpretrain.zeroshot.tasks.base import Item, Outcome, PairTask, Record, Source, read_json, require

PIECES = {
    "existence": "existence",
    "plurals": "plurality",
    "counting-hard": "counting",
    "counting-small-quant": "counting",
    "counting-adversarial": "counting",
    "relations": "relations",
    "action-replacement": "actions",
    "actant-swap": "actions",
    "coreference-standard": "coreference",
    "coreference-hard": "coreference",
    "foil-it": "foil-it",
}
"""The linguistic phenomenon that each instrument (annotation file) tests."""

MIN_VOTES = 2
"""Annotators, of three, who must have chosen the caption for an item to be valid."""


class VALSE(PairTask):
    """Pairwise ranking accuracy: P(match | caption) > P(match | foil), strictly.

    Items are numbered over all files in alphabetical order, and then those are dropped that fewer than two of three
    annotators confirmed. The overall figure is the micro average over all items, not a mean over instruments.
    """

    name = "valse"
    protocol = "valse-1: p(caption) > p(foil), ties wrong, micro average, items with at least 2 votes"

    def items(self, source: Source) -> dict[str, list[Item]]:
        """The valid items of DIR/valse/*.json, or all of an item file's."""
        listed = self._listed(source) if source.is_item_file else self._annotated(source)
        kept = [_item(number, instrument, image, record) for number, instrument, image, record in listed]
        if not kept:
            raise ValueError(f"No valid VALSE item in {source.path}.")
        return {"": kept}

    def _annotated(self, source: Source) -> Iterator[tuple[int, str, str, Record]]:
        folder = source.folder(self.name)
        files = sorted(folder.glob("*.json"))
        if not files:
            raise ValueError(f"{folder} holds no VALSE annotations (*.json).")
        number = -1
        for file in files:
            annotations = read_json(file)
            if not isinstance(annotations, dict):
                raise ValueError(f"{file} is not a VALSE file: expected an object of items by key.")
            for key, record in annotations.items():
                number += 1
                require(record, ("image_file", "caption", "foil", "mturk"), f"Item {key!r} of {file}")
                if record["mturk"]["caption"] >= MIN_VOTES:
                    yield number, file.stem, record["image_file"], record

    def _listed(self, source: Source) -> Iterator[tuple[int, str, str, Record]]:
        for number, record in enumerate(source.listed_items(self.name)):
            require(record, ("instrument", "image", "caption", "foil"), f"VALSE item {number} of {source.path}")
            yield number, record["instrument"], record["image"], record

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether the caption won, by item number."""
        numbers, instruments, captions, foils = _pairs(records)
        correct = pairwise_correct(captions, foils).tolist()
        return {n: Outcome(i, c) for n, i, c in zip(numbers, instruments, correct, strict=True)}

    def summarise(self, records: Sequence[Record], split: str = "", seed: int = 0) -> Table:
        """Accuracy over all items and per instrument, with ties."""
        _, instruments, captions, foils = _pairs(records)
        names = sorted(set(instruments), key=lambda n: (list(PIECES).index(n) if n in PIECES else len(PIECES), n))
        category = torch.tensor([names.index(instrument) for instrument in instruments])
        correct = pairwise_correct(captions, foils)
        hits = (torch.ones_like(correct), correct, captions == foils)
        counts = [count_by_category(hit, category, len(names)).tolist() for hit in hits]
        named = zip([*names, OVERALL], *counts, strict=True)
        rows = [make_row(name, n, right, seed, ties=ties, chance=0.5) for name, n, right, ties in named]
        return Table(self.name, split, self.protocol, (rows[-1], *rows[:-1]))


def _item(number: int, instrument: str, image: str, record: Record) -> Item:
    shared = {"instrument": instrument, "piece": PIECES.get(instrument, instrument)}
    caption = {"label": f"{number}_c", **shared, "type": "caption", "id": number}
    foil = {"label": f"{number}_f", **shared, "type": "foil", "id": number}
    return Item(image, (record["caption"], record["foil"]), (caption, foil))


def _pairs(records: Sequence[Record]) -> tuple[list[int], list[str], torch.Tensor, torch.Tensor]:
    """Numbers, instruments, caption scores and foil scores of the items, in the order of the records."""
    scores: dict[int, dict[str, float]] = {}
    instruments: dict[int, str] = {}
    for record in records:
        require(record, ("id", "type", "instrument", "score"), "A VALSE score record")
        sides = scores.setdefault(record["id"], {})
        if record["type"] in sides:
            raise ValueError(f"VALSE item {record['id']} has two scores for its {record['type']}.")
        sides[record["type"]] = record["score"]
        instruments[record["id"]] = record["instrument"]
    for number, sides in scores.items():
        if set(sides) != {"caption", "foil"}:
            raise ValueError(f"VALSE item {number} needs one score for its caption and one for its foil; "
                             f"it has: {', '.join(sides)}.")  # fmt: skip
    captions = torch.tensor([s["caption"] for s in scores.values()], dtype=torch.float64)
    foils = torch.tensor([s["foil"] for s in scores.values()], dtype=torch.float64)
    return list(scores), list(instruments.values()), captions, foils
