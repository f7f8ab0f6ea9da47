"""VSR (Liu et al., TACL 2023): is the spatial relation that a text states true of the image?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relpretrain.zeroshot.analysis.statistics import best_threshold
from relpretrain.zeroshot.analysis.table import OVERALL, Table, images_of, make_bare_row, make_share_row
from relpretrain.zeroshot.tasks.common.base import NO_THRESHOLD, Item, Outcome, PairTask, UndecidedError, calibrated
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.source import (
    Record,
    Source,
    numbered_lines,
    require,
    require_texts,
    select_splits,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CATEGORIES = {
    "Adjacency": "adjacent to, alongside, at the side of, at the right side of, at the left side of, attached to, "
    "at the back of, ahead of, against, at the edge of",
    "Directional": "off, past, toward, down, deep down, up, away from, along, around, from, into, to, across, "
    "across from, through, down from",
    "Orientation": "facing, facing away from, parallel to, perpendicular to",
    "Projective": "on top of, beneath, beside, behind, left of, right of, under, in front of, below, above, over, "
    "in the middle of",
    "Proximity": "by, close to, near, far from, far away from",
    "Topological": "connected to, detached from, has as a part, part of, contains, within, at, on, in, with, "
    "surrounding, consists of, out of, between, inside, outside, touching",
    "Unallocated": "beyond, next to, opposite to, after, among, enclosed by",
}
"""Relations by category. The official list has "among" twice; as in its code, the last mention counts."""

CATEGORY = {relation: name for name, relations in CATEGORIES.items() for relation in relations.split(", ")}
"""Category of each relation."""

PARTS = ("dev", "test")
_FOLDER_NAMES = {"random_old_v1": "random_v1", "random": "random_v2"}
_FIRST_VERSION_SIZES = {"dev": 1012, "test": 2024}  # of the preprint's random split, whatever its folder is called


_HOMES = {
    "random_v1": "https://raw.githubusercontent.com/e-bug/fine-grained-evals/HEAD/data/vsr/annotations/random",
    "random_v2": "https://raw.githubusercontent.com/cambridgeltl/visual-spatial-reasoning/HEAD/data/splits/random",
    "zeroshot": "https://raw.githubusercontent.com/cambridgeltl/visual-spatial-reasoning/HEAD/data/splits/zeroshot",
}
"""Where the files of each split are."""

_VERSIONS = (
    Version("random split of the preprint", "random_v1/dev", {"": 1012}, "51e6e90e412e09c7"),
    Version("random split of the preprint", "random_v1/test", {"": 2024}, "e5edef9b49c18d0c"),
    Version("random split of TACL", "random_v2/dev", {"": 1097}, "283f858e92c426e2"),
    Version("random split of TACL", "random_v2/test", {"": 2195}, "d39078632ddd02d0"),
    Version("zero-shot split of TACL", "zeroshot/dev", {"": 340}, "f39a34c7b8204447"),
    Version("zero-shot split of TACL", "zeroshot/test", {"": 1222}, "3e5e46e30beb18e1"),
)

CARD = Card(
    task="vsr",
    title="VSR",
    question="Is a spatial statement true of the image?",
    paper="Liu et al., TACL 2023, <https://arxiv.org/abs/2205.00363>.",
    licence="annotations Apache-2.0; images under COCO's terms",
    files=("`<split>/dev.jsonl`", "`<split>/test.jsonl`"),
    source="the folders of `data/splits` of <https://github.com/cambridgeltl/visual-spatial-reasoning>; the preprint's "
    "random split is in `data/vsr/annotations/random` of <https://github.com/e-bug/fine-grained-evals>",
    images="COCO train2017 and val2017",
    protocol="vsr-1: true if p(match) >= 0.5, micro average",
    ties='a score of exactly 0.5 means "true"',
    constant='the share of true items where it says "true", AUROC 0.5',
    comparable="zero-shot accuracies on the same split; those of fine-grained-evals are on `random_v1`",
    not_comparable="`random_v1` with `random_v2`; fine-tuned models; sizes in the authors' README, which are not those "
    "of the files. Scores without a natural threshold (CLIP) have no accuracy here, only AUROC",
    versions=_VERSIONS,
    downloads={f"{split}/{part}.jsonl": f"{home}/{part}.jsonl" for split, home in _HOMES.items() for part in PARTS},
)


ORACLE = "oracle: the best accuracy of any threshold, chosen on the very items it is measured on; not a result"


class VSR(PairTask):
    """Accuracy of P(match) >= 0.5 against the label, over all items and per category of relations.

    There are two random splits: "random_v1", of the preprint, which published zero-shot results use, and "random_v2",
    of the TACL version. Figures on the two cannot be compared.

    Args:
        threshold: Lowest score that means "true"; None for the protocol's, which only probabilities have.
        origin: Where another threshold comes from: its figures are of another protocol, "vsr-1t".
        sweep: Whether to show the best accuracy of any threshold too, which is an oracle's and no result.
    """

    name = "vsr"
    card = CARD
    protocol = CARD.protocol

    def __init__(self, threshold: float | None = None, origin: str = "given", sweep: bool = False) -> None:
        self.threshold = threshold
        self.sweep = sweep
        if threshold is not None:
            self.protocol = f"vsr-1t: true if the score >= {threshold:.6g} ({origin}), micro average"

    def at(self, threshold: float, origin: str = "given") -> VSR:
        """The same task with another threshold; `origin` says where it comes from."""
        return VSR(threshold, origin)

    def swept(self) -> VSR:
        """The same task, with the best accuracy of any threshold beside its own."""
        return VSR(sweep=True)

    def recognises(self, record: Record) -> bool:
        """Whether a record is of a relation, as those of published score files are."""
        return "relation" in record and "task" not in record

    def items(self, source: Source) -> dict[str, list[Item]]:
        """The items of DIR/vsr/<split>/{dev,test}.jsonl by "<split>/<part>", or those of an item file."""
        splits = self._listed(source) if source.is_item_file else self._annotated(source)
        return select_splits(splits, source.splits)

    def _annotated(self, source: Source) -> dict[str, list[Item]]:
        folder = source.folder(self.name)
        files = [
            path for split in sorted(folder.iterdir()) for part in PARTS if (path := split / f"{part}.jsonl").exists()
        ]
        if not files:
            raise ValueError(f"{folder} holds no VSR annotations (<split>/dev.jsonl or <split>/test.jsonl).")
        splits: dict[str, list[Item]] = {}
        for file in files:
            items = [_item(number, record) for number, record in enumerate(_records(file))]
            name = f"{_version(file, len(items))}/{file.stem}"
            if name in splits:
                raise ValueError(f"{file} and another file of {folder} both hold the VSR split {name}; keep one.")
            splits[name] = items
        return splits

    def _listed(self, source: Source) -> dict[str, list[Item]]:
        splits: dict[str, list[Item]] = {}
        for number, record in enumerate(source.listed_items(self.name)):
            _check(record, f"VSR item {number} of {source.path}")
            items = splits.setdefault("items", [])
            items.append(_item(len(items), record))
        return splits

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether the decision was right, by item number."""
        scores, labels = _tensors(records)
        correct = self._decide(scores, labels, records)
        if correct is None:
            raise UndecidedError(
                "These VSR scores are no probabilities (calibrated: false): 0.5 means nothing for them, and no item is "
                "right or wrong."
            )
        categories = [CATEGORY.get(record["relation"], "") for record in records]
        return {r["id"]: Outcome(k, c) for r, k, c in zip(records, categories, correct.tolist(), strict=True)}

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """Accuracy over all items and per category, with the share of true items, AUROC and calibration error."""
        import torch

        from relpretrain.zeroshot.analysis.decisions import auroc, calibration_error

        scores, labels = _tensors(records)
        names = list(CATEGORIES)
        index = torch.tensor(
            [names.index(CATEGORY[r["relation"]]) if r["relation"] in CATEGORY else -1 for r in records]
        )
        right, images = self._decide(scores, labels, records), images_of(records)
        rows = []
        present = [(number, name) for number, name in enumerate(names) if (index == number).any()]
        for number, name in [(None, OVERALL), *present]:
            which = torch.ones_like(index, dtype=torch.bool) if number is None else index == number
            details = {
                "true": float(labels[which].double().mean()),
                "auroc": float(auroc(scores[which], labels[which])),
            }
            if self.sweep:
                best = best_threshold(scores[which].numpy(), labels[which].numpy())
                details |= {"oracle": best.accuracy, "oracle_threshold": best.value}
            if right is None:
                rows.append(make_bare_row(name, int(which.sum()), **details))
            else:
                if calibrated(records):
                    details["calibration_error"] = float(calibration_error(scores[which], labels[which]))
                rows.append(make_share_row(name, right[which], images and list(compress(images, which)), **details))
        unknown = sorted({r["relation"] for r in records if r["relation"] not in CATEGORY})
        notes = [f"relations without a category, counted overall only: {', '.join(unknown)}"] if unknown else []
        notes += [] if right is not None else [NO_THRESHOLD]
        notes += [ORACLE] if self.sweep else []
        return Table(self.name, split, self.protocol, tuple(rows), tuple(notes))

    def _decide(self, scores: Tensor, labels: Tensor, records: Sequence[Record]) -> Tensor | None:
        """Whether each decision is right, (items,); None for scores on which 0.5 means nothing."""
        from relpretrain.zeroshot.analysis.decisions import require_finite, threshold_correct

        if self.threshold is not None:
            return (require_finite(scores) >= self.threshold) == labels.bool()
        return threshold_correct(scores, labels) if calibrated(records) else None


def _version(file: Path, number: int) -> str:
    folder = file.parent.name
    if folder in _FOLDER_NAMES and number == _FIRST_VERSION_SIZES[file.stem]:
        return "random_v1"
    return _FOLDER_NAMES.get(folder, folder)


def _records(file: Path) -> Iterator[Record]:
    for number, record in numbered_lines(file):
        _check(record, f"Line {number} of {file}")
        yield record


def _check(record: Record, where: str) -> None:
    require(record, ("image", "caption", "label", "relation"), where)
    require_texts(record, ("image", "caption", "relation"), where)
    if record["label"] not in (0, 1):
        raise ValueError(f"{where}: the label must be 0 or 1, not {record['label']!r}.")


def _item(number: int, record: Record) -> Item:
    line = {"label": int(record["label"]), "relation": record["relation"], "id": number}
    return Item(record["image"], (record["caption"],), (line,))


def _tensors(records: Sequence[Record]) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    seen: set[Any] = set()
    for record in records:
        require(record, ("id", "label", "relation", "score"), "A VSR score record")
        if record["id"] in seen:
            raise ValueError(f"VSR item {record['id']} has two scores.")
        if record["label"] not in (0, 1):
            raise ValueError(f"VSR item {record['id']}: the label must be 0 or 1, not {record['label']!r}.")
        seen.add(record["id"])
    scores = torch.tensor([record["score"] for record in records], dtype=torch.float64)
    return scores, torch.tensor([record["label"] for record in records])
