"""Which thing of an image does an expression mean? Decided by where a model looks (RefCOCO, RefCOCO+, RefCOCOg)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relpretrain.zeroshot.analysis.table import OVERALL, Table, images_of, make_share_row
from relpretrain.zeroshot.tasks.common.base import Item, Outcome, PairTask, read_image
from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.source import Record, Source, refuse_twice, require, select_splits
from relpretrain.zeroshot.tasks.relations.refer_files import (
    DETECTIONS,
    Corners,
    Expression,
    read_detections,
    read_expressions,
)

if TYPE_CHECKING:
    from torch import Tensor

    from relpretrain.types import PairScorer
    from relpretrain.zeroshot.scorers import MatchScorer

DATA = ("refcoco", "refcoco+", "refcocog")
DETECTED, ANNOTATED = "detected", "annotated"
MEANT = 0.5
"""Intersection over union from which a chosen box is right."""
_EQUAL = (
    1e-6  # share of the best score by which others may fall behind it: the rounding of a map that is brought to size
)

CARD = Card(
    task="grounding",
    title="Referring expressions by where a model looks (RefCOCO, RefCOCO+, RefCOCOg)",
    question="Which of the boxes of an image does an expression mean?",
    paper="Yu et al., ECCV 2016, <https://arxiv.org/abs/1608.00272>; Mao et al., CVPR 2016; the way to ask it without "
    "training on boxes: Li et al. (ALBEF), NeurIPS 2021, <https://arxiv.org/abs/2107.07651>, section 5.5.",
    licence="research; images of Flickr",
    files=(
        "`DATA/refs(unc).p` (`refs(umd).p`, `refs(google).p`, or the same as `refs.json`) and `DATA/instances.json`, "
        "DATA being `refcoco`, `refcoco+` or `refcocog`",
        "`DATA/dets.json`: detected boxes, by image as in ALBEF's release, or MAttNet's list",
    ),
    source="<https://github.com/lichengunc/refer>; detections in the data of <https://github.com/salesforce/ALBEF>",
    images="COCO train2014",
    protocol="grounding-1: Grad-CAM of the matching logit (`--by itc`: of the embeddings' score) in the middle one of "
    "the layers with cross-attention, mean over heads and all tokens, brought to the image's size (bicubic); of the "
    "boxes, detected (split `<data>/<split>/detected`) or all annotated ones of the image (`.../annotated`, when "
    "asked for, or without detections), the one with the largest sum inside over the root of its area; right if it "
    "overlaps the annotated box by half or more; every expression counts",
    ties="against the model; a map of zeros chooses nothing",
    constant="a constant map chooses the largest box, whose accuracy stands beside the model's",
    comparable="with detections: the weakly-supervised figures of ALBEF (itm, itc) on val, testA and testB of "
    "RefCOCO+, and of those who follow it, at the image size that they use",
    not_comparable="models trained on boxes or on expressions of these data sets, if this one was not; ALBEF's figures "
    "are of a model that was tuned on RefCOCO+'s pairs of image and expression; annotated boxes, which always hold "
    "the right one; where no box has a positive score, ALBEF's code takes the box of the expression before",
)


class Grounding(PairTask):
    """Accuracy of the box that fits best where a model looks for an expression; for ALBEF and X-VLM."""

    name = "grounding"
    card = CARD
    protocol = CARD.protocol

    def items(self, source: Source) -> dict[str, list[Item]]:
        """The expressions of "<data>/<split>/detected", or of "<data>/<split>/annotated" as the card says."""
        if source.is_item_file:
            raise ValueError(f"Task 'grounding' reads a folder with the authors' files; {source.path} is a file.")
        folder = source.folder(self.name)
        folders = [folder / data for data in DATA if (folder / data).is_dir()]
        if not folders:
            raise ValueError(f"{folder} holds none of the folders {', '.join(DATA)}.")
        splits: dict[str, list[Item]] = {}
        usual: set[str] = set()  # by detections where a data set has them
        for place in folders:
            own = _splits(place)
            kind = DETECTED if (place / DETECTIONS).is_file() else ANNOTATED
            usual |= {name for name in own if name.endswith(f"/{kind}")}
            splits |= own
        if not splits:
            raise ValueError(f"{folder} holds no expressions outside training.")
        if not source.splits:
            return {name: own for name, own in splits.items() if name in usual}
        found = select_splits(splits, source.splits)
        if {DETECTED, ANNOTATED} & set(source.splits):
            return found
        # Of "val" that with the usual boxes; of a split's whole name that one.
        return {name: own for name, own in found.items() if name in usual or name in source.splits}

    def score(self, scorer: PairScorer, items: Sequence[Item], done: list[Record] | None = None) -> list[Record]:
        """A line per expression, with the box that was chosen."""
        from relpretrain.backbones.encoders import Encoders
        from relpretrain.zeroshot.scorers import MatchScorer
        from relpretrain.zeroshot.tasks.common.shares import spread

        if not isinstance(scorer, MatchScorer) or not isinstance(scorer.backbone, Encoders):
            raise ValueError("Task 'grounding' asks where a model looks: it takes --checkpoint of an ALBEF or X-VLM.")
        by_image: dict[str, list[Item]] = {}
        for item in items:
            by_image.setdefault(item.image, []).append(item)
        number = {item.records[0]["id"]: place for place, item in enumerate(items)}

        def choose(some: Sequence[Item]) -> list[Record]:
            return _choose(scorer, some)

        records = spread(list(by_image.values()), choose, done, "expressions")
        return sorted(records, key=lambda record: number[record["id"]])

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether the chosen box of each expression overlaps the right one by half or more."""
        _check(records)
        return {record["id"]: Outcome("", record["overlap"] >= MEANT) for record in records}

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """The accuracy, beside that of the largest box, of a random one, and the share that can be had at all."""
        _check(records)
        right = [record["overlap"] >= MEANT for record in records]
        n = len(records)
        details = {name: sum(record[name] for record in records) / n for name in ("chance", "largest", "reachable")}
        row = make_share_row(OVERALL, right, images_of(records), **details)
        notes = (
            "chance: a random box; largest: the largest box, which a constant map chooses; reachable: expressions for "
            "which one of the boxes is right",
            f"maps of {records[0]['by']}",
        )
        return Table(self.name, split, self.protocol, (row,), notes)


def _splits(folder: Path) -> dict[str, list[Item]]:
    expressions, annotated = read_expressions(folder)
    boxes = {ANNOTATED: annotated}
    if (folder / DETECTIONS).is_file():
        boxes = {DETECTED: read_detections(folder / DETECTIONS)} | boxes
    splits: dict[str, list[Item]] = {}
    for kind, by_image in boxes.items():
        for expression in expressions:
            name = f"{folder.name}/{expression.split}/{kind}"
            splits.setdefault(name, []).append(_item(expression, by_image.get(expression.image_id, [])))
    return splits


def _item(expression: Expression, boxes: Sequence[Corners]) -> Item:
    line = {"label": expression.text, "task": "grounding", "ref": expression.ref, "id": expression.id}
    line |= {"target": list(expression.target), "boxes": [list(box) for box in boxes]}
    return Item(expression.image, (expression.text,), (line,))


def _choose(scorer: MatchScorer, items: Sequence[Item]) -> list[Record]:
    """The lines of all expressions about one image."""
    from relpretrain.data.pipeline.text import clean_caption
    from relpretrain.explain.maps.boxes import box_scores, overlap
    from relpretrain.scene_graph import Box

    image = read_image(items[0].image)
    texts = [clean_caption(item.texts[0]) if scorer.clean else item.texts[0] for item in items]
    lines = []
    for item, found in zip(items, _maps(scorer, image, texts), strict=True):
        line = dict(item.records[0])
        boxes = [Box(*box) for box in line.pop("boxes")]
        target = Box(*line.pop("target"))
        overlaps = [overlap(box, target) for box in boxes]
        best: list[int] = []
        if boxes:
            scores = box_scores(found, boxes, image.size)
            top = float(scores.max())
            best = [i for i, score in enumerate(scores.tolist()) if score >= (1 - _EQUAL) * top > 0]
        largest = max(range(len(boxes)), key=lambda i: boxes[i].area, default=None)
        hits = [value >= MEANT for value in overlaps]
        line |= {
            "overlap": min((overlaps[i] for i in best), default=0.0),
            "chosen": list(boxes[best[0]]) if best else None,
            "candidates": len(boxes),
            "chance": sum(hits) / max(len(hits), 1),
            "largest": float(largest is not None and hits[largest]),
            "reachable": float(any(hits)),
            "by": _by(scorer),
        }
        lines.append(line)
    return lines


def _maps(scorer: MatchScorer, image: Any, texts: Sequence[str]) -> list[Tensor]:
    """The map of each text as a whole."""
    from relpretrain.explain.maps.embeddings import embedding_maps
    from relpretrain.explain.maps.texts import token_maps

    if _by(scorer) == "itc":
        return [found.map for found in embedding_maps(scorer, image, texts)]
    tokens = [scorer.preprocess.encoder.caption(text) for text in texts]
    return [maps.mean(0) for maps, _ in token_maps(scorer, image, tokens, words=False)]


def _by(scorer: MatchScorer) -> str:
    """What the maps are of: the matching head's logit ("itm") for "both", whose sum has no map of its own."""
    return "itc" if scorer.by == "itc" else "itm"


def _check(records: Sequence[Record]) -> None:
    for record in records:
        keys = ("id", "overlap", "chance", "largest", "reachable", "by")
        require(record, keys, "A record of task 'grounding'")
    refuse_twice([record["id"] for record in records], "Expression")
