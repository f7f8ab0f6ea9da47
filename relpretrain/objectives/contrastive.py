"""Image-text contrastive learning (ITC)."""

from __future__ import annotations

import torch
from torch import Tensor

from relpretrain.config_record import recorded
from relpretrain.distributed import gather, mean_over_ranks, rank
from relpretrain.features import View, full_precision
from relpretrain.objectives.base import Term, ViewObjective
from relpretrain.objectives.negatives import same_pair


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
        image_ids, text_keys = view.image_ids, view.pairs.text_keys
        key_image_ids, key_text_keys = gather(image_ids, sizes), gather(text_keys, sizes)
        teacher, teacher_view = view.features.teacher, view.teacher_view
        soft_text, soft_image, alpha = None, None, 0.0
        with full_precision(image):
            # Keys: the joint batch's pairs (with a teacher, as it embeds them, followed by its queue), (m, embed_dim).
            if teacher is None or teacher_view is None:
                key_image, key_text = gather(image, sizes), gather(text, sizes)
            else:
                with torch.no_grad():
                    teacher_image = teacher_view.image_embedding.float()
                    teacher_text = teacher_view.text_embedding.float()
                    key_image, key_text = gather(teacher_image, sizes), gather(teacher_text, sizes)
                if teacher.queue is not None:
                    key_image = torch.cat([key_image, teacher.queue.image.T.float()])
                    key_text = torch.cat([key_text, teacher.queue.text.T.float()])
                    key_image_ids = torch.cat([key_image_ids, teacher.queue.image_ids])
                    key_text_keys = torch.cat([key_text_keys, teacher.queue.text_ids])
            # Pairs that share an image or a text are no negatives of each other, (n, m).
            excluded = same_pair(image_ids, text_keys, key_image_ids, key_text_keys)
            excluded = excluded.scatter(1, positive[:, None], False)
            # Soft targets: the teacher's distribution over the same keys, (n, m).
            if teacher is not None and teacher_view is not None:
                with torch.no_grad():
                    soft_text = _distribution(teacher_image @ key_text.T / temperature, excluded)
                    soft_image = _distribution(teacher_text @ key_image.T / temperature, excluded)
                alpha = teacher.alpha
            # Logits (n, m) in both directions, and the losses of the rows, (n,).
            to_text = image @ key_text.T / temperature
            to_image = text @ key_image.T / temperature
            losses = contrastive_losses(to_text, positive, excluded, soft_text, alpha)
            losses = losses + contrastive_losses(to_image, positive, excluded, soft_image, alpha)
        loss = mean_over_ranks(losses.sum() / 2, len(view))
        if len(view) == 0:
            return Term(loss, 0, {})
        ranked = to_text.detach().masked_fill(excluded, float("-inf"))
        accuracy = (ranked.argmax(dim=1) == positive).float().mean()
        return Term(loss, len(view), {"accuracy": accuracy})


def _distribution(logits: Tensor, excluded: Tensor) -> Tensor:
    """Softmax of logits (n, m) over the columns that are not excluded."""
    return logits.masked_fill(excluded, float("-inf")).softmax(dim=1)
