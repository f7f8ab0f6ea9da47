"""A benchmark folder in miniature, and a scorer that reads colours."""

import json
from pathlib import Path

import torch
from PIL import Image

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 255, 0)}


def write_images(folder: Path, names=COLOURS):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 6), COLOURS[name]).save(folder / f"{name}.png")


def write_benchmarks(folder: Path) -> Path:
    """VALSE and VSR files about three images, which are not written."""

    def valse(image, caption, foil, votes):
        return {"image_file": f"{image}.png", "caption": caption, "foil": foil, "mturk": {"caption": votes}}

    files = {
        "foil-it": {"k0": valse("red", "a red thing", "a blue thing", 3), "k1": valse("red", "red", "green", 1)},
        "existence": {"k0": valse("blue", "blue it is", "red it is", 2), "k1": valse("red", "red", "blue", 3)},
    }
    (folder / "valse").mkdir(parents=True)
    for name, items in files.items():
        (folder / "valse" / f"{name}.json").write_text(json.dumps(items))
    lines = [
        ("red", "red", 1, "in"),
        ("red", "blue", 0, "among"),
        ("green", "red", 1, "beyond"),
        ("blue", "blue", 1, "x"),
    ]
    for part in ("dev", "test"):
        path = folder / "vsr" / "synthetic" / f"{part}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        keys = ("image", "caption", "label", "relation")
        rows = [dict(zip(keys, (f"{image}.png", *rest), strict=True)) for image, *rest in lines]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[: 4 if part == "test" else 2]))
    return folder


class ColourScorer:
    """Finds texts that name the image's colour likelier; counts what it is asked."""

    def __init__(self):
        self.encoded = []

    def encode_images(self, images):
        assert all(image.mode == "RGB" for image in images)
        names = {rgb: name for name, rgb in COLOURS.items()}
        found = [names[image.getpixel((0, 0))] for image in images]
        self.encoded += found
        return found

    def score(self, image_features, index, texts):
        rows = [[0.0, 2.0 if image_features[i] in text else -1.0] for i, text in zip(index, texts, strict=True)]
        return torch.tensor(rows)
