"""Checkpoints: self-describing files that `load` rebuilds a model from, and the Hugging Face layout.

`checkpoint` describes and loads, `start` initialises training from weights, `folder` and `card` are for the hub,
`published` lists known checkpoints, `official/` reads and writes those of the official ALBEF and X-VLM code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relpretrain.checkpoints.checkpoint import Loaded, load

__all__ = ["Loaded", "load"]


def __getattr__(name: str) -> Any:
    """The public names are imported when they are first used: without them this package does without torch."""
    if name in __all__:
        from relpretrain.checkpoints import checkpoint

        return getattr(checkpoint, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
