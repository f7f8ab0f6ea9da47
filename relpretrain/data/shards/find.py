"""Finding tar shards by pattern or address."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from relpretrain.data.shards.remote import find_remote, is_remote


def resolve_shards(patterns: str | Sequence[str]) -> list[str]:
    """Find the shards that a recipe names.

    Args:
        patterns: A folder (all its `*.tar`), a file, a glob, a brace pattern such as `a-{000..127}.tar`, an address
            (in object stores also with `*`) or a `pipe:` command; or a list of these.

    Returns:
        Shards in the order of the patterns, sorted within a glob or folder, each once. Addresses stay addresses.

    Raises:
        FileNotFoundError: If a pattern matches nothing; says from where it was looked for.
        OSError: If an object store cannot be listed.
    """
    shards: dict[str, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        for part in _expand_braces(pattern):
            shards.update(dict.fromkeys(find_remote(part) if is_remote(part) else _find(part, pattern)))
    if not shards:
        raise FileNotFoundError(f"No shard is named: {patterns!r}.")
    return list(shards)


def _expand_braces(pattern: str) -> list[str]:
    if "{" not in pattern:
        return [pattern]
    import webdataset  # loads torch

    try:
        return list(webdataset.shardlists.expand_urls(pattern))
    except ValueError as error:
        raise FileNotFoundError(f"Shard pattern {pattern!r} cannot be expanded: {error}.") from None


def _find(part: str, pattern: str) -> list[str]:
    path = Path(part.removeprefix("file://")).expanduser()
    if path.is_dir():
        found = sorted(str(p) for p in path.glob("*.tar"))
    elif path.is_file():
        found = [str(path)]
    else:
        found = sorted(p for p in glob.glob(str(path), recursive=True) if os.path.isfile(p))
    if found:
        return found
    named = repr(part) if part == pattern else f"{part!r} (of {pattern!r})"
    if path.is_dir():
        raise FileNotFoundError(f"Shard folder {named} holds no *.tar file (working directory {os.getcwd()}).")
    nearest = next(parent for parent in path.absolute().parents if parent.is_dir())
    raise FileNotFoundError(
        f"Shard pattern {named} matches no file (working directory {os.getcwd()}; nearest existing folder {nearest})."
    )
