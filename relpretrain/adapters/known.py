"""The adapters of known codebases, chosen by looking at a model."""

from __future__ import annotations

from relpretrain.adapters.albef import OfficialALBEF
from relpretrain.adapters.base import HostAdapter
from relpretrain.adapters.xvlm import OfficialXVLM

KNOWN: tuple[type[HostAdapter], ...] = (OfficialALBEF, OfficialXVLM)
"""In order of preference: a model that two of them recognise is served by the first."""
