"""Scores by a trained head (`RelationTagger`) on region features of a frozen model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from PIL import Image
from torch import nn

from relpretrain.checkpoints import Loaded
from relpretrain.errors import CheckpointError
from relpretrain.features import Features, lay_out
from relpretrain.objectives import RelationTagger
from relpretrain.scene_graph import RelationVocabulary, SceneGraph
from relpretrain.tagging.proposals import Asked
from relpretrain.types import GraphBatch, Pairs

NOT_SCORED = math.nan


class HeadTagger:
    """Probability of each proposed relation of a pair, by a model that was trained with `RelationTagger`.

    Args:
        loaded: The model.
        device: Where to compute.

    Raises:
        CheckpointError: If the model has no such head.
    """

    name = "head"

    def __init__(self, loaded: Loaded, device: torch.device | str = "cpu") -> None:
        heads = [objective for objective in loaded.objectives.values() if isinstance(objective, RelationTagger)]
        if not heads:
            had = ", ".join(loaded.objectives) or "none"
            raise CheckpointError(
                f"the checkpoint has no RelationTagger (its objectives: {had}): train one with recipes/tagger.yaml, or "
                "take the matching head as it is, by --by itm"
            )
        self.head = heads[0].eval().to(device)
        self.backbone = loaded.backbone
        cast(nn.Module, self.backbone).eval().to(device)
        self.preprocess = loaded.preprocess
        self.device = torch.device(device)

    @property
    def vocabulary(self) -> RelationVocabulary:
        """The relations that it knows."""
        return self.head.vocabulary

    @torch.inference_mode()
    def scores(
        self, images: Sequence[Image.Image], graphs: Sequence[SceneGraph], asked: Sequence[Sequence[Asked]]
    ) -> list[list[list[float]]]:
        """Score proposals, all images in one pass.

        Args:
            images: The images.
            graphs: Their entities; boxes in pixels of the image.
            asked: The pairs of each image.

        Returns:
            Of each image and pair the probability of each proposed relation; NaN outside the vocabulary.
        """
        total = sum(map(len, asked))
        if not total:
            return [[] for _ in images]
        batch = lay_out(pair_batch(self.preprocess, images, graphs, asked), self.head.views, self.backbone)
        batch = batch.to(self.device)
        features = Features(self.backbone, batch, self.head.views(batch))
        found = self.head.log_scores(self.head.logits(features).double()).exp().cpu().tolist()
        rows = iter(found)
        return [[self._of(pair, next(rows)) for pair in pairs] for pairs in asked]

    def _of(self, pair: Asked, row: Sequence[float]) -> list[float]:
        numbers = [self.vocabulary.index(relation) for relation in pair.relations]
        return [NOT_SCORED if number is None else row[number] for number in numbers]


def pair_batch(
    preprocess: Any, images: Sequence[Image.Image], graphs: Sequence[SceneGraph], asked: Sequence[Sequence[Asked]]
) -> GraphBatch:
    """A batch with the entities that are asked about, and a triplet for each pair, in order; at least one pair."""
    labels: list[str] = []
    boxes: list[tuple[float, ...]] = []
    of_image: list[int] = []
    ends: list[tuple[int, int]] = []
    for number, (image, graph, pairs) in enumerate(zip(images, graphs, asked, strict=True)):
        rows: dict[int, int] = {}
        for pair in pairs:
            for index in (pair.subject, pair.object):
                if index not in rows:
                    entity = graph.entities[index]
                    assert entity.box is not None  # pairs are asked of entities with boxes
                    rows[index] = len(labels)
                    labels.append(entity.label)
                    boxes.append(entity.box.relative(*map(float, image.size)))
                    of_image.append(number)
            ends.append((rows[pair.subject], rows[pair.object]))
    numbers = torch.arange(len(labels))
    entities = Pairs(preprocess.texts(labels), torch.tensor(of_image), numbers, torch.tensor(boxes))
    return GraphBatch(
        images=preprocess.images(list(images)),
        image_ids=torch.arange(len(images)),
        pairs=entities,
        entities=entities,
        subjects=torch.tensor([s for s, _ in ends]),
        objects=torch.tensor([o for _, o in ends]),
        relations=("",) * len(ends),
    )
