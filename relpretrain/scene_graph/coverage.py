"""Coverage of a dataset's relations by a vocabulary, and the lines that report it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from relpretrain.scene_graph.geometry import normalise
from relpretrain.scene_graph.vocabulary import RelationVocabulary
from relpretrain.showing import say

TOO_MANY = 1 / 3
"""Fraction of relations outside the vocabulary above which there is a warning."""

WIDTH = 110
"""Columns of a line."""

REMEDY = "MRC never learns these: give it a vocabulary that has them (relations.json of packed shards), or aliases."


class Coverage(NamedTuple):
    """Number of triplets of a dataset inside and outside a vocabulary.

    Args:
        known: Triplets whose relation is in the vocabulary.
        unknown: Triplets whose relation is not: MRC learns nothing from these.
        most_common: Relations outside the vocabulary with their counts, the most frequent first.
    """

    known: int
    unknown: int
    most_common: tuple[tuple[str, int], ...] = ()

    @property
    def unknown_fraction(self) -> float:
        """Fraction of the triplets whose relation is outside the vocabulary; 0 without triplets."""
        return self.unknown / max(self.known + self.unknown, 1)


def coverage(counts: Mapping[str, int], vocabulary: RelationVocabulary) -> Coverage:
    """Count triplets inside and outside a vocabulary, by its own rules for spelling and aliases.

    Args:
        counts: How often each relation occurs, in any spelling.
        vocabulary: The vocabulary.
    """
    known, lacking = 0, Counter[str]()
    for name, count in counts.items():
        if name in vocabulary:
            known += count
        else:
            lacking[normalise(name)] += count
    ordered = sorted(lacking.items(), key=lambda item: (-item[1], item[0]))
    return Coverage(known, lacking.total(), tuple(ordered))


def coverage_lines(
    found: Mapping[str, Coverage], indent: str = "", vocabulary: str = "MRC's vocabulary", remedy: str = REMEDY
) -> list[str]:
    """A line for each part of the data that has relations outside the vocabulary, and one on the remedy.

    Args:
        found: What was counted, by the name of a data set.
        indent: What each line begins with.
        vocabulary: What the relations are outside of.
        remedy: The last line.

    Returns:
        Lines of at most 110 columns, where names are not long; none if nothing is outside.
    """
    outside = {name: part for name, part in found.items() if part.unknown}
    lines = [indent + _line(name, part, vocabulary, WIDTH - len(indent)) for name, part in outside.items()]
    return [*lines, indent + remedy] if lines and remedy else lines


def warn_outside(found: Mapping[str, Coverage], stacklevel: int = 3) -> None:
    """Warn of datasets with more than a third of their relations outside MRC's vocabulary.

    Warns:
        UserWarning: A line for each data set.
    """
    for name, part in found.items():
        if part.unknown_fraction > TOO_MANY:
            said = f"MRC never learns {_percent(part)} % of the relations of {name}: "
            warnings.warn(said + "give it a vocabulary that has them, or aliases", stacklevel=stacklevel)


def tell_outside(found: Mapping[str, Coverage]) -> None:
    """Print the lines of `coverage_lines`, and warn as `warn_outside`."""
    if lines := coverage_lines(found):
        say("\n".join(lines))
    warn_outside(found, stacklevel=4)


def _percent(part: Coverage) -> str:
    percent = 100 * part.unknown_fraction
    return f"{percent:.0f}" if percent >= 1 else f"{percent:.1g}"


def _line(name: str, part: Coverage, vocabulary: str, width: int) -> str:
    total = part.known + part.unknown
    line = f"{name}: {part.unknown:,} of {total:,} relations ({_percent(part)} %) outside {vocabulary}: "
    shown: list[str] = []
    for relation, count in part.most_common:
        left = len(part.most_common) - len(shown) - 1
        tail = [f"{left:,} more"] if left else []
        if shown and len(line + ", ".join([*shown, f"{relation[:WIDTH]} {count:,}", *tail])) > width:
            break
        shown.append(f"{relation[:WIDTH]} {count:,}")
    left = len(part.most_common) - len(shown)
    return line + ", ".join([*shown, *([f"{left:,} more"] if left else [])])
