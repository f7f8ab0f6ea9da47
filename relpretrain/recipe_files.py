"""The recipes that come with the package: found by name, listed, shown, copied."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from relpretrain.errors import ConfigError, suggest

_MOST = 100_000
"""Values of a recipe: the largest of ours has some hundreds."""

_HOME = Path(__file__).parent
_PLACES = (_HOME / "recipes", _HOME.parent / "recipes")  # in an installed wheel; in a checkout, beside the package


def bundled() -> dict[str, Path]:
    """The package's recipes by name, without ending."""
    folder = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def listed() -> dict[str, Path]:
    """What `relpretrain recipes` lists: the recipes by name without ending, then scripts by their full name."""
    recipes = bundled()
    folder = next(iter(recipes.values())).parent if recipes else _PLACES[0]
    return {**recipes, **{path.name: path for path in sorted(folder.glob("*.py"))}}


def find_recipe(path: str | Path) -> Path:
    """The file that a recipe's path or name means.

    A file of that path wins. Else "rex_vlm", "rex_vlm.yaml" and "recipes/rex_vlm.yaml" mean the package's own; any
    other path comes back as it is.
    """
    path = Path(path)
    if path.is_file() or path.parent not in (Path(), Path("recipes")) or path.suffix not in ("", ".yaml"):
        return path
    return bundled().get(path.stem, path)


def check_recipe(path: Path) -> None:
    """Look for a recipe.

    Raises:
        ConfigError: If it is missing; suggests one of a similar name. If it is no recipe, for its sheer size.
    """
    if not path.is_file():
        here = [other.name for other in path.parent.glob("[!.]*.yaml")] if path.parent.is_dir() else []
        raise ConfigError(f"recipe {path} does not exist{suggest(path.name, [*here, *bundled()])}")
    _check_size(path)


def _check_size(path: Path) -> None:
    """Refuse a recipe in which aliases of aliases stand for more than any recipe says, or that has no end."""
    import yaml

    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = _MOST  # within itself
            inner = (part for value in node.value for part in (value if isinstance(value, tuple) else (value,)))
            sizes[id(node)] = 1 + sum(map(size, inner))
        return sizes[id(node)]

    try:
        root = yaml.compose(path.read_bytes(), yaml.SafeLoader)
        if root is not None and size(root) >= _MOST:
            raise ConfigError(f"recipe {path} holds more than {_MOST:,} values, counting those that aliases repeat")
    except RecursionError:
        raise ConfigError(f"recipe {path} is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        # whoever reads it says what is wrong


def recipe_paths(arguments: Sequence[str]) -> list[str]:
    """The recipes that arguments of the command line name."""
    paths = []
    for argument, following in pairwise([*arguments, ""]):
        if argument in ("-c", "--config"):
            paths.append(following)
        elif argument.startswith(("--config=", "-c=")):
            paths.append(argument.partition("=")[2])
    return [path for path in paths if path]


def summary(recipe: Path) -> str:
    """The first line of a recipe or a script, which says what it is."""
    with recipe.open(encoding="utf-8") as file:
        return file.readline().lstrip('#"').strip()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `list`, `show` and `copy` to the parser of `relpretrain recipes`."""
    commands = parser.add_subparsers(dest="recipes_command", metavar="COMMAND")
    commands.add_parser("list", help="name them, and what each is (the default)")
    show = commands.add_parser("show", help="print one")
    copy = commands.add_parser("copy", help="copy one, to change it")
    for command in (show, copy):
        command.add_argument("name", metavar="NAME")
    copy.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="(default: the working one)")


def run(args: argparse.Namespace) -> None:
    """Carry out a command of `add_arguments`.

    Raises:
        ConfigError: If there is no such recipe, or the copy would replace a file.
    """
    recipes = listed()
    if args.recipes_command in (None, "list"):
        width = max(map(len, recipes), default=0)
        for name, path in recipes.items():
            print(f"{name:<{width}}  {summary(path)}")
        return
    name = Path(args.name).name.removesuffix(".yaml")
    if name not in recipes:
        raise ConfigError(f"unknown recipe {args.name!r}{suggest(name, recipes)}")
    if args.recipes_command == "show":
        print(recipes[name].read_text(encoding="utf-8"), end="")
        return
    target = args.folder / recipes[name].name
    if target.exists():
        raise ConfigError(f"{target} is there already: name another folder, or remove it")
    args.folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(recipes[name], target)
    print(target)
