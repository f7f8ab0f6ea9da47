"""Parsers: from a caption to entities, attributes and relations with their places in it. Needs no torch."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from relpretrain.errors import ConfigError, suggest
from relpretrain.scene_graph.parse.record import ParsedCaption, ParsedEntity, ParsedRelation, Parser

__all__ = ["PARSERS", "ParsedCaption", "ParsedEntity", "ParsedRelation", "Parser", "build_parser"]

PARSERS = {"lexicon": "LexiconParser", "spacy": "SpacyParser", "factual": "FactualParser"}
"""The parsers by name; the class of each is in the file NAME_parser, which is imported when it is asked for."""


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
    made = getattr(import_module(f"{__name__}.{name}_parser"), PARSERS[name])
    known = list(inspect.signature(made).parameters)
    for option in options:
        if option not in known:
            raise ConfigError(f"the parser {name} takes no option {option!r}{suggest(option, known)}")
    parser: Parser = made(**options)
    return parser
