"""VALSE (Parcalabescu et al., ACL 2022): does the caption match the image better than a foil of it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from relpretrain.reading import read_json
from relpretrain.zeroshot.tasks.common.base import Item
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.choice import ChoiceTask, Grouped, group
from relpretrain.zeroshot.tasks.common.source import Record, Source, require, require_numbers, require_texts

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

_VALID = {
    "actant-swap": 949,
    "action-replacement": 648,
    "coreference-hard": 104,
    "coreference-standard": 708,
    "counting-adversarial": 691,
    "counting-hard": 868,
    "counting-small-quant": 900,
    "existence": 505,
    "foil-it": 943,
    "plurals": 851,
    "relations": 535,
}

MIN_VOTES = 2
"""Annotators, of three, who must have chosen the caption for an item to be valid."""


CARD = Card(
    task="valse",
    title="VALSE",
    question="Does the caption match the image better than a foil of it?",
    paper="Parcalabescu et al., ACL 2022, <https://arxiv.org/abs/2112.07566>.",
    licence="annotations MIT; images under the terms of COCO, Visual Genome, SWiG and VisDial",
    files=tuple(f"`{name}.json`" for name in sorted(PIECES)),
    source="the folder `data` of <https://github.com/Heidelberg-NLP/VALSE>",
    images="COCO 2014 and 2017, Visual7W (of Visual Genome, `v7w_<id>.jpg`), SWiG, VisDial",
    protocol="valse-1: p(caption) > p(foil), ties wrong, micro average, items with at least 2 votes",
    ties="wrong, and counted",
    constant="0 %",
    comparable="`acc_r` of the paper and of fine-grained-evals, per file and on average",
    not_comparable="means over the files or the seven pieces, accuracies at the threshold 0.5, and all 8,782 items; "
    "scores of float32 probabilities tie more often than ours, which are of float64",
    versions=(Version("2152d90", "", _VALID, "8ee9cbd3124c44f7"),),
    downloads={
        f"{name}.json": f"https://raw.githubusercontent.com/Heidelberg-NLP/VALSE/HEAD/data/{name}.json"
        for name in sorted(PIECES)
    },
)


class VALSE(ChoiceTask):
    """Pairwise ranking accuracy: P(match | caption) > P(match | foil), strictly.

    Items are numbered over all files in alphabetical order, and then those are dropped that fewer than two of three
    annotators confirmed. The overall figure is the micro average over all items, not a mean over instruments.
    """

    name = "valse"
    card = CARD
    protocol = CARD.protocol
    part = "instrument"
    parts = tuple(PIECES)

    def recognises(self, record: Record) -> bool:
        """Whether a record names an instrument, as published score files do."""
        return "instrument" in record and "type" in record

    def items(self, source: Source) -> dict[str, list[Item]]:
        """The valid items of DIR/valse/*.json, or all of an item file's."""
        listed = self._listed(source) if source.is_item_file else self._annotated(source)
        kept = [_item(number, instrument, image, record) for number, instrument, image, record in listed]
        if not kept:
            raise ValueError(f"No valid VALSE item in {source.path}.")
        missing = _missing(kept)
        if missing and not source.allow_missing and not source.is_item_file:
            raise ValueError(f"{missing}; --allow-missing scores the others.")
        return {"": kept}

    def locate(self, items: Sequence[Item], source: Source) -> tuple[list[Item], tuple[str, ...]]:
        """Find the image of every item (see `Task.locate`), and name the files that are not there."""
        found, notes = super().locate(items, source)
        missing = "" if source.is_item_file else _missing(items)
        return found, (*notes, missing) if missing else notes

    def _annotated(self, source: Source) -> Iterator[tuple[int, str, str, Record]]:
        folder = source.folder(self.name)
        files = sorted(folder.glob("*.json"))
        if not files:
            raise ValueError(f"{folder} holds no VALSE annotations (*.json).")
        number = -1
        for file in files:
            annotations = read_json(file, "annotations")
            if not isinstance(annotations, dict):
                raise ValueError(f"{file} is not a VALSE file: expected an object of items by key.")
            for key, record in annotations.items():
                number += 1
                where = f"Item {key!r} of {file}"
                require(record, ("image_file", "caption", "foil", "mturk"), where)
                require_texts(record, ("image_file", "caption", "foil"), where)
                require_numbers(record["mturk"], ("caption",), f"{where}: 'mturk'")
                if record["mturk"]["caption"] >= MIN_VOTES:
                    yield number, file.stem, record["image_file"], record

    def _listed(self, source: Source) -> Iterator[tuple[int, str, str, Record]]:
        for number, record in enumerate(source.listed_items(self.name)):
            require_texts(record, ("instrument", "image", "caption", "foil"), f"VALSE item {number} of {source.path}")
            yield number, record["instrument"], record["image"], record

    def grouped(self, records: Sequence[Record]) -> Grouped:
        """The scores by item: its caption's and its foil's."""
        for record in records:
            require(record, ("id", "type", "instrument", "score"), "A VALSE score record")
        return group(records, "VALSE", self.roles, lambda r: r["id"], lambda r: str(r["type"]))


def _missing(items: Sequence[Item]) -> str:
    """What is missing of the published data, "" if nothing is or these are others."""
    counts = Counter(item.records[0]["instrument"] for item in items)
    missing = [name for name in PIECES if name not in counts]
    if not missing or all(counts[name] != _VALID.get(name) for name in counts):
        return ""
    names = ", ".join(f"{name}.json" for name in missing)
    return f"{len(missing)} of the {len(PIECES)} files of VALSE are not there ({names}): items are numbered anew"


def _item(number: int, instrument: str, image: str, record: Record) -> Item:
    shared = {"instrument": instrument, "piece": PIECES.get(instrument, instrument)}
    caption = {"label": f"{number}_c", **shared, "type": "caption", "id": number}
    foil = {"label": f"{number}_f", **shared, "type": "foil", "id": number}
    return Item(image, (record["caption"], record["foil"]), (caption, foil))
