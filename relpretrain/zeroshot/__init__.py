"""Zero-shot benchmarks: what a model knows without having been trained for it."""

from __future__ import annotations

from typing import Any

__all__ = ["ZeroShot"]


def __getattr__(name: str) -> Any:
    """The callback, imported when asked for: the command does without Lightning."""
    if name == "ZeroShot":
        from relpretrain.zeroshot.callback import ZeroShot

        return ZeroShot
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
