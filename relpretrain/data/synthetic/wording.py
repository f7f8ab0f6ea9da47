"""How the generated world is spoken of."""

from __future__ import annotations

from collections.abc import Sequence

WORDS = ("a", "an", "the", "and", "is", "there", ".")
"""All words besides those of labels and relations."""


def a(label: str) -> str:
    """A label with its indefinite article."""
    return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"


def enumerated(phrases: Sequence[str]) -> str:
    """Phrases joined by "and"."""
    return " and ".join(phrases)


def plain_captions(labels: Sequence[str]) -> tuple[str, ...]:
    """The ways to say what is there and nothing of how it stands."""
    some = enumerated([a(label) for label in labels])
    definite = enumerated([f"the {label}" for label in labels])
    return some, f"There is {some}.", f"T{definite[1:]}."


def phrase(subject: str, relation: str, object: str) -> str:
    """Say a relation as a noun phrase: VALSE's captions and half of the captions that mention a relation."""
    return f"{a(subject)} {relation} {a(object)}"


def sentence(subject: str, relation: str, object: str) -> str:
    """Say a relation as a sentence: VSR's captions and the other half of the captions that mention a relation."""
    return f"The {subject} is {relation} the {object}."


def exists(label: str) -> str:
    """Say that something is there."""
    return f"There is {a(label)}."
