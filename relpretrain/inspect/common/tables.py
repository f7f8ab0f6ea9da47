"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relpretrain.showing import literal

_PIPED = 110  # columns where the output is no terminal


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> None:
    """Print a table; nothing if it has no rows.

    Args:
        title: Above the table.
        header: Names of the columns.
        rows: Cells; numbers get thousands separators.
        left: How many of the first columns are texts, set to the left.
    """
    from rich.console import Console  # takes its time
    from rich.table import Table

    table = Table(title=literal(title, "table.title"), title_justify="left")
    for number, name in enumerate(header):
        table.add_column(literal(name), justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(literal(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row))
    if table.row_count:
        console = Console()
        (console if console.is_terminal else Console(width=_PIPED)).print(table)
