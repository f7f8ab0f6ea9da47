"""Images that must not be trained on, as a list of ids and perceptual hashes.

`relpretrain data audit` writes such lists; `convert` and training skip the images on them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relpretrain.data.shards.writer import write_atomically
from relpretrain.identity import fingerprint
from relpretrain.pixels import to_rgb
from relpretrain.reading import read_json

DISTANCE = 6
"""Largest Hamming distance, in bits, at which two hashes count as the same image.

Measured on 299 photos of COCO and VRD. Of different photos no pair of 44,551 comes closer than 14 bits. The same photo
moves by at most 4 as JPEG of quality 10, as WebP, shrunk to 128 pixels, squashed to 224 x 224 or doubled in size, by at
most 4 when a JPEG is decoded at reduced scale, and by at most 6 in 99 of 100 photos that lose 1 % at each border or
become 20 % brighter. A border of 2.5 % cut off at each side is caught in three of four.
"""

VERSION = 1
_SIDE = 32  # pixels of the small image that is transformed
_LOW = 8  # frequencies kept each way
_SHOWN = 80  # characters of a wrong value in an error


@dataclass(frozen=True)
class Exclusion:
    """A list of images to leave out.

    Args:
        image_ids: The samples' `image_id`, compared exactly.
        phashes: Perceptual hashes, see `phash`.
        distance: Largest Hamming distance from a listed hash, in bits.
    """

    image_ids: frozenset[str] = frozenset()
    phashes: tuple[int, ...] = ()
    distance: int = DISTANCE
    _table: NDArray[np.uint64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_ids", frozenset(self.image_ids))
        object.__setattr__(self, "phashes", tuple(sorted(set(self.phashes))))
        object.__setattr__(self, "_table", np.array(self.phashes, dtype=np.uint64))

    def __len__(self) -> int:
        return len(self.image_ids) + len(self.phashes)

    def reason(self, image_id: str, phash: int | None = None) -> str | None:
        """Why an image is left out: "excluded_id", "excluded_phash", or None if it is not.

        Args:
            image_id: The sample's id.
            phash: Perceptual hash of its image; None to compare only the id.
        """
        if image_id in self.image_ids:
            return "excluded_id"
        if phash is not None and len(nearest := distances(phash, self._table)) and nearest.min() <= self.distance:
            return "excluded_phash"
        return None

    @property
    def fingerprint(self) -> str:
        """Hex digest of what is listed, wherever the list lies."""
        return fingerprint(repr((sorted(self.image_ids), self.phashes)))

    @classmethod
    def load(cls, path: str | Path, distance: int = DISTANCE) -> Exclusion:
        """Read a list: {"version": 1, "image_ids": [...], "phashes": ["0123456789abcdef", ...]}.

        Args:
            path: The file.
            distance: Largest Hamming distance from a listed hash, in bits.

        Raises:
            ValueError: If the file cannot be read or is not a valid list.
        """
        content = read_json(Path(path), "the exclusion list")
        if not isinstance(content, dict) or content.get("version") != VERSION:
            got = content.get("version") if isinstance(content, dict) else type(content).__name__
            raise ValueError(
                f'{path} is no exclusion list: expected an object with "version": {VERSION}, got {_shown(got)}. '
                "`relpretrain data audit --out` writes one."
            )
        unknown = sorted(content.keys() - {"version", "image_ids", "phashes"})
        if unknown:
            raise ValueError(f'{path} has unknown keys {", ".join(unknown)}; expected "image_ids" and "phashes"')
        ids = [
            i for i in _list(content, "image_ids", path) if _check(i, isinstance(i, str), "image_ids", "a text", path)
        ]
        hashes = [
            int(h, 16)
            for h in _list(content, "phashes", path)
            if _check(h, isinstance(h, str) and re.fullmatch("[0-9a-fA-F]{16}", h), "phashes", "16 hex digits", path)
        ]
        return cls(frozenset(ids), tuple(hashes), distance)

    def save(self, path: str | Path) -> None:
        """Write the list, sorted, in the format of `load`; atomically."""
        content = {
            "version": VERSION,
            "image_ids": sorted(self.image_ids),
            "phashes": [f"{value:016x}" for value in self.phashes],
        }
        write_atomically(Path(path), (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())


def phash(image: Image.Image) -> int:
    """Perceptual hash of an image: 64 bits that stay nearly the same when it is re-encoded or resized.

    The 8 x 8 lowest frequencies of the cosine transform of the image in grey, at 32 x 32 pixels; a bit says whether one
    is above their median. The most significant bit is the constant's, then row by row. These are the bits of
    `imagehash.phash`, so that lists made with it can be used.

    Args:
        image: An image of any mode and size.
    """
    from scipy.fft import dctn  # a third of a second that other commands do without

    grey = to_rgb(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    cosines = dctn(np.asarray(grey, np.float64))[:_LOW, :_LOW]
    low = (cosines / 4).round(6)  # what is left of a blank image is rounding
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distances(phash: int, others: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Hamming distances of a hash to others, (n,)."""
    different = np.uint64(phash) ^ others
    if hasattr(np, "bitwise_count"):  # numpy 2.0
        return np.asarray(np.bitwise_count(different), np.uint8)
    return np.asarray(_ONES[different.view(np.uint16).reshape(-1, 4)].sum(1, dtype=np.uint8))


_ONES = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


def _list(content: dict[str, Any], name: str, path: str | Path) -> Collection[Any]:
    items = content.get(name, [])
    if not isinstance(items, list):
        raise ValueError(f"{name} of {path} must be a list, got {_shown(items)}")
    return items


def _check(item: object, good: object, name: str, expected: str, path: str | Path) -> bool:
    if not good:
        raise ValueError(f"{name} of {path} holds {_shown(item)}; expected {expected}")
    return True


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
