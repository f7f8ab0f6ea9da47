"""Winoground (Thrush et al., CVPR 2022): which of two texts of the same words belongs to which of two images?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relpretrain.zeroshot.analysis.table import Row, Table, make_share_row
from relpretrain.zeroshot.tasks.common.base import Item, Outcome, PairTask
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.choice import Grouped, group, refuse_same_labels
from relpretrain.zeroshot.tasks.common.source import Record, Source, numbered_lines, require, require_texts

if TYPE_CHECKING:
    from torch import Tensor

CHANCE = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}
"""What guessing gets: the four scores are in any order with equal chance."""

_ROLES = ("c0_i0", "c0_i1", "c1_i0", "c1_i1")
_LABEL = re.compile(r"(\d+)_(c[01]_i[01])")
_TAGS = ("collapsed_tag", "num_main_preds", "secondary_tag")

CARD = Card(
    task="winoground",
    title="Winoground",
    question="Which of two texts of the same words belongs to which of two images?",
    paper="Thrush et al., CVPR 2022, <https://arxiv.org/abs/2204.03162>.",
    licence="of its own, for research; neither texts nor images may be passed on",
    files=("`examples.jsonl`", "`images/ex_<id>_img_<0|1>.png`"),
    source="<https://huggingface.co/datasets/facebook/winoground>, after accepting its terms (`data/examples.jsonl`, "
    "`data/images.zip`)",
    images="Getty Images; some have an alpha channel, which is dropped",
    protocol="winoground-1: text: s00 > s10 and s11 > s01; image: s00 > s01 and s11 > s10; group: both; ties wrong",
    ties="wrong, and counted: items with an equal pair among the four comparisons",
    constant="0 % of all three",
    comparable="text, image and group scores of the paper and of fine-grained-evals, whose score files this reads; by "
    "tag, those of fine-grained-evals",
    not_comparable="tables by tag that count combined tags: here, as in fine-grained-evals, a tag must be equal, and "
    '"Symbolic, Series" is neither',
    versions=(Version("2022", "", {"": 400}),),
)


class Winoground(PairTask):
    """Text, image and group score over all items, and by tag where the records have tags."""

    name = "winoground"
    card = CARD
    protocol = CARD.protocol
    several = True

    def recognises(self, record: Record) -> bool:
        """Whether the label is of the form "<id>_c0_i0", as in published score files."""
        return isinstance(record.get("label"), str) and _LABEL.fullmatch(record["label"]) is not None

    def item_id(self, record: Record) -> str:
        """The number in the label; published score files have no other."""
        return self._match(record)[1]

    def items(self, source: Source) -> dict[str, list[Item]]:
        """Two items per example of DIR/winoground/examples.jsonl: each image with both texts."""
        if source.is_item_file:
            examples, where = source.listed_items(self.name), source.path
        else:
            where = source.folder(self.name) / "examples.jsonl"
            examples = [row for _, row in numbered_lines(where)]
        items = []
        for number, example in enumerate(examples):
            keys = ("id", "caption_0", "caption_1", "image_0", "image_1")
            require(example, keys, f"Winoground example {number} of {where}")
            require_texts(example, keys[1:], f"Winoground example {number} of {where}")
            if not str(example["id"]).isdecimal():
                raise ValueError(f"Winoground example {number} of {where}: 'id' must be a whole number, not "
                                 f"{example['id']!r:.80}.")  # fmt: skip
            tags = {tag: example[tag] for tag in _TAGS if tag in example}
            for tag, value in tags.items():
                if not isinstance(value, str | int | float | None):
                    raise ValueError(f"Winoground example {number} of {where}: {tag!r} must be a text or a number, "
                                     f"not {value!r:.80}.")  # fmt: skip
            texts = (example["caption_0"], example["caption_1"])
            for i in (0, 1):
                lines = tuple({"label": f"{example['id']}_c{c}_i{i}", **tags, "id": example["id"]} for c in (0, 1))
                items.append(Item(_with_ending(example[f"image_{i}"]), texts, lines, group=example["id"]))
        return {"": items}

    def check(self, items: Sequence[Item]) -> None:
        """Refuse two examples of one id (see `Task.check`)."""
        refuse_same_labels(items, self.card.title)

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether each of the three questions was answered rightly, by question and example."""
        from relpretrain.zeroshot.analysis.decisions import square_correct

        grouped = self._grouped(records)
        return {
            (name, key): Outcome(name, correct)
            for name, hits in zip(CHANCE, square_correct(grouped.scores), strict=True)
            for key, correct in zip(grouped.keys, hits.tolist(), strict=True)
        }

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """Group score first, then text and image score."""
        from relpretrain.zeroshot.analysis.decisions import square_correct

        scores = self._grouped(records).scores
        answers = zip(CHANCE, square_correct(scores), _tied(scores), strict=True)
        text, image, both = (_row(name, hits, ties, chance=CHANCE[name]) for name, hits, ties in answers)
        return Table(self.name, split, self.protocol, (both, text, image))

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """The three scores, and by tag the group score with the others beside it."""
        import torch

        from relpretrain.zeroshot.analysis.decisions import square_correct

        main, grouped = self.summarise(records, split), self._grouped(records)
        tagged = [(tag, r[tag]) for r in grouped.records for tag in _TAGS if r.get(tag)]
        if not tagged:
            note = "no table by tag: the score file has no tags"
            return (Table(main.task, split, main.protocol, main.rows, (note,)),)
        text, image, both = square_correct(grouped.scores)
        rows = []
        for tag in _TAGS:
            for value in sorted({v for t, v in tagged if t == tag}, key=str):
                which = torch.tensor([r.get(tag) == value for r in grouped.records])
                beside = {name: float(hits[which].double().mean()) for name, hits in (("text", text), ("image", image))}
                name = f"{tag}: {value}"
                rows.append(_row(name, both[which], _tied(grouped.scores)[2][which], **beside))
        note = "the group score, by tag; a tag must be equal, so that combined tags are rows of their own"
        return main, Table(self.name, f"{split} by tag".strip(), self.protocol, tuple(rows), (note,))

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of examples."""
        return {"": len({self.item_id(record) for record in records})}

    def scores_of(self, records: Sequence[Record]) -> Tensor:
        """The scores of (text 0, image 0), (text 0, image 1), (text 1, image 0), (text 1, image 1), (examples, 4)."""
        return self._grouped(records).scores

    def _grouped(self, records: Sequence[Record]) -> Grouped:
        return group(records, "Winoground", _ROLES, self.item_id, lambda record: self._match(record)[2])

    @staticmethod
    def _match(record: Record) -> re.Match[str]:
        match = _LABEL.fullmatch(str(record.get("label")))
        if match is None:
            raise ValueError(f'A Winoground label is "<id>_c<0|1>_i<0|1>", not {record.get("label")!r}.')
        return match


def _tied(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether a comparison of the text score, of the image score, or of either is between equals; (items,) each."""
    from relpretrain.zeroshot.analysis.decisions import finite_rows

    s00, s01, s10, s11 = finite_rows(scores).unbind(dim=1)
    text, image = (s00 == s10) | (s11 == s01), (s00 == s01) | (s11 == s10)
    return text, image, text | image


def _row(name: str, hits: Tensor, tied: Tensor, **details: float) -> Row:
    return make_share_row(name, hits, None, ties=int(tied.sum()), **details)


def _with_ending(image: str) -> str:
    """The file of an image, which the annotations name without its ending."""
    return image if Path(image).suffix else f"{image}.png"
