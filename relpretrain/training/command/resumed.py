"""Whether a run can go on with a checkpoint: told before anything is written for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from relpretrain.backbones.vision import check_weights
from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.checkpoints.sharded import are_shards
from relpretrain.errors import CheckpointError
from relpretrain.training.module import RelationModule
from relpretrain.training.optim import parameter_groups

_MOST = 1000
"""Characters of a list of weights."""


def goes_on(content: Mapping[str, Any], path: Path) -> bool:
    """Whether a checkpoint holds more than weights.

    Args:
        content: As `checkpoints.read` has it.
        path: Where it was read.
    """
    return bool(content.get("optimizer_states")) or are_shards(path)  # of shards, the strategy reads these


def check_resumed(content: Mapping[str, Any], path: Path, model: RelationModule, fits: bool) -> None:
    """Compare a checkpoint with the model that is to take it.

    Args:
        content: As `checkpoints.read` has it.
        path: Where it was read.
        model: The model, as the recipe says it.
        fits: Whether it is to be trained, and not evaluated alone.

    Raises:
        CheckpointError: If the relations, the weights, or the optimizer's groups are not the model's, or if it holds
            weights alone.
    """
    checkpoints.check_vocabulary(content[checkpoints.KEY], model.relation_vocabulary)
    if "loops" not in content or (fits and not goes_on(content, path)):
        raise CheckpointError(
            f"{path} holds weights alone, without the state of a run: give it as --model.weights={path} instead"
        )
    try:
        check_weights(str(path), _shapes(model.state_dict()), _shapes(content["state_dict"]))
    except ValueError as error:
        raise CheckpointError(
            f"{str(error)[:_MOST]} Take the settings of its run (leave out -c and --model...), or begin a new run from "
            f"its weights by --model.weights={path}"
        ) from error
    if fits and not are_shards(path):
        (saved,) = content["optimizer_states"]
        checkpoints.check_groups(path, saved["param_groups"], parameter_groups(model, model.optimizer))


def finished(path: Path, done: int, steps: int, run: Path, given: Sequence[str], stop: str) -> list[str]:
    """What to say of a run that is to go on and has nothing left to do, and how to train it longer.

    Args:
        path: The checkpoint to go on from.
        done: Its steps.
        steps: Those of the whole run.
        run: The run's folder.
        given: The arguments of `fit`.
        stop: The rule that ends the run (`data.stop`).

    Raises:
        CheckpointError: If the checkpoint is of another run.
    """
    begin = f"--model.weights={shlex.quote(str(path))}"
    if path.resolve().parent.parent != run.resolve():
        raise CheckpointError(
            f"{path} is of step {done:,}, and this run (run={run}) ends at step {steps:,}: nothing would be trained. "
            f"To begin a new run from its weights, give {begin} in place of --ckpt_path; to train on, a larger "
            "--trainer.max_steps"
        )
    longer = [*_without(given, "--trainer.max_steps", "--data.stop"), f"--trainer.max_steps={2 * done}"]
    if stop != "max_steps":
        longer.append("--data.stop=max_steps")
    lines = [
        f"Finished:   step {done:,} of {steps:,}, saved in {path}; nothing is left to do",
        f"Go on:      relpretrain fit {shlex.join(longer)}",
    ]
    if done > steps:
        lines.append(f"Anew:       from its weights, in another folder: {begin} in place of --ckpt_path, and --run")
    return lines


def _without(arguments: Sequence[str], *options: str) -> list[str]:
    """Arguments without some options and their values."""
    kept, waiting = [], iter(arguments)
    for argument in waiting:
        name, equals, _ = argument.partition("=")
        if name not in options:
            kept.append(argument)
        elif not equals:
            next(waiting, None)
    return kept


def _shapes(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict without their values."""
    return {name: value.to("meta") for name, value in state.items() if isinstance(value, Tensor)}
