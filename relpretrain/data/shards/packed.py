"""Many short texts in two arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

_ERRORS = "surrogatepass"  # names of files need not be valid text


class PackedTexts(Sequence[str]):
    """A sequence of texts as one array of bytes.

    A list of strings takes several times the memory, and every worker that looks at one gets its own copy of the page
    that it lies on.

    Args:
        data: All texts as UTF-8, one after the other, (bytes,), uint8.
        ends: Where each text ends, (texts,), int64.
    """

    def __init__(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.data = data
        self.ends = ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> PackedTexts:
        """Pack texts."""
        parts = [text.encode("utf-8", _ERRORS) for text in texts]
        return cls(np.frombuffer(b"".join(parts), np.uint8), np.cumsum([len(part) for part in parts], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def sound(self) -> bool:
        """Whether the texts end one after the other, where the bytes do, and are texts."""
        if not len(self):
            return not len(self.data)
        try:
            self.data.tobytes().decode("utf-8", _ERRORS)
        except UnicodeDecodeError:
            return False
        starts = np.append(0, self.ends[:-1])
        if int(self.ends[-1]) != len(self.data) or not (starts <= self.ends).all() or starts.min() < 0:
            return False
        inner = starts[starts < len(self.data)]
        return bool(((self.data[inner] & 0xC0) != 0x80).all())  # none begins within a character

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        index %= len(self)
        start = self.ends[index - 1] if index else 0
        return self.data[start : self.ends[index]].tobytes().decode("utf-8", _ERRORS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PackedTexts.of({list(self)!r})"
