"""Weights as a folder in the Hugging Face layout: safetensors, a config, a tokenizer and a model card."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.errors import CheckpointError
from relpretrain.identity import file_digest
from relpretrain.reading import read_json
from relpretrain.writing import aside, write_text

WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "README.md"
DIGEST = "weights_sha256"
"""Entry of the config, of the file of weights."""


def is_folder(path: Path) -> bool:
    """Whether a folder was written by `write_folder`."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def write_folder(
    folder: Path, described: Mapping[str, Any], state: Mapping[str, Tensor], preprocess: Preprocess, card: str
) -> None:
    """Write weights, description, tokenizer and model card. Existing files of the same names are replaced.

    The config is written last, so that a folder that is only partly written is not taken for one (`is_folder`).

    Args:
        folder: The folder, which is created if necessary.
        described: Description of the model (`checkpoint.describe`); the tokenizer in it goes to a file of its own.
        state: The weights.
        preprocess: Preprocessing whose tokenizer is written.
        card: Text of README.md.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as place:
        preprocess.tokenizer.save_pretrained(place)
        for path in Path(place).iterdir():
            path.replace(folder / path.name)
    write_text(folder / TOKENIZER, preprocess.tokenizer.backend_tokenizer.to_str())
    write_text(folder / CARD, card)
    whole = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with aside(folder / WEIGHTS) as file:
        try:
            save_file(whole, file.name, metadata={"format": "pt"})
        except SafetensorError as error:
            if "No space left" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise OSError(errno.EIO, str(error)) from error
        Path(file.name).chmod((folder / CARD).stat().st_mode)  # some versions of safetensors let only the owner read
    plain = {key: value for key, value in described["preprocess"].items() if key != "tokenizer"}
    config = {**described, "preprocess": plain, DIGEST: file_digest(folder / WEIGHTS)}
    write_text(folder / CONFIG, json.dumps(config, indent=1, ensure_ascii=False) + "\n")


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the description, including the tokenizer, and the weights from a folder.

    Raises:
        CheckpointError: If a file is missing or cannot be read.
    """
    try:
        described = read_json(folder / CONFIG, "the description of weights")
        described["preprocess"]["tokenizer"] = (folder / TOKENIZER).read_text(encoding="utf-8")
        digest = described.pop(DIGEST, None)  # folders of earlier versions have none
        if digest is not None and digest != file_digest(folder / WEIGHTS):
            raise ValueError(f"{WEIGHTS} is damaged or was replaced: its SHA-256 is not that of {CONFIG}")
        return described, load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"the weights in {folder} cannot be read: {' '.join(str(error).split())}") from error
