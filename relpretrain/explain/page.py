"""The page: figures, then each image with its maps, in one file that needs no other."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from relpretrain.explain.drawing import overlay, reach, scale
from relpretrain.explain.figures import Figure
from relpretrain.explain.panels import Card, Panel
from relpretrain.inspect.show import page as show_page
from relpretrain.scene_graph import Box
from relpretrain.showing import short
from relpretrain.showing.html import render_template
from relpretrain.zeroshot.analysis.statistics import Interval

_TEMPLATE = Path(__file__).with_name("page.html")
_STYLE = Path(show_page.__file__).with_name("page.css")
"""The style of pages about samples."""

_LARGEST = 560  # pixels of the longer side of an image on the page
_TINY = 64  # pixels up to which an image is shown pixel for pixel
_QUALITY = 82


def render(
    cards: Sequence[Card],
    title: str,
    notes: Sequence[str] = (),
    figures: Sequence[Figure] = (),
    figure_notes: Sequence[str] = (),
    made: Mapping[str, Any] | None = None,
) -> str:
    """Render the page.

    Args:
        cards: The images.
        title: Of the page.
        notes: What a reader must know, a paragraph each.
        figures: Means over triplets, if there are such.
        figure_notes: Below them, a paragraph each.
        made: How the page was made, by name.

    Returns:
        HTML, images and style included.
    """
    drawn = [_card(number, card) for number, card in enumerate(cards, start=1)]
    panels = [panel for card in cards for row in card.rows for panel in row.panels]
    return render_template(
        _TEMPLATE,
        style=Markup(_STYLE.read_text(encoding="utf-8")),  # a file of ours
        title=title,
        notes=notes,
        figures=[_row(figure) for figure in figures],
        figure_notes=figure_notes,
        cards=drawn,
        jumps=[(card["name"], short(card["title"])) for card in drawn],
        made=made or {},
        heat=Markup(scale()),
        two=Markup(scale(signed=True)),
        contrasts=any(panel.signed for panel in panels),
        boxed=any(panel.boxes for panel in panels),
        short=short,
    )


def figure_cells(figure: Figure) -> list[str]:
    """The cells of a figure's line, behind its name: in percent, see `FIGURE_HEADER`."""
    baselines = [_percent(value) for value in figure.baselines.values()]
    return [f"{figure.n:,}", _percent(figure.model.value), interval(figure.model), *baselines, _gain(figure.gain)]


FIGURE_HEADER = ("n", "%", "95 % interval", "constant", "centre", "other triplet", "more than other triplet")
"""Names of these cells."""


def interval(found: Interval) -> str:
    """The bounds of a share in percent, "-" without any."""
    return f"{100 * found.low:.1f} to {100 * found.high:.1f}" if found.low == found.low else "-"


def _gain(found: Interval) -> str:
    if found.value != found.value:
        return "-"
    bounds = f" ({100 * found.low:+.1f} to {100 * found.high:+.1f})" if found.low == found.low else ""
    return f"{100 * found.value:+.1f}{bounds}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if value == value else "-"


def _row(figure: Figure) -> dict[str, Any]:
    cells = list(zip(FIGURE_HEADER, figure_cells(figure), strict=True))
    return {"name": figure.name, "meaning": figure.meaning, "cells": cells}


def _card(number: int, card: Card) -> dict[str, Any]:
    width, height = card.image.size
    unit = max(width, height)
    shown = {"data": _data(card.image), "sharp": unit <= _TINY, "labels": short(", ".join(n for n, _ in card.boxes))}
    rows = []
    for row in card.rows:
        panels = [_panel(panel) for panel in row.panels]
        rows.append({"title": row.title, "note": row.note, "folded": row.folded, "panels": panels})
    return {
        "name": f"image-{number}",
        "title": card.title,
        "width": width,
        "height": height,
        "unit": unit,
        "boxes": card.boxes,
        "notes": card.notes,
        "rows": rows,
        **shown,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    boxes: list[tuple[str, Box]] = sorted(panel.boxes.items(), key=lambda item: -item[1].area)
    return {
        "title": panel.title,
        "role": panel.role,
        "note": panel.note,
        "boxes": boxes,
        "data": overlay(panel.map, panel.signed),
        "most": f"{reach(panel.map):.2g}" if panel.signed else "",
        "empty": not bool(panel.map.any()),
    }


def _data(image: Image.Image) -> str:
    buffer = io.BytesIO()
    if max(image.size) <= _TINY:
        image.save(buffer, "PNG")
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    scale = min(1.0, _LARGEST / max(image.size))
    small = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    small.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
