"""Every command explains itself, with an example that it takes."""

import re
import shlex

from relpretrain.cli import COMMANDS, TRAINING, main
from relpretrain.terminal.examples import EXAMPLES, commands_of
from relpretrain.terminal.parsers import PARSERS


def tree(parser, path):
    yield path, parser
    for name, inner, _ in commands_of(parser):
        yield from tree(inner, f"{path} {name}")


TREE = {path: parser for name, make in PARSERS.items() for path, parser in tree(make(), name)}


def commands_in(text):
    """The command lines of a help's example, joined where they go on."""
    shown = text.split("example:\n", 1)[1].split("\n\n")[0]
    return [shlex.split(line, comments=True) for line in shown.replace("\\\n", " ").splitlines()]


def test_all_commands_are_looked_at():
    assert {*PARSERS, *TRAINING} == set(COMMANDS)
    assert len(TREE) > 30
    assert set(EXAMPLES) <= set(TREE)


def test_an_example_ends_the_help_and_is_a_command():
    for path, parser in TREE.items():
        help_text = parser.format_help()
        assert "example:\n  relpretrain " in help_text, path
        for words in commands_in(help_text):
            program, command, *rest = words[: min(words.index(sign) if sign in words else 99 for sign in (">", ">>"))]
            assert program == "relpretrain"
            assert [command, *rest][: len(path.split())] == path.split() or " " not in path
            assert TREE[command].parse_args(rest), path  # raises what is wrong with it


def test_every_command_and_option_is_explained():
    for path, parser in TREE.items():
        silent = [action.option_strings for action in parser._actions if action.option_strings and not action.help]
        assert silent == [], path
        assert parser.description, path
        assert [name for name, _, text in commands_of(parser) if not text] == [], path


def test_the_help_of_training_ends_with_an_example(capsys):
    assert main(["fit", "--help"]) == 0
    printed = capsys.readouterr().out
    # The oldest jsonargparse divides its lines elsewhere.
    assert " ".join(printed.split()).endswith(
        "example: relpretrain fit -c quickstart --run=runs/first --trainer.max_steps=200"
    )


def test_the_first_help_names_every_command(capsys):
    main([])
    printed = capsys.readouterr().out
    assert all(re.search(rf"^  ([a-z]+, )?{name}\b", printed, re.MULTILINE) for name in COMMANDS)
    assert max(map(len, printed.splitlines())) <= 120
