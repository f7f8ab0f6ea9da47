"""Two views of one image: a part of it, its mirror image, or the image made smaller, and what that does to things."""

from __future__ import annotations

import io
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from relpretrain.dialogues.scene import Scene
from relpretrain.dialogues.wording import Turn, choice, drawn, listed, mixed
from relpretrain.scene_graph import Box, holds

Transform = Literal["crop", "mirror", "shrink"]

_NAMES: dict[Transform, str] = {
    "crop": "It is a part of the first, cut out and enlarged",
    "mirror": "It is the first, mirrored left to right",
    "shrink": "It is the first, made smaller with a border around it",
}
MOVED = 0.1
"""How far a centre must move to have moved, as a fraction of the image's side."""
GREW = 1.5
"""By how much a thing's share of the image must change to be larger or smaller."""
WHOLE = 0.9
"""Smallest share of a thing that must still be in view for its place and size to be spoken of."""
SIDE = 0.05
"""How far the centres of two things must be apart for one to be to the left, as a fraction of the image's width."""
_GREY = (128, 128, 128)
_SHARES = (0.5, 0.8)  # of each side of the image, that a crop keeps or that is left of it when it is made smaller
_QUALITY = 92


class View(NamedTuple):
    """The second view of an image.

    Args:
        transform: How it was made of the first.
        part: Which part of the first image it shows, in pixels of that; larger than it where there is a border.
        size: Its width and height in pixels.
    """

    transform: Transform
    part: Box
    size: tuple[int, int]

    def seen(self, box: Box) -> tuple[Box | None, float]:
        """Where a thing is in this view, in pixels, and how much of it; None where nothing is left of it."""
        inside = box.clip(self.part)
        if inside.area <= 0:
            return None, 0.0
        left, top, _, _ = self.part
        moved = inside.shift(-left, -top).scale(self.size[0] / self.part.width, self.size[1] / self.part.height)
        return (moved.flip(self.size[0]) if self.transform == "mirror" else moved), inside.area / box.area


def make_view(scene: Scene, rng: np.random.Generator) -> View:
    """Draw a view of an image: of its own size, so that no number of pixels tells it."""
    width, height = scene.file[:2]
    transform: Transform = drawn(("crop", "mirror", "shrink"), rng)
    if transform == "mirror":
        return View(transform, Box(0, 0, width, height), (width, height))
    share = rng.uniform(*_SHARES)
    if transform == "crop":
        w, h = max(1, round(share * width)), max(1, round(share * height))
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        return View(transform, Box(x, y, x + w, y + h), (width, height))
    w, h = round(width / share), round(height / share)
    x, y = int(rng.integers(w - width + 1)), int(rng.integers(h - height + 1))
    return View(transform, Box(-x, -y, w - x, h - y), (width, height))


def render(pixels: Image.Image, view: View, extension: str) -> bytes:
    """The second view, encoded: PNG where the first is, else JPEG."""
    if view.transform == "mirror":
        seen = ImageOps.mirror(pixels)
    else:
        left, top, right, bottom = (int(side) for side in view.part)
        canvas = Image.new("RGB", (right - left, bottom - top), _GREY)
        canvas.paste(pixels, (-left, -top))
        seen = canvas.resize(view.size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    if extension == "png":
        seen.save(buffer, "PNG")
    else:
        seen.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def geometric_turns(scene: Scene, view: View, rng: np.random.Generator) -> list[Turn]:
    """Questions about an image and a view of it, at most one of each form, in a random order.

    Args:
        scene: The first image, with boxes.
        view: The second; how it was made is known, so that all that is said follows from the boxes.
        rng: Where choices are drawn from.
    """
    things = [
        (label, scene.graph.entities[number].box)
        for label in scene.labels
        if (number := scene.only(label)) is not None and scene.graph.entities[number].box is not None
    ]
    boxes = {label: box for label, box in things if box is not None}
    wrong = [_NAMES[other] for other in _NAMES if other != view.transform]
    question = "How was the second image made of the first?"
    found = [choice("transform", question, _NAMES[view.transform], mixed(wrong, rng), rng)]
    told = {label: said for label, box in boxes.items() if (said := _fate(label, box, view))}
    if told:
        label = drawn(list(told), rng)
        question = f"What happened to the {label} from the first image to the second?"
        found.append(Turn("what_happened", question, told[label]))
    known = {label: view.seen(box)[1] for label, box in boxes.items()}
    clear = {label: share for label, share in known.items() if share == 0 or share >= WHOLE}
    if clear:
        gone = [label for label, share in clear.items() if share == 0]
        label = drawn(gone if gone and rng.random() < 0.5 else list(clear), rng)
        question = f"Is the {label} of the first image still in view in the second?"
        found.append(Turn("in_view", question, "No." if clear[label] == 0 else "Yes."))
    if view.transform == "mirror" and (side := _sides(boxes, view, rng)):
        found.append(side)
    return mixed(found, rng)


def _fate(label: str, box: Box, view: View) -> str | None:
    """What became of a thing; None where too little did to be said."""
    seen, share = view.seen(box)
    if seen is None:
        return f"The {label} left the view."
    if share < WHOLE:
        return f"The {label} is cut off at the border." if share <= 1 - MOVED * 2 else None
    width, height = view.size
    before, after = box.relative(width, height), seen.relative(width, height)
    moves = [
        word
        for place, words in enumerate((("left", "right"), ("up", "down")))
        for word, step in zip(words, (-1, 1), strict=True)
        if step * (after[place] - before[place]) >= MOVED
    ]
    said = [f"moved {listed(moves)}"] if moves else []
    ratio = after[2] * after[3] / (before[2] * before[3])
    if ratio >= GREW or ratio <= 1 / GREW:
        said.append(f"takes a {'larger' if ratio > 1 else 'smaller'} share of the image")
    return f"The {label} {' and '.join(said)}." if said else None


def _sides(boxes: dict[str, Box], view: View, rng: np.random.Generator) -> Turn | None:
    """On which side of another thing one is before and after mirroring."""
    width = view.size[0]
    found = [
        (one, other)
        for one, box in boxes.items()
        for other, other_box in boxes.items()
        if holds("left of", box, other_box) and other_box.center[0] - box.center[0] >= SIDE * width
    ]
    if not found:
        return None
    one, other = drawn(found, rng)
    sides = ("left", "right")
    if rng.random() < 0.5:
        one, other, sides = other, one, ("right", "left")
    answer = f"On its {sides[0]} in the first image, on its {sides[1]} in the second."
    return Turn("side", f"On which side of the {other} is the {one} in each image, as seen by the viewer?", answer)
