"""What every parser makes of a caption: entities and relations, each with its place in the caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ParsedEntity:
    """A thing that a caption names.

    Args:
        label: What it is, in lower case and in the singular, without determiner and attributes: "coffee cup".
        span: Where the caption names it: the first character and the one after the last. None if it is not known.
        attributes: What it is like, such as ("red", "wooden"); a number of things is one of these ("two").
    """

    label: str
    span: tuple[int, int] | None
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParsedRelation:
    """A triplet of a caption.

    Args:
        subject: Index of the first entity of the caption's record.
        relation: How it relates, as the caption says it: "in front of", "sitting on".
        object: Index of the second entity.
        span: Where the caption says so: the first character and the one after the last. None if it is not known, or
            if no word of the caption says it.
        confidence: How sure the parser is, from 0 to 1.
    """

    subject: int
    relation: str
    object: int
    span: tuple[int, int] | None = None
    confidence: float = 1.0


@dataclass(frozen=True)
class ParsedCaption:
    """Entities of a caption and relations between them.

    Args:
        entities: The entities, in the order of the caption where their places are known.
        relations: Triplets over indices of `entities`.
    """

    entities: tuple[ParsedEntity, ...] = ()
    relations: tuple[ParsedRelation, ...] = ()


class Parser(Protocol):
    """Makes graphs of captions.

    The same captions give the same records, whatever else is parsed with them. No caption raises an error: one that
    cannot be understood has an empty record.
    """

    name: str
    """Its name for `build_parser`; a triplet's source."""
    version: str
    """Changes whenever the records of some captions may."""

    def parse(self, captions: Sequence[str]) -> list[ParsedCaption]:
        """Parse captions, one record each, in their order."""
        ...
