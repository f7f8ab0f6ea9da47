"""A page about samples: image, boxes, graph and texts before and after augmentation, in one file without anything else.

Colours stand for entities: the same for a box, in the graph, in texts and in masks. Boxes carry the entity's number.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relpretrain.inspect.show.samples import Draw, Lens, Masked, Shown, Token
from relpretrain.scene_graph import Box, Entity, SceneGraph

_LARGEST = 720  # pixels of the longer side of a whole image on the page
_QUALITY = 82
_TINY = 64  # pixels up to which an image is shown pixel for pixel
_BADGE = 0.026  # radius over the longer side of an image
_MOST_BADGES = 60

_LEGEND = (
    ("<span class='t m'>word</span>", "masked for MLM"),
    ("<span class='t m k'>word → other</span>", "replaced by another token, to be restored"),
    ("<span class='t k'>word</span>", "left as it is, to be predicted"),
    ("<span class='t s'>[SEP]</span>", "special token"),
)


def render(shown: Sequence[Shown], lenses: Mapping[str, Lens], title: str, notes: Iterable[str] = ()) -> str:
    """Write the page.

    Args:
        shown: The samples.
        lenses: The streams that they were drawn by.
        title: Of the page.
        notes: What a reader must know, a paragraph each.

    Returns:
        HTML, images and style included.
    """
    style = files("relpretrain.inspect.show").joinpath("page.css").read_text(encoding="utf-8")
    legend = "".join(f"<span>{sign} <span class='quiet'>{text}</span></span>" for sign, text in _LEGEND)
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<style>{style}</style></head><body><h1>{escape(title)}</h1>",
        *(f"<p class='quiet'>{escape(note)}</p>" for note in notes),
        f"<div class='legend'>{legend}</div>",
        *(_card(number, sample, lenses) for number, sample in enumerate(shown)),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _card(number: int, sample: Shown, lenses: Mapping[str, Lens]) -> str:
    graph = sample.graph
    head = f"<h2>{escape(sample.place)}</h2>"
    size = f"{sample.size[0]} × {sample.size[1]} pixels" if sample.image is not None else "no image"
    head += f"<p class='quiet'>{escape(' · '.join(filter(None, (sample.source, size))))}</p>"
    if sample.bad:
        head += f"<p class='bad'>{escape(sample.bad)}</p>"
    left = ""
    if sample.image is not None:
        boxes = {i: entity.box for i, entity in enumerate(graph.entities)}
        left = _picture(_small(sample.image), f"i{number}", sample.size, boxes, graph)
    facts = []
    if sample.captions:
        facts.append("<h4>Captions</h4><ul>" + "".join(f"<li>{escape(c)}</li>" for c in sample.captions) + "</ul>")
    if graph.entities:
        chips = "".join(f"<li>{_chip(i, entity)}</li>" for i, entity in enumerate(graph.entities))
        facts.append(f"<h4>Entities</h4><ul class='entities'>{chips}</ul>")
    if graph.relations:
        rows = "".join(
            f"<li>{_chip(r.subject, graph.entities[r.subject])} <i>{escape(r.relation)}</i> "
            f"{_chip(r.object, graph.entities[r.object])}</li>"
            for r in graph.relations
        )
        facts.append(f"<h4>Relations</h4><ul class='columns'>{rows}</ul>")
    body = f"<div class='before'>{left}<div>{''.join(facts)}</div></div>"
    for name, draws in sample.draws.items():
        kind = lenses[name].stream.kind
        what = f"Stream {name} ({kind})" if name != kind else f"As {kind}"
        drawn = "".join(_draw(f"d{number}-{name}-{i}", draw, graph, lenses[name]) for i, draw in enumerate(draws))
        body += f"<h3>{escape(what)}</h3><div class='draws'>{drawn}</div>"
    return f"<section class='card'>{head}{body}</section>"


def _draw(name: str, draw: Draw, graph: SceneGraph, lens: Lens) -> str:
    if draw.image is None:
        return f"<div class='draw'><p class='bad'>{escape(draw.bad)}</p></div>"
    size = (lens.image_size, lens.image_size)
    boxes = {} if lens.stream.kind == "captions" else draw.boxes
    parts = [_picture(draw.image, name, size, boxes, graph)]
    if draw.lost:
        lost = ", ".join(reason.replace("_", " ") for reason in draw.lost)
        parts.append(f"<p class='quiet'>Lost in the crop: {escape(lost)}</p>")
    title = {"captions": "Caption", "regions": "Regions", "graphs": "Verbalised graph (VSG)"}[lens.stream.kind]
    parts.append(f"<h4>{title}</h4>")
    parts += [f"<p class='tokens'>{_badge_chip(entity)}{_text(tokens, entity)}</p>" for tokens, entity in draw.texts]
    if draw.masked:
        rows, columns = lens.grid
        parts.append(f"<h4>Masked for MRC: subject and object, {rows} × {columns} patches</h4>")
        parts += [_pair(name, size, masked, graph) for masked in draw.masked]
    return f"<div class='draw'>{''.join(parts)}</div>"


def _hue(entity: int) -> str:
    return f"--h:{round(215 + 137.508 * entity) % 360}"  # the golden angle: neighbours differ most


def _chip(number: int, entity: Entity) -> str:
    label = " ".join((*entity.attributes, entity.label))
    return f"<span class='e chip' style='{_hue(number)}'><b>{number + 1}</b>{escape(label)}</span>"


def _badge_chip(entity: int | None) -> str:
    return "" if entity is None else f"<span class='e chip' style='{_hue(entity)}'><b>{entity + 1}</b></span> "


def _text(tokens: Sequence[Token], about: int | None) -> str:
    return "".join(_token(token, about) for token in tokens)


def _token(token: Token, about: int | None) -> str:
    inside = token.text.startswith("##")  # goes on with the word before
    text = token.text.removeprefix("##")
    masked = token.chosen and token.seen != token.text
    replaced = masked and token.seen != "[MASK]"
    entity = token.entity if token.entity is not None else None if token.special else about
    names = ["t", *(["s"] * token.special), *(["m"] * masked), *(["r"] * (token.role == "relation"))]
    names += ["k"] * (token.chosen and (replaced or not masked)) + ["e"] * (entity is not None)
    style = f" style='{_hue(entity)}'" if entity is not None else ""
    role = f" title='{token.role}'" if token.role else ""
    shown = f"{text} → {token.seen}" if replaced else text
    return ("" if inside else " ") + f"<span class='{' '.join(names)}'{style}{role}>{escape(shown)}</span>"


def _picture(image: Image.Image, name: str, size: tuple[int, int], boxes: Mapping[int, Box], graph: SceneGraph) -> str:
    """An image with boxes; the image has an id, so that masks show it again."""
    width, height = size
    unit = max(width, height)
    drawn = "".join(
        f"<rect class='{kind}' style='{_hue(n)};stroke-width:{unit * line:.2f}' x='{b.x_min:.1f}' y='{b.y_min:.1f}' "
        f"width='{b.width:.1f}' height='{b.height:.1f}'><title>{escape(graph.entities[n].label)}</title></rect>"
        for n, b in sorted(boxes.items(), key=lambda item: -item[1].area)
        for kind, line in (("halo", 0.009), ("box", 0.0045))
    )
    places = _places(boxes, size, unit * _BADGE) if len(boxes) <= _MOST_BADGES else {}
    badges = "".join(
        f"<g class='badge' style='{_hue(n)}'><circle cx='{x:.1f}' cy='{y:.1f}' r='{unit * _BADGE:.1f}' "
        f"stroke-width='{unit * 0.003:.2f}'/><text x='{x:.1f}' y='{y:.1f}' font-size='{unit * _BADGE * 1.25:.1f}'>"
        f"{n + 1}</text></g>"
        for n, (x, y) in places.items()
    )
    labels = ", ".join(graph.entities[n].label for n in boxes) or "the image"
    sharp = " style='image-rendering:pixelated'" if max(image.size) <= _TINY else ""
    picture = f"<image id='{escape(name)}' href='{_data(image)}' width='{width}' height='{height}'{sharp} "
    picture += "preserveAspectRatio='none'/>"
    return (
        f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{escape(labels)}'>{picture}{drawn}{badges}</svg>"
    )


def _places(boxes: Mapping[int, Box], size: tuple[int, int], radius: float) -> dict[int, tuple[float, float]]:
    """A place for each badge on its box's border, clear of the others as far as possible."""
    taken: list[tuple[float, float]] = []
    places = {}
    for number, box in sorted(boxes.items(), key=lambda item: item[1].area):
        if min(box.width, box.height) < 4 * radius:  # beside a small box, which a badge would hide
            box = Box(box.x_min - radius, box.y_min - radius, box.x_max + radius, box.y_max + radius)
        across, down = (np.linspace(0, 1, 9) * extent for extent in (box.width, box.height))
        border = [(box.x_min + x, y) for y in (box.y_min, box.y_max) for x in across]
        border += [(x, box.y_min + y) for x in (box.x_min, box.x_max) for y in down]
        inside = [
            (float(np.clip(x, radius, size[0] - radius)), float(np.clip(y, radius, size[1] - radius)))
            for x, y in border
        ]
        gaps = [min((np.hypot(x - a, y - b) for a, b in taken), default=np.inf) for x, y in inside]
        free = [place for place, gap in zip(inside, gaps, strict=True) if gap >= 2.1 * radius]
        places[number] = free[0] if free else inside[int(np.argmax(gaps))]
        taken.append(places[number])
    return places


def _pair(name: str, size: tuple[int, int], masked: Masked, graph: SceneGraph) -> str:
    ends = (masked.subject, masked.object)
    first, second = (_chip(n, graph.entities[n]) for n in ends)
    halves = "".join(_mask(name, size, mask, n, graph) for mask, n in zip(masked.masks, ends, strict=True))
    return f"<div class='pair'><p>{first} <i>{escape(masked.relation)}</i> {second}</p>{halves}</div>"


def _mask(name: str, size: tuple[int, int], mask: NDArray[np.bool_], entity: int, graph: SceneGraph) -> str:
    """The image with all patches but those of an entity covered."""
    rows, columns = mask.shape
    width, height = size[0] / columns, size[1] / rows
    covered = "".join(
        f"M{start * width:g} {row * height:g}h{(stop - start) * width:g}v{height:g}h{(start - stop) * width:g}z"
        for row in range(rows)
        for start, stop in _runs(~mask[row])
    )
    lines = "".join(f"M{x * width:g} 0v{size[1]}" for x in range(1, columns))
    lines += "".join(f"M0 {y * height:g}h{size[0]}" for y in range(1, rows))
    label = escape(f"what stays visible of {graph.entities[entity].label}")
    return (
        f"<svg viewBox='0 0 {size[0]} {size[1]}' role='img' aria-label='{label}'><use href='#{escape(name)}'/>"
        f"<path class='hidden' d='{covered}'/>"
        f"<path class='grid' style='stroke-width:{size[0] * 0.003:.2f}' d='{lines}'/>"
        f"{_outline(mask, width, height, entity)}</svg>"
    )


def _outline(mask: NDArray[np.bool_], width: float, height: float, entity: int) -> str:
    """A rectangle around the visible patches."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = columns[0] * width, rows[0] * height
    w, h = (columns[-1] + 1) * width - x, (rows[-1] + 1) * height - y
    line = 0.012 * width * mask.shape[1]
    return (
        f"<rect class='box' style='{_hue(entity)};stroke-width:{line:.2f}' x='{x:g}' y='{y:g}' "
        f"width='{w:g}' height='{h:g}'/>"
    )


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
