"""Items on which two models disagree, with their images, as the page shows them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relpretrain.errors import counted
from relpretrain.zeroshot.results.comparison import Comparison
from relpretrain.zeroshot.results.items import ItemResult
from relpretrain.zeroshot.tasks.common.base import read_image

Find = Callable[[str], "Path | None"]
"""Gives the path of an image by its name."""

_SIDE = 360  # longest side of a thumbnail, in pixels


@dataclass(frozen=True)
class Card:
    """An item on which two models disagree.

    Args:
        photos: Its images, as data URIs.
        head: Its category and number.
        verdicts: Name of each model, and whether it was right.
        rows: Text, role and the two models' scores.
    """

    photos: list[str]
    head: str
    verdicts: list[tuple[str, bool]]
    rows: list[tuple[str, str, list[str]]]


@dataclass(frozen=True)
class ShownDisagreements:
    """A sample of the items on which two models disagree.

    Args:
        title: How many there are.
        said: Which model is right on how many, and which are shown.
        names: The models.
        cards: The items.
    """

    title: str
    said: str
    names: tuple[str, str]
    cards: list[Card]


def show_disagreements(comparison: Comparison, find: Find) -> ShownDisagreements | None:
    """What the page shows of the sample of disagreements; None if there are none.

    Args:
        comparison: The two models side by side.
        find: Where the images are.
    """
    sample = comparison.disagreements
    if not sample.total:
        return None
    first, second = comparison.names
    both = f"{first} alone is right on {sample.lost:,}, {second} alone on {sample.gained:,}."
    many = f"{len(sample.shown):,} of them, drawn at random with seed {sample.seed} and ordered by category:"
    rule = "All of them:" if len(sample.shown) == sample.total else many if sample.shown else ""
    cards = [_card(a, b, comparison.names, find) for a, b in sample.shown]
    title = f"Where the two disagree: {counted(sample.total, 'item')}"
    return ShownDisagreements(title, f"{both} {rule}", comparison.names, cards)


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


def _card(a: ItemResult, b: ItemResult, names: tuple[str, str], find: Find) -> Card:
    shown = a if a.texts else b
    paths = [path for name in filter(None, shown.image.split("|")) if (path := find(name)) is not None]
    rows = []
    for i in range(max(len(shown.texts), len(a.scores), len(b.scores))):
        text = shown.texts[i] if i < len(shown.texts) else "(text not at hand)"
        role = shown.roles[i].replace("_", " ") if i < len(shown.roles) else ""
        rows.append((text, role, [_score(r.scores[i]) if i < len(r.scores) else "-" for r in (a, b)]))
    head = " · ".join(filter(None, (a.category, f"item {a.id}")))
    verdicts = list(zip(names, (a.right, b.right), strict=True))
    return Card([source for path in paths if (source := _thumbnail(path))], head, verdicts, rows)


def _score(score: float) -> str:
    return f"{score:.4f}" if 0.0001 <= abs(score) < 1000 or score == 0 else f"{score:.1e}"
