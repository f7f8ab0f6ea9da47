"""The recipe of each run: the preset's, with the run's factors written in."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from relpretrain.errors import ConfigError
from relpretrain.evidence.design import ARMS, BACKBONES, Run

LOOKS = 8
"""How often a run is scored while it trains."""
LOOK_ITEMS = 150
"""On how many items of each split."""

_OF_REGIONS = ("vma", "box")
_OF_RELATIONS = ("vsg", "mrc")


def recipe_of(run: Run, base: dict[str, Any], world: Path, folder: Path, steps: int) -> dict[str, Any]:
    """A complete recipe, which `lightning fit -c` trains by itself.

    Boxes and graphs are of the same images: the first ones of the corpus, as many shards as the run's share asks for.

    Args:
        run: The run.
        base: The preset's recipe: X-VLM with both relation objectives on streams captions, regions and graphs.
        world: Folder of the generated world.
        folder: Folder of the run.
        steps: Steps to train.

    Raises:
        ConfigError: If the share is not a whole number of the world's shards.
    """
    recipe = copy.deepcopy(base)
    recipe |= {"run": str(folder), "seed_everything": run.seed}
    recipe["trainer"]["max_steps"] = steps
    recipe["trainer"]["callbacks"] = [{"class_path": "relpretrain.evidence.flops.Flops"}, _look(world, steps)]
    data, model = recipe["data"], recipe["model"]
    model["backbone"]["class_path"] = BACKBONES[run.backbone]
    data["tokenizer"] = str(world / "tokenizer")
    backbone = model["backbone"]["init_args"]
    backbone["vocab_size"] = max(backbone["vocab_size"], _words(world / "tokenizer"))  # worlds differ in their words
    streams, objectives = data["streams"], model["objectives"]

    captions, graphs = map(float, run.mixture.split(":"))
    annotated = shards_of(world, run.share)
    streams["captions"] |= {"datasets": {"world": str(world / "captions")}, "ratio": captions}
    streams["regions"]["datasets"] = {"world": annotated}
    streams["graphs"] |= {
        "datasets": {"world": annotated},
        "ratio": graphs,
        "objectives": list(ARMS[run.arm]),
        "sort_relations": run.sort,
    }
    objectives["vsg"]["init_args"] |= {"max_relations": run.max_relations}
    objectives["mrc"]["init_args"] |= {"vocabulary": str(world / "relations.json"), "masked": run.masked}

    left_out = [name for name in _OF_RELATIONS if name not in ARMS[run.arm]]
    if run.backbone == "ALBEF":
        left_out += _OF_REGIONS
        del streams["regions"]
    for name in left_out:
        del objectives[name]
    if not ARMS[run.arm]:
        del streams["graphs"]
    return recipe


def shards_of(world: Path, share: float) -> list[str]:
    """The shards of a world that hold a share of its images with their graphs.

    Raises:
        ConfigError: If no whole number of shards holds that share.
    """
    images = _images(world / "captions")
    wanted, shards, found = share * sum(images.values()), [], 0
    for path, count in _images(world / "graphs").items():
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


def _images(folder: Path) -> dict[str, int]:
    """Images by shard, from the index that packing writes."""
    listed = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return {str(folder / shard["name"]): shard["samples"] for shard in listed["shards"]}


def _words(tokenizer: Path) -> int:
    return len((tokenizer / "vocab.txt").read_text(encoding="utf-8").splitlines())


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
