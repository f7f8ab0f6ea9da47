"""Attaching relation objectives to a model that exists."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from relpretrain.distributed import touch
from relpretrain.features import Features, step_generator
from relpretrain.objectives import MRC, VSG, Objective
from relpretrain.types import Backbone, GraphBatch

_Model = TypeVar("_Model", bound=nn.Module)

_PROTOCOL = tuple(name for name in (*vars(Backbone), *Backbone.__annotations__) if not name.startswith("_"))


def add_relation_objectives(model: _Model, objectives: Sequence[Objective] | None = None, seed: int = 0) -> _Model:
    """Attach VSG and MRC (arXiv 2305.14281) to a model that satisfies the `Backbone` protocol, or trains one.

    The same object comes back. It gains `relation_objectives` (the objectives, with MRC's head) and
    `relation_losses(graph_batch)`, a dict of weighted scalars ready to add; the parameters it had keep their names. A
    LightningModule also adds these losses to what its `training_step` returns, whenever a batch is or contains a
    `GraphBatch`, and logs them under `relation/`.

    Attach before the optimizer is built, so that it sees the new parameters.

    Args:
        model: A backbone, or a module (such as a LightningModule) that holds exactly one.
        objectives: What to attach; `[VSG(), MRC()]`, the paper's settings, if None.
        seed: Of the hard negatives' draw, which also depends on the batch's step and on the rank.

    Returns:
        `model`.

    Raises:
        TypeError: If no backbone, or more than one, is found in the model; the message names what is missing.
        ValueError: If objectives are attached already, are named twice, or cannot be computed on the model. The model
            is left as it was.
    """
    if hasattr(model, "relation_objectives"):
        raise ValueError(f"This {type(model).__name__} has relation objectives already.")
    path, backbone = _find_backbone(model)
    chosen = [VSG(), MRC()] if objectives is None else list(objectives)
    names = [type(objective).__name__.lower() for objective in chosen]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"Each objective can be attached once; given twice: {', '.join(sorted(repeated))}.")
    for objective in chosen:
        if GraphBatch not in objective.consumes:
            raise ValueError(
                f"{type(objective).__name__} does not consume graph batches and is no relation objective: "
                "attach VSG, MRC, or an objective of your own that lists GraphBatch in `consumes`."
            )
        objective.attach(backbone)
    host: Any = model
    host.relation_objectives = nn.ModuleDict(dict(zip(names, chosen, strict=True))).to(next(model.parameters()).device)
    host.relation_backbone_path = path
    host.relation_seed = seed
    host.relation_losses = types.MethodType(relation_losses, model)
    if callable(getattr(host, "training_step", None)):
        host.training_step = types.MethodType(_with_relations(type(host).training_step), model)
    return model


def relation_losses(model: Any, batch: GraphBatch) -> dict[str, Tensor]:
    """Weighted losses of the attached objectives on a graph batch, by name ("vsg_itc", ..., "mrc")."""
    backbone = model.get_submodule(model.relation_backbone_path)
    objectives: list[tuple[str, Objective]] = list(model.relation_objectives.items())
    generator = step_generator(model.relation_seed, batch.step)
    wanted = [pairs for _, objective in objectives for pairs in objective.views(batch)]
    features = Features(backbone, batch, wanted, generator)
    losses: dict[str, Tensor] = {}
    for name, objective in objectives:
        for part, value in objective(features).parts.items():
            losses[name if part == name else f"{name}_{part}"] = objective.weight * value
    return losses


def _with_relations(step: Any) -> Any:
    """A training step that adds relation losses to the host's own loss."""

    @functools.wraps(step)
    def training_step(self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        found = list(_graph_batches(batch))
        output = None if isinstance(batch, GraphBatch) else step(self, batch, *args, **kwargs)
        for graph_batch in found:
            losses = self.relation_losses(graph_batch)
            self.log_dict({f"relation/{name}": value.detach() for name, value in losses.items()})
            output = _add(output, sum(losses.values(), start=torch.zeros((), device=graph_batch.images.device)))
        return _tied(output, self)

    return training_step


def _add(output: Any, loss: Tensor) -> Any:
    if output is None:
        return loss
    if isinstance(output, Mapping):
        return {**output, "loss": output["loss"] + loss}
    return output + loss


def _tied(output: Any, model: nn.Module) -> Any:
    """The same output, tied to all parameters: DDP waits for those that this kind of step leaves alone."""
    if isinstance(output, Tensor):
        return touch(output, model.parameters())
    if isinstance(output, Mapping) and isinstance(output.get("loss"), Tensor):
        return {**output, "loss": touch(output["loss"], model.parameters())}
    return output


def _graph_batches(batch: Any) -> Iterator[GraphBatch]:
    if isinstance(batch, GraphBatch):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _graph_batches(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from _graph_batches(value)


def _find_backbone(model: nn.Module) -> tuple[str, Backbone]:
    """The module that satisfies the protocol, and its path; the outermost where one lies in another."""
    found: list[tuple[str, Backbone]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") or outer == "" for outer, _ in found)
        if not inside and isinstance(module, Backbone) and not _is_teacher(path):
            found.append((path, module))
    if len(found) == 1:
        return found[0]
    if found:
        raise TypeError(
            f"{type(model).__name__} holds {len(found)} backbones ({', '.join(path for path, _ in found)}): "
            "attach to the one that is trained."
        )
    closest = min(model.modules(), key=lambda module: len(_missing(module)))
    raise TypeError(
        f"{type(model).__name__} cannot be served: nothing in it satisfies relpretrain.types.Backbone; the closest, "
        f"{type(closest).__name__}, lacks {', '.join(_missing(closest))}."
    )


def _missing(module: nn.Module) -> list[str]:
    return [name for name in _PROTOCOL if getattr(module, name, None) is None]


def _is_teacher(path: str) -> bool:
    return "teacher" in path.split(".")
