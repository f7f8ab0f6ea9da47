"""Scorers: what says how well a text matches an image, behind one protocol (`relpretrain.types.PairScorer`)."""

from relpretrain.zeroshot.scorers.base import CosineScorer, EmbeddingScorer, cosine_logits, match_probability
from relpretrain.zeroshot.scorers.constant import ConstantScorer
from relpretrain.zeroshot.scorers.matching import MatchScorer

__all__ = [
    "ConstantScorer",
    "CosineScorer",
    "EmbeddingScorer",
    "MatchScorer",
    "cosine_logits",
    "match_probability",
]
