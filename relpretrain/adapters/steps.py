"""Add relation losses to a LightningModule's own training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from relpretrain.distributed import attach_unused_parameters
from relpretrain.features import lay_out
from relpretrain.types import GraphBatch, Pairs


def training_step(model: Any, own: Callable[..., Any], batch: Any, *args: Any, **kwargs: Any) -> Any:
    """Run the host's training step, and add the relation losses to its loss.

    They are computed on all graph batches in `batch`, and on the next one of the attached loader. If `batch` is itself
    a `GraphBatch`, the host's step is skipped. Under manual optimisation the losses are added in the first
    `manual_backward` of the step.

    Raises:
        RuntimeError: If the host uses manual optimisation and its step did not call `manual_backward`.
    """
    graphs = list(_graph_batches(batch))
    stream = getattr(model, "relation_stream", None)
    if stream is not None and not isinstance(batch, GraphBatch):
        graphs.append(laid_out(model, next(stream)).to(model.device))
    if not getattr(model, "automatic_optimization", True):
        return _by_hand(model, own, graphs, batch, *args, **kwargs)
    output = None if isinstance(batch, GraphBatch) else own(batch, *args, **kwargs)
    for graph_batch in graphs:
        output = _add(output, _total(model, graph_batch))
    return _tied(output, model)


def laid_out(model: Any, batch: GraphBatch) -> GraphBatch:
    """A batch on the CPU with the tables that let the model leave out hidden tokens (`lay_out`); others as they are.

    Made later, they would make the host wait for the device.
    """
    if batch.images.device.type != "cpu" or batch.regions is not None:
        return batch
    laid = lay_out(batch, lambda given: wanted(model, given), model.relation_attachment.found.backbone(model))
    assert isinstance(laid, GraphBatch)
    return laid


def wanted(model: Any, batch: Any) -> list[Pairs]:
    """The pairs that the attached objectives look at."""
    return [pairs for objective in model.relation_objectives.values() for pairs in objective.views(batch)]


def manual_backward(model: Any, own: Callable[..., Any], loss: Tensor, *args: Any, **kwargs: Any) -> None:
    """Run the host's `manual_backward`; the first one of a step adds the relation losses, or attaches the new head."""
    waiting: list[GraphBatch] | None = vars(model).pop("relation_waiting", None)
    for graph_batch in waiting or []:
        loss = loss + _total(model, graph_batch)
    if waiting is not None:
        loss = attach_unused_parameters(loss, (model if waiting else model.relation_objectives).parameters())
    own(loss, *args, **kwargs)


def _by_hand(
    model: Any, own: Callable[..., Any], graphs: list[GraphBatch], batch: Any, *args: Any, **kwargs: Any
) -> Any:
    if isinstance(batch, GraphBatch):
        raise RuntimeError(
            f"{type(model).__name__} optimises by hand, so a batch that is only a GraphBatch has no step to join: give "
            "graph batches beside its own ones, or as loader= of add_relation_objectives."
        )
    vars(model)["relation_waiting"] = graphs
    try:
        output = own(batch, *args, **kwargs)
        if graphs and "relation_waiting" in vars(model):
            raise RuntimeError(
                f"{type(model).__name__}.training_step optimises by hand without calling self.manual_backward, which "
                "the relation losses would join: call it, or attach to the model inside and add relation_losses(batch) "
                "to the loss by hand."
            )
        return output
    finally:
        vars(model).pop("relation_waiting", None)


def _total(model: Any, batch: GraphBatch) -> Tensor:
    losses: dict[str, Tensor] = model.relation_losses(batch)
    happened = model.relation_attachment.happened
    model.log_dict({f"relation/{name}": value.detach() for name, value in losses.items() if name in happened})
    return sum(losses.values(), start=torch.zeros((), device=batch.images.device))


def _add(output: Any, loss: Tensor) -> Any:
    if output is None:
        return loss
    if isinstance(output, Mapping):
        return {**output, "loss": output["loss"] + loss}
    return output + loss


def _tied(output: Any, model: nn.Module) -> Any:
    """The same output, made to depend on all parameters, which DDP waits for."""
    if isinstance(output, Tensor):
        return attach_unused_parameters(output, model.parameters())
    if isinstance(output, Mapping) and isinstance(output.get("loss"), Tensor):
        return {**output, "loss": attach_unused_parameters(output["loss"], model.parameters())}
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
