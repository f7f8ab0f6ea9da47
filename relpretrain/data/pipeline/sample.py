"""One sample on its way from a shard to a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from relpretrain.scene_graph import SceneGraph


@dataclass
class Sample:
    """An image with captions, entities and a scene graph (the sample format, README "Shards").

    Args:
        key: Where it comes from, as "dataset/shard/key".
        image: The decoded RGB image.
        image_id: Identity of the image within its source.
        source: Name of the annotation source.
        captions: Texts about the whole image.
        graph: Entities and relations; boxes in pixels of `image`.
    """

    key: str
    image: Image.Image
    image_id: str
    source: str = ""
    captions: list[str] = field(default_factory=list)
    graph: SceneGraph = field(default_factory=SceneGraph)
