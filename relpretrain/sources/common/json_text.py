"""The text of a JSON file of any size, read piece by piece."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from relpretrain.reading import decode_json, has_half, not_utf8, parse_json

_PIECE = 1 << 18  # bytes of a file that are read at a time
_LONGEST_TOKEN = 16  # characters within which the end of a piece may be why a value cannot be read
_NUMBER = re.compile(r"[-+.0-9eE]*")
_SPACE = re.compile(r"[ \t\r\n]*")


class NoJSONError(ValueError):
    """What is wrong, and where."""


class Readable(Protocol):
    """A binary file."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to so many bytes, none at the end."""
        ...


class JSONText:
    """The text of a JSON file, of which only the part that is being read is kept."""

    def __init__(self, file: Readable, path: Path) -> None:
        self._file = file
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._ended = False
        self._line = 1  # in which the text that is kept begins

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        """Pass over the next character, which must be one of those expected.

        Raises:
            NoJSONError: If it is another.
        """
        found = self.peek()
        if not found or found not in expected:
            raise self._error(f"expected {' or '.join(map(repr, expected))}")
        self._at += 1
        return found

    def value(self) -> Any:
        """Pass over a value.

        Raises:
            NoJSONError: If there is none.
        """
        self.peek()
        while True:
            try:
                value, end = decode_json(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos > len(self._text) - _LONGEST_TOKEN or error.msg.startswith("Unterminated string")
                if not (cut and self._more()):
                    raise self._error(error.msg, error.pos) from None
                continue
            except ValueError as error:
                raise self._error(str(error)) from None
            rest = _NUMBER.match(self._text, end)
            if rest is None or rest.end() < len(self._text) or not self._more():
                break  # else a number may go on
        if has_half(self._text, self._at, end):
            value = parse_json(self._text[self._at : end])
        self._at = end
        return value

    def items(self) -> Iterator[Any]:
        """Pass over a list, of which the bracket is next."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def fields(self) -> Iterator[str]:
        """Pass over an object; after each key its value is next, and to be passed over by the caller."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                raise self._error("expected a key in double quotes")
            key = self.value()
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def end(self) -> None:
        """Make sure that nothing follows."""
        if self.peek():
            raise self._error("expected nothing more")

    def _more(self) -> bool:
        # Twice as much each time, for the sake of long values.
        piece = b"" if self._ended else self._file.read(max(_PIECE, len(self._text) - self._at))
        if not piece:
            self._ended = True
        else:
            self._line += self._text.count("\n", 0, self._at)
            self._text, self._at = self._text[self._at :], 0
        try:
            self._text += self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            line = self._line + self._text.count("\n") + piece.count(b"\n", 0, error.start)
            raise ValueError(not_utf8(f"{self._path}, line {line}", error)) from None
        return bool(piece)

    def _error(self, message: str, place: int | None = None) -> NoJSONError:
        place = self._at if place is None else place
        near = self._text[max(place - 20, 0) : place + 20]
        line = self._line + self._text.count("\n", 0, place)
        return NoJSONError(f"line {line}: {message}" + (f", near {near!r}" if near else " at its end"))
