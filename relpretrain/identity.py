"""Identities: stable numbers of texts and images, and digests of files. Everything that compares by hash asks here."""

from __future__ import annotations

import hashlib
from pathlib import Path


def number_of(*parts: object) -> int:
    """A stable 63-bit number of some texts or numbers, the same in every process and run."""
    return number_of_bytes("\0".join(map(str, parts)).encode())


def number_of_bytes(content: bytes) -> int:
    """A stable 63-bit number of some bytes."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 1


def fingerprint(text: str, length: int = 16) -> str:
    """The first hex digits of a text's SHA-256: short enough to print, long enough to tell data sets apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def folder_digest(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder with their names."""
    if not path.is_dir():
        return file_digest(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()
