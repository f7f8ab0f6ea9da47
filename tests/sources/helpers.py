"""Small files in the formats of the sources, and what becomes of annotations."""

import json
from collections import Counter

from PIL import Image

from relpretrain.scene_graph import SceneGraph
from relpretrain.sources import Later, Rules, check


def write_image(path, size=(40, 30), image_format=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path, format=image_format)
    return path


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


def records(read, *args, rules=None, source="s", **more):
    """The records that a source's annotations become, and what was dropped on the way."""
    dropped = Counter()
    found = (item.now(dropped) if isinstance(item, Later) else item for item in read(*args, dropped=dropped, **more))
    checked = [check(annotation, source, rules or Rules(), dropped) for annotation in found]
    return [item.record for item in checked if item is not None], +dropped


def triplets(record):
    """Names and boxes of a record's relations."""
    graph = SceneGraph.from_json(record, record["width"], record["height"])
    ends = [(e.label, tuple(e.box)) for e in graph.entities]
    return [(ends[r.subject], r.relation, ends[r.object]) for r in graph.relations]
