"""Loads parts of foreign models from a folder, the local cache or the hub, with errors of one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relpretrain.data.pipeline.tokenizer import hub_is_reachable, say_download

_FAILURES = (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError)


def from_hub(cls: Any, name: str, what: str, **arguments: Any) -> Any:
    """Call `cls.from_pretrained(name)`: on a folder, or else on the local cache, or else on the hub.

    Args:
        cls: An `Auto` class of transformers.
        name: A folder, or a name on the hub.
        what: What is loaded, for messages.
        arguments: Further keywords.

    Raises:
        ValueError: If it cannot be loaded, with the reason.
    """
    try:
        return cls.from_pretrained(name, local_files_only=True, trust_remote_code=False, **arguments)
    except _FAILURES as error:
        if Path(name).is_dir():
            raise ValueError(f"The folder {name} holds no {what} that can be read: {_line(error)}") from error
    if not hub_is_reachable():
        raise ValueError(
            f"The {what} {name!r} is neither a folder nor in the local cache, and the hub cannot be reached. Give a "
            "folder, or download it beforehand."
        )
    say_download(what, name)
    try:
        return cls.from_pretrained(name, trust_remote_code=False, **arguments)
    except _FAILURES as error:
        raise ValueError(f"The {what} {name!r} cannot be loaded: {_line(error)}") from error


def hub_name(name: str, model: Any) -> str:
    """The name of a model, with the commit that it was downloaded at."""
    commit = getattr(model.config, "_commit_hash", None)
    return f"{name}@{commit}" if commit else name


def _line(error: Exception) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split())[:300]
