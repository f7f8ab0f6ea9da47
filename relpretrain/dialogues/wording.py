"""Questions and answers, and what they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")

ORDINALS = ("first", "second")
"""How the images of a pair are called."""


class Turn(NamedTuple):
    """A question with its answer.

    Args:
        form: What sort of question it is.
        question: It.
        answer: A true one.
    """

    form: str
    question: str
    answer: str


def listed(names: Sequence[str]) -> str:
    """Several names in a row: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def quoted(text: str) -> str:
    """A statement as it is spoken of."""
    return f'"{text}"'


def choice(form: str, question: str, right: str, wrong: Sequence[str], rng: np.random.Generator) -> Turn:
    """A question with options in a random order; the answer names the letter and the text."""
    options = [right, *wrong]
    order = rng.permutation(len(options)).tolist()
    letters = "ABCDEFGH"[: len(order)]
    shown = "\n".join(f"{letter}. {options[place]}" for letter, place in zip(letters, order, strict=True))
    return Turn(form, f"{question}\n{shown}", f"{letters[order.index(0)]}. {right}")


def drawn(items: Sequence[T], rng: np.random.Generator) -> T:
    """One of several."""
    return items[int(rng.integers(len(items)))]


def mixed(items: Sequence[T], rng: np.random.Generator) -> list[T]:
    """All, in a random order."""
    return [items[place] for place in rng.permutation(len(items)).tolist()]
