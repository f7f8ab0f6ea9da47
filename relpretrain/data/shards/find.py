"""Finding tar shards by pattern or address, or by the manifest that lists them."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from relpretrain.data.shards.manifest import load_manifest
from relpretrain.data.shards.remote import copies_folder, find_remote, is_remote, place_of
from relpretrain.errors import counted
from relpretrain.showing import say


def resolve_shards(patterns: str | Sequence[str]) -> list[str]:
    """Find the shards that a recipe names.

    What is found on disk stays a path, whatever its name looks like: only what the user wrote, and is no file, is read
    as an address, a command or a pattern.

    Args:
        patterns: A folder (all its `*.tar`), a file, a glob, a brace pattern such as `a-{000..127}.tar`, an address
            (in object stores also with `*`), a `pipe:` command, or a manifest (`.json`); or a list of these.

    Returns:
        Shards in the order of the patterns, sorted within a glob or folder, each once: absolute paths, addresses and
        commands.

    Raises:
        FileNotFoundError: If a pattern matches nothing; says from where it was looked for.
        OSError: If an object store or a manifest cannot be read.
        ValueError: If a manifest is none.
    """
    shards: dict[str, None] = {}
    for pattern in _listed(patterns):
        if _is_manifest(pattern):
            shards.update(dict.fromkeys(entry.shard for entry in load_manifest(_absolute(pattern))))
            continue
        for part in [pattern] if _exists(pattern) else _expand_braces(pattern):
            remote = is_remote(part) and not _exists(part)
            shards.update(dict.fromkeys(find_remote(part) if remote else _find(part, pattern)))
    if not shards:
        raise FileNotFoundError(f"No shard is named: {patterns!r}.")
    return list(shards)


def named_manifests(patterns: str | Sequence[str]) -> list[str]:
    """The manifests among the patterns of `resolve_shards`: absolute paths and addresses."""
    return [_absolute(pattern) for pattern in _listed(patterns) if _is_manifest(pattern)]


def tell_copies(shards: Sequence[str]) -> None:
    """Say on stderr that remote shards are read from the copies that are here, however old these are.

    Nobody asks their addresses. Training with a manifest does without: there copies go by the digests that it tells.

    Args:
        shards: Paths, addresses and commands.
    """
    copies = [place_of(shard) for shard in shards if is_remote(shard)]
    times: list[float] = []
    for copy in copies:
        with suppress(OSError):  # it is absent, or another process has removed it just now
            times.append(copy.stat().st_mtime)
    if times:
        oldest = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(times)))
        told = f"{len(times):,} of {counted(len(copies), 'remote shard')}"
        remedy = f"remove {copies_folder()} to fetch them again"
        say(f"read from copies on this machine, not anew: {told}, the oldest copy of {oldest}; {remedy}", error=True)


def _listed(patterns: str | Sequence[str]) -> Sequence[str]:
    return [patterns] if isinstance(patterns, str) else patterns


def _is_manifest(pattern: str) -> bool:
    named = not pattern.startswith("pipe:") and pattern.split("?")[0].endswith(".json")
    return named and not os.path.isdir(pattern)


def _absolute(pattern: str) -> str:
    return pattern if is_remote(pattern) else os.path.abspath(Path(pattern.removeprefix("file://")).expanduser())


def _exists(pattern: str) -> bool:
    try:
        return os.path.exists(pattern)
    except ValueError:  # a NUL in it
        return False


def _expand_braces(pattern: str) -> list[str]:
    if "{" not in pattern:
        return [pattern]
    import webdataset  # loads torch

    try:
        return list(webdataset.shardlists.expand_urls(pattern))
    except ValueError as error:
        raise FileNotFoundError(f"Shard pattern {pattern!r} cannot be expanded: {error}.") from None


def _find(part: str, pattern: str) -> list[str]:
    path = Path(part if _exists(part) else part.removeprefix("file://")).expanduser()
    if path.is_dir():
        found = sorted(str(p) for p in path.glob("*.tar") if not p.is_dir())
    elif os.path.lexists(path):
        found = [str(path)]
    else:
        found = sorted(p for p in glob.glob(str(path), recursive=True) if not os.path.isdir(p))
    if odd := next((name for name in found if not os.path.isfile(name)), None):  # a pipe would never end
        raise FileNotFoundError(f"Shard {odd} is no regular file, or a link to none: put the file back, or remove it.")
    if found:
        return [os.path.abspath(name) for name in found]
    named = repr(part) if part == pattern else f"{part!r} (of {pattern!r})"
    if path.is_dir():
        raise FileNotFoundError(f"Shard folder {named} holds no *.tar file (working directory {os.getcwd()}).")
    nearest = next(parent for parent in path.absolute().parents if parent.is_dir())
    raise FileNotFoundError(
        f"Shard pattern {named} matches no file (working directory {os.getcwd()}; nearest existing folder {nearest})."
    )
