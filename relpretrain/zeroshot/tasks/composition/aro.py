"""ARO (Yuksekgonul et al., ICLR 2023): do models see relations, attributes and the order of words?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from relpretrain.errors import counted
from relpretrain.reading import read_json
from relpretrain.zeroshot.analysis.table import Row, Table, images_of, make_macro_row
from relpretrain.zeroshot.tasks.common.base import Item, Outcome
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.choice import ChoiceTask, Grouped, group
from relpretrain.zeroshot.tasks.common.source import (
    Record,
    Source,
    find_files,
    list_of_texts,
    require,
    require_numbers,
    require_texts,
)
from relpretrain.zeroshot.tasks.composition.shuffles import Shuffler, clean, official_shuffler

EXCLUDED = frozenset(
    (
        "adjusting, around, attached to, beside, between, bigger than, biting, boarding, brushing, by, chewing, "
        "cleaning, climbing, close to, coming from, coming out of, contain, crossing, dragging, draped over, "
        "drinking, drinking from, driving, driving down, driving on, eating from, eating in, enclosing, exiting, "
        "facing, filled with, floating in, floating on, flying, flying above, flying in, flying over, flying through, "
        "full of, going down, going into, going through, grazing in, growing in, growing on, guiding, hanging from, "
        "hanging in, hanging off, hanging over, higher than, holding onto, hugging, in between, jumping off, jumping "
        "on, jumping over, kept in, larger than, leading, leaning over, leaving, licking, longer than, looking in, "
        "looking into, looking out, looking over, looking through, lying next to, lying on top of, making, mixed "
        "with, mounted on, moving, near, next to, of, on the back of, on the edge of, on the front of, on the other "
        "side of, on the side of, opening, painted on, parked at, parked beside, parked by, parked in, parked in "
        "front of, parked near, parked next to, perched on, petting, piled on, playing, playing in, playing on, "
        "playing with, pouring, reaching for, reading, reflected on, riding on, running in, running on, running "
        "through, seen through, sitting behind, sitting beside, sitting by, sitting in front of, sitting near, "
        "sitting next to, sitting under, skiing down, skiing on, sleeping in, sleeping on, smiling at, sniffing, "
        "splashing, sprinkled on, stacked on, standing against, standing around, standing behind, standing beside, "
        "standing in front of, standing near, standing next to, staring at, stuck in, surrounding, swimming in, "
        "swinging, talking to, topped with, touching, traveling down, traveling on, tying, typing on, underneath, "
        "wading in, waiting for, walking across, walking by, walking down, walking next to, walking through, with, "
        "working in, working on, worn on, wrapped around, wrapped in "
    )
    .strip()
    .split(", ")
)
"""The 157 relations that the authors' notebook drops before it takes the mean of VG-Relation."""

MIN_ITEMS = 25
"""Items that a pair of attributes must have for VG-Attribution's mean."""

MAX_WORDS = 30
"""Words of a text of the Order sets; the rest is cut off."""


@dataclass(frozen=True)
class Subset:
    """One of the four sets.

    Args:
        file: Its annotations.
        options: Texts of an item, the right one first.
        part: The key of an annotation that holds its category; "" where there are none.
        cases: For the Order sets, a file of ready-made cases that is used instead if it is there.
    """

    file: str
    options: int
    part: str = ""
    cases: str = ""


SUBSETS = {
    "relation": Subset("visual_genome_relation.json", 2, "relation_name"),
    "attribution": Subset("visual_genome_attribution.json", 2, "attributes"),
    "coco_order": Subset("coco_karpathy_test.json", 5, cases="coco_order.json"),
    "flickr30k_order": Subset("flickr30k_test.json", 5, cases="flickr30k_order.json"),
}

CARD = Card(
    task="aro",
    title="ARO",
    question="Does a model see who does what to whom, which attribute belongs to which thing, and the order of words?",
    paper="Yuksekgonul et al., ICLR 2023, <https://arxiv.org/abs/2210.01936>.",
    licence="annotations MIT; images under the terms of Visual Genome, COCO and Flickr30k",
    files=(
        *(f"`{subset.file}`" for subset in SUBSETS.values()),
        "optionally `coco_order.json` and `flickr30k_order.json`: ready-made cases, a list of "
        '`{"image", "caption_options": [the caption, four shuffles]}`',
    ),
    source="the addresses in <https://github.com/mertyg/vision-language-models-are-bows> (Google Drive; the captions "
    "of the Order sets from `storage.googleapis.com/sfr-vision-language-research/datasets`)",
    images="`images` (of GQA, 1 GB), COCO val2014, Flickr30k",
    protocol="aro-1: relation: accuracy per relation, mean over relations without the 157 of the notebook; "
    "attribution: per pair of attributes, mean over pairs with at least 25 items; both inside the item's box only; "
    "order: argmax over a caption and four shuffles, the authors' own cleaning, at most 30 words",
    ties="relation and attribution: wrong; order: right, and some shuffles equal the caption; all counted",
    constant="relation and attribution 0 %; order 100 %, and 0 % strict",
    comparable="the paper's macro accuracies of relation and attribution; its precision@1 of the Order sets up to "
    "the shuffles, which depend on the versions of spaCy and nltk",
    not_comparable="relation without the 157-name rule (what `main_aro.py` writes), micro averages; a model that sees "
    "no image solves the Order sets (SugarCrepe), so that they say little of vision",
    versions=(
        Version("81fdd20", "relation", {"": 23937}),
        Version("81fdd20", "attribution", {"": 28748}),
        Version("Karpathy test", "coco_order", {"": 25010}),
        Version("Karpathy test", "flickr30k_order", {"": 5000}),
    ),
)


class ARO(ChoiceTask):
    """A split for each of the four sets; each has its own headline figure and tie rule."""

    name = "aro"
    card = CARD
    protocol = CARD.protocol
    part = "category"

    def __init__(self, ties_win: bool = False) -> None:
        self.ties_win = ties_win

    def items(self, source: Source) -> dict[str, list[Item]]:
        """The items of each file of DIR/aro, a split each."""
        if source.is_item_file:
            raise ValueError(f"Task 'aro' reads a folder with the authors' files; {source.path} is a file.")
        return self._items(source, official_shuffler)

    def images(self, source: Source) -> dict[str, list[str]]:
        """The image of every item by set; any words will do, so that the Order sets need neither spaCy nor nltk."""
        plain = Shuffler(lambda text: [(word, "") for word in text.split()], str.split)
        return {name: [item.image for item in items] for name, items in self._items(source, lambda: plain).items()}

    def _items(self, source: Source, shuffler: Callable[[], Shuffler]) -> dict[str, list[Item]]:
        files, _ = find_files(source, self.name, self._names(source))
        return {name: _read(name, path, shuffler) for name, path in files.items()}

    def missing_files(self, source: Source) -> tuple[str, ...]:
        """A note on files that are not there."""
        return find_files(source, self.name, self._names(source))[1]

    @staticmethod
    def _names(source: Source) -> dict[str, str]:
        folder = source.folder("aro")
        return {n: s.cases if s.cases and (folder / s.cases).is_file() else s.file for n, s in SUBSETS.items()}

    def grouped(self, records: Sequence[Record]) -> Grouped:
        """The scores by item: two columns, or five for the Order sets."""
        for record in records:
            require(record, ("id", "option", "subset", self.part), "An ARO score record")
        names = {record["subset"] for record in records}
        if len(names) != 1 or not names <= set(SUBSETS):
            raise ValueError(f"An ARO score file is of one of {', '.join(SUBSETS)}; this one of {sorted(names)}.")
        name = names.pop()
        roles = [str(number) for number in range(SUBSETS[name].options)]
        return group(records, self.card.title, roles, lambda r: r["id"], lambda r: str(r["option"]))

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether the right text won, by item."""
        from relpretrain.zeroshot.analysis.decisions import choice_correct

        grouped = self.grouped(records)
        correct = choice_correct(grouped.scores, _ties_win(grouped)).tolist()
        rows = zip(grouped.keys, grouped.records, correct, strict=True)
        return {key: Outcome(self.category(record), right) for key, record, right in rows}

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """The set's headline figure, the share over all items, and the categories that the headline is a mean of."""
        from relpretrain.zeroshot.analysis.decisions import choice_correct

        grouped = self.grouped(records)
        subset = grouped.records[0]["subset"]
        ranked = ARO(ties_win=_ties_win(grouped))
        rows = ranked.rows(grouped)
        if SUBSETS[subset].part == "":
            return Table(self.name, split or subset, self.protocol, (rows[0],))
        kept, left = _counted(subset, rows[1:])
        right, images = choice_correct(grouped.scores, ranked.ties_win).tolist(), images_of(grouped.records)
        parts = []
        for row in kept:
            chosen = [self.category(record) == row.category for record in grouped.records]
            parts.append((list(compress(right, chosen)), images and list(compress(images, chosen))))
        headline = make_macro_row(f"mean of {counted(len(kept), *_NAMES[subset])}", parts)
        headline.details.update(ties=sum(r.details["ties"] for r in kept), chance=0.5)
        lost = sum(row.n for row in left)
        names = f"{counted(len(left), *_NAMES[subset])} with {counted(lost, 'item')}"
        notes = (f"not in the mean: {names} ({_REASON[subset]})",) if left else ()
        return Table(self.name, split or subset, self.protocol, (headline, *rows[:1], *kept), notes)

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of items."""
        return {"": len({record["id"] for record in records})}


_NAMES = {"relation": ("relation",), "attribution": ("pair of attributes", "pairs of attributes")}
_REASON = {"relation": "the 157 names", "attribution": f"fewer than {MIN_ITEMS} items"}


def order_cases(annotations: Sequence[Record], shuffler: Shuffler, where: str = "the captions") -> list[Record]:
    """The cases of an Order set: each caption cleaned, with its four shuffles.

    Args:
        annotations: Images with captions, as `coco_karpathy_test.json` has them.
        shuffler: Makes the shuffles.
        where: For messages.
    """
    cases = []
    for number, record in enumerate(annotations):
        require(record, ("image", "caption"), f"Image {number} of {where}")
        for caption in list_of_texts(record["caption"], f"Image {number} of {where}: 'caption'"):
            texts = [clean(text, MAX_WORDS) for text in (caption, *shuffler.all(caption))]
            cases.append({"image": record["image"], "caption_options": texts})
    return cases


def _ties_win(grouped: Grouped) -> bool:
    """The Order sets have the right text first in their argmax, the others last."""
    return SUBSETS[grouped.records[0]["subset"]].part == ""


def _counted(subset: str, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The categories that count for the headline, and the others."""
    if subset == "relation":
        kept = [row for row in rows if row.category not in EXCLUDED]
    else:
        kept = [row for row in rows if row.n >= MIN_ITEMS]
    return kept, [row for row in rows if row not in kept]


def _read(subset: str, path: Path, shuffler: Callable[[], Shuffler]) -> list[Item]:
    rows = read_json(path, "annotations")
    if not isinstance(rows, list):
        raise ValueError(f"{path} is not an ARO file: expected a list.")
    if SUBSETS[subset].part == "" and path.name == SUBSETS[subset].file:
        rows = order_cases(rows, shuffler(), str(path))
    return [_item(subset, number, row, f"Item {number} of {path}") for number, row in enumerate(rows)]


def _item(subset: str, number: int, row: Record, where: str) -> Item:
    part, box = SUBSETS[subset].part, None
    if part:
        require(row, ("image_path", "true_caption", "false_caption", part, *_BOX), where)
        require_texts(row, ("image_path", "true_caption", "false_caption"), where)
        require_numbers(row, _BOX, where)
        left, top, width, height = (row[key] for key in _BOX)
        box = (left, top, left + width, top + height)
        image, texts = row["image_path"], [row["true_caption"], row["false_caption"]]
    else:
        require(row, ("image", "caption_options"), where)
        require_texts(row, ("image",), where)
        image, texts = row["image"], list_of_texts(row["caption_options"], f"{where}: 'caption_options'")
    if len(texts) != SUBSETS[subset].options:
        raise ValueError(f"{where} has {len(texts)} texts instead of {SUBSETS[subset].options}.")
    if part == "attributes":
        category = "_".join(list_of_texts(row[part], f"{where}: {part!r}")[:2])
    else:
        require_texts(row, filter(None, [part]), where)
        category = row[part] if part else ""
    key = f"{subset}/{number}"
    line = {"task": "aro", "subset": subset, "category": category}
    lines = ({"label": f"{key}_{n}", **line, "option": str(n), "id": key} for n in range(len(texts)))
    return Item(image, tuple(texts), tuple(lines), box)


_BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
