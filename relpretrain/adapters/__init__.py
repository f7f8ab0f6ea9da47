"""Relation objectives for models that exist."""

from relpretrain.adapters.attach import add_relation_objectives

__all__ = ["add_relation_objectives"]
