"""The model card of exported weights."""

from __future__ import annotations

from typing import cast

from torch import nn

from relpretrain.checkpoint import Loaded
from relpretrain.version import __version__

_CARD = """---
library_name: relpretrain
tags:
- vision-language
- image-text-matching
---

# {name}

{model} with {parameters:,} parameters, written by relpretrain {version}{origin}.

| | |
|---|---|
| images | {image_size} x {image_size} pixels, resized without regard to their aspect |
| texts | at most {max_tokens} tokens, {ending}{cleaned} |
| vocabulary | {words} words |
| objectives | {objectives} |

```python
import relpretrain

loaded = relpretrain.load("THIS_FOLDER")  # .backbone, .preprocess, .objectives
```

Training data, intended use and results: to be filled in by whoever publishes these weights.
"""


def card(loaded: Loaded, name: str) -> str:
    """Text of the model card: what can be known from the weights; the rest is left to whoever publishes them."""
    backbone, preprocess = cast(nn.Module, loaded.backbone), loaded.preprocess
    return _CARD.format(
        name=name,
        model=type(backbone).__name__,
        parameters=sum(p.numel() for p in backbone.parameters() if p.requires_grad),
        version=__version__,
        origin="" if loaded.official_keys is None else " from a checkpoint of the official code",
        image_size=preprocess.image_size,
        max_tokens=preprocess.max_tokens,
        ending="[CLS] and [SEP]" if preprocess.separator else "[CLS] without [SEP]",
        cleaned=", cleaned as in ALBEF and X-VLM" if preprocess.clean else "",
        words=len(preprocess.tokenizer),
        objectives=", ".join(loaded.objectives) or "none",
    )
