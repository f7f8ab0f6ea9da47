"""Masked relation classification (MRC)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relpretrain.config_record import recorded
from relpretrain.distributed import mean_over_ranks, weighted_mean
from relpretrain.features import Features
from relpretrain.objectives.base import Objective
from relpretrain.reading import parse_json, read_text
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import IGNORE, NO_RELATION, Backbone, Batch, GraphBatch, ObjectiveOutput, Pairs, send


def relation_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the triplets' relations (arXiv 2305.14281, section 3.2).

    Args:
        logits: (triplets, relations).
        labels: (triplets,), -100 where a relation is outside the vocabulary.

    Returns:
        (triplets,) losses in fp32, 0 where the label is -100.
    """
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")


def class_weights(counts: Tensor, kind: str, beta: float = 0.9999) -> Tensor:
    """Weight of each relation class in the loss, by its frequency.

    "inverse_frequency" is 1 / n. "effective_number" is (1 - beta) / (1 - beta ** n) (Cui et al., 2019, arXiv
    1901.05555, equation 7): 1 / n for rare relations, and constant from about 1 / (1 - beta) triplets on. Both are
    scaled to a mean of 1 over the triplets of the data (in the paper: over the classes), so that the loss keeps its
    scale and its gradient is unbiased in batches of any size.

    Args:
        counts: Number of triplets of each relation in the data, (relations,).
        kind: "none" (all 1), "inverse_frequency" or "effective_number".
        beta: Parameter of "effective_number", in [0, 1).

    Returns:
        (relations,), fp32. A relation with a count of 0 is weighted like one with a count of 1.
    """
    n = counts.double().clamp(min=1)
    if kind == "none":
        return torch.ones_like(counts, dtype=torch.float32)
    raw = 1 / n if kind == "inverse_frequency" else (1 - beta) / (1 - beta**n)
    return (raw * counts.sum() / (raw * counts).sum()).float()


class RelationHead(Objective):
    """What classifies the relation between two entities from their separately masked regions.

    Each entity is its label fused with the image masked to its box. The final [CLS] states of subject and object are
    concatenated and classified by a two-layer MLP with ReLU (arXiv 2305.14281, section 3.2). A subclass has the loss.

    Args:
        vocabulary: The relations: name of a bundled vocabulary ("gqa"), path of a saved one, or a `RelationVocabulary`.
        hidden: Units of the hidden layer; 4 times the model's width if None.
        masked: Whether the image is masked to each entity's box, or both labels are fused with the whole image.
        weight: Factor of the loss.

    Raises:
        ValueError: If the vocabulary cannot be read.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (GraphBatch,)
    needs = ("regions",)
    needs_boxes = True
    fingerprint: Tensor
    init_args: dict[str, Any]

    def __init__(self, vocabulary: str | RelationVocabulary, hidden: int | None, masked: bool, weight: float) -> None:
        super().__init__(weight)
        if not isinstance(vocabulary, RelationVocabulary):
            vocabulary = RelationVocabulary.load(vocabulary)
        self.vocabulary = vocabulary
        self.hidden = hidden
        self.masked = masked
        self.head: nn.Sequential | None = None
        numbers = list(bytes.fromhex(vocabulary.fingerprint))
        self.register_buffer("fingerprint", torch.tensor(numbers, dtype=torch.uint8))

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that rebuild this objective, with the vocabulary itself instead of the file it was read from."""
        return {**self.init_args, "vocabulary": self.vocabulary}

    def attach(self, backbone: Backbone) -> None:
        """Build the head for the model's width."""
        super().attach(backbone)
        width = backbone.fusion_dim
        hidden = self.hidden if self.hidden is not None else 4 * width
        self.head = nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU(), nn.Linear(hidden, len(self.vocabulary)))

    def views(self, batch: Batch) -> list[Pairs]:
        """The entities' labels with their boxes; none if no relation of the batch is in the vocabulary."""
        assert isinstance(batch, GraphBatch)
        looked_at = any(relation in self.vocabulary or relation == NO_RELATION for relation in batch.relations)
        return [self._entities(batch)] if looked_at else []

    def logits(self, features: Features) -> Tensor:
        """Relation logits of the batch's triplets, (triplets, relations)."""
        batch = features.batch
        assert isinstance(batch, GraphBatch)
        # [CLS] of each entity's label fused with its masked image, (entities, fusion_dim).
        entity = features.view(self._entities(batch)).fused_first()[:, 0]
        # Subject and object side by side, (triplets, 2 * fusion_dim).
        return self._classify(torch.cat([entity[batch.subjects], entity[batch.objects]], dim=1))

    def log_scores(self, logits: Tensor) -> Tensor:
        """Log probability of each relation, of logits (pairs, relations): one of them holds (softmax)."""
        return logits.log_softmax(dim=1)

    def _nothing(self, features: Features) -> Tensor:
        """A zero that touches the head, as on the other processes, which may have triplets."""
        empty = next(self.parameters(), self.fingerprint).new_zeros(0, 2 * features.backbone.fusion_dim)
        return self._classify(empty).float().sum()

    def labels(self, relations: Sequence[str]) -> list[int]:
        """Index of each relation in the vocabulary, or -100."""
        found = (self.vocabulary.index(relation) for relation in relations)
        return [IGNORE if index is None else index for index in found]

    def _classify(self, states: Tensor) -> Tensor:
        if self.head is None:
            name = type(self).__name__
            raise ValueError(f"{name} has no head yet: call attach(backbone) first, as the training module does.")
        logits: Tensor = self.head(states)  # (triplets, relations)
        return logits

    def _entities(self, batch: GraphBatch) -> Pairs:
        return batch.entities if self.masked else replace(batch.entities, boxes=None)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        stored = state_dict.get(prefix + "fingerprint")
        if stored is not None and not torch.equal(stored.cpu(), self.fingerprint.cpu()):
            raise ValueError(
                f"The checkpoint's relation vocabulary ({bytes(stored.tolist()).hex()}) differs from this model's "
                f"({bytes(self.fingerprint.tolist()).hex()}, {len(self.vocabulary)} relations): its classes would be "
                f"mixed up. Give {type(self).__name__} the vocabulary of the run that wrote the checkpoint."
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class MRC(RelationHead):
    """Classify the relation between two entities from their separately masked regions.

    Each entity is its label fused with the image masked to its box. The final [CLS] states of subject and object are
    concatenated and classified by a two-layer MLP with ReLU (arXiv 2305.14281, section 3.2). With 3,072 hidden units
    and GQA's 310 relations the head has the 5.7M parameters that the paper reports.

    A pair of entities has one label per step. Where it has several relations, one is sampled in each step
    (`relpretrain.scene_graph.choose_relations`): a softmax cannot be right about two, and so each input counts once in
    the loss and in the accuracies.

    Logs `mrc_accuracy`, the fraction of triplets classified correctly, and `mrc_macro_accuracy`, the mean of that
    fraction over the relations that occurred, which shows what a model knows beyond the frequent ones. A process
    without any triplet of the vocabulary in its part of the batch fuses nothing and counts none.

    Args:
        vocabulary: The relations: name of a bundled vocabulary ("gqa"), path of a saved one, or a `RelationVocabulary`.
        relations_per_image: Triplets sampled from an image, unless a stream says otherwise.
        hidden: Units of the hidden layer; 4 times the model's width if None.
        masked: Whether the image is masked to each entity's box. If not, both labels are fused with the whole image
            (the paper's ablation of the masking).
        weight: Factor of the loss.
        class_weights: "none" (as in the paper), "inverse_frequency" or "effective_number", see the function
            `class_weights`. Weights help rare relations where a few dominate, as left and right do in GQA.
        beta: Parameter of "effective_number".
        relation_counts: How often each relation occurs in the data, for `class_weights`: the counts, or a folder of
            shards or its index.json that has them; None for the vocabulary's own.

    Raises:
        ValueError: If `relations_per_image` is below 1, the vocabulary cannot be read, the class weights are unknown,
            or they need counts and there are none.
    """

    weighs = True
    factors: Tensor

    @recorded
    def __init__(
        self,
        vocabulary: str | RelationVocabulary = "gqa",
        relations_per_image: int = 2,
        hidden: int | None = None,
        masked: bool = True,
        weight: float = 1.0,
        class_weights: str = "none",
        beta: float = 0.9999,
        relation_counts: str | dict[str, int] | None = None,
    ) -> None:
        super().__init__(vocabulary, hidden, masked, weight)
        if relations_per_image < 1:
            raise ValueError(f"relations_per_image must be at least 1, got {relations_per_image}.")
        if relation_counts is not None:
            self.vocabulary = self.vocabulary.counted(_read_counts(relation_counts))
        self.relations_per_image = relations_per_image
        self.register_buffer("factors", _factors(self.vocabulary, class_weights, beta), persistent=False)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that rebuild this objective, with the counts themselves instead of the file they were read from."""
        return {**super().config, "relation_counts": None}

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss on a graph batch; relations outside the vocabulary are ignored."""
        batch = features.batch
        assert isinstance(batch, GraphBatch)
        numbers = self.labels(batch.relations)
        count = sum(number != IGNORE for number in numbers)
        if count == 0 and NO_RELATION not in batch.relations:
            return self.output({"mrc": mean_over_ranks(self._nothing(features), 0)}, 0)
        # Losses (triplets,), 0 outside the vocabulary.
        logits = self.logits(features)
        labels = send(torch.tensor(numbers, dtype=torch.long), logits.device)
        losses = relation_losses(logits, labels) * self.factors[labels.clamp(min=0)].float()
        right = logits.detach().argmax(dim=1) == labels
        accuracy = {"mrc_accuracy": right.sum() / count} if count else {}
        weights = None if batch.weights is None else batch.weights * (labels != IGNORE)
        output = self.output({"mrc": weighted_mean(losses, weights, count)}, count, accuracy)
        output.classes["mrc_macro_accuracy"] = labels, right
        return output


def _factors(vocabulary: RelationVocabulary, kind: str, beta: float) -> Tensor:
    kinds = ("none", "inverse_frequency", "effective_number")
    if kind not in kinds:
        raise ValueError(f"class_weights must be one of {', '.join(kinds)}; got {kind!r}.")
    if not 0 <= beta < 1:
        raise ValueError(f"beta of class_weights must be at least 0 and below 1, got {beta}.")
    if kind != "none" and not vocabulary.counts:
        raise ValueError(
            f"class_weights={kind!r} needs how often each relation occurs, and none of the vocabulary's "
            f"{len(vocabulary)} names has a count: set relation_counts to the folder of the shards that are trained on."
        )
    counts = [vocabulary.counts.get(name, 0) for name in vocabulary.names]
    return class_weights(torch.tensor(counts), kind, beta)


def _read_counts(given: str | Mapping[str, int]) -> Mapping[str, int]:
    if not isinstance(given, str):
        return given
    path = Path(given)
    path = path / "index.json" if path.is_dir() else path
    try:
        if not path.is_file():  # a device has no end
            raise FileNotFoundError
        counts = parse_json(read_text(path))["relation_counts"]
        return {str(name): int(number) for name, number in counts.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"relation_counts={given!r} has no counts of relations ({type(error).__name__}): give a folder of shards, "
            'or its index.json, which has "relation_counts".'
        ) from error
