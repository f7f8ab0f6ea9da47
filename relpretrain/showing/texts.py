"""How texts of others are shown: nothing in them is a command for a terminal, a spreadsheet or a Markdown page."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text  # takes its time

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # also in full width
_LONGEST = 1000
"""Characters of a text on a terminal or a page: what a person reads, not a label of megabytes."""
_MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", "\n": " "} | {mark: f"\\{mark}" for mark in "\\|[]`"})


def visible(text: str) -> str:
    """A text whose control characters, turns of the writing direction and lone surrogates are written out.

    An escape is then four characters, and what follows it colours nothing. Tabs and line feeds stay.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: str, error: bool = False) -> None:
    """Print a line that holds texts of others.

    Args:
        text: The line.
        error: Whether it goes to the standard error.
    """
    print(visible(text), file=sys.stderr if error else sys.stdout, flush=True)


def literal(text: str, style: str = "") -> Text:
    """A text as rich shows it when brackets in it are brackets; a very long one is cut."""
    from rich.text import Text

    return Text(visible(short(text)), style)


def short(text: str) -> str:
    """A text as a person reads it: of a very long one the beginning."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def unbroken(text: str) -> str:
    """A few words that no line end divides, such as a number and what it is of."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def to_cell(text: str) -> str:
    """The cell of a CSV file for a text: no spreadsheet takes it for a formula.

    Python 3.10 cannot write the character 0, which becomes U+FFFD.
    """
    text = text.replace("\0", "\ufffd")
    return f"'{text}" if _FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """The text that `to_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def markdown(text: str) -> str:
    """A text as Markdown that shows it, without HTML, links and table cells of its own."""
    return visible(text).translate(_MARKDOWN)
