"""Which files lie below a folder, where folders may be links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """Files of a folder at any depth; links to folders are followed.

    A folder that is met again, by a link to it or to one around it, is passed over, so loops of links end. Folders that
    no link leads to come first: a file is called by its own path rather than by that of a link.

    Args:
        folder: The folder, or a link to one.

    Yields:
        The files, by name within a folder; links that lead nowhere are among them.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [str(folder)]
    while waiting:
        for root, folders, files in os.walk(waiting.pop(0)):  # lists links to folders, but does not enter them
            place = os.stat(root)
            if (place.st_dev, place.st_ino) in seen:
                folders.clear()
                continue
            seen.add((place.st_dev, place.st_ino))
            folders.sort()
            waiting += [path for name in folders if os.path.islink(path := os.path.join(root, name))]
            yield from (Path(root, name) for name in sorted(files))
