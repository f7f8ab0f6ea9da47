"""How a command's help ends: with an example that can be copied as it stands."""

from __future__ import annotations

import argparse

_TITLE = "example:"


class ExampleFormatter(argparse.HelpFormatter):
    """Argparse's own help, in which the lines of `example` stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(_TITLE):
            return "\n".join(indent + line for line in text.splitlines())
        return super()._fill_text(text, width, indent)


def example(*lines: str) -> str:
    """The `epilog` of a parser that has `ExampleFormatter`.

    Args:
        lines: Of a command line; `%(prog)s` is the program's name. All but the last may end with a backslash.
    """
    return "\n  ".join((_TITLE, *lines))
