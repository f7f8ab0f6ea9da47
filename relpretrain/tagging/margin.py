"""Scores without training: how far a triplet's text matches its part of the image better than false ones do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from relpretrain.scene_graph import RelationVocabulary, SceneGraph
from relpretrain.scene_graph.foils import RULES
from relpretrain.tagging.head import NOT_SCORED
from relpretrain.tagging.proposals import Asked
from relpretrain.zeroshot.scorers import MatchScorer


def foils_of(subject: str, relation: str, object: str, vocabulary: RelationVocabulary) -> list[str]:
    """Texts that are false where "subject relation object" is true.

    With a contradicting relation (`foils.PredicateRules.contradicting`, and what the vocabulary names as the converse),
    and with the ends exchanged, unless the relation may hold from both sides or both things have one name.

    Args:
        subject: Name of the first thing.
        relation: The relation.
        object: Name of the second thing.
        vocabulary: Whose converses are known.
    """
    converse = vocabulary.inverse(relation) or RULES.converse(relation)
    symmetric = RULES.symmetric(relation) or (converse is not None and RULES.same(converse, relation))
    false = RULES.contradicting(relation)
    if converse is not None and not symmetric and subject != object:
        false = [*false, converse]
    texts = [f"{subject} {other} {object}" for other in dict.fromkeys(false)]
    if not symmetric and subject != object:
        texts.append(f"{object} {relation} {subject}")
    return [" ".join(text.split()) for text in texts]


def itm_margins(scores: Tensor, groups: Sequence[int]) -> list[float]:
    """How far the first score of each group is above the best of its others.

    Args:
        scores: Differences of the match logits, group by group: a triplet's and then its foils', (texts,).
        groups: Texts of each group, 1 or more.

    Returns:
        The margin of each group; NaN for one without foils.
    """
    found = []
    for part in torch.split(scores, list(groups)):
        found.append(float(part[0] - part[1:].max()) if len(part) > 1 else NOT_SCORED)
    return found


class MarginTagger:
    """Scores of any model with a matching head, without training.

    The score of a proposal is the logistic function of its margin: the difference of its match logits minus that of the
    best foil (`foils_of`), of the texts with the part of the image around both boxes. 1/2 says that a false text fits
    as well. A relation without foils, such as "wearing" between two things of one name, gets no score.

    Args:
        scorer: The model.
        vocabulary: The relations that are proposed where none are, and their converses.
    """

    name = "itm_margin"

    def __init__(self, scorer: MatchScorer, vocabulary: RelationVocabulary) -> None:
        self.scorer = scorer
        self.vocabulary = vocabulary

    def scores(
        self, images: Sequence[Image.Image], graphs: Sequence[SceneGraph], asked: Sequence[Sequence[Asked]]
    ) -> list[list[list[float]]]:
        """Score proposals; see `HeadTagger.scores`. NaN where a proposal has no foil."""
        boxes: list[tuple[float, float, float, float]] = []
        of_image: list[int] = []
        texts: list[str] = []
        place: list[int] = []
        groups: list[int] = []
        for number, (graph, pairs) in enumerate(zip(graphs, asked, strict=True)):
            for pair in pairs:
                one, other = graph.entities[pair.subject], graph.entities[pair.object]
                assert one.box is not None  # pairs are asked of entities with boxes
                assert other.box is not None
                low, high = map(min, one.box[:2], other.box[:2]), map(max, one.box[2:], other.box[2:])
                boxes.append((*low, *high))  # type: ignore[arg-type]
                of_image.append(number)
                for relation in pair.relations:
                    own = " ".join(f"{one.label} {relation} {other.label}".split())
                    group = [own, *foils_of(one.label, relation, other.label, self.vocabulary)]
                    texts += group
                    place += [len(boxes) - 1] * len(group)
                    groups.append(len(group))
        if not texts:
            return [[[] for _ in pairs] for pairs in asked]
        regions = self._regions(images, of_image, boxes)
        logits = self.scorer.score(regions, place, texts).double()
        margins = iter(itm_margins(logits[:, 1] - logits[:, 0], groups))
        return [[[_logistic(next(margins)) for _ in pair.relations] for pair in pairs] for pairs in asked]

    def _regions(
        self, images: Sequence[Image.Image], index: list[int], boxes: list[tuple[float, float, float, float]]
    ) -> Any:
        encode = getattr(self.scorer, "encode_regions", None)
        if encode is not None:
            return encode(images, index, boxes)
        crops = [images[i].crop((math.floor(a), math.floor(b), math.ceil(c), math.ceil(d)))
                 for i, (a, b, c, d) in zip(index, boxes, strict=True)]  # fmt: skip
        return self.scorer.encode_images(crops)


def _logistic(margin: float) -> float:
    return NOT_SCORED if math.isnan(margin) else float(torch.sigmoid(torch.tensor(margin, dtype=torch.float64)))
