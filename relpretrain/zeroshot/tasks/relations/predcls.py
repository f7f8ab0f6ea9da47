"""Relation classification on scene graphs with given boxes (PredCls): recall@K, mean and zero-shot recall@K."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relpretrain.errors import counted
from relpretrain.zeroshot.analysis.table import Row, Table, images_of, make_image_mean_row, make_share_row
from relpretrain.zeroshot.tasks.common.base import BaseTask, Item, Outcome, locate_images, read_image, show
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.source import Record, Source, refuse_twice, require, select_splits
from relpretrain.zeroshot.tasks.relations.graph_files import GraphImage, read_splits

if TYPE_CHECKING:
    from torch import Tensor

    from relpretrain.types import PairScorer
    from relpretrain.zeroshot.scorers import MatchScorer

CUTS = (20, 50, 100)
"""The values of K."""
DECIDES = 50
"""The K that says whether a triplet is right where two models are compared."""
ALL, ANNOTATED = "all", "annotated"
_CROPS = 32  # parts of images whose features are held at once

CARD = Card(
    task="predcls",
    title="Relation classification (PredCls)",
    question="Given an image's entities with boxes and names, which relations hold between which of them?",
    paper="VG150: Xu et al., CVPR 2017, <https://arxiv.org/abs/1701.02426>; mean recall: Tang et al. and Chen et "
    "al., CVPR 2019; GQA: Hudson and Manning, CVPR 2019; VRD: Lu et al., ECCV 2016.",
    licence="VG and GQA CC BY 4.0; VRD research only",
    files=(
        "VG150: `VG-SGG-with-attri.h5`, `VG-SGG-dicts-with-attri.json`, `image_data.json` (needs h5py)",
        "GQA: `val_sceneGraphs.json`, and `train_sceneGraphs.json` for zero-shot recall",
        "VRD: `annotations_test.json`, `objects.json`, `predicates.json`, and `annotations_train.json` likewise",
    ),
    source="<https://github.com/KaihuaTang/Scene-Graph-Benchmark.pytorch> (VG150), "
    "<https://cs.stanford.edu/people/dorarad/gqa>, <https://cs.stanford.edu/people/ranjaykrishna/vrd>",
    images="Visual Genome (`<image id>.jpg`), VRD",
    protocol="predcls-1: every ordered pair of entities (split `<data>/all`) or only annotated pairs "
    "(`<data>/annotated`, when asked for); a prediction hits a triplet of the same three names whose boxes both "
    "overlap by half or more; recall@K per image, averaged over images; mean recall averages each relation over the "
    "images that have it, then over relations; zero-shot recall looks at triplets that never occur in training; with "
    "graph constraint each pair predicts its best relation only",
    ties="against the model: an equal score ranks before the right one, and a tie for a pair's best relation "
    "predicts none",
    constant="0 % as long as there are more than 100 predictions of an image; with graph constraint always",
    comparable="PredCls figures on the same split that use no threshold on overlapping pairs; with an MRC head only "
    "on the relations that its vocabulary has, of which the table says how many",
    versions=(Version("VRD test, without 26 relations of a thing to itself", "vrd/all", {"": 7612}),),
    not_comparable="models trained on VG150 with frequency priors (these are zero-shot figures); relations that no "
    "image of the split has count as zero in the code of Tang et al., and not here; the recall of VRD's authors, which "
    "counts triplets over all images instead of image by image; the split `annotated`, which is easier",
)


@dataclass(frozen=True)
class PredItem:
    """An image of a split.

    Args:
        graph: Its entities and triplets.
        relations: The relations to choose from.
        pairs: "all" ordered pairs of entities, or the "annotated" ones.
        first: Number of its first triplet in the split.
        notes: What was left out of the split.
    """

    graph: GraphImage
    relations: tuple[str, ...]
    pairs: str
    first: int
    notes: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        """File name of its image; its path once located."""
        return self.graph.image

    def ends(self) -> Tensor:
        """Subject and object of each pair to predict for, (pairs, 2)."""
        import torch

        if self.pairs == ANNOTATED:
            return torch.tensor(list(dict.fromkeys((s, o) for s, o, _ in self.graph.triplets)))
        n = len(self.graph.labels)
        return torch.tensor([(s, o) for s in range(n) for o in range(n) if s != o])


class PredCls(BaseTask):
    """Recall of the annotated triplets among the predicted ones, by an MRC head or by matching texts.

    A model with an MRC head sees each entity alone and scores pairs by the softmax over the relations that the head
    knows. Any other scorer compares "subject relation object" with the part of the image around both boxes, for every
    relation: for all pairs of a crowded image that is a lot of texts.
    """

    name = "predcls"
    card = CARD
    protocol = CARD.protocol

    def items(self, source: Source) -> dict[str, list[PredItem]]:
        """The images of "<data>/all"; of "<data>/annotated" if `source.splits` asks for it."""
        if source.is_item_file:
            raise ValueError(f"Task 'predcls' reads a folder with the authors' files; {source.path} is a file.")
        splits = {}
        for name, split in read_splits(source.folder(self.name)).items():
            if not split.images:
                raise ValueError(f"No image of {name} has a relation with a known name{'; '.join(['', *split.notes])}.")
            for pairs in (ALL, ANNOTATED):
                first, items = 0, []
                for graph in split.images:
                    items.append(PredItem(graph, split.relations, pairs, first, split.notes))
                    first += len(graph.triplets)
                splits[f"{name}/{pairs}"] = items
        wanted = source.splits or (ALL,)
        return select_splits(splits, wanted)

    def locate(self, items: Sequence[PredItem], source: Source) -> tuple[list[PredItem], tuple[str, ...]]:
        """Find the image of every graph (see `Task.locate`)."""
        found, notes = locate_images(
            [Item(item.graph.image, (), (), group=n) for n, item in enumerate(items)], source, self.name
        )
        paths = {item.group: item.image for item in found}
        kept = [(n, item) for n, item in enumerate(items) if n in paths]
        return [replace(item, graph=replace(item.graph, image=paths[n])) for n, item in kept], (*notes, *items[0].notes)

    def score(self, scorer: PairScorer, items: Sequence[PredItem], done: list[Record] | None = None) -> list[Record]:
        """A record per annotated triplet, with its ranks."""
        from relpretrain.zeroshot.scorers import MatchScorer
        from relpretrain.zeroshot.tasks.common.shares import spread

        heads = [o for o in getattr(scorer, "objectives", {}).values() if hasattr(o, "vocabulary")]
        mrc = heads[0] if heads and isinstance(scorer, MatchScorer) else None

        def predict(item: PredItem) -> list[Record]:
            scores = _classify(scorer, mrc, item) if mrc is not None else _match(scorer, item)  # type: ignore[arg-type]
            return list(_records(item, scores, "mrc" if mrc is not None else "matching"))

        return spread(items, predict, done)

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether each triplet is among the first 50 predictions with graph constraint."""
        _check(records)
        return {r["id"]: Outcome(r["relation"], _hit(r["rank"], DECIDES)) for r in records}

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """Recall, mean recall and zero-shot recall with graph constraint."""
        return self.tables(records, split)[0]

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """With graph constraint, without it, and each relation's recall@100 with it."""
        from relpretrain.zeroshot.tasks.relations.recall import MAX_RANK

        _check(records)
        notes = _notes(records)
        made = [
            Table(self.name, f"{split} {title}".strip(), self.protocol, tuple(_rows(records, key)), notes)
            for key, title in (("rank", "with graph constraint"), ("free_rank", "without graph constraint"))
        ]
        counts = Counter(r["relation"] for r in records)
        rows = []
        for relation, _ in counts.most_common():
            chosen = [r for r in records if r["relation"] == relation]
            rows.append(make_share_row(relation, [_hit(r["rank"], MAX_RANK) for r in chosen], images_of(chosen)))
        note = f"share of a relation's triplets among the first {MAX_RANK} predictions with graph constraint"
        return (*made, Table(self.name, f"{split} by relation".strip(), self.protocol, tuple(rows), (note,)))

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of triplets."""
        return {"": len(records)}


def _classify(scorer: MatchScorer, mrc: Any, item: PredItem) -> Tensor:
    """Log probability of each relation for each pair by a head (MRC, RelationTagger), -inf where that lacks it."""
    import torch

    from relpretrain.features import Features
    from relpretrain.types import GraphBatch, Pairs

    graph, ends = item.graph, item.ends()
    image = read_image(graph.image)
    width, height = image.size
    boxes = torch.tensor(graph.boxes) / torch.tensor([width, height, width, height])
    numbers = torch.arange(len(graph.labels))
    entities = Pairs(
        text=scorer.preprocess.texts(list(graph.labels)),
        image_index=torch.zeros_like(numbers),
        text_keys=numbers,
        boxes=torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1),
    )
    batch = GraphBatch(
        images=scorer.preprocess.images([image]),
        image_ids=torch.zeros(1, dtype=torch.long),
        pairs=entities,
        entities=entities,
        subjects=ends[:, 0],
        objects=ends[:, 1],
        relations=("",) * len(ends),
    ).to(scorer.device)
    known = [mrc.vocabulary.index(relation) for relation in item.relations]
    with torch.inference_mode():
        logits = mrc.logits(Features(scorer.backbone, batch, [batch.entities])).double().cpu()
    columns = [torch.full_like(logits[:, 0], -torch.inf) if i is None else logits[:, i] for i in known]
    scores: Tensor = mrc.log_scores(torch.stack(columns, dim=1)).nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    return scores


def _match(scorer: PairScorer, item: PredItem) -> Tensor:
    """Difference of the match logits of each relation's text with the part of the image around each pair."""
    import torch

    graph, ends = item.graph, item.ends()
    image = show(graph.image)
    boxes = torch.tensor(graph.boxes)
    low, high = torch.minimum(*boxes[ends.T, :2]), torch.maximum(*boxes[ends.T, 2:])
    unions = torch.cat([low.floor().clamp(min=0), high.ceil()], dim=1).int().tolist()
    scores = []
    for start in range(0, len(ends), _CROPS):
        chosen = ends[start : start + _CROPS].tolist()
        crops = unions[start : start + _CROPS]
        features = scorer.encode_images([image if isinstance(image, str) else image.crop(tuple(c)) for c in crops])
        texts = [f"{graph.labels[s]} {relation} {graph.labels[o]}" for s, o in chosen for relation in item.relations]
        index = [row for row in range(len(chosen)) for _ in item.relations]
        logits = scorer.score(features, index, texts).double()
        scores.append((logits[:, 1] - logits[:, 0]).reshape(len(chosen), -1))
    return torch.cat(scores)


def _records(item: PredItem, scores: Tensor, by: str) -> Iterator[Record]:
    import torch

    from relpretrain.zeroshot.tasks.relations.recall import interchangeable, ranks

    graph = item.graph
    if torch.isnan(scores).any():
        raise ValueError(f"The scores of image {graph.image} are not finite numbers; the model is broken.")
    number = {relation: i for i, relation in enumerate(item.relations)}
    truth = torch.tensor([(s, o, number[relation]) for s, o, relation in graph.triplets])
    same = interchangeable(graph.labels, torch.tensor(graph.boxes))
    found = [ranks(scores, item.ends(), truth, same, constraint) for constraint in (True, False)]
    known = torch.isfinite(scores).any(dim=0).tolist()
    for i, (s, o, relation) in enumerate(graph.triplets):
        yield {
            "label": f"{graph.labels[s]} {relation} {graph.labels[o]}",
            "task": "predcls",
            "image": graph.image.rsplit("/", 1)[-1],
            "relation": relation,
            "zero_shot": graph.zero_shot[i] if graph.zero_shot else None,
            "rank": found[0][i],
            "free_rank": found[1][i],
            "known": known[number[relation]],
            "by": by,
            "pairs": item.pairs,
            "id": item.first + i,
        }


def _rows(records: Sequence[Record], key: str) -> list[Row]:
    from relpretrain.zeroshot.tasks.relations.recall import mean_recall

    images, relations = [r["image"] for r in records], [r["relation"] for r in records]
    unseen = [r for r in records if r["zero_shot"]]
    rows = []
    for k in CUTS:
        rows.append(make_image_mean_row(f"R@{k}", [_hit(r[key], k) for r in records], images))
    for k in CUTS:
        value = mean_recall([_hit(r[key], k) for r in records], images, relations)
        rows.append(Row(f"mR@{k}", len(set(relations)), 0, float("nan"), float("nan"), {}, value))
    for k in CUTS if unseen else ():
        rows.append(make_image_mean_row(f"zR@{k}", [_hit(r[key], k) for r in unseen], [r["image"] for r in unseen]))
    return rows


def _notes(records: Sequence[Record]) -> tuple[str, ...]:
    notes = [
        f"n: images of R and zR, relations of mR; {counted(len(records), 'triplet')}; scored by {records[0]['by']}"
    ]
    unknown = [r["relation"] for r in records if not r["known"]]
    if unknown:
        outside = f"{counted(len(set(unknown)), 'relation')} with {counted(len(unknown), 'triplet')}"
        notes.append(f"outside the head's vocabulary, counted as missed: {outside}")
    if all(r["zero_shot"] is None for r in records):
        notes.append("zero-shot recall needs the training split's annotations")
    return tuple(notes)


def _hit(rank: int | None, k: int) -> bool:
    return rank is not None and rank <= k


def _check(records: Sequence[Record]) -> None:
    for record in records:
        keys = ("id", "image", "relation", "zero_shot", "rank", "free_rank", "known", "by", "pairs")
        require(record, keys, "A record of task 'predcls'")
    refuse_twice([record["id"] for record in records], "Triplet")
