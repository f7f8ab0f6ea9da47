"""Whether shards are whole, and what their manifests say: counts, bytes, digests, and that all of them are there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from relpretrain.data.shards.indexing import for_each
from relpretrain.data.shards.manifest import ShardEntry, check_against, entries_of, folder_of, load_manifest
from relpretrain.data.shards.remote import is_remote, place_of
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import counted
from relpretrain.identity import file_digest

TRUNCATED = "truncated_shard"
"""Why a sample is left out behind which a shard ends too early."""

_TOLD = 5


def faults(
    shards: Sequence[str], indexes: Sequence[ShardIndex], named: Sequence[str] = (), workers: int = 0
) -> list[str]:
    """What is wrong with shards as a whole, a line each; all their bytes are read for it.

    Args:
        shards: Paths and addresses.
        indexes: What reading them has found.
        named: Manifests that lie elsewhere (`find.named_manifests`).
        workers: Processes that read.

    Raises:
        OSError: If a manifest cannot be read.
        ValueError: If a manifest is damaged.
    """
    entries = {e.shard: e for place in named for e in load_manifest(place)}
    for folder in dict.fromkeys(map(folder_of, shards)):
        entries = entries_of(folder) | entries
    known = [shard for shard in shards if shard in entries and entries[shard].sha256 is not None]
    digests = dict(for_each(_digest, known, workers, "digests compared"))
    lines = []
    for shard, index in zip(shards, indexes, strict=True):
        found = _faults(shard, index, entries.get(shard), digests.get(shard))
        read = f" It was read from the copy {index.path}: remove that if the shard has changed since."
        lines += [f"{line}{read}" for line in found] if is_remote(shard) else found
    return lines + absent(shards)


def _digest(shard: str) -> str:
    return file_digest(place_of(shard))


def _faults(shard: str, index: ShardIndex, entry: ShardEntry | None, digest: str | Exception | None) -> list[str]:
    if not len(index) and not index.problems:
        return [f"Shard {shard} holds no samples: put the file back, or leave it out."]
    lines = [cut_off(shard)] if any(problem.reason == TRUNCATED for problem in index.problems) else []
    if entry is None:
        return lines
    try:
        check_against(entry, index)
    except ValueError as error:
        return [*lines, str(error)]
    if isinstance(digest, Exception):
        return [*lines, f"Shard {shard} cannot be read: {digest}"]
    if digest is not None and digest != entry.sha256:
        told = f"SHA-256 {digest[:12]}..., expected {str(entry.sha256)[:12]}..."
        lines.append(
            f"Shard {shard} is not the file that its manifest tells of ({told}): put the file back, or write the "
            "manifest anew with `relpretrain data index`."
        )
    return lines


def cut_off(shard: str) -> str:
    """The line about a shard that ends too early."""
    return f"Shard {shard} is cut off: what followed its last whole sample is lost. Put the file back."


def notices(entries: Iterable[ShardEntry]) -> list[str]:
    """What is wrong with shards as far as it is known without reading them, a line each."""
    found: Mapping[str, ShardEntry] = {entry.shard: entry for entry in entries}
    lines = [cut_off(shard) for shard, entry in found.items() if entry.problems.get(TRUNCATED)]
    return lines + absent(list(found))


def absent(shards: Sequence[str]) -> list[str]:
    """A line for each folder whose manifest lists shards that are not there, beside some of these."""
    lines = []
    for folder in dict.fromkeys(folder_of(shard) for shard in shards if not is_remote(shard)):
        lost = [Path(s).name for s in entries_of(folder) if folder_of(s) == folder and not os.path.exists(s)]
        if lost:
            shown = ", ".join(sorted(lost)[:_TOLD]) + (", ..." if len(lost) > _TOLD else "")
            lines.append(f"{folder} lacks {counted(len(lost), 'shard')} that its index.json lists: {shown}.")
    return lines
