"""Image-text contrastive learning (ITC)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from relpretrain.config_record import recorded
from relpretrain.distributed import gather, rank, weighted_mean
from relpretrain.features import View, full_precision
from relpretrain.objectives.base import Term, ViewObjective, in_parts
from relpretrain.objectives.negatives import same_pair
from relpretrain.types import Queue

LOGITS = 1 << 24
"""Logits at a time: memory does not grow with the square of the batch."""


def contrastive_losses(
    logits: Tensor,
    positive: Tensor,
    excluded: Tensor | None = None,
    soft_targets: Tensor | None = None,
    alpha: float = 0.0,
) -> Tensor:
    """InfoNCE loss of each row, optionally distilled from a teacher's soft targets.

    ALBEF, equations 1 and 2, and 6 with soft targets: (1 - alpha) * H(hard, p) + alpha * H(soft, p).

    Args:
        logits: Cosine similarities divided by the temperature, (n, m).
        positive: Column of each row's own pair, (n,).
        excluded: True at columns that are left out of a row's denominator, (n, m), bool; never the positive.
        soft_targets: The teacher's distribution over columns, (n, m).
        alpha: Weight of the soft targets.

    Returns:
        (n,) losses in fp32.
    """
    # Log-probabilities over the columns that are not excluded, (n, m).
    logits = logits.float()
    if excluded is not None:
        logits = logits.masked_fill(excluded, float("-inf"))
    log_probability = logits.log_softmax(dim=1)
    # Hard targets, (n,).
    hard = -log_probability.gather(1, positive[:, None]).squeeze(1)
    if soft_targets is None:
        return hard
    # Soft targets, (n,); an excluded column would give 0 * -inf.
    if excluded is not None:
        log_probability = log_probability.masked_fill(excluded, 0.0)
    soft = -(soft_targets * log_probability).sum(dim=1)
    return (1 - alpha) * hard + alpha * soft


class Queries(NamedTuple):
    """Rows that are told from each other: n pairs of this process."""

    image: Tensor  # (n, embed_dim)
    text: Tensor  # (n, embed_dim)
    image_ids: Tensor  # (n,)
    text_keys: Tensor  # (n,)
    positive: Tensor  # (n,): column of each one's own pair
    taught_image: Tensor | None = None  # (n, embed_dim): as a teacher embeds them
    taught_text: Tensor | None = None


class Keys(NamedTuple):
    """Columns: the joint batch's pairs, then a teacher's queue. Embeddings come in pieces: the queue is not copied."""

    image: list[Tensor]  # (embed_dim, columns) each, m columns in all
    text: list[Tensor]
    image_ids: Tensor  # (m,)
    text_keys: Tensor  # (m,)


def pair_losses(queries: Queries, keys: Keys, temperature: Tensor, alpha: float = 0.0) -> tuple[Tensor, Tensor]:
    """Contrastive losses of pairs, and whether each image finds its own text.

    Args:
        queries: The n pairs.
        keys: What they are told from.
        temperature: Divisor of the cosines.
        alpha: Weight of the teacher's soft targets.

    Returns:
        (n,) sums of the losses in both directions in fp32, and (n,), bool.
    """
    # Pairs that share an image or a text are no negatives of each other, (n, m).
    excluded = same_pair(queries.image_ids, queries.text_keys, keys.image_ids, keys.text_keys)
    excluded = excluded.scatter(1, queries.positive[:, None], False)
    # Soft targets: the teacher's distribution over the same keys, (n, m).
    soft_text, soft_image = None, None
    if queries.taught_image is not None and queries.taught_text is not None:
        with torch.no_grad():
            soft_text = _distribution(_logits(queries.taught_image, keys.text, temperature), excluded)
            soft_image = _distribution(_logits(queries.taught_text, keys.image, temperature), excluded)
    # Logits (n, m) in both directions, and the losses of the rows, (n,).
    to_text = _logits(queries.image, keys.text, temperature)
    to_image = _logits(queries.text, keys.image, temperature)
    losses = contrastive_losses(to_text, queries.positive, excluded, soft_text, alpha)
    losses = losses + contrastive_losses(to_image, queries.positive, excluded, soft_image, alpha)
    ranked = to_text.detach().masked_fill(excluded, float("-inf"))
    found = ranked.argmax(dim=1) if ranked.shape[1] else queries.positive  # nobody has a pair
    return losses, found == queries.positive


class ITC(ViewObjective):
    """Image-text contrastive loss over the joint batch of all processes.

    (CE(image -> texts) + CE(text -> images)) / 2 with cosines over a learned temperature (ALBEF, section 3.2). Features
    are gathered over processes with gradients: value and gradient are those of the joint batch. Pairs that share an
    image or a text are left out of each other's denominators.

    With a teacher the keys are the teacher's embeddings, followed by its queue, and the targets are softened by
    `teacher.alpha` (ALBEF, section 3.3). Deviation from the official code: the teacher's embeddings of all processes
    serve as keys, not only this one's.

    Args:
        weight: Factor of the loss.
    """

    needs = ("contrast",)

    @recorded
    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def term(self, view: View) -> Term:
        """Compute the loss on n pairs; with n = 0 this process still takes part in gathering, forward and backward."""
        # Queries: this process's pairs, (n, embed_dim), and the column of each one's own pair among the keys, (n,).
        image, text = view.image_embedding.float(), view.text_embedding.float()
        temperature = view.backbone.temperature.float()
        sizes = view.sizes
        positive = torch.arange(len(view), device=image.device) + sum(sizes[: rank()])
        queries = Queries(image, text, view.image_ids, view.pairs.text_keys, positive)
        image_ids, text_keys = gather(queries.image_ids, sizes), gather(queries.text_keys, sizes)
        teacher, teacher_view, alpha = view.features.teacher, view.teacher_view, 0.0
        # Keys: the joint batch's pairs (with a teacher, as it embeds them, followed by its queue).
        if teacher is None or teacher_view is None:
            keys = Keys([gather(image, sizes).T], [gather(text, sizes).T], image_ids, text_keys)
        else:
            with torch.no_grad():  # the teacher encodes here, under autocast as the student does
                taught_image = teacher_view.image_embedding.float()
                taught_text = teacher_view.text_embedding.float()
            queries = queries._replace(taught_image=taught_image, taught_text=taught_text)
            keys = Keys([gather(taught_image, sizes).T], [gather(taught_text, sizes).T], image_ids, text_keys)
            keys, alpha = _with_queue(keys, teacher.queue), teacher.alpha
        with full_precision(image):
            size = max(1, LOGITS // max(1, len(keys.image_ids)))
            losses, right = in_parts(lambda *q: pair_losses(Queries(*q), keys, temperature, alpha), size, *queries)
        loss = weighted_mean(losses / 2, view.pairs.weights, len(view))
        if len(view) == 0:
            return Term(loss, 0, {})
        return Term(loss, len(view), {"accuracy": right.float().mean()})


def _with_queue(keys: Keys, queue: Queue | None) -> Keys:
    if queue is None:
        return keys
    return Keys(
        [*keys.image, queue.image.float()],
        [*keys.text, queue.text.float()],
        torch.cat([keys.image_ids, queue.image_ids]),
        torch.cat([keys.text_keys, queue.text_ids]),
    )


def _logits(queries: Tensor, keys: list[Tensor], temperature: Tensor) -> Tensor:
    """Cosines of queries (n, embed_dim) with all columns over the temperature, (n, m)."""
    return torch.cat([queries @ columns for columns in keys], dim=1) / temperature


def _distribution(logits: Tensor, excluded: Tensor) -> Tensor:
    """Softmax of logits (n, m) over the columns that are not excluded."""
    return logits.masked_fill(excluded, float("-inf")).softmax(dim=1)
