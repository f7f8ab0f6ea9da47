"""Tagging ordered pairs of boxes with relations: each relation holds or not, and many pairs have none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relpretrain.config_record import recorded
from relpretrain.distributed import mean_over_ranks
from relpretrain.features import Features
from relpretrain.objectives.relation import RelationHead
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import NO_RELATION, Backbone, GraphBatch, ObjectiveOutput, send

NONE = -1
"""Class of a pair of boxes that has no annotated relation."""
PRIOR = 0.01
"""Probability that a new head gives each relation: so the many negatives do not drown the first steps (RetinaNet)."""


def focal_losses(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss over sigmoids in CornerNet's form, without its division by the number of positives.

    -(1 - p)^gamma log p where a relation holds and -p^gamma log(1 - p) where it does not (Law and Deng, 2018, equation
    1, without the reduced penalty around corners); so RLIPv2 (arXiv 2308.09351) trains its tagger, with gamma 2.

    Args:
        logits: (pairs, relations).
        targets: Whether each relation holds, (pairs, relations), bool.
        gamma: How little well-classified pairs weigh; 0 gives binary cross-entropy.

    Returns:
        (pairs, relations) losses in fp32.
    """
    logits = torch.where(targets, logits.float(), -logits.float())
    return -((-logits).sigmoid() ** gamma) * F.logsigmoid(logits)


def pair_targets(
    subjects: Tensor, objects: Tensor, labels: Tensor, converses: Tensor, classes: int
) -> tuple[Tensor, Tensor]:
    """What holds of the pair of each row, put together from all rows.

    A pair with several relations has a row for each: every such row gets all of them, and counts as a part of one pair.
    "a left of b" also says "b right of a": where the vocabulary knows the converse, the mirrored pair has it, too. A
    pair whose only relations are outside the vocabulary is left out, for nobody knows which of the classes are false of
    it; so is a box with itself. What one row is says nothing of the rows of other pairs.

    Args:
        subjects: Number of each row's subject among all boxes of the batch, (rows,), int64.
        objects: Of its object, (rows,).
        labels: Class of each row's relation, (rows,); -1 for a pair without one, -100 outside the vocabulary.
        converses: Class of what the relation says of the mirrored pair, (rows,); -1 or -100 where there is none.
        classes: Number of relations.

    Returns:
        Whether each relation holds, (rows, classes), bool, and the weight of each row, (rows,), which add up to 1 for
        each pair that counts and to 0 for others.
    """
    span = torch.cat([subjects, objects]).max() + 1 if len(subjects) else 1
    codes, mirrored = subjects * span + objects, objects * span + subjects
    levels = codes.sort().values
    own = torch.searchsorted(levels, codes)  # the place of the pair's first row: a number for each pair
    other = torch.searchsorted(levels, mirrored).clamp(max=max(len(levels) - 1, 0))
    has_other = levels[other] == mirrored

    def by_pair(numbers: Tensor) -> Tensor:
        named = F.one_hot(numbers.clamp(min=0), classes) * (numbers >= 0)[:, None]
        return torch.zeros_like(named).index_add_(0, own, named)

    targets = by_pair(labels)[own] + by_pair(converses)[other] * has_other[:, None] > 0
    counted = (targets.any(dim=1) | (labels == NONE)) & (subjects != objects)
    rows = torch.zeros_like(own).index_add_(0, own, torch.ones_like(own))[own]
    return targets, counted / rows


class RelationTagger(RelationHead):
    """Say of every ordered pair of boxes which relations hold: MRC's head with a sigmoid for each relation.

    Where MRC knows that a pair is related and asks how, a tagger also sees pairs without any annotated relation, as
    negatives of all classes, and several relations may hold of one pair. So its scores can be cut at a threshold to
    label images that have boxes and no graph (`relpretrain data label --tagger`).

    The loss is the sum of `focal_losses` over pairs and relations, divided by the number of true ones in the joint
    batch. It logs `tagger_recall` and `tagger_precision` at a probability of 1/2.

    Its stream holds all pairs among `boxes_per_image` boxes of an image (`Stream.boxes_per_image`), several times where
    a pair has several relations: MRC, which takes one, needs a stream of its own.

    Args:
        vocabulary: The relations: name of a bundled vocabulary ("gqa"), path of a saved one, or a `RelationVocabulary`.
        boxes_per_image: Boxes drawn from an image, those of annotated relations first, unless a stream says otherwise.
        hidden: Units of the hidden layer; 4 times the model's width if None.
        masked: Whether the image is masked to each entity's box, or both labels are fused with the whole image.
        gamma: Exponent of the focal loss.
        weight: Factor of the loss.

    Raises:
        ValueError: If the vocabulary cannot be read, `boxes_per_image` is below 2, or `gamma` negative.
    """

    @recorded
    def __init__(
        self,
        vocabulary: str | RelationVocabulary = "gqa",
        boxes_per_image: int = 8,
        hidden: int | None = None,
        masked: bool = True,
        gamma: float = 2.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(vocabulary, hidden, masked, weight)
        if boxes_per_image < 2:
            raise ValueError(f"boxes_per_image must be at least 2, a pair; got {boxes_per_image}.")
        if gamma < 0:
            raise ValueError(f"gamma must not be negative, got {gamma}.")
        self.boxes_per_image = boxes_per_image
        self.gamma = gamma

    def attach(self, backbone: Backbone) -> None:
        """Build the head for the model's width; at first each relation has a probability of about `PRIOR`."""
        super().attach(backbone)
        assert self.head is not None
        assert isinstance(self.head[-1], nn.Linear)
        nn.init.constant_(self.head[-1].bias, -math.log((1 - PRIOR) / PRIOR))

    def log_scores(self, logits: Tensor) -> Tensor:
        """Log probability of each relation, of logits (pairs, relations): each for itself (sigmoid)."""
        return F.logsigmoid(logits)

    def labels(self, relations: Sequence[str]) -> list[int]:
        """Class of each relation: -1 for a pair without one, -100 outside the vocabulary."""
        return [NONE if r == NO_RELATION else n for r, n in zip(relations, super().labels(relations), strict=True)]

    def converses(self, relations: Sequence[str]) -> list[int]:
        """Class of what each relation says of the mirrored pair, or -100."""
        return super().labels([self.vocabulary.inverse(relation) or NO_RELATION for relation in relations])

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss on a graph batch with all pairs of some boxes."""
        batch = features.batch
        assert isinstance(batch, GraphBatch)
        if not self.views(batch):
            return self.output({"tagger": mean_over_ranks(self._nothing(features), 0)}, 0)
        # Logits, targets and losses (rows, relations); weights (rows,).
        logits = self.logits(features)
        named = torch.tensor([self.labels(batch.relations), self.converses(batch.relations)])
        labels, converses = send(named, logits.device)
        targets, weights = pair_targets(batch.subjects, batch.objects, labels, converses, len(self.vocabulary))
        losses = focal_losses(logits, targets, self.gamma) * weights[:, None]
        positives = (targets * weights[:, None]).sum()
        said = (logits.detach() > 0) * weights[:, None]
        right = (said * targets).sum()
        return self.output(
            {"tagger": mean_over_ranks(losses.sum(), positives)},
            positives,
            {"tagger_recall": right / positives.clamp(min=1), "tagger_precision": right / said.sum().clamp(min=1)},
            {"tagger_precision": said.sum()},
        )
