"""SVO-Probes (Hendricks and Nematzadeh, ACL Findings 2021): subject, verb or object: which image does a text match?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from relpretrain.errors import counted
from relpretrain.zeroshot.analysis.table import OVERALL, Row, Table, make_bare_row, make_macro_row
from relpretrain.zeroshot.tasks.common.base import NO_THRESHOLD, Item, calibrated
from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.choice import ChoiceTask, Grouped, group
from relpretrain.zeroshot.tasks.common.rows import table_rows
from relpretrain.zeroshot.tasks.common.source import Record, Source, numbered_lines, require, require_texts

FLAGS = {"subj": "subj_neg", "verb": "verb_neg", "obj": "obj_neg"}
"""What differs in the negative image, and the column that says so."""

_TABLE, _LINES = "svo_probes.csv", "test.jsonl"
_ROLES = {"p": "positive image", "n": "negative image"}

CARD = Card(
    task="svo",
    title="SVO-Probes",
    question="Does a sentence match its image better than one in which the subject, the verb or the object differs?",
    paper="Hendricks and Nematzadeh, Findings of ACL 2021, <https://arxiv.org/abs/2106.09141>.",
    licence="annotations CC BY 4.0; the images are addresses on the web, under terms of their own",
    files=(f"`{_TABLE}`, or else `{_LINES}` as fine-grained-evals has it", "`images/<image id>.jpg`"),
    source="<https://github.com/google-deepmind/svo_probes>; `data/svo_probes/annotations/test.jsonl` of "
    "<https://github.com/e-bug/fine-grained-evals>",
    images="14,102 web addresses, many of them dead: a row needs both its images",
    protocol="svo-1: ranking: p(positive image) > p(negative image), ties wrong, the first of subj, verb, obj that is "
    "negative is the category, micro average; official: match if p >= 0.5, mean of the accuracies on distinct positive "
    "and on distinct negative pairs, rows with exactly one negative part",
    ties='ranking: wrong, and counted; official: exactly 0.5 means "match"',
    constant="ranking 0 %; official 50 %",
    comparable="ranking: fine-grained-evals and papers that follow it, on the same rows; official: the authors' own "
    "figures",
    not_comparable="the two metrics with each other; results on different remainders of the images; BLIP's published "
    "row of fine-grained-evals, whose script ignores the image",
)


class SVO(ChoiceTask):
    """The ranking metric over all rows, and the authors' own metric beside it."""

    name = "svo"
    card = CARD
    protocol = CARD.protocol
    roles = tuple(_ROLES.values())
    parts = tuple(FLAGS)

    def recognises(self, record: Record) -> bool:
        """Whether a record says which part of the negative differs, as published score files do."""
        return all(flag in record for flag in FLAGS.values())

    def item_id(self, record: Record) -> str:
        """The row's number in the label; published score files have no other."""
        return self._label(record)[0]

    def category(self, record: Record) -> str:
        """The first part that differs."""
        return next((name for name in ("subj", "verb") if _true(record[FLAGS[name]])), "obj")

    def items(self, source: Source) -> dict[str, list[Item]]:
        """Two items per row: the sentence with its positive image, and with its negative one."""
        if source.is_item_file:
            rows, where = source.listed_items(self.name), source.path
        else:
            rows, where = _read(source.folder(self.name))
        items = []
        for number, row in enumerate(rows):
            keys = ("caption", "pos_image", "neg_image", "pos_triplet", "neg_triplet", *FLAGS.values())
            require(row, keys, f"SVO-Probes row {number} of {where}")
            require_texts(row, keys[:3], f"SVO-Probes row {number} of {where}")
            key = str(row.get("svo_index", number))
            shared = {name: row[name] for name in ("pos_triplet", "neg_triplet")}
            shared |= {flag: _true(row[flag]) for flag in FLAGS.values()}
            for role, image in (("p", row["pos_image"]), ("n", row["neg_image"])):
                pair = {"sentence": row["caption"], "image": image}
                line = {"label": f"{key}_{role}", **shared, **pair, "id": key}
                items.append(Item(image, (row["caption"],), (line,), group=key))
        return {"": items}

    def grouped(self, records: Sequence[Record]) -> Grouped:
        """The scores by row: the positive image's and the negative one's."""
        return group(records, "SVO-Probes", self.roles, self.item_id, lambda r: _ROLES[self._label(r)[1]])

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """The ranking metric, then the official one."""
        return self.summarise(records, split), self._official(records, split)

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of rows by what differs."""
        found = {self.item_id(record): self.category(record) for record in records}
        return {name: number for name in FLAGS if (number := sum(part == name for part in found.values()))}

    def _official(self, records: Sequence[Record], split: str) -> Table:
        notes = () if calibrated(records) else (NO_THRESHOLD,)
        if not all("sentence" in r and "image" in r for r in records):
            notes = (*notes, "the score file does not say which pairs are the same: repeated pairs count repeatedly")
        single = [r for r in records if sum(_true(r[flag]) for flag in FLAGS.values()) == 1]
        rows = [self._macro(OVERALL, single, calibrated(records))]
        for name, flag in FLAGS.items():
            chosen = [r for r in single if _true(r[flag])]
            rows += [self._macro(name, chosen, calibrated(records))] if chosen else []
        left = len(records) - len(single)
        notes = (*notes, f"left out: {counted(left // 2, 'row')} with no or several negative parts") if left else notes
        return Table(self.name, f"{split} official".strip(), self.protocol, tuple(rows), notes)

    def _macro(self, name: str, records: Iterable[Record], decided: bool) -> Row:
        """Mean of the accuracies on distinct positives and on distinct negatives; a pair decided twice is one."""
        import torch

        from relpretrain.zeroshot.analysis.decisions import auroc, threshold_correct

        pairs: dict[tuple[Any, ...], tuple[int, float, str | None]] = {}
        for r in records:
            positive, score = self._label(r)[1] == "p", float(r["score"])
            same = (positive, r.get("sentence", r["label"]), r.get("image"), decided and score >= 0.5)
            pairs.setdefault(same, (int(positive), score, r.get("image")))
        labels = torch.tensor([label for label, _, _ in pairs.values()])
        scores = torch.tensor([score for _, score, _ in pairs.values()], dtype=torch.float64)
        area = float(auroc(scores, labels)) if len(pairs) else float("nan")
        if not decided:
            return make_bare_row(name, len(pairs), auroc=area)
        right = threshold_correct(scores, labels)
        images = [image for _, _, image in pairs.values()]
        parts = {}
        for title, label in (("positives", 1), ("negatives", 0)):
            chosen = labels == label
            if chosen.any():
                parts[title] = (right[chosen].numpy(), list(compress(images, chosen)))
        sides = {title: float(hits.mean()) for title, (hits, _) in parts.items()}
        return make_macro_row(name, list(parts.values()), **sides, auroc=area)

    @staticmethod
    def _label(record: Record) -> tuple[str, str]:
        key, _, role = str(record.get("label")).rpartition("_")
        if not key or role not in _ROLES:
            raise ValueError(f'An SVO-Probes label is "<row>_p" or "<row>_n", not {record.get("label")!r}.')
        return key, role


def _read(folder: Path) -> tuple[list[Record], Path]:
    """The rows of the authors' table, or of the lines of fine-grained-evals."""
    path = folder / _TABLE
    if not path.is_file():
        if not (folder / _LINES).is_file():
            raise ValueError(f"{folder} holds no SVO-Probes annotations ({_TABLE} or {_LINES}).")
        return [row for _, row in numbered_lines(folder / _LINES)], folder / _LINES
    rows: list[Record] = []
    for number, row in table_rows(path, "the table of SVO-Probes", whole=True):
        keys = ("sentence", "pos_triplet", "neg_triplet", "pos_image_id", "neg_image_id", *FLAGS.values())
        require(row, keys, f"Line {number} of {path}")
        images = {"pos_image": f"{row['pos_image_id']}.jpg", "neg_image": f"{row['neg_image_id']}.jpg"}
        rows.append({"caption": row["sentence"], **images} | {key: row[key] for key in keys if "image" not in key})
    return rows, path


def _true(flag: object) -> bool:
    """Whether a flag is set, be it of JSON or the text of a table."""
    if isinstance(flag, str):
        if flag.strip().lower() not in ("true", "false"):
            raise ValueError(f"A negative flag of SVO-Probes is True or False, not {flag!r}.")
        return flag.strip().lower() == "true"
    return bool(flag)
