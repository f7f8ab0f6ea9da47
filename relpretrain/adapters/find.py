"""Find the backbone inside a module that relation objectives are to be attached to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn

from relpretrain.adapters.hosts.base import HostAdapter
from relpretrain.adapters.hosts.known import KNOWN
from relpretrain.types import Backbone

PROTOCOL = tuple(name for name in (*vars(Backbone), *Backbone.__annotations__) if not name.startswith("_"))


@dataclass(frozen=True)
class Found:
    """A backbone that was found in a model.

    Args:
        path: Name of the module, as in `named_modules`; empty for the model itself.
        adapter: The adapter for it; None if it implements the protocol itself.
    """

    path: str
    adapter: type[HostAdapter] | None

    def backbone(self, model: nn.Module) -> Backbone:
        """The backbone in a model, with a new adapter each time, which uses the model's present modules."""
        module = model.get_submodule(self.path)
        return cast(Backbone, module if self.adapter is None else self.adapter(module))


def find(model: nn.Module, adapter: type[HostAdapter] | None = None) -> Found:
    """Find the one backbone in `model`, which may be the model itself.

    Of nested ones the outermost is taken. Teachers, and frozen copies of a trained one, are ignored.

    Args:
        model: The module to search.
        adapter: The only adapter to try; one without `needs` takes `model` itself. None tries the `Backbone` protocol
            and the adapters of all known codebases.

    Raises:
        TypeError: If there is none, or more than one; the message names what is missing.
    """
    if adapter is not None and not (isinstance(adapter, type) and issubclass(adapter, HostAdapter)):
        raise TypeError(f"adapter={adapter!r} must be a class that derives from relpretrain.adapters.HostAdapter.")
    if adapter is not None and not adapter.needs:
        return Found("", adapter)
    known = KNOWN if adapter is None else (adapter,)
    found: list[Found] = []
    for path, module in model.named_modules():
        inside = any(other.path == "" or path.startswith(f"{other.path}.") for other in found)
        if inside or "teacher" in path.split("."):
            continue
        if adapter is None and isinstance(module, Backbone):
            found.append(Found(path, None))
        else:
            found += [Found(path, kind) for kind in known if kind.recognises(module)][:1]
    if len(found) > 1:
        found = [other for other in found if _is_trained(model.get_submodule(other.path))] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise TypeError(
            f"{type(model).__name__} holds {len(found)} backbones ({', '.join(other.path for other in found)}): "
            "attach to the one that is trained."
        )
    raise TypeError(_refusal(model, known, protocol=adapter is None))


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _refusal(model: nn.Module, known: Sequence[type[HostAdapter]], protocol: bool) -> str:
    """Error message that names what is missing for the closest kind of host."""
    share, closest, lacks = 0.0, "", ""
    for module in model.modules():
        judged = [(kind.name or kind.__name__, kind.missing(module), len(kind.needs)) for kind in known]
        if protocol:
            missing = [name for name in PROTOCOL if getattr(module, name, None) is None]
            judged.append(("relpretrain.types.Backbone", missing, len(PROTOCOL)))
        for name, missing, total in judged:
            if 1 - len(missing) / total > share:
                share, closest = 1 - len(missing) / total, f"{type(module).__name__}, taken as {name},"
                lacks = ", ".join(missing)
    if share > 0:
        return f"{type(model).__name__} cannot be served: the closest thing in it, {closest} lacks {lacks}."
    wanted = [kind.name or kind.__name__ for kind in known]
    if protocol:
        wanted.append(f"relpretrain.types.Backbone ({', '.join(PROTOCOL)})")
    return (
        f"{type(model).__name__} cannot be served: it lacks an image and a text encoder, and has no part of "
        f"{', '.join(wanted)}."
    )
