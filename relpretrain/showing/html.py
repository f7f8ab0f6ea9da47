"""HTML pages from Jinja templates, all in one style."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from relpretrain.reading import mend

_STYLE = Path(__file__).parent
"""Holds `base.html`, which every page extends, and `base.css`."""


def render_template(path: Path, **values: Any) -> str:
    """Fill in a template; every value is escaped, and files beside it can be included. What comes back can be written.

    A page extends `base.html`: it fills the blocks `style`, `lead` and `content`, and gives a `title` and, where it is
    long, `jumps`: pairs of an element's id and the words that lead to it.

    Args:
        path: The template.
        **values: What it names.
    """
    environment = Environment(
        loader=FileSystemLoader([path.parent, _STYLE], encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return mend(environment.get_template(path.name).render(**{"jumps": (), **values}))
