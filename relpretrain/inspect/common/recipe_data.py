"""The data of a recipe, without its model: for commands that check or show what training would see."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from relpretrain import objectives
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.stream import Stream, with_defaults
from relpretrain.errors import ConfigError
from relpretrain.inspect.common.survey import SHARDS
from relpretrain.reading import read_text
from relpretrain.recipe_files import find_recipe
from relpretrain.scene_graph.vocabulary import DEFAULT_VOCABULARY, RelationVocabulary

_OF_STREAMS = {
    "max_relations": "relations_per_text",
    "relations_per_image": "relations_per_image",
    "boxes_per_image": "boxes_per_image",
}
"""Arguments of objectives, and the settings of their streams that follow them."""


@dataclass
class RecipeData:
    """What a recipe says of its data.

    Args:
        module: Its data module, not set up.
        max_steps: Of its trainer; None if it sets none.
        content: All of the recipe.
    """

    module: RelationDataModule
    max_steps: int | None
    content: dict[str, Any]

    @property
    def streams(self) -> dict[str, Stream]:
        """The training streams."""
        return self.module.streams

    def encoders(self, tokenizer: Any = None) -> dict[str, TextEncoder]:
        """The encoder of each stream's texts.

        Args:
            tokenizer: In place of the recipe's own.

        Raises:
            ValueError: If the tokenizer cannot be loaded, or a limit is too short.
        """
        tokenizer = load_tokenizer(self.module.tokenizer_name) if tokenizer is None else tokenizer
        separator, clean = self.module.separator, self.module.clean
        return {n: TextEncoder(tokenizer, s.max_tokens, separator, clean) for n, s in self.streams.items()}

    def exclusion(self) -> Exclusion | None:
        """The list of images that it leaves out."""
        return None if self.module.exclude is None else Exclusion.load(self.module.exclude)

    def vocabulary(self, streams: Collection[str]) -> RelationVocabulary | None:
        """The vocabulary of the first objective of some streams that has one: an MRC, or what names one.

        Raises:
            ValueError: If it cannot be read.
        """
        for objective in (name for stream in streams for name in self.streams[stream].objectives):
            kind, given = _objective(self.content, objective)
            name = given.get("vocabulary", DEFAULT_VOCABULARY if kind in ("MRC", "RelationTagger") else None)
            if name is not None:
                return RelationVocabulary.load(name)
        return None

    def keep(self, names: Collection[str]) -> None:
        """Leave out all streams but these."""
        self.module.streams = {name: stream for name, stream in self.streams.items() if name in names}

    def set_up(self) -> list[str]:
        """Set up the data module (shards, schedule); returns the problems that prevent it, one line each."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.module.setup()
        except ConfigError as error:
            return error.problems
        return []


def read_data(path: Path, shards: Sequence[str] = ()) -> RecipeData:
    """Read the data of a recipe.

    Args:
        path: The recipe: a file, or the name of one that comes with the package.
        shards: Shards to take in place of the recipe's own, in every stream.

    Raises:
        ConfigError: If it is no recipe, or its data is not what `RelationDataModule` takes.
    """
    path = find_recipe(path)
    try:
        content = yaml.safe_load(read_text(path))
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("data"), dict):
        raise ConfigError(f"recipe {path} has no settings under 'data'")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RelationDataModule, "data")
    try:
        build = getattr(parser, "instantiate", None) or parser.instantiate_classes  # its name before jsonargparse 4.49
        module = build(parser.parse_object({"data": content["data"]})).data
    except (ArgumentError, ValueError, TypeError) as error:
        raise ConfigError(f"data of recipe {path}: {' '.join(str(error).split())}") from error
    if shards:
        module.streams = {
            name: replace(stream, datasets={SHARDS: list(shards)}, dataset_ratios="uniform")
            for name, stream in module.streams.items()
        }
        module.validation = {}
    for streams in (module.streams, module.validation):
        for name, stream in streams.items():
            streams[name] = _settled(stream, content)
    trainer = content.get("trainer")
    steps = trainer.get("max_steps") if isinstance(trainer, dict) else None
    return RecipeData(module, steps if isinstance(steps, int) and steps > 0 else None, content)


def _settled(stream: Stream, content: dict[str, Any]) -> Stream:
    """A stream with what it leaves to its objectives, as training fills it in, but without building them."""
    found = with_defaults(stream, {name: _asking(content, name) for name in stream.objectives})
    return replace(stream, boxed=found.boxed, **{name: getattr(found, name) for name in _OF_STREAMS.values()})


def _asking(content: dict[str, Any], name: str) -> SimpleNamespace:
    """What one of a recipe's objectives asks of its streams; nothing of one that is not ours."""
    kind, given = _objective(content, name)
    cls = getattr(objectives, kind, None)
    defaults = {n: p.default for n, p in inspect.signature(cls).parameters.items()} if isinstance(cls, type) else {}
    values = {n: value for n, value in (defaults | given).items() if n in _OF_STREAMS and isinstance(value, int)}
    return SimpleNamespace(needs_boxes=getattr(cls, "needs_boxes", False), **values)


def _objective(content: dict[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    """Class, without its module, and arguments of one of a recipe's objectives; "" and none where it names none."""
    model = content.get("model")
    objectives = model.get("objectives") if isinstance(model, dict) else None
    state = objectives.get(name) if isinstance(objectives, dict) else None
    state = {"class_path": state} if isinstance(state, str) else state
    if not isinstance(state, dict):
        return "", {}
    return str(state.get("class_path")).rpartition(".")[2], state.get("init_args") or {}
