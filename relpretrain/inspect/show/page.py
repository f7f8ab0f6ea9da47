"""A page about samples: image, boxes, graph and texts before and after augmentation, in one self-contained file.

Colours stand for entities: the same for a box, in the graph, in texts and in masks. Boxes carry the entity's number.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relpretrain.errors import counted
from relpretrain.inspect.show.samples import Draw, Lens, Shown, Token
from relpretrain.scene_graph import Box, Relation, SceneGraph
from relpretrain.showing import short
from relpretrain.showing.html import render_template

_TEMPLATE = Path(__file__).with_name("page.html")
_LARGEST = 720  # pixels of the longer side of a whole image on the page
_QUALITY = 82
_TINY = 64  # pixels up to which an image is shown pixel for pixel
_BADGE, _BADGE_OF_DRAW = 0.026, 0.034  # radius over the longer side of an image; draws are shown smaller
_MOST_PAIRS = 12  # of a draw: a tagger's stream has more than a hundred

_TITLES = {"captions": "Caption", "regions": "Regions", "graphs": "Verbalised graph (VSG)"}


def render(shown: Sequence[Shown], lenses: Mapping[str, Lens], title: str, notes: Iterable[str] = ()) -> str:
    """Render samples as an HTML page.

    Args:
        shown: The samples.
        lenses: The streams that they were drawn by.
        title: Of the page.
        notes: What a reader must know, a paragraph each.

    Returns:
        HTML, images and style included.
    """
    cards = [_card(number, sample, lenses) for number, sample in enumerate(shown)]
    jumps = [(card["anchor"], f"{number}. {short(card['sample'].place)}") for number, card in enumerate(cards, start=1)]
    return render_template(_TEMPLATE, title=title, notes=notes, cards=cards, jumps=jumps, hue=_hue, short=short)


def _card(number: int, sample: Shown, lenses: Mapping[str, Lens]) -> dict[str, Any]:
    graph = sample.graph
    size = f"{sample.size[0]} × {sample.size[1]} pixels" if sample.image is not None else "no image"
    picture = None
    if sample.image is not None:
        boxes = {i: entity.box for i, entity in enumerate(graph.entities) if entity.box is not None}
        picture = _picture(_small(sample.image), f"i{number}", sample.size, boxes, graph)
    streams = []
    for name, draws in sample.draws.items():
        lens = lenses[name]
        kind = lens.stream.kind
        drawn = [_draw(f"d{number}-{name}-{i}", draw, graph, lens) for i, draw in enumerate(draws)]
        streams.append((f"Stream {name} ({kind})" if name != kind else f"As {kind}", drawn))
    about = " · ".join(filter(None, dict.fromkeys((sample.dataset, sample.source, size))))
    captions = [marked(text, i, graph) for i, text in enumerate(sample.captions)]
    relations = [(relation, _origin(relation)) for relation in graph.relations]
    parts = {"captions": captions, "relations": relations, "sourced": any(r.source for r in graph.relations)}
    return {"anchor": f"s{number}", "sample": sample, "about": about, "picture": picture, "streams": streams, **parts}


class Piece(NamedTuple):
    """A piece of a caption.

    Args:
        text: Its words.
        entity: Number of the entity that it names, or None.
        relation: What the triplets say that were read here, or "".
    """

    text: str
    entity: int | None = None
    relation: str = ""


def marked(caption: str, number: int, graph: SceneGraph) -> list[Piece]:
    """Cut a caption where its graph has read entities and relations; of pieces that overlap, the earlier one counts.

    Args:
        caption: The caption.
        number: Which of the image's captions it is.
        graph: The image's graph.
    """
    found: dict[tuple[int, int], Piece] = {}
    for i, entity in enumerate(graph.entities):
        if entity.caption == number and entity.span is not None:
            found[entity.span] = Piece("", i)
    for relation in graph.relations:
        if relation.caption == number and relation.span is not None:
            found.setdefault(relation.span, Piece("", None, relation.relation))
    pieces, done = [], 0
    for (start, end), piece in sorted(found.items(), key=lambda item: item[0]):
        if done <= start and end <= len(caption):
            pieces += [Piece(caption[done:start]), piece._replace(text=caption[start:end])]
            done = end
    return [piece for piece in (*pieces, Piece(caption[done:])) if piece.text]


def _origin(relation: Relation) -> str:
    """Who says so, where, and how surely; nothing of what people have annotated."""
    if not relation.source:
        return ""
    caption = "" if relation.caption is None else f"caption {relation.caption + 1}"
    return " · ".join(filter(None, (relation.source, caption, f"{relation.confidence:.2f}")))


def _draw(name: str, draw: Draw, graph: SceneGraph, lens: Lens) -> dict[str, Any]:
    if draw.image is None:
        return {"bad": draw.bad}
    size = (lens.image_size, lens.image_size)
    pairs = []
    for masked in sorted(draw.masked, key=lambda masked: not masked.relation)[:_MOST_PAIRS]:
        ends = zip(masked.masks, (masked.subject, masked.object), strict=True)
        pairs.append((masked, [_mask(name, size, mask, entity) for mask, entity in ends]))
    return {
        "bad": "",
        "picture": _picture(
            draw.image, name, size, {} if lens.stream.kind == "captions" else draw.boxes, graph, _BADGE_OF_DRAW
        ),
        "lost": ", ".join(
            f"{reason.replace('_', ' ')}{f' ({count} times)' if count > 1 else ''}"
            for reason, count in Counter(draw.lost).items()
        ),
        "title": _TITLES[lens.stream.kind],
        "texts": [([_token(token, about) for token in tokens], about) for tokens, about in draw.texts],
        "pairs": pairs,
        "more": counted(more, "more pair") if (more := len(draw.masked) - len(pairs)) else "",
        "grid": lens.grid,
    }


def _hue(entity: int) -> str:
    return f"--h:{round(215 + 137.508 * entity) % 360}"  # the golden angle: neighbours differ most


def _token(token: Token, about: int | None) -> dict[str, Any]:
    masked = token.chosen and token.seen != token.text
    replaced = masked and token.seen != "[MASK]"
    entity = token.entity if token.entity is not None else None if token.special else about
    names = ["t", *(["s"] * token.special), *(["m"] * masked), *(["r"] * (token.role == "relation"))]
    names += ["k"] * (token.chosen and (replaced or not masked)) + ["e"] * (entity is not None)
    text = token.text.removeprefix("##")
    return {
        "inside": token.text.startswith("##"),  # goes on with the word before
        "css": " ".join(names),
        "entity": entity,
        "role": token.role,
        "shown": f"{text} → {token.seen}" if replaced else text,
    }


def _picture(
    image: Image.Image,
    name: str,
    size: tuple[int, int],
    boxes: Mapping[int, Box],
    graph: SceneGraph,
    badge: float = _BADGE,
) -> dict[str, Any]:
    """An image with boxes, the largest first, and with the entities' numbers as far as there is room for them."""
    unit = max(size)
    radius = unit * badge
    places = _places(boxes, size, radius)
    return {
        "name": name,
        "data": _data(image),
        "width": size[0],
        "height": size[1],
        "sharp": max(image.size) <= _TINY,
        "labels": short(", ".join(graph.entities[n].label for n in boxes)) or "the image",
        "boxes": sorted(boxes.items(), key=lambda item: -item[1].area),
        "badges": places,
        "leads": _leads(boxes, places, radius),
        "unnumbered": short(", ".join(str(number + 1) for number in sorted(boxes) if number not in places)),
        "unit": unit,
        "radius": radius,
    }


def _places(boxes: Mapping[int, Box], size: tuple[int, int], radius: float) -> dict[int, tuple[float, float]]:
    """A place for each badge, clear of all others: on its box's border, else as near to it as there is room.

    A box for which there is none in the whole image has no place.
    """
    axes = [np.arange(radius, extent - radius, radius) for extent in size]
    anywhere = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    taken = np.empty((0, 2))
    places = {}
    for number, box in sorted(boxes.items(), key=lambda item: item[1].area):
        if min(box.width, box.height) < 4 * radius:  # beside a small box, which a badge would hide
            box = Box(box.x_min - radius, box.y_min - radius, box.x_max + radius, box.y_max + radius)
        gaps = np.hypot(*(anywhere - _nearest(anywhere, box)).T)
        for candidates in (_border(box, size, radius), anywhere[np.argsort(gaps, kind="stable")]):
            apart = np.hypot(*(candidates[:, None] - taken[None]).transpose(2, 0, 1))  # (candidates, badges)
            free = candidates[(apart >= 2.1 * radius).all(axis=1)]
            if len(free):
                places[number] = (float(free[0, 0]), float(free[0, 1]))
                taken = np.concatenate([taken, free[:1]])
                anywhere = anywhere[np.hypot(*(anywhere - free[0]).T) >= 2.1 * radius]
                break
    return places


def _border(box: Box, size: tuple[int, int], radius: float) -> NDArray[np.float64]:
    """Places on a box's border, (36, 2): the upper side first; those outside of the image are moved into it."""
    across, down = (np.linspace(0, 1, 9) * extent for extent in (box.width, box.height))
    points = [(box.x_min + x, y) for y in (box.y_min, box.y_max) for x in across]
    points += [(x, box.y_min + y) for x in (box.x_min, box.x_max) for y in down]
    places: NDArray[np.float64] = np.clip(np.array(points), radius, np.array(size) - radius)
    return places


def _nearest(points: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """The point of a box's border that is nearest to each of some points, (points, 2)."""
    corners = np.array([[box.x_min, box.y_min], [box.x_max, box.y_max]])
    near: NDArray[np.float64] = np.clip(points, corners[0], corners[1])
    depth = np.abs(points[:, None] - corners)  # (points, 2 corners, 2 axes)
    corner, axis = np.unravel_index(depth.reshape(-1, 4).argmin(axis=1), (2, 2))
    inside = np.flatnonzero((near == points).all(axis=1))
    near[inside, axis[inside]] = corners[corner[inside], axis[inside]]
    return near


def _leads(
    boxes: Mapping[int, Box], places: Mapping[int, tuple[float, float]], radius: float
) -> dict[int, tuple[float, float, float, float]]:
    """Lines from badges that found no room on their boxes to these: x and y of both ends."""
    leads = {}
    for number, (x, y) in places.items():
        ((near_x, near_y),) = _nearest(np.array([[x, y]]), boxes[number]).tolist()
        if np.hypot(x - near_x, y - near_y) > 1.5 * radius:
            leads[number] = (x, y, near_x, near_y)
    return leads


def _mask(name: str, size: tuple[int, int], mask: NDArray[np.bool_], entity: int) -> dict[str, Any]:
    """Paths of the covered patches and of the grid, and the rectangle around the visible patches."""
    rows, columns = mask.shape
    width, height = size[0] / columns, size[1] / rows
    covered = "".join(
        f"M{start * width:g} {row * height:g}h{(stop - start) * width:g}v{height:g}h{(start - stop) * width:g}z"
        for row in range(rows)
        for start, stop in _runs(~mask[row])
    )
    lines = "".join(f"M{x * width:g} 0v{size[1]}" for x in range(1, columns))
    lines += "".join(f"M0 {y * height:g}h{size[0]}" for y in range(1, rows))
    down, across = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = across[0] * width, down[0] * height
    visible = (x, y, (across[-1] + 1) * width - x, (down[-1] + 1) * height - y)
    shown = {"name": name, "entity": entity, "width": size[0], "height": size[1]}
    return shown | {"covered": covered, "lines": lines, "visible": visible}


def _runs(row: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Beginnings and ends of runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _small(image: Image.Image) -> Image.Image:
    scale = _LARGEST / max(image.size)
    if scale >= 1:
        return image
    return image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))


def _data(image: Image.Image) -> str:
    buffer = io.BytesIO()
    if max(image.size) <= _TINY:
        image.save(buffer, "PNG")
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
