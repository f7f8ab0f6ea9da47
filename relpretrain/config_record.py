"""Remembering constructor arguments, so that a checkpoint can say how its parts were built."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

_P = ParamSpec("_P")


def recorded(init: Callable[_P, None]) -> Callable[_P, None]:
    """Decorate `__init__` so that the object keeps its bound arguments, defaults included, as `init_args`.

    Where a subclass calls a recorded `__init__` of its base, the subclass's arguments are the ones kept.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> None:
        init(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        (_, instance), *arguments = bound.arguments.items()
        instance.init_args = dict(arguments)

    return wrapper
