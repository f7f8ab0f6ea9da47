"""Compositions of the generated world that training never shows."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from relpretrain.synthetic.relations import FAMILIES, INVERSE, can_be

Combination = tuple[str, str, str]
"""A kind, a relation and a kind, in the form that `canonical` gives."""

_ATTEMPTS = 100
_T = TypeVar("_T")


@dataclass(frozen=True)
class HeldOut:
    """What no scene shows, unless it is about that.

    Args:
        pairs: Two kinds each, in the order of the alphabet, that never stand together.
        combinations: What is never true of two kinds that do.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    combinations: tuple[Combination, ...] = ()

    @cached_property
    def _pairs(self) -> frozenset[tuple[str, str]]:
        return frozenset(self.pairs)

    @cached_property
    def _combinations(self) -> frozenset[Combination]:
        return frozenset(self.combinations)

    def parts(self, one: str, other: str) -> bool:
        """Whether two kinds never stand together."""
        return (min(one, other), max(one, other)) in self._pairs

    def status(self, subject: str, relation: str, object: str) -> str:
        """Whether training may show this: "seen", "held out", or "impossible" where nobody can."""
        if self.forbids(subject, relation, object):
            return "held out"
        return "seen" if can_be(subject, relation, object) else "impossible"

    def forbids(self, subject: str, relation: str, object: str) -> bool:
        """Whether two kinds never stand so."""
        return self.parts(subject, object) or canonical(subject, relation, object) in self._combinations


NOTHING = HeldOut()
"""Every composition comes."""


def canonical(subject: str, relation: str, object: str) -> Combination:
    """Give "a left of b" and "b right of a" one name: they are the same composition."""
    inverse = INVERSE.get(relation)
    return (
        (subject, relation, object) if inverse is None else min((subject, relation, object), (object, inverse, subject))
    )


def combinations_of(pair: tuple[str, str], relations: Iterable[str]) -> tuple[Combination, ...]:
    """Every composition of two kinds by some relations that can be seen."""
    one, other = pair
    ends = ((one, other), (other, one))
    found = (canonical(a, name, b) for name in relations for a, b in ends if can_be(a, name, b))
    return tuple(dict.fromkeys(found))


def choose_held_out(
    kinds: Sequence[str], relations: Sequence[str], pairs: float, combinations: float, seed: int
) -> HeldOut:
    """Choose what training never shows.

    Combinations are held out by opposites: of two kinds, "a left of b" goes together with "a right of b". So whoever
    is asked which of the two is true of an image has read neither.

    Args:
        kinds: Everything that can be in a scene.
        relations: Relations of the world.
        pairs: Fraction of the pairs of kinds; every kind stays in at least half of its pairs.
        combinations: Fraction of the combinations of the remaining pairs; each of them keeps some.
        seed: Where the choice is drawn from.

    Raises:
        ValueError: If so much cannot be held out.
    """
    for name, share in (("pairs", pairs), ("combinations", combinations)):
        if not 0 <= share < 1:
            raise ValueError(f"hold_out_{name} is {share}, but a fraction to hold out lies between 0 and 1.")
    rng = np.random.default_rng([seed, *b"held out"])
    every = [(min(pair), max(pair)) for pair in itertools.combinations(kinds, 2)]
    parted = _choose_pairs(every, _number(pairs, len(every)), (len(kinds) - 1) // 2, rng)
    left = [pair for pair in every if pair not in set(parted)]
    return HeldOut(tuple(sorted(parted)), tuple(sorted(_choose_combinations(left, relations, combinations, rng))))


def prefer(candidates: Sequence[_T], like: Callable[[_T], bool]) -> Sequence[_T]:
    """Those of the candidates that are alike, all where none is."""
    return [candidate for candidate in candidates if like(candidate)] or candidates


def _number(share: float, total: int) -> int:
    return max(1, round(share * total)) if share else 0


def _choose_pairs(
    every: Sequence[tuple[str, str]], number: int, most: int, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """So many pairs that no kind loses more than `most`."""
    for _ in range(_ATTEMPTS):
        chosen: list[tuple[str, str]] = []
        lost: Counter[str] = Counter()
        for index in rng.permutation(len(every)) if number else ():
            if len(chosen) < number and all(lost[kind] < most for kind in every[index]):
                chosen.append(every[index])
                lost.update(every[index])
        if len(chosen) == number:
            return chosen
    raise ValueError(
        f"hold_out_pairs asks for {number} of {len(every)} pairs of kinds, but every kind is to stay in at least half "
        "of its pairs. Lower hold_out_pairs, or name more shapes or colors."
    )


def _both_ways(pair: tuple[str, str], family: Sequence[str]) -> bool:
    """Whether two kinds can stand in every relation of a family, whichever comes first."""
    return all(can_be(*ends[:1], name, *ends[1:]) for ends in (pair, pair[::-1]) for name in family)


def _choose_combinations(
    pairs: Sequence[tuple[str, str]], relations: Sequence[str], share: float, rng: np.random.Generator
) -> list[Combination]:
    """Whole families of single pairs, until they hold that fraction."""
    if not share:
        return []
    families = [present for family in FAMILIES if (present := [name for name in family if name in relations])]
    if len(families) < 2:
        raise ValueError(
            f"hold_out_combinations is {share}, but the relations {', '.join(relations)} are a single pair of "
            "opposites, which is held out as a whole. Set it to 0, or name more relations."
        )
    number = _number(share, sum(len(combinations_of(pair, relations)) for pair in pairs))
    chosen: list[Combination] = []
    units = [(pair, family) for pair in pairs for family in families if _both_ways(pair, family)]
    kept = Counter(pair for pair, _ in units)
    for index in rng.permutation(len(units)):
        pair, family = units[index]
        if len(chosen) < number and kept[pair] > 1:
            chosen += combinations_of(pair, family)
            kept[pair] -= 1
    if len(chosen) < number:
        raise ValueError(
            f"hold_out_combinations asks for {number} combinations, but only {len(chosen)} can be held out while two "
            "kinds keep some of their relations. Lower hold_out_combinations."
        )
    return chosen
