"""Triplets one by one, each against its own foil (CS-CLIP's units)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from relpretrain.config_record import recorded
from relpretrain.distributed import gather, mean_over_ranks, rank
from relpretrain.features import Features, View, full_precision
from relpretrain.objectives.base import Objective, served
from relpretrain.objectives.contrastive import contrastive_losses
from relpretrain.objectives.foils import pair_losses
from relpretrain.scene_graph.foils import GRAPH_KINDS, check_kinds
from relpretrain.types import Backbone, Batch, CaptionBatch, GraphBatch, ObjectiveOutput, Pairs, Units


def unit_losses(
    image: Tensor,
    text: Tensor,
    own_foil: tuple[Tensor, Tensor],
    keys: tuple[Tensor, Tensor],
    identities: tuple[Tensor, Tensor, Tensor],
    key_identities: tuple[Tensor, Tensor, Tensor],
    positive: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Contrastive losses of units: an image tells its unit from others' and from the unit's own foil (CS-CLIP).

    Of unit k of an image the others are the units k of all other images. "Man on street" is true of many images: a text
    that is a unit of an image, whichever, is no negative of it.

    Args:
        image: Embeddings of this process's u units' images, (u, dim).
        text: Embeddings of the units, (u, dim).
        own_foil: Cosine of each image with its unit's own foil, (u,), and whether there is one, (u,), bool.
        keys: Embeddings of the joint batch's U units' images and texts, (U, dim).
        identities: Identity of image and text and slot of each of the u units, (u,) each.
        key_identities: The same of the U, (U,) each.
        positive: Which of the U is each of the u units, (u,).
        temperature: Divisor of the cosines.

    Returns:
        (u,) means of the losses from image to texts and from text to images, in fp32.
    """
    (image_ids, text_keys, slots), (key_ids, key_keys, key_slots) = identities, key_identities
    own = (image_ids[:, None] == key_ids) | (slots[:, None] != key_slots)  # (u, U)
    said, says = units_said((image_ids, text_keys), (key_ids, key_keys))
    not_text, not_image = (x.scatter(1, positive[:, None], False) for x in (own | said, own | says))
    cosine, found = own_foil
    to_texts = torch.cat([image @ keys[1].T, cosine[:, None]], dim=1) / temperature  # (u, U + 1)
    to_images = text @ keys[0].T / temperature  # (u, U)
    from_image = contrastive_losses(to_texts, positive, torch.cat([not_text, ~found[:, None]], dim=1))
    return (from_image + contrastive_losses(to_images, positive, not_image)) / 2


def units_said(rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Which texts are true of which images, as far as the batch's units tell.

    Args:
        rows: Identity of the image and of the text of each of u units, (u,) each.
        columns: The same of the joint batch's U units, (U,) each.

    Returns:
        Whether the text of a column is said of a row's image, and whether a row's text is said of a column's image,
        (u, U) each.
    """
    (image_ids, text_keys), (key_ids, key_keys) = rows, columns
    own, same = image_ids[:, None] == key_ids, text_keys[:, None] == key_keys  # (u, U)
    said = own.float() @ (key_keys[:, None] == key_keys).float() > 0
    return said, same.float() @ (key_ids[:, None] == key_ids).float() > 0


class RelationUnits(Objective):
    """Single triplets of an image as texts of their own, each with its foil, by contrast and by matching.

    The contrast is that of CS-CLIP, on triplets that are annotated instead of a language model's, and over the joint
    batch. Deviation: the mean is over units, not over images first, which is the same where all images have as many.
    Matching is the mean cross-entropy over units and foils; no paper has it.

    Args:
        units_per_image: Most units of an image; the data pipeline's default.
        itc: Weight of the contrast.
        itm: Weight of matching; left out on a model that has none.
        kinds: What foils of units may change, of `scene_graph.foils.KINDS`.
        weight: Factor of their sum; the paper's is 0.5.

    Raises:
        ValueError: If a number is out of range or a kind is none.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (GraphBatch, CaptionBatch)

    @recorded
    def __init__(
        self,
        units_per_image: int = 2,
        itc: float = 1.0,
        itm: float = 1.0,
        kinds: list[str] | None = None,
        weight: float = 0.5,
    ) -> None:
        super().__init__(weight)
        if units_per_image < 1:
            raise ValueError(f"units_per_image must be at least 1, got {units_per_image}")
        self.units_per_image = units_per_image
        self.unit_kinds = check_kinds(GRAPH_KINDS if kinds is None else kinds)
        self.weights = {"itc": float(itc), "itm": float(itm)}
        self.served = tuple(name for name, value in self.weights.items() if value)

    def attach(self, backbone: Backbone) -> None:
        """Keep what can be computed on the backbone.

        Raises:
            ValueError: If nothing can be, or a backbone that does not declare what it `provides` lacks a method.
        """
        parts = {"itc": "contrast", "itm": "matching"}
        self.served = served(self, backbone, {name: parts[name] for name, value in self.weights.items() if value})

    def views(self, batch: Batch) -> list[Pairs]:
        """The units and their foils."""
        return unit_views(batch)

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the losses.

        Raises:
            ValueError: If the batch was made without units.
        """
        units = wanted_units(features.batch, self)
        true, false = features.view(units.pairs), features.view(units.foils.pairs)
        parts: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        counts: dict[str, int | Tensor] = {}
        if "itc" in self.served:
            loss, right = contrast(true, false, units)
            parts["itc"] = self.weights["itc"] * loss
            metrics["itc_accuracy"], counts["itc_accuracy"] = right, len(units.foils)
        if "itm" in self.served:
            positive, negative = pair_losses(true.matched, false.matched)
            number = len(positive) + len(negative)
            parts["itm"] = self.weights["itm"] * mean_over_ranks(positive.sum() + negative.sum(), number)
            of = units.foils.of
            right = (true.matched[of, 1] - true.matched[of, 0] > false.matched[:, 1] - false.matched[:, 0]).float()
            metrics["itm_accuracy"] = right.sum() / max(1, len(of))
            counts["itm_accuracy"] = len(of)
        return self.output(parts, len(units), metrics, counts)


def unit_views(batch: Batch) -> list[Pairs]:
    """The pairs of a batch's units and of their foils."""
    return [] if batch.units is None else [batch.units.pairs, batch.units.foils.pairs]


def wanted_units(batch: Batch, objective: Objective) -> Units:
    """The units of a batch.

    Raises:
        ValueError: If it was made without.
    """
    if batch.units is None:
        name = type(objective).__name__
        raise ValueError(f"{name} needs a batch with units, but this one has none: its collation must make them.")
    return batch.units


def contrast(true: View, false: View, units: Units) -> tuple[Tensor, Tensor]:
    """The contrastive loss of units over the joint batch, and how often an image prefers its unit to the foil."""
    image, text, foil = (x.float() for x in (true.image_embedding, true.text_embedding, false.text_embedding))
    sizes, of = true.sizes, units.foils.of
    positive = torch.arange(len(units), device=image.device) + sum(sizes[: rank()])
    temperature = true.backbone.temperature.float()
    with full_precision(image):
        beside = (image[of] * foil).sum(dim=1)  # (foils,)
        found = torch.zeros(len(units), dtype=torch.bool, device=of.device).index_fill(0, of, True)
        own_foil = image.new_zeros(len(units)).index_put((of,), beside), found
        own = (true.image_ids, true.pairs.text_keys, units.slot)
        losses = unit_losses(
            image,
            text,
            own_foil,
            (gather(image, sizes), gather(text, sizes)),
            own,
            (gather(own[0], sizes), gather(own[1], sizes), gather(own[2], sizes)),
            positive,
            temperature,
        )
        right = ((image * text).sum(dim=1).detach()[of] > beside.detach()).float()
    return mean_over_ranks(losses.sum(), len(units)), right.sum() / max(1, len(of))
