"""What'sUp (Kamath et al., EMNLP 2023): where is one thing in relation to another, and who sees it every time?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relpretrain.errors import counted
from relpretrain.reading import read_json
from relpretrain.zeroshot.analysis.table import Table, make_row
from relpretrain.zeroshot.tasks.common.base import Item
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.choice import ChoiceTask, Grouped, group
from relpretrain.zeroshot.tasks.common.source import Record, Source, find_files, list_of_texts, require, require_texts


@dataclass(frozen=True)
class Subset:
    """One of the six sets.

    Args:
        file: Its annotations.
        n: Number of items.
        options: Texts of an item, the right one first.
        opposites: The prepositions of controlled images in pairs of opposites; none where images are not controlled.
        image: The file of an image, from its number; not used where images are controlled.
    """

    file: str
    n: int
    options: int
    opposites: tuple[tuple[str, str], ...] = ()
    image: Callable[[Any], str] = str


SUBSETS = {
    "A": Subset("controlled_images_dataset.json", 412, 4, (("left", "right"), ("on", "under"))),
    "B": Subset("controlled_clevr_dataset.json", 408, 4, (("left", "right"), ("in-front", "behind"))),
    "coco_one": Subset("coco_qa_one_obj.json", 2247, 2, image=lambda n: f"val2017/{int(n):012d}.jpg"),
    "coco_two": Subset("coco_qa_two_obj.json", 440, 2, image=lambda n: f"val2017/{int(n):012d}.jpg"),
    "vg_one": Subset("vg_qa_one_obj.json", 1160, 2, image=lambda n: f"vg_images/{n}.jpg"),
    "vg_two": Subset("vg_qa_two_obj.json", 291, 2, image=lambda n: f"vg_images/{n}.jpg"),
}

CARD = Card(
    task="whatsup",
    title="What'sUp",
    question="Where is one thing in relation to another (on, under, left of, behind, ...)?",
    paper="Kamath et al., EMNLP 2023, <https://arxiv.org/abs/2310.19785>.",
    licence="annotations MIT; images of A and B by the authors, the others under the terms of COCO and Visual Genome",
    files=tuple(f"`{subset.file}`" for subset in SUBSETS.values()),
    source="the addresses in <https://github.com/amitakamath/whatsup_vlms> (Google Drive)",
    images="`controlled_images`, `controlled_clevr`, `val2017` (COCO), `vg_images` (GQA), of the same addresses",
    protocol="whatsup-1: argmax over 4 (A, B) or 2 texts, the right one first, so that a tie is right; individual; "
    "pairs (both of two opposites) and sets (all four) of the same two things",
    ties="right, as in the official code, and counted; `strict` is the accuracy with ties wrong",
    constant="100 %, and 0 % strict",
    comparable="individual, pair and set accuracy of the paper's Table 3",
    not_comparable="the means in the paper's Table 1, of A and B, of one and two objects; pair and set accuracy "
    "divide by the items over 2 and over 4, so that an incomplete set lowers them for good",
    versions=tuple(Version("7c1f255", name, {"": s.n}) for name, s in SUBSETS.items()),
)


class WhatsUp(ChoiceTask):
    """Individual accuracy by preposition, and for controlled images pair and set accuracy; a split for each set."""

    name = "whatsup"
    card = CARD
    protocol = CARD.protocol
    ties_win = True
    part = "preposition"

    def items(self, source: Source) -> dict[str, list[Item]]:
        """The items of each file of DIR/whatsup, a split each."""
        if source.is_item_file:
            raise ValueError(f"Task 'whatsup' reads a folder with the authors' files; {source.path} is a file.")
        found, _ = find_files(source, self.name, {name: subset.file for name, subset in SUBSETS.items()})
        splits = {}
        for name, path in found.items():
            rows = read_json(path, "annotations")
            if not isinstance(rows, list):
                raise ValueError(f"{path} is not a What'sUp file: expected a list of items.")
            splits[name] = [_item(name, n, row, f"Item {n} of {path}") for n, row in enumerate(rows)]
        return splits

    def missing_files(self, source: Source) -> tuple[str, ...]:
        """A note on files that are not there."""
        return find_files(source, self.name, {name: subset.file for name, subset in SUBSETS.items()})[1]

    def grouped(self, records: Sequence[Record]) -> Grouped:
        """The scores by item: four columns for A and B, two for the others."""
        for record in records:
            require(record, ("id", "option", "subset", self.part), "A What'sUp score record")
        names = {record["subset"] for record in records}
        if len(names) != 1 or not names <= set(SUBSETS):
            raise ValueError(f"A What'sUp score file is of one of {', '.join(SUBSETS)}; this one of {sorted(names)}.")
        roles = [str(number) for number in range(SUBSETS[names.pop()].options)]
        return group(records, self.card.title, roles, lambda r: r["id"], lambda r: str(r["option"]))

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """Individual accuracy, overall and by preposition; below it, pairs and sets of controlled images."""
        from relpretrain.zeroshot.analysis.decisions import choice_correct

        grouped = self.grouped(records)
        subset = grouped.records[0]["subset"]
        rows = self.rows(grouped)
        right = choice_correct(grouped.scores, self.ties_win).tolist()
        notes: tuple[str, ...] = ()
        if SUBSETS[subset].opposites:
            pairs, sets = _pairs_and_sets(grouped.records, right, SUBSETS[subset].opposites)
            n = len(right)
            rows[1:1] = [make_row("pairs", n // 2, pairs), make_row("sets", n // 4, sets)]
            incomplete = _incomplete(grouped.records)
            if incomplete:
                notes = (f"pairs and sets that lack images count as wrong: {counted(incomplete, 'incomplete set')}",)
        return Table(self.name, split or subset, self.protocol, tuple(rows), notes)

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of items."""
        return {"": len({record["id"] for record in records})}


def _item(subset: str, number: int, row: Any, where: str) -> Item:
    kind = SUBSETS[subset]
    if kind.opposites:
        require(row, ("image_path", "caption_options"), where)
        require_texts(row, ("image_path",), where)
        image, texts = row["image_path"], list_of_texts(row["caption_options"], f"{where}: 'caption_options'")
        shared = {"preposition": _preposition(image), "things": _things(image)}
    else:
        if not isinstance(row, list) or len(row) != 1 + kind.options:
            raise ValueError(f"{where} must be a list of an image and {kind.options} texts, not {row!r}.")
        if not str(row[0]).isdecimal():
            raise ValueError(f"{where}: an image is a number, not {row[0]!r}.")
        image, texts = kind.image(row[0]), list_of_texts(row[1:], where)
        if not texts[0].strip():
            raise ValueError(f"{where}: the right text is empty.")
        shared = {"preposition": _stated(subset, texts[0])}
    if len(texts) != kind.options:
        raise ValueError(f"{where} has {len(texts)} texts instead of {kind.options}.")
    number_of = f"{subset}/{number}"
    line = {"task": "whatsup", "subset": subset, **shared}
    lines = ({"label": f"{number_of}_{n}", **line, "option": str(n), "id": number_of} for n in range(len(texts)))
    return Item(image, tuple(texts), tuple(lines))


def _preposition(image: str) -> str:
    """The preposition in the name of a controlled image, "<thing>_<preposition>_..._<thing>.jpeg"."""
    parts = image.rsplit("/", 1)[-1].split("_")
    if len(parts) < 3:
        raise ValueError(f"The image {image!r} is not called <thing>_<preposition>_<thing>.jpeg.")
    return parts[1]


def _things(image: str) -> str:
    """The two things in the name of a controlled image: what its set of four has in common."""
    parts = image.rsplit("/", 1)[-1].rsplit(".", 1)[0].split("_")
    return f"{parts[0]} {parts[-1]}"


def _stated(subset: str, text: str) -> str:
    """The preposition of the right text of a COCO or GQA item, as the official code finds it."""
    if subset.endswith("one"):
        return text.split()[-1]
    known = ("left of", "right of", "above", "below") if subset == "coco_two" else ("left of", "right of", "front of")
    named = next((word for word in known if word in text), None)
    if named is None:
        named = "behind" if "behind" in text else "top" if subset == "vg_two" else "below"
    return named.split()[0]


def _pairs_and_sets(
    records: Sequence[Record], right: Sequence[bool], opposites: Sequence[tuple[str, str]]
) -> tuple[int, int]:
    """How many pairs of opposites, and how many sets of four, are right altogether."""
    by_things: dict[str, dict[str, bool]] = {}
    for record, correct in zip(records, right, strict=True):
        by_things.setdefault(record["things"], {})[record["preposition"]] = correct
    pairs = sum(all(four.get(name, False) for name in pair) for four in by_things.values() for pair in opposites)
    return pairs, sum(sum(four.values()) == 4 for four in by_things.values())


def _incomplete(records: Sequence[Record]) -> int:
    """Number of sets that do not have four images."""
    return sum(number != 4 for number in Counter(record["things"] for record in records).values())
