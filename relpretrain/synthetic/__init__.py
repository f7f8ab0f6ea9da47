"""A small world to learn from without any download: shards, tokenizer, relations and zero-shot benchmarks.

`relpretrain data synthetic DIR` writes it. `options` says what can be chosen; `world` and `layout` make scenes, of
which `relations` knows what is true; `render` draws, `wording` and `records` say it, `benchmarks` and `probes` ask,
`hold_out` keeps back, `build` puts it all into a folder. The names below are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relpretrain.synthetic.build import generate as generate
    from relpretrain.synthetic.options import WorldOptions as WorldOptions
    from relpretrain.synthetic.relations import RELATIONS as RELATIONS
    from relpretrain.synthetic.world import Scene as Scene
    from relpretrain.synthetic.world import World as World

_HOMES = {"generate": "build", "WorldOptions": "options", "RELATIONS": "relations", "Scene": "world", "World": "world"}

__all__ = ["RELATIONS", "Scene", "World", "WorldOptions", "generate"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
