"""How the generated world is spoken of: tersely, as region labels and verbalised graphs are."""

from __future__ import annotations

from collections.abc import Sequence

WORDS = ("the", "and", "is", ".")
"""All words besides those of labels and relations."""


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
