"""Parsers: from a caption to entities, attributes and relations with their places in it. Needs no torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from relpretrain.errors import ConfigError, suggest
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity, ParsedRelation, Parser

__all__ = ["PARSERS", "ParsedCaption", "ParsedEntity", "ParsedRelation", "Parser", "build_parser"]

PARSERS = {"lexicon": "LexiconParser", "spacy": "SpacyParser", "factual": "FactualParser"}
"""The parsers by name; the class of each is in the file of that name, which is imported when it is asked for."""


def build_parser(name: str, **options: Any) -> Parser:
    """Build a parser by its name.

    Args:
        name: One of `PARSERS`.
        **options: Arguments of its class.

    Raises:
        ConfigError: If there is no parser of that name or option, or what it needs is not installed: one line with
            the remedy.
    """
    if name not in PARSERS:
        raise ConfigError(f"no parser {name!r}{suggest(name, PARSERS)}")
    parser: Parser = getattr(import_module(f"{__name__}.{name}_parser"), PARSERS[name])(**options)
    return parser
