"""Which patches of subject and object made MRC choose a predicate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from relpretrain.backbones.encoders import Encoders
from relpretrain.errors import suggest
from relpretrain.explain.maps.texts import on_patches
from relpretrain.explain.maps.watching import Model, checked, device_of, fusion_layer, watched
from relpretrain.features import patch_mask
from relpretrain.objectives.relation import MRC
from relpretrain.scene_graph import Box, Relation, SceneGraph
from relpretrain.types import Regions


@dataclass(frozen=True)
class MRCMap:
    """Where MRC looks to classify the relation of two entities, each seen alone.

    Args:
        relation: The triplet, whose own predicate MRC does not see.
        predicate: The predicate whose logit is explained.
        subject: Evidence in the subject's region, (rows, columns), from 0; 0 outside of it.
        object: Likewise in the object's.
        probabilities: Of all relations of the vocabulary as the head has it, the likeliest first.
    """

    relation: Relation
    predicate: str
    subject: Tensor
    object: Tensor
    probabilities: dict[str, float]


def mrc_maps(
    model: Model,
    image: Image.Image,
    graph: SceneGraph,
    relations: Sequence[Relation] | None = None,
    predicate: str | None = None,
    layer: int | None = None,
) -> list[MRCMap]:
    """Grad-CAM of MRC's logit of a predicate, in the regions of subject and object.

    Each entity's label is fused with the image masked to its box, as in training. Its map is the mean over the label's
    tokens, [CLS] included.

    Args:
        model: What `relpretrain.load` returned, trained with MRC.
        image: The image.
        graph: Its entities and relations; boxes in pixels of the image.
        relations: Some of its relations, of entities with boxes; None for all of these.
        predicate: The predicate to explain; None for the one that MRC thinks likeliest.
        layer: Number of the layer, see `watching.fusion_layer`.

    Raises:
        ValueError: If the model has no MRC head, the predicate is not in its vocabulary, or an entity has no box.
    """
    backbone, head = checked(model), mrc_head(model)
    if head is None or head.head is None:
        raise ValueError("The model has no MRC head, whose choice could be explained: load one trained with MRC.")
    chosen = list(graph.boxed_pairs() if relations is None else relations)
    if not chosen:
        return []
    number = None
    if predicate is not None and (number := head.vocabulary.index(predicate)) is None:
        near = suggest(predicate, head.vocabulary.names, list_all=False)
        raise ValueError(f"MRC's vocabulary of {len(head.vocabulary)} relations lacks {predicate!r}{near}.")
    # Each pair has rows of its own, subject and object, so that scores do not share them: (2 * pairs).
    ends = [graph.entities[i] for relation in chosen for i in (relation.subject, relation.object)]
    boxes = [_relative(entity.label, entity.box, image.size) for entity in ends]
    device = device_of(backbone)
    with watched(backbone, fusion_layer(backbone, layer)) as seen:  # tensors are made inside, see `texts.token_maps`
        pixels = model.preprocess.images([image]).to(device)
        words = model.preprocess.texts([entity.label for entity in ends]).to(device)
        places = patch_mask(torch.tensor(boxes), backbone.patch_grid).to(device)
        regions = Regions(torch.zeros(len(ends), dtype=torch.long, device=device), places)
        with torch.no_grad():
            states = backbone.encode_text(words.input_ids, words.attention_mask)
            tokens, mask = _encoded(backbone, head, pixels, regions)
        first = backbone.fuse(states, words.attention_mask, tokens, mask)[:, 0].float()  # (2 * pairs, dim)
        logits = head.head(first.reshape(len(chosen), -1))  # (pairs, relations)
        best = logits.argmax(1) if number is None else torch.full((len(chosen),), number, device=device)
        evidence = seen.evidence(logits.gather(1, best[:, None]).sum())
    lengths = words.attention_mask.sum(1).cpu()
    maps = on_patches(evidence, len(ends), backbone)  # (2 * pairs, tokens, rows, columns)
    real = (torch.arange(maps.shape[1]) < lengths[:, None])[..., None, None]
    maps = (maps * real).sum(1) / lengths[:, None, None]
    return [
        MRCMap(relation, head.vocabulary.names[own], maps[2 * i], maps[2 * i + 1], _ranked(logits[i], head))
        for i, (relation, own) in enumerate(zip(chosen, best.tolist(), strict=True))
    ]


def mrc_head(model: Model) -> MRC | None:
    """The model's MRC, None if it has none: a tagger's scores are others, each relation for itself."""
    return next((o for o in (model.objectives or {}).values() if isinstance(o, MRC)), None)


def _encoded(backbone: Encoders, head: MRC, pixels: Tensor, regions: Regions) -> tuple[Tensor, Tensor]:
    """Image tokens and mask of each region; of the whole image where MRC is trained without masks."""
    if not head.masked:
        features = backbone.encode_image(pixels)
        return features.tokens[regions.image_index], features.mask[regions.image_index]
    features = backbone.encode_image(pixels, regions)
    assert features.region_tokens is not None
    assert features.region_mask is not None
    return features.region_tokens, features.region_mask


def _ranked(logits: Tensor, head: MRC) -> dict[str, float]:
    values, order = head.log_scores(logits.detach().float()[None])[0].exp().sort(descending=True)
    return {head.vocabulary.names[i]: value for i, value in zip(order.tolist(), values.tolist(), strict=True)}


def _relative(label: str, box: Box | None, size: tuple[int, int]) -> tuple[float, float, float, float]:
    if box is None:
        raise ValueError(f"The entity {label!r} has no box, in which MRC could look at it.")
    return box.relative(*size)
