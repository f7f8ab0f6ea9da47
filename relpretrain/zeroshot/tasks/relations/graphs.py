"""Probes on held-out scene graphs: are relations classified (MRC), and are masked relation words filled in?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relpretrain.scene_graph import Entity
from relpretrain.zeroshot.analysis.table import Table, images_of, make_share_row
from relpretrain.zeroshot.tasks.common.base import BaseTask, Outcome
from relpretrain.zeroshot.tasks.common.card import Card
from relpretrain.zeroshot.tasks.common.in_shard import InShard, graphs_in, held_out_shards
from relpretrain.zeroshot.tasks.common.source import Record, Source, require

if TYPE_CHECKING:
    from torch import Tensor

    from relpretrain.features import Features
    from relpretrain.types import GraphBatch, PairScorer
    from relpretrain.zeroshot.scorers import MatchScorer

RELATIONS_PER_IMAGE = 4
"""Triplets taken from an image: its first ones."""

_PROBES = {"mrc": "relation classification (MRC)", "words": "masked relation words"}


@dataclass(frozen=True)
class GraphItem:
    """An image of a shard with some of its triplets.

    Args:
        image: The image.
        triplets: (number, subject, relation, object); the number identifies the triplet in the split.
        scale: Width and height that the boxes refer to, in pixels.
    """

    image: InShard
    triplets: tuple[tuple[int, Entity, str, Entity], ...]
    scale: tuple[float, float]


CARD = Card(
    task="graphs",
    title="Probes on scene graphs",
    question="Which relation holds between two entities, and which words stand where its tokens were masked?",
    paper="Ours.",
    licence="that of the shards",
    files=("graph shards (`*.tar`) in `DIR/validation`, in `DIR/../validation`, or anywhere below `DIR`",),
    source="`relpretrain data convert` or `synthetic`",
    images="in the shards",
    protocol="graphs-1: top-1, at most 4 triplets per image; masked words: all tokens right, full vocabulary",
    ties="the first relation of the vocabulary, the first word",
    constant="needs a model; chance and the most frequent relation stand beside the accuracy",
    comparable="models with the same relation vocabulary and tokenizer on the same shards",
    not_comparable="anything published",
)


class GraphProbes(BaseTask):
    """Top-1 accuracy of two questions about the triplets of held-out graph shards.

    MRC: which relation of the vocabulary holds between two entities, each seen alone? Needs a model that was trained
    with the MRC objective. Masked relation words: with exactly the relation's tokens masked in "subject relation
    object", are all of them predicted, out of the whole word vocabulary? The number of masks is a hint: chance and
    majority, which are shown beside the accuracy, do not take it into account.
    """

    name = "graphs"
    card = CARD
    protocol = CARD.protocol
    several = True

    def recognises(self, record: Record) -> bool:
        """Whether a record answers a probe."""
        return "probe" in record

    def items(self, source: Source) -> dict[str, list[GraphItem]]:
        """The images with triplets in the shards of the validation folder, or below DIR itself where there is none.

        The validation folder is DIR/validation; generated data has it beside DIR, if DIR is its "benchmarks".
        """
        folder, shards = held_out_shards(source, self.name)
        items = [item for item in _read(folder, shards) if item.triplets]
        if not items:
            raise ValueError(f"No triplets below {folder} ({len(shards)} *.tar shards found); 'graphs' needs held-out "
                             "shards with scene graphs.")  # fmt: skip
        return {folder.name if folder != source.path else "": items}

    def locate(self, items: Sequence[GraphItem], source: Source) -> tuple[list[GraphItem], tuple[str, ...]]:
        """Images come with the shards: nothing to find."""
        return list(items), ()

    def score(self, scorer: PairScorer, items: Sequence[GraphItem], done: list[Record] | None = None) -> list[Record]:
        """Answer both questions for every triplet; without an MRC head only the second."""
        import torch

        from relpretrain.objectives import MRC
        from relpretrain.zeroshot.scorers import MatchScorer
        from relpretrain.zeroshot.tasks.common.shares import spread

        if not isinstance(scorer, MatchScorer):
            raise ValueError(f"Task 'graphs' needs a MatchScorer, got {type(scorer).__name__}.")
        mrc = next((objective for objective in scorer.objectives.values() if isinstance(objective, MRC)), None)
        known = mrc.vocabulary.names if mrc else {relation for item in items for _, _, relation, _ in item.triplets}
        size = max(1, scorer.batch_size // RELATIONS_PER_IMAGE)
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        with torch.inference_mode():
            return spread(batches, lambda batch: _answer(scorer, mrc, batch, len(known)), done)

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether each question was answered rightly, by probe and triplet."""
        for record in records:
            require(record, ("id", "probe", "label", "correct", "choices"), "A record of task 'graphs'")
        asked = {(r["probe"], r["id"]): r for r in records}
        return {key: Outcome(_PROBES.get(key[0], str(key[0])), bool(r["correct"])) for key, r in asked.items()}

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """Accuracy of each probe, beside chance and the share of the most frequent relation."""
        self.outcomes(records)
        rows = []
        for probe, title in _PROBES.items():
            asked = [r for r in records if r["probe"] == probe]
            if asked:
                _, most = Counter(r["label"] for r in asked).most_common(1)[0]
                floor = {"chance": 1 / asked[0]["choices"], "majority": most / len(asked)}
                rows.append(make_share_row(title, [bool(r["correct"]) for r in asked], images_of(asked), **floor))
        return Table(self.name, split, self.protocol, tuple(rows))


def _read(folder: Path, shards: Sequence[Path]) -> Iterator[GraphItem]:
    number = 0
    for image, graph, size in graphs_in(folder, shards, "boxed_graphs"):
        chosen = graph.boxed_pairs()[:RELATIONS_PER_IMAGE]
        ends = [(graph.entities[r.subject], r.relation, graph.entities[r.object]) for r in chosen]
        triplets = tuple((number + i, *end) for i, end in enumerate(ends))
        number += len(triplets)
        yield GraphItem(image, triplets, size)


def _answer(scorer: MatchScorer, mrc: Any, items: Sequence[GraphItem], choices: int) -> list[Record]:
    from relpretrain.features import Features

    batch, labels = _batch(scorer, items)
    features = Features(scorer.backbone, batch, [batch.pairs] if mrc is None else [batch.pairs, batch.entities])
    asked = [(number, str(item.image)) for item in items for number, _, _, _ in item.triplets]
    records = _words(scorer, features, asked, labels, choices)
    if mrc is None:
        return records
    predicted = mrc.logits(features).argmax(dim=1).tolist()
    for (number, image), relation, guess in zip(asked, batch.relations, predicted, strict=True):
        index = mrc.vocabulary.index(relation)
        if index is not None:
            answer = {"label": mrc.vocabulary.names[index], "predicted": mrc.vocabulary.names[guess]}
            about = {"choices": choices, "id": number, "image": image}
            records.append({"probe": "mrc", **answer, "correct": guess == index, **about})
    return records


def _words(
    scorer: MatchScorer, features: Features, asked: Sequence[tuple[int, str]], labels: Tensor, choices: int
) -> list[Record]:
    """Fill in the masked words.

    Args:
        scorer: The model.
        features: Of the batch of triplets.
        asked: Number and image of each triplet.
        labels: (triplets, length), -100 where a token is visible.
        choices: How many relations there are.
    """
    import torch

    from relpretrain.types import GraphBatch

    batch, tokenizer = features.batch, scorer.preprocess.tokenizer
    assert isinstance(batch, GraphBatch)
    masked = labels >= 0
    guesses = torch.full_like(labels, -1)
    fused = features.view(batch.pairs).fused
    guesses[masked] = features.backbone.word_logits(fused[masked]).argmax(dim=1)
    records = []
    for row, (number, image) in enumerate(asked):
        wanted, guess = labels[row][masked[row]], guesses[row][masked[row]]
        if len(wanted):  # a relation beyond the text limit has no token left
            answer = {"label": batch.relations[row], "predicted": tokenizer.decode(guess.tolist())}
            correct = bool((wanted == guess).all())
            about = {"choices": choices, "id": number, "image": image}
            records.append({"probe": "words", **answer, "correct": correct, **about})
    return records


def _batch(scorer: MatchScorer, items: Sequence[GraphItem]) -> tuple[GraphBatch, Tensor]:
    """One batch of all triplets, `pairs` being their texts with the relation masked, and what was masked."""
    import torch

    from relpretrain.types import GraphBatch, Pairs, TextBatch

    rows = [(i, item, *triplet[1:]) for i, item in enumerate(items) for triplet in item.triplets]
    ends = [(i, item, entity) for i, item, subject, _, target in rows for entity in (subject, target)]
    encoded = [_mask_relation(scorer.preprocess, s.label, relation, o.label) for _, _, s, relation, o in rows]
    length = max(len(ids) for ids, _ in encoded)
    pad = scorer.preprocess.tokenizer.pad_token_id
    ids = torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in encoded])
    labels = torch.tensor([wanted + [-100] * (length - len(wanted)) for _, wanted in encoded])
    mask = torch.arange(length) < torch.tensor([len(ids) for ids, _ in encoded])[:, None]
    numbers = torch.arange(len(ends))
    batch = GraphBatch(
        images=scorer.preprocess.images([item.image() for item in items]),
        image_ids=torch.arange(len(items)),
        pairs=Pairs(TextBatch(ids, mask), torch.tensor([i for i, *_ in rows]), torch.arange(len(rows))),
        entities=Pairs(
            text=scorer.preprocess.texts([entity.label for _, _, entity in ends]),
            image_index=torch.tensor([i for i, _, _ in ends]),
            text_keys=numbers,
            boxes=torch.tensor([_share(entity.box, *item.scale) for _, item, entity in ends]),
        ),
        subjects=numbers[::2],
        objects=numbers[1::2],
        relations=tuple(relation for _, _, _, relation, _ in rows),
    )
    return batch.to(scorer.device), labels.to(scorer.device)


def _mask_relation(preprocess: Any, subject: str, relation: str, target: str) -> tuple[list[int], list[int]]:
    """Ids of "subject relation object" with the relation's tokens masked, and labels: -100 but for those."""
    tokenizer = preprocess.tokenizer
    parts = [tokenizer.encode(text, add_special_tokens=False) for text in (subject, relation, target)]
    end = [tokenizer.sep_token_id] if preprocess.separator else []
    ids = [tokenizer.cls_token_id, *parts[0], *[tokenizer.mask_token_id] * len(parts[1]), *parts[2], *end]
    labels = [-100] * (1 + len(parts[0])) + parts[1] + [-100] * (len(parts[2]) + len(end))
    return ids[: preprocess.max_tokens], labels[: preprocess.max_tokens]


def _share(box: Any, width: float, height: float) -> list[float]:
    """A box as (cx, cy, w, h), as shares of its image."""
    x_min, y_min, x_max, y_max = box
    centre = [(x_min + x_max) / 2 / width, (y_min + y_max) / 2 / height]
    return [*centre, (x_max - x_min) / width, (y_max - y_min) / height]
