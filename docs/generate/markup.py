"""Pieces of Markdown that the generated pages share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def cell(text: str) -> str:
    """A text in a cell of a table: one line, and nothing in it is a table's or HTML's."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def code(text: str) -> str:
    """A text as code in a cell of a table."""
    return f"`{' '.join(text.split()).replace('|', ' or ')}`" if text else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, with an empty line behind it; none where there are no rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *lines, ""] if lines else []
