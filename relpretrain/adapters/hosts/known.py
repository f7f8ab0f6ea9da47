"""The adapters of known codebases."""

from __future__ import annotations

from relpretrain.adapters.hosts.albef import OfficialALBEF
from relpretrain.adapters.hosts.base import HostAdapter
from relpretrain.adapters.hosts.blip import HuggingFaceBLIP
from relpretrain.adapters.hosts.dual import HuggingFaceCLIP, HuggingFaceSigLIP
from relpretrain.adapters.hosts.lavis import LavisALBEF, LavisBLIP
from relpretrain.adapters.hosts.openclip import OpenCLIP, OpenCLIPViT
from relpretrain.adapters.hosts.torchmultimodal import TorchMultimodalRetrieval, TorchMultimodalSimilarity
from relpretrain.adapters.hosts.xvlm import OfficialXVLM

KNOWN: tuple[type[HostAdapter], ...] = (
    LavisBLIP,
    LavisALBEF,
    OfficialALBEF,
    OfficialXVLM,
    TorchMultimodalRetrieval,
    TorchMultimodalSimilarity,
    HuggingFaceBLIP,
    HuggingFaceCLIP,
    HuggingFaceSigLIP,
    OpenCLIPViT,
    OpenCLIP,
)
"""In order of preference: of several that recognise a model, the first is used."""
