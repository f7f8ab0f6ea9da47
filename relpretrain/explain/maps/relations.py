"""Where a model looks for the subject, the predicate and the object of a triplet that was put into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from relpretrain.explain.maps.spans import Reduce, Spans, triplet_spans
from relpretrain.explain.maps.texts import TextMap, token_maps
from relpretrain.explain.maps.watching import Model
from relpretrain.scene_graph import Relation, SceneGraph, triplet_text


@dataclass(frozen=True)
class RelationMap:
    """Where a model looks for a triplet.

    Args:
        relation: The triplet.
        words: Where it looks for each wordpiece of its text, "subject predicate object".
        spans: Which wordpieces name what.
        reduce: How the wordpieces of a part become one map.
    """

    relation: Relation
    words: TextMap
    spans: Spans
    reduce: Reduce = "mean"

    @property
    def subject(self) -> Tensor:
        """The map of the subject's words, (rows, columns)."""
        return self.words.over(self.spans.subject, self.reduce)

    @property
    def predicate(self) -> Tensor:
        """The map of the predicate's words, (rows, columns)."""
        return self.words.over(self.spans.predicate, self.reduce)

    @property
    def object(self) -> Tensor:
        """The map of the object's words, (rows, columns)."""
        return self.words.over(self.spans.object, self.reduce)


def relation_maps(
    model: Model,
    image: Image.Image,
    graph: SceneGraph,
    relations: Sequence[Relation] | None = None,
    layer: int | None = None,
    reduce: Reduce = "mean",
) -> list[RelationMap]:
    """Grad-CAM for triplets of an image's graph, each put into words as VSG does, one at a time.

    Args:
        model: What `relpretrain.load` returned.
        image: The image.
        graph: Its entities and relations; boxes are not needed.
        relations: Some of its relations; None for all.
        layer: Number of the layer, see `watching.fusion_layer`.
        reduce: "mean" or "max" over the wordpieces of a part.

    Raises:
        ValueError: If a triplet is longer than the model reads, or as `text_maps` does.
    """
    chosen = list(graph.relations if relations is None else relations)
    encoder = model.preprocess.encoder
    made = []
    for relation in chosen:
        ends = graph.entities[relation.subject].label, graph.entities[relation.object].label
        made.append(triplet_spans(ends[0], relation.relation, ends[1], encoder))
    found = token_maps(model, image, [tokens for tokens, _ in made], layer)
    return [
        RelationMap(relation, TextMap(triplet_text(graph, relation), tokens, maps, *match, encoder), spans, reduce)
        for relation, (tokens, spans), (maps, match) in zip(chosen, made, found, strict=True)
    ]
