"""Small files in the formats of the sources."""

import json

from PIL import Image


def write_image(path, size=(40, 30), image_format=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path, format=image_format)
    return path


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path
