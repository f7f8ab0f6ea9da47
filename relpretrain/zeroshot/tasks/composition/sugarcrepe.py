"""SugarCrepe (Hsieh et al., NeurIPS 2023): does the caption match better than a hard negative that reads as well?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

from relpretrain.reading import read_json
from relpretrain.zeroshot.analysis.table import Part, Table, images_of, make_macro_row
from relpretrain.zeroshot.tasks.common.base import Item
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.choice import ChoiceTask
from relpretrain.zeroshot.tasks.common.source import Record, Source, find_files, require_texts

SIZES = {
    "replace_obj": 1652,
    "replace_att": 788,
    "replace_rel": 1406,
    "swap_obj": 245,
    "swap_att": 666,
    "add_obj": 2062,
    "add_att": 692,
}
"""Items of each file."""

CARD = Card(
    task="sugarcrepe",
    title="SugarCrepe",
    question="Does the caption match the image better than a hard negative that reads as well?",
    paper="Hsieh et al., NeurIPS 2023, <https://arxiv.org/abs/2306.14610>.",
    licence="annotations MIT; images under COCO's terms",
    files=tuple(f"`{name}.json`" for name in SIZES),
    source="the folder `data` of <https://github.com/RAIVNLab/sugar-crepe> (`data_unrefined` is not the benchmark)",
    images="COCO val2017",
    protocol="sugarcrepe-1: p(caption) > p(negative), ties wrong, accuracy per file",
    ties="wrong, and counted, as in the official code; clip_benchmark counts them as right",
    constant="0 %",
    comparable="the paper's accuracies per file",
    not_comparable="there is no official overall figure: the micro average over all items, the mean of the files and "
    "the means of Replace, Swap and Add are ours, as papers differ in what they average",
    versions=(Version("0047054", "", SIZES, "1d7ab8ab6b93819a"),),
    downloads={
        f"{n}.json": f"https://raw.githubusercontent.com/RAIVNLab/sugar-crepe/HEAD/data/{n}.json" for n in SIZES
    },
)


class SugarCrepe(ChoiceTask):
    """Pairwise ranking accuracy per file: P(match | caption) > P(match | negative), strictly."""

    name = "sugarcrepe"
    card = CARD
    protocol = CARD.protocol
    roles: tuple[str, ...] = ("caption", "negative_caption")
    part = "file"
    parts = tuple(SIZES)

    def items(self, source: Source) -> dict[str, list[Item]]:
        """The items of DIR/sugarcrepe/*.json, or those of an item file ("subset", "image" and the captions)."""
        if source.is_item_file:
            listed = source.listed_items(self.name)
            return {"": [self._item("", str(n), r, "image", source.path) for n, r in enumerate(listed)]}
        items = []
        for name, path in find_files(source, self.name, self._names)[0].items():
            items += [self._item(name, key, record, "filename", path) for key, record in numbered(path)]
        return {"": items}

    def missing_files(self, source: Source) -> tuple[str, ...]:
        """A note on files that are not there."""
        return () if source.is_item_file else find_files(source, self.name, self._names)[1]

    @property
    def _names(self) -> dict[str, str]:
        return {name: f"{name}.json" for name in self.parts}

    def _item(self, file: str, key: str, record: Record, image: str, where: Any) -> Item:
        require_texts(record, (image, *self.roles), f"{self.card.title} item {key!r} of {where}")
        file = file or str(record.get("subset", ""))
        shared = {"task": self.name, "file": file}
        number = f"{file}/{key}"
        lines = tuple({"label": f"{number}_{role}", **shared, "option": role, "id": number} for role in self.roles)
        return Item(record[image], tuple(record[role] for role in self.roles), lines)

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """The table of `summarise`, and the averages that papers quote."""
        from relpretrain.zeroshot.analysis.decisions import choice_correct

        main = self.summarise(records, split)
        _, first, scores = self.grouped(records)
        right = choice_correct(scores, self.ties_win).tolist()
        files = [record["file"] for record in first]
        images = images_of(first)
        parts: dict[str, Part] = {}
        for name in dict.fromkeys(files):
            chosen = [file == name for file in files]
            parts[name] = (list(compress(right, chosen)), images and list(compress(images, chosen)))
        return (main, *self.averages(parts, split)) if len(parts) > 1 else (main,)

    def averages(self, parts: dict[str, Part], split: str) -> tuple[Table, ...]:
        """The plain means of the files' accuracies, over all and by kind.

        Args:
            parts: The outcomes and images of each file.
            split: Name of the split.
        """
        kinds = dict.fromkeys(name.split("_")[0] for name in self.ordered(list(parts)))
        rows = [make_macro_row(f"mean of {len(parts)} files", list(parts.values()))]
        rows += [make_macro_row(k, [part for n, part in parts.items() if n.split("_")[0] == k]) for k in kinds]
        note = "unofficial: plain means of the files' accuracies"
        return (Table(self.name, f"{split} averages".strip(), self.protocol, tuple(rows), (note,)),)


def numbered(path: Any) -> list[tuple[str, Record]]:
    """The items of a file with their keys: an object by key, whose keys may have gaps, or a list of items with "id".

    Raises:
        ValueError: If it is neither.
    """
    items = read_json(path, "annotations")
    if isinstance(items, dict):
        return list(items.items())
    if isinstance(items, list):
        return [(str(r.get("id", n) if isinstance(r, dict) else n), r) for n, r in enumerate(items)]
    raise ValueError(f"{path} holds no items: expected an object or a list.")
