"""Add relation objectives to models of other codebases: `hosts/` adapts each codebase to the backbone protocol."""

from relpretrain.adapters.attach import add_relation_objectives, relation_parameters, remove_relation_objectives
from relpretrain.adapters.hosts.base import HostAdapter

__all__ = ["HostAdapter", "add_relation_objectives", "relation_parameters", "remove_relation_objectives"]
