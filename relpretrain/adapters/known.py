"""The adapters of known codebases, chosen by looking at a model."""

from __future__ import annotations

from relpretrain.adapters.albef import OfficialALBEF
from relpretrain.adapters.base import HostAdapter
from relpretrain.adapters.blip import HuggingFaceBLIP
from relpretrain.adapters.dual import HuggingFaceCLIP, HuggingFaceSigLIP
from relpretrain.adapters.lavis import LavisALBEF, LavisBLIP
from relpretrain.adapters.openclip import OpenCLIP, OpenCLIPViT
from relpretrain.adapters.torchmultimodal import TorchMultimodalRetrieval, TorchMultimodalSimilarity
from relpretrain.adapters.xvlm import OfficialXVLM

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
"""In order of preference: a model that two of them recognise is served by the first."""
