"""Items on which two models disagree, as HTML cards with their images."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from pathlib import Path

from relpretrain.errors import counted
from relpretrain.zeroshot.results.comparison import Comparison
from relpretrain.zeroshot.results.items import ItemResult
from relpretrain.zeroshot.tasks.common.base import read_image

Find = Callable[[str], "Path | None"]
"""Gives the path of an image by its name."""

_SIDE = 360  # longest side of a thumbnail, in pixels


def disagreement_cards(comparison: Comparison, find: Find) -> str:
    """The sample of disagreements, a card each; "" if there are none.

    Args:
        comparison: The two models side by side.
        find: Where the images are.
    """
    sample = comparison.disagreements
    if not sample.total:
        return ""
    first, second = comparison.names
    both = f"{first} alone is right on {sample.lost:,}, {second} alone on {sample.gained:,}."
    many = f"{len(sample.shown):,} of them, drawn at random with seed {sample.seed} and ordered by category:"
    rule = "All of them:" if len(sample.shown) == sample.total else many if sample.shown else ""
    cards = "\n".join(_card(a, b, comparison.names, find) for a, b in sample.shown)
    return (
        f"<h3>Where the two disagree: {counted(sample.total, 'item')}</h3>\n"
        f"<p class='quiet'>{escape(f'{both} {rule}')}</p>\n"
        f'<div class="cards">{cards}</div>'
    )


def thumbnail(path: Path, side: int = _SIDE) -> str:
    """An image as a data URI of a small JPEG.

    Raises:
        ValueError: If it cannot be decoded.
    """
    image = read_image(str(path))
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=78)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _thumbnail(path: Path) -> str:
    """A thumbnail, "" of a file that is no image: figures can be shown without."""
    try:
        return thumbnail(path)
    except ValueError:
        return ""


def _card(a: ItemResult, b: ItemResult, names: tuple[str, str], find: Find) -> str:
    shown = a if a.texts else b
    photos = [path for name in filter(None, shown.image.split("|")) if (path := find(name)) is not None]
    images = "".join(f'<img alt="" loading="lazy" src="{source}">' for path in photos if (source := _thumbnail(path)))
    verdicts = " ".join(
        f'<span class="{"right" if r.right else "wrong"}">{escape(n)} {"right" if r.right else "wrong"}</span>'
        for n, r in zip(names, (a, b), strict=True)
    )
    head = " · ".join(filter(None, (a.category, f"item {a.id}")))
    rows = []
    for i in range(max(len(shown.texts), len(a.scores), len(b.scores))):
        text = escape(shown.texts[i]) if i < len(shown.texts) else "(text not at hand)"
        role = escape(shown.roles[i].replace("_", " ")) if i < len(shown.roles) else ""
        role = f' <span class="quiet">({role})</span>' if role else ""
        scores = "".join(f"<td>{_score(r.scores[i]) if i < len(r.scores) else '-'}</td>" for r in (a, b))
        rows.append(f"<tr><td>{text}{role}</td>{scores}</tr>")
    header = "".join(f"<th>{escape(name)}</th>" for name in names)
    table = f"<table><tr><th>text</th>{header}</tr>{''.join(rows)}</table>" if rows else ""
    frame = f'<div class="photos">{images}</div>' if images else ""
    body = f'<div class="quiet">{escape(head)}</div><div>{verdicts}</div>{table}'
    return f'<article class="card">{frame}<div class="body">{body}</div></article>'


def _score(score: float) -> str:
    return f"{score:.4f}" if 0.0001 <= abs(score) < 1000 or score == 0 else f"{score:.1e}"
