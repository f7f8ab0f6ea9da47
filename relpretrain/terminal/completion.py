"""Completion in bash, zsh and fish: a script that holds the words of all commands, and asks nothing while one types."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from relpretrain.recipe_files import bundled, listed
from relpretrain.terminal.examples import commands_of

SHELLS = ("bash", "zsh", "fish")

TRAINING = ("fit", "validate", "test", "predict")
_OF_TRAINING = (
    *("--config", "--run", "--ckpt_path", "--print_config", "--help"),
    *("--overwrite", "--threads", "--seed_everything"),
    *("--model.weights=", "--trainer.max_steps=", "--trainer.devices="),
)

_BASH = """\
_relpretrain_words() {
  case "$1" in
%s
  esac
}
_relpretrain() {
  local path="" word words i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    case "$word" in -*) continue ;; esac
    case " $(_relpretrain_words "$path") " in *" $word "*) path="${path:+$path }$word" ;; esac
  done
  words="$(_relpretrain_words "$path ${COMP_WORDS[COMP_CWORD - 1]}")"
  COMPREPLY=($(compgen -W "${words:-$(_relpretrain_words "$path")}" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _relpretrain relpretrain
"""  # files, where no word fits

_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n" + _BASH

_FISH = """\
function __relpretrain_words
  switch "$argv"
%s
  end
end
function __relpretrain_complete
  set -l path
  set -l before (commandline -opc)
  for word in $before[2..]
    if not string match -q -- '-*' $word; and contains -- $word (__relpretrain_words $path)
      set -a path $word
    end
  end
  set -l found (__relpretrain_words $path $before[-1])
  test -n "$found"; or set found (__relpretrain_words $path)
  string join -- \\n $found
end
complete -c relpretrain -a '(__relpretrain_complete)'
"""


def script(shell: str) -> str:
    """The script of a shell.

    Args:
        shell: One of `SHELLS`.
    """
    table = dict(words())
    if shell == "fish":
        cases = (f"    case '{path}'\n      string split -- ' ' '{' '.join(found)}'" for path, found in table.items())
        return _FISH % "\n".join(cases)
    cases = (f"    '{path}') echo '{' '.join(found)}' ;;" for path, found in table.items())
    return (_ZSH if shell == "zsh" else _BASH) % "\n".join(cases)


def words() -> Iterator[tuple[str, list[str]]]:
    """What may follow the words of a command, such as "data convert", or an option, such as "data join --format"."""
    from relpretrain.terminal.parsers import PARSERS

    yield "", [*TRAINING, *PARSERS, "--help", "--version"]
    recipes = list(bundled())
    for name in TRAINING:
        yield name, list(_OF_TRAINING)
        yield from ((f"{name} {option}", recipes) for option in ("-c", "--config"))
    for name in ("show", "copy"):
        yield f"recipes {name}", list(listed())
    for name, make in PARSERS.items():
        yield from _words_of(make(), name)


def _words_of(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, list[str]]]:
    found, inner = [], list(commands_of(parser))
    for action in parser._actions:
        found += [option for option in action.option_strings if option.startswith("--")]
        if action.choices is None or isinstance(action, argparse._SubParsersAction):
            continue
        choices = [str(choice) for choice in action.choices]
        found += [] if action.option_strings else choices
        yield from ((f"{path} {option}", choices) for option in action.option_strings)
    if path not in ("recipes show", "recipes copy"):  # recipes are offered there
        yield path, [name for name, _, _ in inner] + found
    for name, command, _ in inner:
        yield from _words_of(command, f"{path} {name}")
