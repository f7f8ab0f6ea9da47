"""BiVLC (Miranda et al., NeurIPS 2024): SugarCrepe with an image generated for each negative text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relpretrain.zeroshot.analysis.rules import GROUP, IMAGE, MATCH, TEXT, Rule, one_image, one_text
from relpretrain.zeroshot.analysis.table import Row
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.grid import Answers, Columns, Grid, Puzzle, SquareTask
from relpretrain.zeroshot.tasks.common.rows import cell
from relpretrain.zeroshot.tasks.common.source import Record, require

SIZES = {
    "replace obj": 1200,
    "replace att": 437,
    "replace rel": 462,
    "swap obj": 81,
    "swap att": 278,
    "add obj": 399,
    "add att": 76,
}
I2T = Rule("I2T", TEXT.margins, TEXT.chance)
T2I = Rule("T2I", IMAGE.margins, IMAGE.chance)
SIDES = (
    one_image("Ipos2T", 0),
    one_image("Ineg2T", 1),
    one_text("Tpos2I", 0),
    one_text("Tneg2I", 1),
)
"""The four comparisons of an item, by their published names."""

OUTCOMES = ("text_score_i0", "text_score_i1", "image_score_c0", "image_score_c1")
"""Their columns in the authors' files of outcomes."""

_MADE_OF = {"I2T": (0, 1), "T2I": (2, 3), "group": (0, 1, 2, 3)} | {rule.name: (n,) for n, rule in enumerate(SIDES)}

CARD = Card(
    task="bivlc",
    title="BiVLC",
    question="Which of two texts belongs to which of two images, a photo and one generated for the negative text?",
    paper="Miranda et al., NeurIPS 2024, <https://arxiv.org/abs/2406.09952>.",
    licence="MIT; photos under COCO's terms",
    files=("`test.jsonl` or the Parquet files of the split test", "`images/`"),
    source="<https://huggingface.co/datasets/imirandam/BiVLC>; item-by-item outcomes of four models in the folder "
    "`results` of <https://github.com/IMirandaM/BiVLC>, which `--scores FILE.csv` reads",
    images="COCO val2017, and images of SDXL, shipped with the data",
    protocol="bivlc-1: I2T: each image prefers its text; T2I: each text prefers its image; group: both; ties wrong",
    ties="wrong in all; files of outcomes do not tell ties",
    constant="0 % of all",
    comparable="I2T, T2I and group score of the paper, and its four comparisons (Ipos2T, Ineg2T, Tpos2I, Tneg2I)",
    not_comparable="SugarCrepe's figures, which know one image: Ipos2T is nearest, on fewer items",
    versions=(Version("84f0d17", "", SIZES),),
)


class BiVLC(SquareTask):
    """I2T, T2I and group score, by category too; of the authors' files of outcomes as well."""

    card = CARD
    rules = (GROUP, I2T, T2I, *SIDES, MATCH)
    categories = tuple(SIZES)
    columns = Columns((("caption",), ("negative_caption",)), (("image",), ("negative_image",)))
    files = ("test.jsonl", "test.json", "*.jsonl", "*.json", "*.csv", "*.parquet")

    def recognises(self, record: Record) -> bool:
        """A line of ours, or of a file of outcomes."""
        return super().recognises(record) or set(OUTCOMES) <= record.keys()

    def puzzle(self, key: str, row: Any, where: str) -> Puzzle:
        """The puzzle of a row; its category is type and subtype."""
        kinds = [str(cell(row, (name,), where)) for name in ("type", "subtype")]
        found = super().puzzle(key, row, where)
        return Puzzle(found.id, found.texts, found.images, " ".join(kinds))

    def category(self, record: Record) -> str:
        """Type and subtype."""
        return str(record.get("category") or f"{record.get('type', '')} {record.get('subtype', '')}".strip())

    def rules_of(self, records: Sequence[Record]) -> tuple[Rule, ...]:
        """Without GroupMatch where only outcomes are known."""
        return self.rules[:-1] if OUTCOMES[0] in records[0] else self.rules

    def grids(self, records: Sequence[Record]) -> list[Grid]:
        """Of a file of outcomes: 1 for a comparison that went right, in place of scores, (1, 4)."""
        import torch

        if OUTCOMES[0] not in records[0]:
            return super().grids(records)
        grids = []
        for record in records:
            require(record, ("id", "type", "subtype", *OUTCOMES), "A line of BiVLC outcomes")
            said = [str(record[name]).strip().lower() for name in OUTCOMES]
            if not set(said) <= {"true", "false", "1", "0", "1.0", "0.0"}:
                raise ValueError(f"BiVLC outcomes are True or False; item {record['id']} has {', '.join(said)}.")
            values = [[float(word.startswith(("t", "1"))) for word in said]]
            grids.append(Grid(record["id"], record, torch.tensor(values, dtype=torch.float64)))
        return grids

    def by_category(self, *arguments: Any, **keywords: Any) -> list[Row]:
        """By type as well: replace, swap, add."""
        rows = super().by_category(*arguments, **keywords)
        rule, grids, images, _, beside = arguments
        for kind in ("replace", "swap", "add"):
            chosen = [n for n, grid in enumerate(grids) if self.category(grid.record).startswith(f"{kind} ")]
            if chosen:
                some = None if images is None else [images[n] for n in chosen]
                rows.append(self.row(rule, f"{kind} (all)", [grids[n] for n in chosen], some, beside))
        return rows

    def row(
        self,
        rule: Rule,
        name: str,
        grids: Sequence[Grid],
        images: Sequence[Any] | None = None,
        beside: Sequence[Rule] = (),
    ) -> Row:
        """A rule's row; without ties of outcomes, which do not tell them."""
        found = super().row(rule, name, grids, images, beside)
        if grids and grids[0].scores.shape == (1, 4):
            found.details.pop("ties")
        return found

    def answers(self, rule: Rule, grids: Sequence[Grid]) -> Answers:
        """Of outcomes: whether all comparisons of the rule went right."""
        import torch

        if not grids or grids[0].scores.shape != (1, 4):
            return super().answers(rule, grids)
        columns = list(_MADE_OF[rule.name])
        right = torch.stack([grid.scores[0] for grid in grids])[:, columns].bool().all(dim=1)
        return Answers(right.tolist(), [False] * len(grids), list(range(len(grids))), [(2, 2)] * len(grids))
