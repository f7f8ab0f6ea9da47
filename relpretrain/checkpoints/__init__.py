"""What a checkpoint says of itself, rebuilding a model from nothing but its file, and the Hugging Face layout.

`checkpoint` loads and describes, `start` begins training from weights, `folder` and `card` are for the hub, `published`
lists known checkpoints, `official/` reads and writes those of the official ALBEF and X-VLM code.
"""

from relpretrain.checkpoints.checkpoint import Loaded, load

__all__ = ["Loaded", "load"]
