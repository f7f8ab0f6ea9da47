"""The adapters of known codebases, chosen by looking at a model."""

from __future__ import annotations

from relpretrain.adapters.base import HostAdapter

KNOWN: tuple[type[HostAdapter], ...] = ()
"""In order of preference: a model that two of them recognise is served by the first."""
