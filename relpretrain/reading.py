"""How text files and JSON are read: one place for encodings, line ends and broken characters.

Texts are UTF-8; a byte order mark at the start of a line is skipped. A line ends at a line feed, before which a
carriage return may stand; whatever else Unicode calls a line end is a character. Half of a character (a lone surrogate,
such as an emoji cut in two leaves it in JSON) becomes U+FFFD, so that what was read can always be written again.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from relpretrain.errors import MISTAKES, ConfigError

REPLACEMENT = "\ufffd"
"""Stands where a character was broken."""

_BOMS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_JSON = json.JSONDecoder()
_LONG_NUMBERS = json.JSONDecoder(parse_int=lambda digits: int(digits) if len(digits) < 400 else float(digits))
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL)


def decode(data: bytes, where: str, errors: Literal["strict", "replace"] = "strict") -> str:
    """Bytes as text.

    Args:
        data: The bytes of a text or a line.
        where: What they are, for errors.
        errors: Whether bytes that are no UTF-8 are refused or become U+FFFD.

    Raises:
        ValueError: If they are UTF-16, or not UTF-8 where that is refused; says where and what to do.
    """
    encoding = _BOMS.get(data[:4]) or _BOMS.get(data[:2]) or ("UTF-16" if b"\0" in data[:4] else None)
    if encoding is not None:
        raise ValueError(f"{where} is {encoding}, expected UTF-8: convert it (iconv -f {encoding} -t UTF-8)")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(not_utf8(f"{where}, line {line}" if line > 1 else where, error)) from None


def not_utf8(where: str, error: UnicodeDecodeError) -> str:
    """The line about a text that is not UTF-8."""
    byte = error.object[error.start]
    return f"{where} is not UTF-8 (byte 0x{byte:02x}): convert it (such as iconv -f LATIN1 -t UTF-8)"


def mend(text: str) -> str:
    """A text without lone surrogates; U+FFFD takes their place. Names of files may hold them."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def decoded_lines(lines: Iterable[bytes], path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of lines that a binary file gave, without their ends.

    Raises:
        ValueError: If one is not UTF-8; names file and line.
    """
    for number, line in enumerate(lines, 1):
        yield number, decode(line, f"{path}, line {number}").removesuffix("\n").removesuffix("\r")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not UTF-8.
    """
    with path.open("rb") as file:
        return [line for _, line in decoded_lines(file, path)]


def read_text(path: Path) -> str:
    """A text file as it stands, but for a byte order mark.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not UTF-8.
    """
    return decode(path.read_bytes(), str(path))


def parse_json(text: str | bytes, where: str = "the text") -> Any:
    """What a JSON text says.

    NaN and the infinities are numbers, of which the field that holds them must be wary, and of equal keys of one object
    the last counts, as Python's `json` has it. Texts hold no lone surrogate.

    Raises:
        ValueError: If it is no JSON, or not UTF-8.
    """
    text = decode(text, where) if isinstance(text, bytes) else text
    if has_half(text):
        text = _ESCAPE.sub(_whole, text)
    text = text.strip(" \t\r\n")
    content, end = decode_json(text)
    if end < len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return content


def decode_json(text: str, start: int = 0) -> tuple[Any, int]:
    """What the JSON value at a place of a text says, and where it ends; half characters are left in it.

    Raises:
        ValueError: If there is none.
    """
    try:
        return _JSON.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a whole number of thousands of digits, which Python refuses to make
        return _LONG_NUMBERS.raw_decode(text, start)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, what: str) -> Any:
    """What a JSON file says.

    Args:
        path: The file.
        what: What it should hold, for errors.

    Raises:
        ValueError: If it cannot be read or is no JSON.
    """
    try:
        return parse_json(read_text(path), str(path))
    except OSError as error:
        raise ValueError(f"cannot read {what} {path}: {error.strerror or error}") from error
    except ValueError as error:
        reason = " ".join(str(error).split())
        line = reason if reason.startswith(str(path)) else f"{path} should hold {what} but is no JSON: {reason}"
        raise ValueError(line) from error


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Number and content of the lines of a file of JSON lines; empty ones are passed over.

    Raises:
        OSError: If it cannot be read.
        ConfigError: If lines are no JSON; names them.
    """
    with path.open("rb") as file:
        yield from parsed_lines(file, path)


def parsed_lines(lines: Iterable[bytes], path: Path) -> Iterator[tuple[int, Any]]:
    """Number and content of JSON lines that a binary file gave; see `read_json_lines`.

    After the first line that is no JSON nothing is given any more: the rest is read for further ones, to tell them too.
    """
    broken: list[str] = []
    good = tried = 0
    for number, content, why in tried_lines(lines, path):
        tried += 1
        if not why:
            good += isinstance(content, (dict, list))  # a text or a number alone may be a part of what is on many lines
            if not broken:
                yield number, content
            continue
        broken.append(why)
        if len(broken) == MISTAKES:
            if not good:
                raise ConfigError(no_lines(broken, tried))
            broken.append(f"and perhaps more: {path} was read no further")
            break
    if broken:
        raise ConfigError(broken if good else no_lines(broken))


def tried_lines(lines: Iterable[bytes], path: Path) -> Iterator[tuple[int, Any, str]]:
    """Number and content of JSON lines that a binary file gave, and why a line is none, "" where it is.

    Empty lines are passed over.
    """
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            text = decode(line, where)
            if text.strip():
                yield number, parse_json(text), ""
        except json.JSONDecodeError as error:  # counts lines and columns within this line
            yield number, None, f"{where} is no JSON: {error.msg} (column {error.colno})"
        except ValueError as error:
            said = str(error)
            yield number, None, said if said.startswith(where) else f"{where} is no JSON: {said}"


def no_lines(broken: Sequence[str], tried: int | None = None) -> list[str]:
    """What is told of a file of which no line is JSON, such as an object over several lines: the first line is enough.

    Args:
        broken: What is said of its lines.
        tried: How many of them were read, where there may be more.
    """
    none = "no line is" if tried is None else f"none of the first {tried} lines is"
    return [broken[0] if len(broken) == 1 else f"{broken[0]}; {none}: write one JSON object on each line"]


def has_half(text: str, start: int = 0, end: int | None = None) -> bool:
    """Whether a JSON text, or a part of it, may hold a lone surrogate."""
    return _HALF.search(text, start, len(text) if end is None else end) is not None


def _whole(escape: re.Match[str]) -> str:
    found = escape[0]
    return "\\ufffd" if len(found) == 6 else found  # a pair has twelve characters, any other escape two
