"""How the generated world is spoken of: tersely, as region labels and verbalised graphs are."""

from __future__ import annotations

from collections.abc import Sequence

WORDS = ("the", "and", "is", ".")
"""All words besides those of labels and relations, where nothing is counted."""

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
"""Numbers by name."""
COUNTING_WORDS = ("there", "are", "exactly", *NUMBERS)
"""Words besides shapes that counting needs."""


def plain_caption(labels: Sequence[str]) -> str:
    """Say what is there and nothing of how it stands.

    Labels go by the alphabet, so that images of the same things have the same caption: no false negatives in a world
    of few kinds, where a batch holds most of them several times.
    """
    return " and ".join(sorted(labels))


def phrase(subject: str, relation: str, object: str) -> str:
    """Say a relation as a phrase: VALSE's captions and half of the captions that mention a relation."""
    return f"{subject} {relation} {object}"


def sentence(subject: str, relation: str, object: str) -> str:
    """Say a relation as a sentence: VSR's captions and the other half of the captions that mention a relation."""
    return f"The {subject} is {relation} the {object}."


def count(number: int, shapes: Sequence[str]) -> str:
    """Say how many things there are: by their shape where there is only one, else as shapes."""
    return f"There are exactly {NUMBERS[number]} {counted(shapes)}."


def counted(shapes: Sequence[str]) -> str:
    """What things are called when they are counted."""
    if len(shapes) > 1:
        return "shapes"
    return f"{shapes[0]}{'es' if shapes[0].endswith('s') else 's'}"  # squares, but crosses


def paragraph(labels: Sequence[str], triplets: Sequence[tuple[str, str, str]]) -> str:
    """Say what is there, and then how it stands in as many sentences, in an order that only their content decides."""
    return " ".join([f"{plain_caption(labels).capitalize()}.", *sorted(sentence(*triplet) for triplet in triplets)])
