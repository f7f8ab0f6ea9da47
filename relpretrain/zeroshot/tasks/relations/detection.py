"""Relation detection with given boxes on HICO-DET and Open Images: recall@K, mean recall@K, by groups of triplets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relpretrain.pixels import open_image
from relpretrain.zeroshot.analysis.table import Table
from relpretrain.zeroshot.tasks.common.base import Outcome, Unseen
from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.source import Record, Source, require, select_splits
from relpretrain.zeroshot.tasks.relations.detection_files import FILES, RARE, TRAIN, read_detection
from relpretrain.zeroshot.tasks.relations.predcls import ALL, ANNOTATED, DECIDES, PredCls, PredItem

if TYPE_CHECKING:
    from torch import Tensor

    from relpretrain.types import PairScorer

_RULES = (
    "a prediction hits a triplet of the same three names whose boxes both overlap by half or more; recall@K per image, "
    "averaged over images; mean recall averages each relation over the images that have it, then over relations. "
    f"Groups by training's annotations: rare (relation and object come together fewer than {RARE} times) and others; a "
    "fifth of these combinations held out, rare first and non-rare first (every relation and object still occurs)"
)
_TIES = "against the model, as in predcls"
_CONSTANT = "0 % as long as there are more than 100 predictions of an image"


def _card(task: str, title: str, question: str, paper: str, licence: str, **more: Any) -> Card:
    files = tuple(f"`{place[task]}`{after}" for place, after in ((FILES, ""), (TRAIN, " for the groups")))
    return Card(
        task=f"{task}_relations", title=title, question=question, paper=paper, licence=licence,
        files=(*files, *filter(None, [more.pop("also", "")])), ties=_TIES, constant=_CONSTANT,
        not_comparable="mAP of detectors, which find the boxes themselves and are judged by class over all images; the "
        "published lists of unseen combinations, which are not these; no combination is ruled out by a list of "
        "possible ones",
        **more,
    )  # fmt: skip


HICO = _card(
    "hico",
    "HICO-DET with given boxes",
    "Given people and objects with boxes, who does what with what?",
    "Chao et al., WACV 2018, <https://arxiv.org/abs/1702.05448>; the unseen splits after Hou et al., ECCV 2020.",
    "images of Flickr, research only",
    source="<https://github.com/YueLiao/PPDM>",
    images="`images/test2015` of hico_20160224_det",
    protocol=f"hico_relations-1: every ordered pair whose subject is a person, all 117 relations; {_RULES}",
    comparable="other models in this report; recall of predicate classification on HICO-DET with given boxes",
)
OPEN_IMAGES = _card(
    "open_images",
    "Open Images V6 relationships with given boxes",
    "Given an image's entities with boxes and names, which relations hold between which of them?",
    "Kuznetsova et al., IJCV 2020, <https://arxiv.org/abs/1811.00982>.",
    "annotations CC BY 4.0, images CC BY 2.0",
    also="`oidv6-class-descriptions.csv`, and that of attributes",
    source="<https://storage.googleapis.com/openimages/web/download_v6.html>",
    images="Open Images V6 test (`<image id>.jpg`)",
    protocol="open_images_relations-1: every ordered pair of the entities that relations name, all relations but "
    f'attributes ("is"); {_RULES}',
    comparable="other models in this report",
)


@dataclass(frozen=True)
class DetectionItem(PredItem):
    """An image of a split.

    Args:
        groups: The groups of each triplet.
        people: Whether only pairs are predicted for whose subject is a person.
        fractions: Whether boxes are fractions of the image.
    """

    groups: tuple[tuple[str, ...], ...] = ()
    people: bool = False
    fractions: bool = False

    def ends(self) -> Tensor:
        """Subject and object of each pair to predict for, (pairs, 2)."""
        ends = super().ends()
        if not self.people or self.pairs == ANNOTATED:
            return ends
        import torch

        return ends[torch.tensor([label == "person" for label in self.graph.labels])[ends[:, 0]]]

    def in_pixels(self) -> DetectionItem:
        """The item with boxes in pixels of its image, which is asked for its size."""
        if not self.fractions or isinstance(self.graph.image, Unseen):
            return self
        with open_image(self.graph.image) as opened:
            width, height = opened.size
        boxes = tuple((a * width, b * height, c * width, d * height) for a, b, c, d in self.graph.boxes)
        return replace(self, graph=replace(self.graph, boxes=boxes), fractions=False)


class Detection(PredCls):
    """Recall of annotated triplets among the predicted ones, where several relations may hold of a pair.

    Scored as `PredCls`, by a head or by matching texts. The rules differ in one point: what decides whether a triplet
    is right where models are compared is the rank without graph constraint, for a person may hold and drink of a cup.

    Args:
        data: "hico" or "open_images".
        card: Its card.
    """

    def __init__(self, data: str, card: Card) -> None:
        self.data = data
        self.name = card.task
        self.card = card
        self.protocol = card.protocol

    def items(self, source: Source) -> dict[str, list[PredItem]]:
        """The images of the splits "all" and, if asked for, "annotated"."""
        if source.is_item_file:
            raise ValueError(f"Task {self.name!r} reads a folder with the authors' files; {source.path} is a file.")
        split = read_detection(source.folder(self.name), self.data)
        if not split.images:
            raise ValueError(f"No image of {FILES[self.data]} has a relation{'; '.join(['', *split.notes])}.")
        groups = split.groups or ((),) * len(split.images)
        splits: dict[str, list[Any]] = {}
        for pairs in (ALL, ANNOTATED):
            first, splits[pairs] = 0, []
            for graph, own in zip(split.images, groups, strict=True):
                more: dict[str, Any] = {"groups": own, "people": split.people, "fractions": split.fractions}
                splits[pairs].append(DetectionItem(graph, split.relations, pairs, first, split.notes, **more))
                first += len(graph.triplets)
        return select_splits(splits, source.splits or (ALL,))

    def score(self, scorer: PairScorer, items: Sequence[PredItem], done: list[Record] | None = None) -> list[Record]:
        """A record per annotated triplet, with its ranks and groups."""
        own = [item.in_pixels() if isinstance(item, DetectionItem) else item for item in items]
        begun: list[Record] = []
        try:
            return self._told(super().score(scorer, own, begun), items)
        finally:
            if done is not None:
                done += self._told(begun, items)

    def _told(self, records: Iterable[Record], items: Sequence[PredItem]) -> list[Record]:
        groups = {
            item.first + number: list(own)
            for item in items
            if isinstance(item, DetectionItem)
            for number, own in enumerate(item.groups)
        }
        return [record | {"task": self.name, "groups": groups.get(record["id"], [])} for record in records]

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether each triplet is among the first 50 predictions without graph constraint."""
        super().outcomes(records)
        return {
            r["id"]: Outcome(r["relation"], r["free_rank"] is not None and r["free_rank"] <= DECIDES) for r in records
        }

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """Recall, mean recall and zero-shot recall without graph constraint."""
        return self.tables(records, split)[0]

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """Without graph constraint, with it, by relation, and without it by group."""
        for record in records:
            require(record, ("groups",), f"A record of task {self.name!r}")
        constrained, free, by_relation = super().tables(records, split)
        names = dict.fromkeys(sorted(name for record in records for name in record["groups"]))
        parts = ((name, [record for record in records if name in record["groups"]]) for name in names)
        groups = [super(Detection, self).tables(some, f"{split} {name}".strip())[1] for name, some in parts]
        return (free, constrained, by_relation, *groups)
