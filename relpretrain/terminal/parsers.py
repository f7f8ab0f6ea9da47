"""The parsers of the commands, but for those of training, which are made of the classes that a recipe names."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from relpretrain.errors import ConfigError, counted
from relpretrain.showing.help import ExampleFormatter
from relpretrain.terminal.examples import add_examples


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, lets a command's help end with an example, and knows how to carry it out."""

    run: Callable[[argparse.Namespace], Any]
    """Takes the parsed arguments; an exit status, or None for 0."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": ExampleFormatter, **options})

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse arguments; of words that are left over it is told which option has its values already."""
        words = list(sys.argv[1:] if args is None else args)
        found, extra = self.parse_known_args(words, namespace)
        if extra:
            self.error(f"unrecognized arguments: {' '.join(extra)}{_full(words, extra[0])}")
        return found

    def error(self, message: str) -> NoReturn:
        """Raise a ConfigError instead of leaving the process."""
        raise ConfigError(f"{message} (see {self.prog} --help)")


def _full(words: Sequence[str], extra: str) -> str:
    """What is said of the option before a word that is left over, where that looks like one more of its values."""
    before = words[: len(words) - 1 - words[::-1].index(extra)] if extra in words else []
    place = next((place for place in reversed(range(len(before))) if before[place].startswith("--")), None)
    if place is None or extra.startswith("-"):
        return ""
    option, inside, _ = before[place].partition("=")
    taken = len(before) - 1 - place + bool(inside)
    if not taken:
        return ""
    return f": {option} takes {counted(taken, 'value')}, so for several run the command once for each"


def recipes() -> Parser:
    """The parser of `relpretrain recipes`."""
    from relpretrain import recipe_files

    parser = Parser(prog="relpretrain recipes", description=recipe_files.__doc__)
    recipe_files.add_arguments(parser)
    return _finished(parser, "recipes", recipe_files.run)


def data() -> Parser:
    """The parser of `relpretrain data`."""
    from relpretrain.data.build import convert, index, label, pack, tasks
    from relpretrain.data.join import command as join_command
    from relpretrain.inspect import commands as inspect_commands
    from relpretrain.inspect.show import command as show_command
    from relpretrain.inspect.show import dialogues as dialogues_command
    from relpretrain.synthetic import command as synthetic_command
    from relpretrain.tagging import calibrate
    from relpretrain.tagging import label as tagging
    from relpretrain.zeroshot import fetch_options

    parser = Parser(prog="relpretrain data", description="Make, check and look at shards.")
    subcommands = parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    for command_of in (convert, pack, label, join_command, index, calibrate, synthetic_command, fetch_options):
        command_of.add_parser(subcommands)
    tagging.extend(subcommands.choices["label"])
    tasks.add_merge(subcommands, parser.parse_args)
    for commands_of in (inspect_commands, show_command, dialogues_command):
        commands_of.add_subcommands(subcommands)
    return _finished(parser, "data", lambda args: args.run_data(args))


def report() -> Parser:
    """The parser of `relpretrain report`."""
    from relpretrain.inspect.run_report import command

    parser = Parser(prog="relpretrain report", description=command.__doc__)
    command.add_arguments(parser)
    return _finished(parser, "report", command.run)


def explain() -> Parser:
    """The parser of `relpretrain explain`."""
    from relpretrain.explain import command

    parser = Parser(prog="relpretrain explain", description=command.__doc__)
    command.add_arguments(parser)
    return _finished(
        parser, "explain", lambda args: command.run(args, ["relpretrain", "explain", *map(shlex.quote, args.words)])
    )


def weights() -> Parser:
    """The parser of `relpretrain weights`."""
    from relpretrain.checkpoints import commands

    parser = Parser(prog="relpretrain weights", description=commands.__doc__)
    commands.add_arguments(parser)
    return _finished(parser, "weights", commands.run)


def completion() -> Parser:
    """The parser of `relpretrain completion`."""
    from relpretrain.terminal.completion import SHELLS, script

    parser = Parser(prog="relpretrain completion", description="Print what a shell needs to complete the commands.")
    parser.add_argument("shell", choices=SHELLS)
    return _finished(parser, "completion", lambda args: print(script(args.shell), end=""))


def zeroshot() -> argparse.ArgumentParser:
    """The parser of `relpretrain zeroshot`."""
    from relpretrain.zeroshot.options import make_parser

    return make_parser("relpretrain zeroshot")


def _finished(parser: Parser, name: str, run: Callable[[argparse.Namespace], Any]) -> Parser:
    parser.run = run
    add_examples(parser, name)
    return parser


OWN: dict[str, Callable[[], Parser]] = {
    "recipes": recipes,
    "data": data,
    "report": report,
    "explain": explain,
    "weights": weights,
    "completion": completion,
}
"""Makes the parser of a command that it also carries out."""

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {**OWN, "zeroshot": zeroshot}
"""Makes the parser of a command; training has another (`training.command.cli`)."""
