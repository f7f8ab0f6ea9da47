"""Several true texts to an image, with their foils (MosaiCLIP)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from relpretrain.config_record import recorded
from relpretrain.distributed import gather, mean_over_ranks, rank
from relpretrain.features import Features, full_precision
from relpretrain.objectives.base import Objective
from relpretrain.objectives.units import unit_views, wanted_units
from relpretrain.scene_graph.foils import GRAPH_KINDS, check_kinds
from relpretrain.types import Batch, CaptionBatch, GraphBatch, ObjectiveOutput, Pairs


def multi_positive_losses(
    to_texts: Tensor, to_images: Tensor, excluded: Tensor, same_image: Tensor, positive: Tensor
) -> tuple[Tensor, Tensor]:
    """Losses of true texts with the images that they belong to (MosaiCLIP, arXiv 2305.13812).

    From image i to texts: -log( exp(u_i v_k / tau) / sum over all true and false texts ) for each of its texts k, the
    other texts of the image included in the sum, and divided by their number by whoever takes the mean. From text j to
    images: -log( exp(u_p(j) v_j / tau) / sum over images ). Texts that several images share are left out of each
    other's sums.

    Args:
        to_texts: Logits of the image of each of this process's u true texts with the joint batch's U true texts and M
            foils, (u, U + M).
        to_images: Logits of each of the u texts with the images of the U texts, (u, U).
        excluded: True at columns of `to_texts` that are true of the row's image though another image's, (u, U + M).
        same_image: True at columns of `to_images` that show the row's image once more, or one of which the row's text
            is true as well, (u, U): an image counts once however many texts it has.
        positive: Column of each row's own text, (u,).

    Returns:
        (u,) losses from image to text, and (u,) from text to image, in fp32.
    """
    keep = torch.ones_like(excluded).scatter(1, positive[:, None], False)
    from_image = to_texts.float().masked_fill(excluded & keep, float("-inf")).log_softmax(dim=1)
    keep = torch.ones_like(same_image).scatter(1, positive[:, None], False)
    from_text = to_images.float().masked_fill(same_image & keep, float("-inf")).log_softmax(dim=1)
    return tuple(-log.gather(1, positive[:, None]).squeeze(1) for log in (from_image, from_text))  # type: ignore[return-value]


class MultiPositive(Objective):
    """Contrast of an image with several true texts, and with their foils (MosaiCLIP's equation, over the joint batch).

    The texts are single triplets of a graph, or the sentences of a long caption and the other captions of the image
    (DreamLIP's sampling). Copies of a text in an image are left out, since the sum would hold them.

    Args:
        units_per_image: Most texts of an image, 3 in the paper; the data pipeline's default.
        kinds: What foils may change, of `scene_graph.foils.KINDS`.
        curriculum_steps: Steps in which an image has its first text and that one's foil alone.
        weight: Factor of the loss.

    Raises:
        ValueError: If a number is out of range or a kind is none.
    """

    consumes: ClassVar[tuple[type[Batch], ...]] = (GraphBatch, CaptionBatch)
    needs: ClassVar[tuple[str, ...]] = ("contrast",)

    @recorded
    def __init__(
        self,
        units_per_image: int = 3,
        kinds: list[str] | None = None,
        curriculum_steps: int = 0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        if units_per_image < 1 or curriculum_steps < 0:
            raise ValueError(
                f"units_per_image must be at least 1 and curriculum_steps not negative, got {units_per_image} and "
                f"{curriculum_steps}"
            )
        self.units_per_image = units_per_image
        self.unit_kinds = check_kinds(GRAPH_KINDS if kinds is None else kinds)
        self.curriculum_steps = curriculum_steps

    def views(self, batch: Batch) -> list[Pairs]:
        """The texts and their foils."""
        return unit_views(batch)

    def forward(self, features: Features) -> ObjectiveOutput:
        """Compute the loss.

        Raises:
            ValueError: If the batch was made without units.
        """
        units = wanted_units(features.batch, self)
        true, false = features.view(units.pairs), features.view(units.foils.pairs)
        image, text, foil = (x.float() for x in (true.image_embedding, true.text_embedding, false.text_embedding))
        sizes, foil_sizes = true.sizes, false.sizes
        # What the curriculum has not come to yet is in no sum.
        late = units.slot > 0 if features.batch.step < self.curriculum_steps else torch.zeros_like(units.slot).bool()
        late_key, late_foil = gather(late, sizes), gather(late[units.foils.of], foil_sizes)
        image_ids, text_keys = true.image_ids, true.pairs.text_keys
        key_ids, key_keys, foil_keys = gather(image_ids, sizes), gather(text_keys, sizes), false.pairs.text_keys
        foil_keys = gather(foil_keys, foil_sizes)
        own = image_ids[:, None] == key_ids  # (u, U)
        said = own.float() @ (key_keys[:, None] == torch.cat([key_keys, foil_keys])).float() > 0  # (u, U + M)
        # Of another image, but true of this one: no negative. Its own texts stay; its foils are no texts of it.
        others = torch.cat([~own, torch.ones_like(foil_keys).bool().expand(len(own), -1)], dim=1)
        excluded = (said & others) | torch.cat([late_key, late_foil])
        positive = torch.arange(len(units), device=image.device) + sum(sizes[: rank()])
        # Each image stands in the columns once: at its first text.
        repeated = (gather(units.slot, sizes) > 0)[None] & ~own
        says_it = (text_keys[:, None] == key_keys).float() @ (key_ids[:, None] == key_ids).float() > 0  # (u, U)
        with full_precision(image):
            temperature = true.backbone.temperature.float()
            keys = torch.cat([gather(text, sizes), gather(foil, foil_sizes)])
            to_texts, to_images = image @ keys.T / temperature, text @ gather(image, sizes).T / temperature
            from_image, from_text = multi_positive_losses(
                to_texts, to_images, excluded, own | repeated | says_it, positive
            )
        # 1 / |P(i)|: the mean over an image's texts, then over images; from texts over all of them.
        number = ((own & ~late_key).sum(dim=1)).clamp(min=1)
        there = ~late
        images = (there / number).sum()
        loss = mean_over_ranks((from_image * there / number).sum(), images)
        loss = (loss + mean_over_ranks((from_text * there).sum(), there.sum())) / 2
        best = to_texts.detach().masked_fill(excluded, float("-inf"))
        found = best.argmax(dim=1) if best.shape[1] else positive
        right = own.gather(1, found.clamp(max=max(0, own.shape[1] - 1))[:, None]) & (found < own.shape[1])[:, None]
        metrics = {"itc_accuracy": (right.squeeze(1) & there).sum() / there.sum().clamp(min=1)}
        return self.output({"itc": loss}, len(units), metrics, {"itc_accuracy": there.sum()})
