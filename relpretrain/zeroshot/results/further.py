"""What stored scores say beside a benchmark's own figures: matched groups, half-truths, calibration, a blind model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from relpretrain.zeroshot.analysis.decisions import calibration_error
from relpretrain.zeroshot.analysis.rules import MATCH
from relpretrain.zeroshot.analysis.table import Row, Table, make_bare_row, make_row, make_share_row
from relpretrain.zeroshot.results.items import Scored, item_images
from relpretrain.zeroshot.tasks.common.base import Item, Task, UndecidedError, calibrated
from relpretrain.zeroshot.tasks.common.choice import ChoiceTask
from relpretrain.zeroshot.tasks.common.grid import GridTask
from relpretrain.zeroshot.tasks.common.source import Record
from relpretrain.zeroshot.tasks.composition.winoground import Winoground

TITLE = "further figures"

HALF_TRUTH = "half-truth"
"""Share of items in which the true text scores above the same text with something wrong added (arXiv 2602.23906)."""


def further(part: Scored, blind: Sequence[Record] | None = None) -> Table | None:
    """A table of what a split's scores say beside its own figures; None if that is nothing.

    - GroupMatch: of k texts and k images, the right assignment has the highest sum. Needs the annotations where the
      texts of a group stand in different orders (What'sUp).
    - half-truth: needs the annotations, from which it is seen which false text is the true one with words added.
    - ties, texts that reach the model's limit, and the calibration error of probabilities.
    - a blind model's figure on the same items, and this model's on those that the blind one gets wrong.

    Args:
        part: The split.
        blind: Lines of a model that sees no image, on the same items.

    Raises:
        ValueError: If the blind model's lines are of none of the items.
    """
    rows = [*_matched(part), *_half_truths(part), *_ties(part), *_limits(part.records), *_calibration(part)]
    notes: list[str] = []
    if blind is not None:
        rows += _beside_blind(part, blind)
        notes.append("blind: the scores of a model that sees no image; not blind: items that it gets wrong")
    if not rows:
        return None
    return Table(part.task.name, f"{part.split} {TITLE}".strip(), part.task.protocol, tuple(rows), tuple(notes))


def _matched(part: Scored) -> list[Row]:
    groups = list(_squares(part))
    rows = []
    for size in sorted({len(scores) for scores, _ in groups}):
        chosen = [(scores, image) for scores, image in groups if len(scores) == size]
        right = MATCH.judge(torch.stack([scores for scores, _ in chosen]))
        images = [image for _, image in chosen]
        known = images if all(image is not None for image in images) else None
        name, ties = f"GroupMatch {size}x{size}", int(right.tied.sum())
        chance = MATCH.chance(size, size)
        rows.append(make_share_row(name, right.correct[:, 0].tolist(), known, ties=ties, chance=chance))
    return rows


def _squares(part: Scored) -> Iterable[tuple[Tensor, Hashable]]:
    """The scores (k, k) of each group of k texts and k images, with what it shares with others."""
    if isinstance(part.task, GridTask):
        shared = item_images(part.task, part.records)
        for grid in part.task.grids(part.records):
            if grid.scores.shape[0] == grid.scores.shape[1] > 1:
                yield grid.scores, shared(grid.key)
    elif isinstance(part.task, Winoground):
        for row in part.task.scores_of(part.records):
            yield row.reshape(2, 2), None
    elif isinstance(part.task, ChoiceTask):
        yield from _same_texts(part)


def _same_texts(part: Scored) -> Iterable[tuple[Tensor, Hashable]]:
    """Groups of items with the same k texts, of k images each of which has another right one."""
    found = _by_item(part)
    groups: dict[frozenset[str], list[tuple[Item, dict[str, float]]]] = {}
    for item, scores in found:
        if len(set(item.texts)) == len(item.texts) > 1:
            groups.setdefault(frozenset(item.texts), []).append((item, dict(zip(item.texts, scores, strict=True))))
    for texts, members in groups.items():
        right = [item.texts[0] for item, _ in members]
        if len(members) == len(texts) == len(set(right)) <= 6:
            rows = [[scores[text] for _, scores in members] for text in right]
            yield torch.tensor(rows, dtype=torch.float64), None


def _by_item(part: Scored) -> list[tuple[Item, list[float]]]:
    """The annotated items whose texts all have a score, with the scores."""
    known = {record["label"]: record["score"] for record in part.records if "score" in record and "label" in record}
    pairs = ((item, [known.get(r.get("label")) for r in item.records]) for item in part.items if isinstance(item, Item))
    return [(item, scores) for item, scores in pairs if scores and all(s is not None for s in scores)]  # type: ignore[misc]


def _half_truths(part: Scored) -> list[Row]:
    if not isinstance(part.task, GridTask | ChoiceTask):
        return []
    found = _by_item(part)
    right, images = [], []
    for item, scores in found:
        truth = [is_true(part.task, record) for record in item.records]
        if truth.count(True) != 1:
            continue
        own = truth.index(True)
        for text, score in zip(item.texts, scores, strict=True):
            if adds(item.texts[own], text):
                right.append(scores[own] > score)
                images.append(item.image)
    return [make_share_row(HALF_TRUTH, right, images, chance=0.5)] if right else []


def adds(short: str, long: str) -> bool:
    """Whether a text is another one with words added: it has all its words, in their order, and more."""
    words, rest = _words(short), iter(_words(long))
    return len(_words(long)) > len(words) > 0 and all(word in rest for word in words)


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def is_true(task: Task, record: Record) -> bool | None:
    """Whether the text of a line is true of its image; None where the task does not say."""
    if isinstance(task, GridTask):
        return task.truth(record)
    if isinstance(task, ChoiceTask):
        return bool(record["option"] == task.roles[0]) if record.get("option") in task.roles else None
    return bool(record["label"]) if record.get("label") in (0, 1) else None


def _ties(part: Scored) -> list[Row]:
    row = part.task.summarise(part.records, part.split).overall
    if "ties" not in row.details or not row.n:
        return []
    return [make_row("items that equal scores decide", row.n, int(row.details["ties"]))]


def _limits(records: Sequence[Record]) -> list[Row]:
    long = sum(bool(record.get("at_limit")) for record in records)
    return [make_row("texts that reach the model's limit", len(records), long)] if long else []


def _calibration(part: Scored) -> list[Row]:
    said = [(record["score"], is_true(part.task, record)) for record in part.records if "score" in record]
    known = [(score, truth) for score, truth in said if truth is not None]
    if not known or not calibrated(part.records) or not all(0 <= score <= 1 for score, _ in known):
        return []
    scores, truth = torch.tensor(known, dtype=torch.float64).T
    error = float(calibration_error(scores, truth))
    return [make_bare_row("probabilities of true and false texts", len(known), calibration_error=error)]


def _beside_blind(part: Scored, blind: Sequence[Record]) -> list[Row]:
    try:
        ours, theirs = part.task.outcomes(part.records), part.task.outcomes(blind)
    except UndecidedError:
        return []
    keys = [key for key in ours if key in theirs]
    if not keys:
        raise ValueError(f"The blind scores of {part.task.name} are of none of its items.")
    questions = list(dict.fromkeys(ours[key].category for key in keys)) if part.task.several else [""]
    images = item_images(part.task, part.records)
    rows = []
    for name in questions:
        chosen: list[Any] = [key for key in keys if not name or ours[key].category == name]
        hard = [key for key in chosen if not theirs[key].correct]
        for title, some, outcomes in (("blind", chosen, theirs), ("not blind", hard, ours)):
            right = [outcomes[key].correct for key in some]
            rows.append(make_share_row(f"{name} {title}".strip(), right, [images(key) for key in some]))
    return rows
