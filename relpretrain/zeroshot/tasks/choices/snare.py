"""SNARE (Wang et al., 2023): what a model takes from the order and the little words of ARO's texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relpretrain.errors import suggest
from relpretrain.zeroshot.analysis.rules import TEXT, Rule, recall, wins
from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.grid import GridTask, Puzzle
from relpretrain.zeroshot.tasks.common.rows import box_of, cell, find_file, image_cell, read_rows, text_cell
from relpretrain.zeroshot.tasks.common.source import Record, Source, list_of_texts, select_splits

_RELATIONS, _ATTRIBUTES = "visual_genome_relation.json", "visual_genome_attribution.json"
FILES = {
    "relation": _RELATIONS,
    "multi_spatial": _RELATIONS,
    "ownership": _ATTRIBUTES,
    "logic": _ATTRIBUTES,
}
SIDELESS = (
    *("near", "next to", "beside", "on the side of", "surrounding", "close to", "standing beside", "with", "by"),
)
"""Relations that stay true when subject and object are exchanged, which the relation probe leaves out."""

SPATIAL = ("to the left of", "to the right of", "on", "below")

_RULES: dict[str, tuple[Rule, ...]] = {
    "relation": (TEXT, wins("exchanged", 1), wins('"and"', 2)),
    "ownership": (TEXT, wins("exchanged", 1), wins("respectively", 2)),
    "logic": (TEXT, wins("negated", 1)),
    "multi_spatial": (recall(1), recall(2), recall(3)),
}

CARD = Card(
    task="snare",
    title="SNARE, the probes on Visual Genome",
    question="Which of ARO's texts does a model prefer: the true one, one with its parts exchanged, or one without "
    "relation?",
    paper="Wang et al., 2023, <https://arxiv.org/abs/2308.12898>.",
    licence="ARO's: code MIT; images and annotations Visual Genome, CC BY 4.0",
    files=(f"ARO's `{_RELATIONS}` and `{_ATTRIBUTES}`, here or in the folder `aro`",),
    source="<https://github.com/WangFei-2019/SNARE>, which reads ARO's files",
    images="Visual Genome, cut to each item's box",
    protocol="snare-1: shares of the items in which one text beats all others, ties count for none; relation: true, "
    'exchanged, "and" in place of the relation; ownership: true, exchanged, "respectively"; logic: true, negated; '
    "multi_spatial: rank of the true one of four relations",
    ties="for none of the texts",
    constant="0 % of all",
    comparable="shares of the best text (top-1) of the repository's relation, attribute and spatial probes",
    not_comparable="its probes on COCO and Flickr30K, whose shuffled texts are made by a tagger and are not "
    "published; in "
    'ownership the text with "respectively" is true as well, so that its share is no error',
    versions=(),
)


class SNARE(GridTask):
    """Shares of the best text, a split per probe."""

    card = CARD

    def __init__(self) -> None:
        super().__init__()
        self.several = True

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """The texts of each probe, made from ARO's items as the official code makes them."""
        folder = _folder(source)
        splits = {}
        for split, file in FILES.items():
            if not source.splits or split in source.splits:
                path = find_file(folder, (file,), f"the items of {split}")
                rows = ((key, row, f"Item {key} of {path}") for key, row in read_rows(path, "items"))
                splits[split] = [p for key, row, where in rows if (p := _puzzle(split, key, row, where)) is not None]
                if not splits[split]:
                    raise ValueError(f"{path} holds no item that {split} asks about.")
        return select_splits(splits, source.splits)

    def truth(self, record: Record) -> bool | None:
        """Of the first text; the third one of relation and ownership is not false either."""
        third = record["question"] in ("relation", "ownership") and str(record["option"]).startswith("c2_")
        return None if third else super().truth(record)

    def rules_of(self, records: Sequence[Record]) -> tuple[Rule, ...]:
        """The texts of the probe."""
        question = str(records[0].get("question"))
        if question not in _RULES:
            raise ValueError(f"Unknown question {question!r} of SNARE{suggest(question, _RULES)}")
        return _RULES[question]


def _folder(source: Source) -> Path:
    for name in ("snare", "aro"):
        try:
            return source.folder(name)
        except ValueError as error:
            missing = error
    raise missing


def _puzzle(split: str, key: str, row: Any, where: str) -> Puzzle | None:
    true, false = (text_cell(row, (name,), where) for name in ("true_caption", "false_caption"))
    if FILES[split] == _RELATIONS:
        relation = text_cell(row, ("relation_name",), where)
        if relation in SIDELESS or (split == "multi_spatial" and relation not in SPATIAL):
            return None
        texts: tuple[str, ...] = (true, false, true.replace(f"is {relation}", "and"))
        if split == "multi_spatial":
            texts = (true, *(true.replace(relation, other) for other in SPATIAL if other != relation))
    else:
        things = [text_cell(row, (name,), where) for name in ("obj1_name", "obj2_name")]
        first, second = things
        attributes = list_of_texts(cell(row, ("attributes",), where), f"{where}: 'attributes'")
        if len(attributes) < 2:
            raise ValueError(f"{where}: 'attributes' must be two texts, not {attributes!r:.80}.")
        one, two = attributes[:2]
        texts = (true, false, f"the {first} and the {second} are {one} and {two} respectively")
        if split == "logic":
            texts = (f"the {first} is {one} and the {second} is {two}",
                     f"the {first} is not {one} and the {second} is not {two}")  # fmt: skip
    box = box_of([cell(row, (f"bbox_{side}",), where) for side in "xywh"], where)
    image = image_cell(row, ("image_path",), where)
    return Puzzle(f"{split}/{key}", texts, (image,), box=box, more={"question": split})
