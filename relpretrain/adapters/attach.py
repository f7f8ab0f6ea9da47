"""Attach relation objectives to an existing model, and remove them again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from relpretrain.adapters.built_before import check_wrappers, warn_optimizers
from relpretrain.adapters.find import Found, find
from relpretrain.adapters.hosts.base import HostAdapter
from relpretrain.adapters.outside import Drawn
from relpretrain.adapters.steps import laid_out, manual_backward, training_step, wanted
from relpretrain.adapters.stream import GraphStream
from relpretrain.distributed import attach_unused_parameters, has_group, rank
from relpretrain.features import Features, step_generator
from relpretrain.objectives import MRC, VSG, Objective
from relpretrain.objectives.base import log_name, title
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import Backbone, GraphBatch

_Model = TypeVar("_Model", bound=nn.Module)


@dataclass
class Attachment:
    """State of a model's relation objectives, beside the objectives themselves.

    Args:
        found: The backbone that they are computed on.
        seed: Seed of the sampling of hard negatives.
        replaced: The instance's own attribute under the name of each replaced method; None where it was the class's.
        happened: Names of the losses with at least one term in the last batch on this process.
        drawn: Counts of the first batches' relations, compared with MRC's vocabulary.
    """

    found: Found
    seed: int
    replaced: dict[str, Any] = field(default_factory=dict)
    happened: frozenset[str] = frozenset()
    drawn: Drawn = field(default_factory=lambda: Drawn(()))


def add_relation_objectives(
    model: _Model,
    objectives: Sequence[Objective] | None = None,
    seed: int = 0,
    adapter: type[HostAdapter] | None = None,
    loader: Iterable[GraphBatch] | None = None,
) -> _Model:
    """Attach VSG and MRC (arXiv 2305.14281) to a model of a known codebase, or to one of your own.

    The model is modified in place. It gains `relation_objectives` (the objectives, with MRC's head) and
    `relation_losses(graph_batch)`, a dict of weighted scalars to add to its loss; its own parameters keep their names.
    Called with only a `GraphBatch`, the model returns the same dict, so that wrappers such as DistributedDataParallel
    see the step. A LightningModule instead adds these losses to its own in `training_step`, whenever a batch is or
    contains a `GraphBatch` or a `loader` is given, and logs them under `relation/`.

    VSG is the sum of the losses (ITC, ITM, MLM) that can be computed on the model. MRC needs region encodings.

    Attach before building the optimizer and before wrapping the model, so that both see the new parameters.

    Args:
        model: A model of a known codebase (`relpretrain.adapters.hosts.known`), one that satisfies the `Backbone`
            protocol, or a module (such as a LightningModule) that holds exactly one.
        objectives: The objectives to attach; `[VSG(), MRC()]`, the paper's settings, if None.
        seed: Seed of the sampling of hard negatives, which also depends on the batch's step and on the rank.
        adapter: Adapter class for a model of your own.
        loader: Graph batches for a LightningModule, one per `training_step`: a `relpretrain.graph_loader`, or any
            iterable. Its position is part of the state dict.

    Returns:
        `model`.

    Raises:
        TypeError: If no backbone, or more than one, is found in the model; the message names what is missing.
        ValueError: If objectives are attached already, are given twice, or cannot be computed on the model, or if the
            model is wrapped already. The model is then unchanged.

    Warns:
        UserWarning: If an optimizer of the model's parameters exists already; or if more than a third of the relations
            in `loader` are outside MRC's vocabulary (judged by the first hundred triplets where it has no counts).
    """
    if hasattr(model, "relation_objectives"):
        raise ValueError(f"This {type(model).__name__} has relation objectives already.")
    found = find(model, adapter)
    backbone = found.backbone(model)
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
    trains_itself = callable(getattr(model, "training_step", None))
    if loader is not None and not trains_itself:
        raise ValueError(
            f"loader= is for modules with a training_step, which {type(model).__name__} has not: draw batches in the "
            "training loop and add relation_losses(batch) to its loss."
        )
    for objective in chosen:
        objective.attach(backbone)
    dtype = _precision(model)
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    new = nn.ModuleDict(dict(zip(names, chosen, strict=True)))
    check_wrappers(model, new)

    host: Any = model
    host.relation_objectives = new.to(first.device, dtype).train(model.training)
    host.relation_attachment = Attachment(found, seed)
    host.relation_losses = functools.partial(relation_losses, model)
    if loader is not None:
        host.relation_stream = GraphStream(loader)
    if trains_itself:
        _replace(model, "training_step", training_step)
        if callable(getattr(model, "manual_backward", None)):
            _replace(model, "manual_backward", manual_backward)
    else:
        _replace(model, "forward", _forward)
    if found.adapter is not None and rank() == 0:
        print("\n".join(_said(backbone, new)), flush=True)
    host.relation_attachment.drawn = Drawn(chosen, loader)
    warn_optimizers(model, new)
    return model


def remove_relation_objectives(model: _Model) -> _Model:
    """Remove relation objectives and restore the model's own state dict, methods and outputs.

    Raises:
        ValueError: If none are attached.
    """
    host: Any = model
    attachment = _attachment(host)
    for name, own in attachment.replaced.items():
        _forget(host, name)
        if own is not None:
            setattr(host, name, own)
    for name in ("relation_objectives", "relation_attachment", "relation_losses", "relation_stream"):
        _forget(host, name)
    return model


def relation_parameters(model: nn.Module) -> list[nn.Parameter]:
    """List the parameters that attaching added: MRC's head.

    To train them with an existing optimizer: `optimizer.add_param_group({"params": relation_parameters(model)})`.

    Raises:
        ValueError: If no relation objectives are attached.
    """
    _attachment(model)
    objectives = model.relation_objectives
    assert isinstance(objectives, nn.ModuleDict)
    return list(objectives.parameters())


def relation_losses(model: Any, batch: GraphBatch) -> dict[str, Tensor]:
    """Compute the weighted losses of the attached objectives on a graph batch, by name ("vsg_itc", ..., "mrc").

    Each depends on all parameters of the model (`relpretrain.distributed.attach_unused_parameters`). A loss without any
    term on this process is a zero; `relation_attachment.happened` names the others.
    """
    attachment = _attachment(model)
    attachment.drawn.look(batch.relations)
    batch = laid_out(model, batch)
    batch = replace(batch, images=batch.model_images().to(_precision(model)), normalisation=None)
    objectives: list[tuple[str, Objective]] = list(model.relation_objectives.items())
    generator = step_generator(attachment.seed, batch.step)
    features = Features(attachment.found.backbone(model), batch, wanted(model, batch), generator)
    parameters = list(model.parameters())
    losses: dict[str, Tensor] = {}
    happened = set()
    for name, objective in objectives:
        output = objective(features)
        for part, value in output.parts.items():
            loss = log_name(name, part)
            losses[loss] = attach_unused_parameters(objective.weight * value, parameters)
            if output.counts.get(part, output.count):
                happened.add(loss)
    features.release()
    attachment.happened = frozenset(happened)
    return losses


def _forward(model: Any, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run the host's forward, or compute the relation losses if the only argument is a graph batch.

    DDP waits for the new parameters in the host's own steps, too. So within a process group the host's outputs are made
    to depend on them, which changes no value: the model cannot know whether it is wrapped.
    """
    if len(args) == 1 and not kwargs and isinstance(args[0], GraphBatch):
        return relation_losses(model, args[0])
    output = own(*args, **kwargs)
    if not (has_group() and torch.is_grad_enabled()):
        return output
    return _tied(output, list(model.relation_objectives.parameters()))


def _tied(output: Any, parameters: list[nn.Parameter]) -> Any:
    """The same output, in which each tensor with a gradient depends on the given parameters."""

    def tie(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return attach_unused_parameters(leaf, parameters) if leaf.requires_grad else leaf
        if isinstance(leaf, SimpleNamespace):
            return type(leaf)(**{name: _tied(value, parameters) for name, value in vars(leaf).items()})
        if is_dataclass(leaf) and not isinstance(leaf, type):
            return replace(leaf, **{f.name: _tied(getattr(leaf, f.name), parameters) for f in fields(leaf) if f.init})
        return leaf

    return tree_map(tie, output)


def _precision(model: nn.Module) -> torch.dtype:
    """Data type of a model's parameters, to which images are cast; similarities and losses are fp32 in any case.

    Raises:
        ValueError: If it is float16, in which gradients of new losses underflow and no loss scaling is possible.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if dtype == torch.float16:
        raise ValueError(
            f"This {type(model).__name__} has parameters in float16, which cannot be trained (gradients underflow, and "
            "loss scaling needs parameters in float32): load it in float32 and train under autocast, or in bfloat16."
        )
    return dtype


def _attachment(model: Any) -> Attachment:
    attachment = getattr(model, "relation_attachment", None)
    if attachment is None:
        raise ValueError(f"This {type(model).__name__} has no relation objectives.")
    assert isinstance(attachment, Attachment)
    return attachment


def _forget(model: Any, name: str) -> None:
    """Delete an attribute of the model or, since torch.compile's wrapper sets it there, of the module inside."""
    for owner in (model, getattr(model, "_orig_mod", None)):
        if owner is not None and (name in vars(owner) or name in owner._modules):
            delattr(owner, name)


def _replace(model: Any, name: str, function: Callable[..., Any]) -> None:
    """Replace a method of the model by `function(model, own, ...)`, where `own` is the original method.

    It is a partial of plain functions, so that copies and pickles of the model refer to their own parameters.
    """
    own = getattr(model, name)
    model.relation_attachment.replaced[name] = vars(model).get(name)
    stand_in = functools.partial(_call, model, name, function)
    stand_in.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
    stand_in.__wrapped__ = getattr(own, "__func__", own)  # type: ignore[attr-defined]  # Lightning reads its signature
    setattr(model, name, stand_in)


def _call(model: Any, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    own = model.relation_attachment.replaced[name]
    if own is None:
        own = functools.partial(getattr(type(model), name), model)
    return function(model, own, *args, **kwargs)


def _said(backbone: Backbone, objectives: nn.ModuleDict) -> list[str]:
    """Lines that tell the user which losses are computed on a host."""
    served = []
    for name, objective in objectives.items():
        parts = [part.upper() for part in getattr(objective, "served", None) or ()]
        vocabulary = getattr(objective, "vocabulary", None)
        parts += [f"{len(vocabulary)} relations"] if isinstance(vocabulary, RelationVocabulary) else []
        served.append(name.upper() + (f" ({', '.join(parts)})" if parts else ""))
    lines = [f"Relation objectives on {title(backbone)}: {', '.join(served)}."]
    note = getattr(backbone, "note", "")
    return [*lines, f"  {note}"] if note else lines
