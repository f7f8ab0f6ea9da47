"""Masked language modelling (MLM) conditioned on the image."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from relpretrain.config_record import recorded
from relpretrain.distributed import weighted_mean
from relpretrain.features import View
from relpretrain.objectives.base import Term, ViewObjective, in_parts, nothing

POSITIONS = 2048
"""Masked words at a time: each has as many logits as the vocabulary has words."""


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


def masked_states(view: View, positions: Tensor) -> Tensor:
    """States of the masked positions of a view's texts, fused with its images.

    Args:
        view: n pairs with masked texts.
        positions: The masked positions, flat indices into (n * length), (positions,).

    Returns:
        (positions, fusion_dim), from which the MLM head predicts the words.
    """
    text = view.pairs.text
    assert text.masked_input_ids is not None
    # Encode the masked texts and fuse them, (n, length, fusion_dim).
    fused = view.fuse(view.encode_text(text.masked_input_ids))
    return fused.flatten(0, 1).index_select(0, positions)


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
        # States at the masked positions, (positions, fusion_dim), and the teacher's at the same ones.
        positions = text.located().positions  # (positions,)
        assert positions is not None
        labels = text.labels.flatten()[positions]
        states, taught = masked_states(view, positions), None
        if view.teacher_view is not None:
            with torch.no_grad():
                taught = masked_states(view.teacher_view, positions)
        losses, right = in_parts(partial(_predict, view), POSITIONS, states, labels, taught)
        # A word counts as much as its text.
        weights = view.pairs.weights
        weights = None if weights is None else weights[positions // text.input_ids.shape[1]]
        loss = weighted_mean(losses, weights, len(labels))
        if len(labels) == 0:
            return Term(loss, 0, {})
        return Term(loss, len(labels), {"accuracy": right.float().mean()})


def _predict(view: View, states: Tensor, labels: Tensor, taught: Tensor | None) -> tuple[Tensor, Tensor]:
    """Losses of masked words, and which are predicted correctly, (positions,)."""
    logits = view.backbone.word_logits(states)  # (positions, vocabulary)
    soft, alpha = None, 0.0
    if taught is not None and view.teacher_view is not None and view.features.teacher is not None:
        alpha = view.features.teacher.alpha
        with torch.no_grad():
            soft = view.teacher_view.backbone.word_logits(taught).float().softmax(dim=1)
    return word_losses(logits, labels, soft, alpha), logits.detach().argmax(dim=1) == labels
