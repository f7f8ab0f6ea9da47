"""The scorers under their first address; see `relpretrain.zeroshot.scorers`."""

from relpretrain.zeroshot.scorers import ConstantScorer, MatchScorer, match_probability

__all__ = ["ConstantScorer", "MatchScorer", "match_probability"]
