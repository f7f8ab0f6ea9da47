"""Masked language modelling (MLM) conditioned on the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from relpretrain.config_record import recorded
from relpretrain.distributed import mean_over_ranks
from relpretrain.features import View
from relpretrain.objectives.base import Term, ViewObjective, nothing


def word_losses(logits: Tensor, labels: Tensor, soft_targets: Tensor | None = None, alpha: float = 0.0) -> Tensor:
    """Cross-entropy at the masked positions (ALBEF, equation 3, and 7 with a teacher's soft targets).

    Args:
        logits: (positions, vocabulary).
        labels: Ids of the original tokens, (positions,).
        soft_targets: The teacher's distribution, (positions, vocabulary).
        alpha: Weight of the soft targets.

    Returns:
        (positions,) losses in fp32.
    """
    hard = F.cross_entropy(logits.float(), labels, reduction="none")
    if soft_targets is None:
        return hard
    soft = -(soft_targets * logits.float().log_softmax(dim=1)).sum(dim=1)
    return (1 - alpha) * hard + alpha * soft


def masked_word_logits(view: View, positions: Tensor) -> Tensor:
    """Vocabulary logits at the masked positions of a view's texts, fused with its images.

    Args:
        view: n pairs with masked texts.
        positions: The masked positions, flat indices into (n * length), (positions,).

    Returns:
        (positions, vocabulary); the MLM head runs at these positions only.
    """
    text = view.pairs.text
    assert text.masked_input_ids is not None
    # Encode the masked texts and fuse them, (n, length, fusion_dim), then predict at the masked positions.
    fused = view.fuse(view.backbone.encode_text(text.masked_input_ids, text.attention_mask))
    return view.backbone.word_logits(fused.flatten(0, 1).index_select(0, positions))


class MLM(ViewObjective):
    """Predict masked words from the rest of the text and the image.

    The data pipeline decides which words are masked: whole words, 25% of the tokens in the paper's setting.

    Args:
        weight: Factor of the loss.
    """

    needs = ("words",)

    @recorded
    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def term(self, view: View) -> Term:
        """Compute the loss on n pairs; without masked words it is a zero of count 0."""
        text = view.pairs.text
        if len(view) == 0:
            return nothing(view.features)
        if text.labels is None:
            raise ValueError("MLM needs masked texts, but this batch has none: its collation must mask words.")
        # Student: logits at the masked positions, (positions, vocabulary).
        positions = text.located().positions  # (positions,)
        assert positions is not None
        labels = text.labels.flatten()[positions]
        logits = masked_word_logits(view, positions)
        # Teacher: its distribution at the same positions, (positions, vocabulary).
        soft, alpha = None, 0.0
        if view.teacher_view is not None and view.features.teacher is not None:
            alpha = view.features.teacher.alpha
            with torch.no_grad():
                soft = masked_word_logits(view.teacher_view, positions).float().softmax(dim=1)
        loss = mean_over_ranks(word_losses(logits, labels, soft, alpha).sum(), len(labels))
        if len(labels) == 0:
            return Term(loss, 0, {})
        return Term(loss, len(labels), {"accuracy": (logits.detach().argmax(dim=1) == labels).float().mean()})
