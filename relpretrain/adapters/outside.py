"""Warn about relations outside MRC's vocabulary in a host's graph batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from relpretrain.distributed import rank
from relpretrain.scene_graph import RelationVocabulary, coverage, tell_outside
from relpretrain.scene_graph.coverage import TOO_MANY

ENOUGH = 100
"""Number of first triplets that are judged."""


class Drawn:
    """Counts the relations of the first triplets, and warns once if many are outside the vocabulary.

    Args:
        objectives: The attached objectives.
        loader: The loader of graph batches. One with `relation_counts`, such as `graph_loader`, is judged at once.
    """

    def __init__(self, objectives: Iterable[nn.Module], loader: Any = None) -> None:
        found = (getattr(objective, "vocabulary", None) for objective in objectives)
        self.vocabulary = next((v for v in found if isinstance(v, RelationVocabulary)), None)
        self.counts: Counter[str] = Counter()
        by_dataset = getattr(loader, "relation_counts", None)
        self.judged = self.vocabulary is None or rank() != 0
        if by_dataset and self.vocabulary is not None and rank() == 0:
            tell_outside({name: coverage(counts, self.vocabulary) for name, counts in by_dataset.items()})
            self.judged = True

    def look(self, relations: Sequence[str]) -> None:
        """Count a batch's relations; warn once if more than a third of the first 100 are outside the vocabulary."""
        if self.judged or torch.compiler.is_compiling():
            return
        assert self.vocabulary is not None
        self.counts.update(relations)
        if self.counts.total() < ENOUGH:
            return
        self.judged = True
        part = coverage(self.counts, self.vocabulary)
        if part.unknown_fraction > TOO_MANY:
            tell_outside({"the graphs' first triplets": part})
