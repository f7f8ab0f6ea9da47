"""Finds the images of a benchmark, which its annotations know by file name only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from filecmp import cmp
from functools import cached_property
from pathlib import Path

from relpretrain.sources.common.files import inside
from relpretrain.sources.common.folders import files_below


class ImageFinder:
    """Looks for images in folders: at the very path first, then by file name at any depth, and never outside.

    Benchmarks such as VALSE draw their images from several data sets, so that there may be several folders; the first
    one that has an image provides it.

    Args:
        folders: Where to look; a folder that does not exist is passed over.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]

    def find(self, name: str) -> Path | None:
        """The path of an image, or None.

        Raises:
            ValueError: If a folder holds different images of that file name.
        """
        if (path := self.exact(name)) is not None:
            return path
        for index in self._by_name:
            found = index.get(os.path.basename(name), [])
            if other := next((path for path in found[1:] if not cmp(found[0], path, shallow=False)), None):
                raise ValueError(f"Two different images are called {name!r}: {found[0]} and {other}. Keep one of "
                                 "them, or name the folder to use with --images.")  # fmt: skip
            if found:
                return found[0]
        return None

    def exact(self, name: str) -> Path | None:
        """The path of an image that lies in a folder at the very path that its name is, or None."""
        paths = (inside(folder, name) for folder in self.folders)
        return next((path for path in paths if os.path.isfile(path)), None)

    @cached_property
    def _by_name(self) -> list[dict[str, list[Path]]]:
        """The files of each folder at any depth, by file name."""
        indices = []
        for folder in self.folders:
            index: dict[str, list[Path]] = {}
            for path in files_below(folder):
                index.setdefault(path.name, []).append(path)
            indices.append(index)
        return indices
