"""The recipe of each run: the preset's, with settings of a trial and the run's factors written in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from benchmarks.ablation.design import BACKBONES, Preset, Run
from benchmarks.ablation.objectives import OBJECTIVES, add_objectives, add_words
from relpretrain.errors import ConfigError
from relpretrain.synthetic import WorldOptions

LOOKS = 8
"""How often a run is scored while it trains."""
LOOK_ITEMS = 150
"""On how many items of each split."""
_OF_REGIONS = ("vma", "box")


def base_recipe(preset: Preset) -> dict[str, Any]:
    """The preset's recipe with the preset's settings: X-VLM with both relation objectives.

    Raises:
        ConfigError: If the recipe has no section of a setting.
    """
    recipe: dict[str, Any] = yaml.safe_load(preset.recipe.read_text(encoding="utf-8"))
    for path, section, name, value in _places(recipe, preset.settings):
        if section is None:
            raise ConfigError(f"the recipe has no {path.rpartition('.')[0]}, so {path} cannot be set")
        section[name] = value
    return recipe


def recipe_of(preset: Preset, run: Run, world: Path, folder: Path, steps: int) -> dict[str, Any]:
    """A complete recipe, which `lightning fit -c` trains by itself.

    Boxes and graphs are of the same images: the first ones of the corpus, as many shards as the run's share asks for.

    Args:
        preset: The preset.
        run: One of its runs.
        world: Folder of the generated world.
        folder: Folder of the run.
        steps: Steps to train.

    Raises:
        ConfigError: If the share is not a whole number of the world's shards, or a factor overrules a setting.
    """
    recipe = base_recipe(preset)
    recipe |= {"run": str(folder), "seed_everything": run.seed}
    recipe["trainer"] |= {"max_steps": steps, "callbacks": [_look(world, steps)] if preset.looks else []}
    data, model = recipe["data"], recipe["model"]
    data["tokenizer"] = str(world / "tokenizer")
    model["backbone"]["class_path"] = BACKBONES[run.backbone]
    backbone, words = model["backbone"]["init_args"], (world / "tokenizer" / "vocab.txt").read_text(encoding="utf-8")
    backbone["vocab_size"] = max(backbone["vocab_size"], len(words.splitlines()))  # worlds differ in their words
    if run.fusion != "late":
        backbone["fusion"] = run.fusion
    streams, objectives = data["streams"], model["objectives"]

    captions, graphs = map(float, run.mixture.split(":"))
    arm = list(OBJECTIVES[run.arm])
    annotated = annotated_shards(world, run) if arm or run.backbone != "ALBEF" else []
    streams["captions"] |= {"datasets": {"world": str(world / "captions")}, "ratio": captions}
    streams["regions"] |= {"datasets": {"world": annotated}}
    streams["graphs"] |= {"datasets": {"world": annotated}, "ratio": graphs}
    streams["graphs"] |= {"objectives": arm, "sort_relations": run.sort}
    objectives["vsg"]["init_args"] |= {"max_relations": run.max_relations}
    objectives["mrc"]["init_args"] |= {"vocabulary": str(world / "relations.json"), "masked": run.masked}

    add_objectives(objectives, run.arm)
    add_words(streams["graphs"], world, run.arm)
    if run.backbone == "ALBEF":
        for name in _OF_REGIONS:
            del objectives[name]
        del streams["regions"]
    if not arm:
        del streams["graphs"]
    for path, section, name, value in _places(recipe, preset.settings):  # what the run is without is ignored
        if section is not None and name in section and section[name] != value:
            raise ConfigError(f"{path} is {section[name]} by the run's own factors, and cannot be set to {value}")
    return recipe


def annotated_shards(world: Path, run: Run) -> list[str]:
    """The shards of a run's annotated images: with the graphs of its source, or those of two sources half each."""
    shards = shards_of(world, run.share)
    if run.graphs == "human":
        return shards
    other = [str(world / f"graphs_{'tagged' if run.graphs == 'mixed' else run.graphs}" / Path(s).name) for s in shards]
    half = len(shards) // 2 if run.graphs == "mixed" else 0
    return shards[:half] + other[half:]


def shards_of(world: Path, share: float) -> list[str]:
    """The shards of a world that hold a share of its images with their graphs.

    Raises:
        ConfigError: If no whole number of shards holds that share.
    """
    wanted, shards, found = share * sum(count for _, count in _shards(world / "captions")), [], 0
    for path, count in _shards(world / "graphs"):
        if found >= wanted - 0.5:
            break
        shards.append(path)
        found += count
    if abs(found - wanted) > 0.5:
        raise ConfigError(
            f"{share:.2%} of the images are {wanted:.0f}, but the shards of {world / 'graphs'} come to {found}: "
            "generate the world with more graphs, or another shard_size"
        )
    return shards


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Names and values of texts such as "model.optimizer.lr=2e-3".

    Raises:
        ValueError: If one has no name, no value, or none that YAML can read.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value):
            raise ValueError(f"{text!r} does not read NAME=VALUE, as label_noise=0.1.")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"{value!r} cannot be read as YAML: {error}") from error
        if isinstance(found[name], str):
            with contextlib.suppress(ValueError):
                found[name] = float(value)  # to YAML 1.1, a number such as 2e-3 is a word
    return found


def with_options(world: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A world's options, some of them set otherwise.

    Raises:
        ValueError: If the generator of worlds has no option of a name.
    """
    known = sorted({field.name for field in fields(WorldOptions)} - {"seed"})
    for name in options:
        if name not in known:
            raise ValueError(f"No dial of a world is called {name!r}; there are {', '.join(known)}.")
    return {**world, **{name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}}


def _places(
    recipe: dict[str, Any], settings: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any] | None, str, Any]]:
    """Path of each setting, the section that holds it (None if there is none), its name there and its value."""
    for path, value in settings.items():
        *names, last = path.split(".")
        section: Any = recipe
        for name in names:
            section = section.get(name) if isinstance(section, dict) else None
        yield path, section if isinstance(section, dict) else None, last, value


def _shards(folder: Path) -> list[tuple[str, int]]:
    """Shards and their numbers of images, from the index that packing writes."""
    listed = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return [(str(folder / shard["name"]), shard["samples"]) for shard in listed["shards"]]


def _look(world: Path, steps: int) -> dict[str, Any]:
    held_out = world / "held_out_combinations"
    return {
        "class_path": "relpretrain.zeroshot.ZeroShot",
        "init_args": {
            "data": str(held_out if held_out.is_dir() else world / "benchmarks"),
            "tasks": ["vsr", "valse"],
            "splits": {"vsr": ["synthetic/test"]},
            "every_n_steps": -(-steps // LOOKS),
            "items": LOOK_ITEMS,
        },
    }
