"""The page of all commands and their options, from the parsers themselves."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from docs.generate.markup import cell, code, table
from relpretrain.cli import COMMANDS, HELP, TRAINING, main

_TRAINING = """\
`relpretrain fit`, `validate`, `test` and `predict` take a recipe, `-c RECIPE`, and every setting of it as an option
(`--trainer.max_steps=1000`): see [recipe keys](recipe_keys.md). `--print_config` prints all settings that a command
would use. `lightning fit` and `python -m relpretrain fit` are the same as `relpretrain fit`.
"""


class _Caught(BaseException):
    """Carries a parser out of a command that is about to use it; no `except Exception` holds it up."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(command: str) -> argparse.ArgumentParser | None:
    """The parser that `relpretrain COMMAND` uses; None for a command without one of argparse."""

    def caught(self: argparse.ArgumentParser, *_: Any, **__: Any) -> Any:
        raise _Caught(self)

    with patch.object(argparse.ArgumentParser, "parse_known_args", caught):
        try:
            main([command])
        except _Caught as found:
            return found.parser
    return None


def commands_page() -> str:
    """The page, in Markdown."""
    lines = ["# Commands", "", "```text", HELP.rstrip(), "```", "", "## Training", "", _TRAINING]
    for command in COMMANDS:
        if command not in TRAINING and (parser := parser_of(command)) is not None:
            lines += _section(f"relpretrain {command}", parser, 2)
    return "\n".join(lines) + "\n"


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below a command, by name."""
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: below for action in found for name, below in action.choices.items()}


def _section(title: str, parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    yield from ("#" * level + f" `{title}`", "")
    if parser.description:
        yield from (cell(parser.description), "")
    below = subcommands(parser)
    if not below:
        usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage:")).strip()
        yield from ("```text", usage.replace(parser.prog, title, 1), "```", "")
    for group in parser._action_groups:
        rows = [_row(action) for action in group._group_actions if _shown(action)]
        named = group.title not in ("options", "optional arguments", "positional arguments")
        if rows and named:
            yield from (f"*{cell(group.title or '')}*", "")
        yield from table(("option", "what it does"), rows)
    if parser.epilog:
        yield from ("```text", parser.epilog.strip().replace("%(prog)s", title), "```", "")
    for name, each in below.items():
        yield from _section(f"{title} {name}", each, level + 1)


def _shown(action: argparse.Action) -> bool:
    kinds = (argparse._HelpAction, argparse._SubParsersAction)
    return not isinstance(action, kinds) and action.help != argparse.SUPPRESS


def _row(action: argparse.Action) -> tuple[str, str]:
    """The option with what it takes, and its help, in which `%(default)s` is filled in as argparse would."""
    formatter = argparse.HelpFormatter(prog="")
    name = ", ".join(action.option_strings) or formatter._format_args(action, action.dest)
    if action.option_strings and action.nargs != 0:
        name += " " + formatter._format_args(action, action.dest.upper())
    return code(name), cell(formatter._expand_help(action) if action.help else "")
