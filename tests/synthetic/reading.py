"""Naive readings of what the generated world wrote: by pixels, boxes and words, without the code that wrote it."""

import hashlib
import io
import json
import re
import tarfile

import numpy as np
from PIL import Image

from relpretrain.synthetic import RELATIONS
from relpretrain.synthetic.render import COLORS

KINDS = {"shapes": ("square", "circle"), "colors": ("red", "green", "blue")}
"""What `seen_in` tells apart."""


def samples(folder):
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
        for name in sorted(n for n in files if n.endswith(".json")):
            yield files[name.replace(".json", ".png")], json.loads(files[name])


def relation_of(text):
    """Subject, relation and object that a text names."""
    thing = r"(?:the )?(\w+ \w+)"
    match = re.fullmatch(rf"{thing} (?:is )?({'|'.join(RELATIONS)}) {thing}\.?", text, re.IGNORECASE)
    return match and tuple(match.group(1, 2, 3))


def seen_in(image):
    """What is in an image and where, found by its pixels alone: {label: centre}."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    found = {}
    for color in ("red", "green", "blue"):
        near = (abs(pixels - np.array(COLORS[color])) <= 20).all(-1)
        for x0, y0, x1, y1 in _blobs(near):
            area, side = near[y0:y1, x0:x1].sum(), (x1 - x0)
            shape = "square" if area == side * (y1 - y0) else "circle"
            found[f"{color} {shape}"] = ((x0 + x1) / 2, (y0 + y1) / 2)
    return found


def _blobs(mask):
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    while left:
        blob, front = set(), [left.pop()]
        while front:
            y, x = front.pop()
            blob.add((y, x))
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            front += near
        ys, xs = [y for y, _ in blob], [x for _, x in blob]
        yield min(xs), min(ys), max(xs) + 1, max(ys) + 1


def true(seen, subject, relation, object, dominance=1.5):
    if subject not in seen or object not in seen:
        return False
    dx, dy = np.subtract(seen[object], seen[subject])
    along, across = {
        "left of": (dx, dy), "right of": (-dx, dy), "above": (dy, dx), "below": (-dy, dx)
    }[relation]  # fmt: skip
    return along > dominance * abs(across)


def open_png(content):
    return Image.open(io.BytesIO(content))


def digest(folder):
    """Of all that is learned from or tested on: names, JSON, words and pixels."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ("world.json", "index.json")):
        found.update(str(path.relative_to(folder)).encode())
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for member in tar.getmembers():
                    found.update(member.name.encode() + _content(member.name, tar.extractfile(member).read()))
        else:
            found.update(_content(path.name, path.read_bytes()))
    return found.hexdigest()[:16]


def _content(name, content):
    return np.asarray(open_png(content)).tobytes() if name.endswith(".png") else content
