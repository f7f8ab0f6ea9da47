"""Masked relation classification (MRC)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relpretrain.config_record import recorded
from relpretrain.distributed import mean_over_ranks
from relpretrain.features import Features
from relpretrain.objectives.base import Objective
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import IGNORE, Backbone, Batch, GraphBatch, ObjectiveOutput, Pairs


def relation_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of triplets' relations (arXiv 2305.14281, section 3.2).

    Args:
        logits: (triplets, relations).
        labels: (triplets,), -100 where a relation is outside the vocabulary.

    Returns:
        (triplets,) losses in fp32, 0 where the label is -100.
    """
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")


class MRC(Objective):
    """Name the relation of two entities, each seen alone: subject and object masked out of the rest of the image.

    Each entity is encoded as its label with the image masked to its box; the two final [CLS] states, subject first,
    go through a two-layer MLP with ReLU to V logits (arXiv 2305.14281, section 3.2). With 3,072 hidden units and GQA's
    310 relations the head has the 5.7M parameters that the paper gives.

    Args:
        vocabulary: The relations: a bundled name ("gqa"), the path of a saved vocabulary, or the object itself.
        relations_per_image: Triplets drawn from an image, unless a stream says otherwise.
        hidden: Units of the hidden layer; 4 times the model's width if None.
        masked: Whether each entity is seen alone. If not, both labels see the whole image, which then tells where the
            other one stands (the paper's ablation of the masking).
        weight: Factor of the loss.

    Raises:
        ValueError: If `relations_per_image` is below 1 or the vocabulary cannot be read.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (GraphBatch,)
    needs = ("regions",)
    fingerprint: Tensor

    @recorded
    def __init__(
        self,
        vocabulary: str | RelationVocabulary = "gqa",
        relations_per_image: int = 2,
        hidden: int | None = None,
        masked: bool = True,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        if relations_per_image < 1:
            raise ValueError(f"relations_per_image must be at least 1, got {relations_per_image}.")
        if not isinstance(vocabulary, RelationVocabulary):
            vocabulary = RelationVocabulary.load(vocabulary)
        self.vocabulary = vocabulary
        self.relations_per_image = relations_per_image
        self.hidden = hidden
        self.masked = masked
        self.head: nn.Module | None = None
        numbers = list(bytes.fromhex(vocabulary.fingerprint))
        self.register_buffer("fingerprint", torch.tensor(numbers, dtype=torch.uint8))

    def attach(self, backbone: Backbone) -> None:
        """Build the head for the model's width."""
        super().attach(backbone)
        width = backbone.fusion_dim
        hidden = self.hidden if self.hidden is not None else 4 * width
        self.head = nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU(), nn.Linear(hidden, len(self.vocabulary)))

    def views(self, batch: Batch) -> list[Pairs]:
        """The labels of entities with their boxes."""
        assert isinstance(batch, GraphBatch)
        return [self._entities(batch)]

    def logits(self, features: Features) -> Tensor:
        """Relation logits of the batch's triplets, (triplets, relations)."""
        batch = features.batch
        assert isinstance(batch, GraphBatch)
        if self.head is None:
            raise ValueError("MRC has no head yet: call attach(backbone) first, as the training module does.")
        entity = features.view(self._entities(batch)).fused[:, 0]  # (entities, fusion_dim)
        logits: Tensor = self.head(torch.cat([entity[batch.subjects], entity[batch.objects]], dim=1))
        return logits

    def _entities(self, batch: GraphBatch) -> Pairs:
        return batch.entities if self.masked else replace(batch.entities, boxes=None)

    def labels(self, relations: Sequence[str]) -> list[int]:
        """Index of each relation in the vocabulary, -100 where it is not in it."""
        found = (self.vocabulary.index(relation) for relation in relations)
        return [IGNORE if index is None else index for index in found]

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss on a graph batch; relations outside the vocabulary are left out."""
        batch = features.batch
        assert isinstance(batch, GraphBatch)
        numbers = self.labels(batch.relations)
        count = sum(number != IGNORE for number in numbers)
        logits = self.logits(features)
        labels = torch.tensor(numbers, dtype=torch.long, device=logits.device)
        loss = mean_over_ranks(relation_losses(logits, labels).sum(), count)
        if count == 0:
            return self.output({"mrc": loss}, 0)
        right = (logits.detach().argmax(dim=1) == labels).sum()
        return self.output({"mrc": loss}, count, {"mrc_accuracy": right / count})

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        stored = state_dict.get(prefix + "fingerprint")
        if stored is not None and not torch.equal(stored.cpu(), self.fingerprint.cpu()):
            raise ValueError(
                f"The checkpoint's relation vocabulary ({bytes(stored.tolist()).hex()}) differs from this model's "
                f"({bytes(self.fingerprint.tolist()).hex()}, {len(self.vocabulary)} relations): its classes would be "
                "mixed up. Give MRC the vocabulary of the run that wrote the checkpoint."
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
