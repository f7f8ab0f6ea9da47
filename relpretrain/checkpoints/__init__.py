"""Checkpoints: self-describing files that `load` rebuilds a model from, and the Hugging Face layout.

`checkpoint` describes and loads, `start` initialises training from weights, `folder` and `card` are for the hub,
`published` lists known checkpoints, `official/` reads and writes those of the official ALBEF and X-VLM code.
"""

from relpretrain.checkpoints.checkpoint import Loaded, load

__all__ = ["Loaded", "load"]
