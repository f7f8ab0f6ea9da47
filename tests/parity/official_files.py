"""The golden checkpoints, and a tokenizer that fits them."""

import json

from relpretrain.data.pipeline.tokenizer import write_wordpiece
from tests.parity.check_golden import arguments_from_config

NAMES = ["albef_tiny", "xvlm_vit_tiny", "xvlm_swin_tiny"]
TRACELESS = ("text_heads", "vision_heads", "region_depth")


def official(folder):
    """Path of a golden checkpoint, and the arguments that leave no trace in it."""
    (path,) = folder.glob("checkpoint.*th")
    given = arguments_from_config(json.loads((folder / "config.json").read_text()))
    return path, {name: given[name] for name in TRACELESS if name in given}


def words_of_golden(folder, words=("a photo of red blue green cat",), count=200):
    """Write a tokenizer of as many words as the golden models have."""
    write_wordpiece(words, folder)
    lines = (folder / "vocab.txt").read_text().split()
    assert len(lines) <= count
    lines += [f"word{number}" for number in range(count - len(lines))]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n")
    return str(folder)
