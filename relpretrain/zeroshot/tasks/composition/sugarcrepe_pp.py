"""SugarCrepe++ (Dumpala et al., NeurIPS 2024): do two captions of one meaning both beat a negative that looks alike?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

from relpretrain.zeroshot.analysis.table import OVERALL, Row, Table, images_of, make_share_row
from relpretrain.zeroshot.tasks.common.base import Item, Outcome, score_items
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.choice import Grouped, group
from relpretrain.zeroshot.tasks.common.source import Record
from relpretrain.zeroshot.tasks.composition.sugarcrepe import SugarCrepe

if TYPE_CHECKING:
    from torch import Tensor

    from relpretrain.types import PairScorer

SIZES = {"swap_obj": 245, "swap_att": 666, "replace_obj": 1652, "replace_att": 788, "replace_rel": 1406}
"""Items of each file."""

QUESTIONS = {"image-text": "both captions beat the negative", "caption": "caption", "caption2": "caption2"}
_TEXT = ("caption~caption2", "caption~negative_caption", "caption2~negative_caption")

CARD = Card(
    task="sugarcrepe_pp",
    title="SugarCrepe++",
    question="Do two captions of one meaning both match the image better than a negative that looks like the first?",
    paper="Dumpala et al., NeurIPS 2024, <https://arxiv.org/abs/2406.11171>.",
    licence="annotations CC BY 4.0 by its README (the repository's LICENSE is MIT); images under COCO's terms",
    files=tuple(f"`{name}.json`" for name in SIZES),
    source="the folder `data` of <https://github.com/Sri-Harsha/scpp>",
    images="COCO val2017",
    protocol="sugarcrepe_pp-1: image-text: p(caption) > p(negative) and p(caption2) > p(negative); text only: "
    "cos(caption, caption2) above cos(caption, negative) and cos(caption2, negative); ties wrong, accuracy per file",
    ties="wrong, and counted",
    constant="0 %",
    comparable="ITT and TOT of the paper, per file; the paper scores ALBEF, X-VLM and BLIP by the cosine of their "
    "projected embeddings, so that figures of a matching head are of another kind",
    not_comparable="SugarCrepe: other texts, three files more; averages over files",
    versions=(Version("c083bbf", "", SIZES, "76b0b91752b07525"),),
)


class SugarCrepePP(SugarCrepe):
    """Accuracy per file of the image-text task (ITT) and, for scorers that embed texts, the text-only task (TOT).

    A scorer embeds texts if it has `embed_texts(texts)`, which returns unit vectors (n, dim).
    """

    name = "sugarcrepe_pp"
    card = CARD
    protocol = CARD.protocol
    roles = ("caption", "caption2", "negative_caption")
    parts = tuple(SIZES)
    several = True

    def score(self, scorer: PairScorer, items: Sequence[Item], done: list[Record] | None = None) -> list[Record]:
        """Match probability of every text, then the cosines of the texts where the scorer has embeddings of them."""
        from relpretrain.zeroshot.scorers.blind import TextScorer
        from relpretrain.zeroshot.tasks.common.shares import embed_texts

        records = score_items(scorer, items, done)
        if not hasattr(scorer, "embed_texts") or isinstance(scorer, TextScorer):  # whose one number has no cosine
            return records
        texts = list(dict.fromkeys(text for item in items for text in item.texts))
        vectors = dict(zip(texts, embed_texts(scorer, texts), strict=True))
        for item in items:
            first, second, negative = (vectors[text] for text in item.texts)
            line = {k: v for k, v in item.records[0].items() if k not in ("label", "option")}
            cosines = (first @ second, first @ negative, second @ negative)
            for name, cosine in zip(_TEXT, cosines, strict=True):
                records.append({"label": f"{line['id']}_{name}", "score": float(cosine), **line, "option": name})
        return records

    def is_pair(self, record: Record) -> bool:
        """Whether a line is not of two texts."""
        return record.get("option") not in _TEXT

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether each question was answered rightly, by question and item."""
        return {
            (question, key): Outcome(question, bool(c))
            for question, (grouped, correct, _) in self._answers(records).items()
            for key, c in zip(grouped.keys, correct.tolist(), strict=True)
        }

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """The image-text task (ITT), overall and per file, with either caption alone."""
        return self._table("image-text", self._answers(records), split)

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """ITT, and TOT where there are text embeddings."""
        answers = self._answers(records)
        itt = self._table("image-text", answers, split)
        if "text-only" not in answers:
            note = "the text-only task was not scored: the scorer has no text embeddings"
            return (Table(itt.task, itt.split, itt.protocol, itt.rows, (*itt.notes, note)),)
        return itt, self._table("text-only", answers, f"{split} text only".strip())

    def count(self, records: Sequence[Record]) -> dict[str, int]:
        """Number of items by file."""
        return dict(super().count(records))

    def _answers(self, records: Sequence[Record]) -> dict[str, tuple[Grouped, Tensor, Tensor]]:
        """By question: the scores, (items,) whether right, and (items,) whether tied."""
        import torch

        from relpretrain.zeroshot.analysis.decisions import finite_rows

        image = self.grouped([r for r in records if r.get("option") not in _TEXT])
        first, second, negative = finite_rows(image.scores).unbind(dim=1)
        answers = {
            "image-text": (image, torch.minimum(first, second) > negative, torch.minimum(first, second) == negative),
            "caption": (image, first > negative, first == negative),
            "caption2": (image, second > negative, second == negative),
        }
        lines = [r for r in records if r.get("option") in _TEXT]
        if lines:
            text = group(lines, self.card.title, _TEXT, lambda r: r["id"], lambda r: str(r["option"]))
            same, other = finite_rows(text.scores)[:, 0], text.scores[:, 1:].amax(dim=1)
            answers["text-only"] = (text, same > other, same == other)
        return answers

    def _table(self, question: str, answers: dict[str, tuple[Grouped, Tensor, Tensor]], split: str) -> Table:
        import torch

        grouped, correct, tied = answers[question]
        files, images = [record["file"] for record in grouped.records], images_of(grouped.records)
        alone = {name: answers[name][1] for name in ("caption", "caption2")} if question == "image-text" else {}

        def row(name: str, which: Tensor) -> Row:
            details = {"ties": int(tied[which].sum()), "chance": 1 / 3}
            details |= {title: float(hits[which].double().mean()) for title, hits in alone.items()}
            return make_share_row(name, correct[which], images and list(compress(images, which)), **details)

        rows = [row(OVERALL, torch.ones(len(files), dtype=torch.bool))]
        rows += [row(name, torch.tensor([file == name for file in files])) for name in self.ordered(files)]
        return Table(self.name, split, self.protocol, tuple(rows))
