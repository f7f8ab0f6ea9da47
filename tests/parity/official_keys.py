"""Names and shapes of base-size official checkpoints, kept compactly in keys/*.json.

A list of entries: {"in": ["a.{0..11}.b.", ...], "tensors": {name: shape}} stands for every name under every prefix;
braces count (`{0..11}`) or choose (`{weight,bias}`). Data types other than float32 stand as the shape's last item.
"""

import itertools
import json
import re
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "keys"


def shapes(name):
    """Every key of a list with its shape and data type."""
    result = {}
    for entry in json.loads((FOLDER / f"{name}.json").read_text()):
        for prefix in itertools.chain(*map(expand, entry.get("in", [""]))):
            for pattern, shape in entry["tensors"].items():
                kind = shape[-1] if shape and isinstance(shape[-1], str) else "float32"
                for key in expand(pattern):
                    assert prefix + key not in result, prefix + key
                    result[prefix + key] = (tuple(n for n in shape if not isinstance(n, str)), getattr(torch, kind))
    return result


def state(name):
    """Tensors without values."""
    return {key: torch.empty(shape, dtype=kind, device="meta") for key, (shape, kind) in shapes(name).items()}


def expand(pattern):
    """Write out the braces of a pattern."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    first, dots, last = found[1].partition("..")
    options = map(str, range(int(first), int(last) + 1)) if dots else found[1].split(",")
    return [key for option in options for key in expand(pattern[: found.start()] + option + pattern[found.end() :])]
