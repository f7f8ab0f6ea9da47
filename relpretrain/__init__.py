"""Verbalised scene graphs (VSG) and masked relation classification (MRC) for vision-language pretraining.

Three nouns and one verb: a sample (image, captions, entities, scene graph) becomes a typed batch; a backbone encodes
it; an objective turns features into a loss; `add_relation_objectives(model)` attaches relation objectives to a model
that exists. The public names below are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from relpretrain.version import __version__, check_platform

if TYPE_CHECKING:
    from relpretrain.adapters import (
        HostAdapter,
        add_relation_objectives,
        relation_parameters,
        remove_relation_objectives,
    )
    from relpretrain.backbones import ALBEF, XVLM
    from relpretrain.checkpoints.checkpoint import Loaded, load
    from relpretrain.data.graph_loader import graph_loader
    from relpretrain.objectives import MRC, VSG
    from relpretrain.scene_graph import Entity, Relation, RelationVocabulary, SceneGraph

check_platform()

_HOMES = {
    "HostAdapter": "relpretrain.adapters",
    "add_relation_objectives": "relpretrain.adapters",
    "relation_parameters": "relpretrain.adapters",
    "remove_relation_objectives": "relpretrain.adapters",
    "graph_loader": "relpretrain.data.graph_loader",
    "ALBEF": "relpretrain.backbones",
    "XVLM": "relpretrain.backbones",
    "Loaded": "relpretrain.checkpoints.checkpoint",
    "load": "relpretrain.checkpoints.checkpoint",
    "MRC": "relpretrain.objectives",
    "VSG": "relpretrain.objectives",
    "Entity": "relpretrain.scene_graph",
    "Relation": "relpretrain.scene_graph",
    "RelationVocabulary": "relpretrain.scene_graph",
    "SceneGraph": "relpretrain.scene_graph",
}

__all__ = [
    "ALBEF",
    "MRC",
    "VSG",
    "XVLM",
    "Entity",
    "HostAdapter",
    "Loaded",
    "Relation",
    "RelationVocabulary",
    "SceneGraph",
    "__version__",
    "add_relation_objectives",
    "graph_loader",
    "load",
    "relation_parameters",
    "remove_relation_objectives",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
