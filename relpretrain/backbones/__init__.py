"""Models: ALBEF and X-VLM, behind the protocol `relpretrain.types.Backbone`."""

from relpretrain.backbones.albef import ALBEF
from relpretrain.backbones.xvlm import XVLM

__all__ = ["ALBEF", "XVLM"]
