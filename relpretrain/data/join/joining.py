"""One sample of a shard with what is joined to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from relpretrain.data.build.output import Outcome, PackedSample
from relpretrain.data.build.pack_sample import (
    Captions,
    Located,
    caption_parts,
    joined_captions,
    joined_graph,
    read_captions,
    read_sample,
)
from relpretrain.scene_graph import GraphError, SceneGraph
from relpretrain.scene_graph.tying import follow_captions
from relpretrain.sources.common.annotation import ImageFile, broken_texts, make_record
from relpretrain.sources.common.dropped import Dropped
from relpretrain.sources.common.values import as_number, identity, size_of

_REPLACED = ("caption", "captions", "caption_weights", "entities", "relations")


@dataclass(frozen=True)
class Joining:
    """Makes a new sample of one that is read: its image byte for byte, its record with what is joined.

    What else the record holds, such as its address, stays, so that more can be joined later. An annotation that cannot
    be used is counted and costs nothing of the sample.

    Args:
        captions: Whether joined captions come after the sample's own or take their place.
        graphs: Whether a joined graph takes the place of the sample's own or is added to it.
    """

    captions: Literal["add", "replace"] = "add"
    graphs: Literal["add", "replace"] = "replace"

    def __call__(self, located: Located) -> Outcome:
        """Read, check and join a sample; None if its own image or record is broken."""
        dropped = Dropped()
        sample = self._sample(located, dropped)
        dropped.place(f"{located.path.name}/{located.key}")
        return sample, dropped

    def _sample(self, located: Located, dropped: Counter[str]) -> PackedSample | None:
        read = read_sample(located, dropped)
        if read is None:
            return None
        raw, file, record, source, captions, graph = read
        new_captions: Captions = []
        joined_graphs: list[tuple[SceneGraph, Captions]] = []
        for joined in located.joined:
            told: Captions = []
            try:
                told = read_captions(joined, None, dropped)
            except ValueError:
                dropped["malformed_captions"] += 1
            new_captions = joined_captions(new_captions, told, "add")
            try:
                if joined.get("entities"):
                    joined_graphs.append((joined_graph(_in_pixels(joined, record, file), record, file), told))
            except GraphError as error:
                dropped[f"joined_{error.reason}"] += 1
        own = [(graph, captions)] if self.graphs == "add" or not joined_graphs else []
        captions = joined_captions(captions, new_captions, self.captions)
        texts = [text for text, _ in captions]
        graphs = [follow_captions(g, [text for text, _ in before], texts) for g, before in (*own, *joined_graphs)]
        parts = {**caption_parts(captions), **_together(graphs).to_json()}
        kept = {name: value for name, value in record.items() if name not in _REPLACED}
        new = make_record(identity(record.get("image_id")), source, file, **parts)
        dropped["replaced_character"] += broken_texts(new)
        return PackedSample(raw.key, raw.image, file.extension, kept | new)


def _in_pixels(joined: dict[str, Any], record: Mapping[str, Any], file: ImageFile) -> dict[str, Any]:
    """A joined graph whose boxes are fractions of the image, in pixels of the image before it was resized."""
    if not joined.get("fractions"):
        return joined
    original = size_of(record.get("original_width"), record.get("original_height"))
    width, height = original or (file.width, file.height)
    entities = []
    for entity in joined["entities"]:
        if entity.get("box") is None:
            entities.append(entity)
            continue
        left, top, right, bottom = (min(max(as_number(side), 0.0), 1.0) for side in entity["box"])
        entities.append({**entity, "box": [left * width, top * height, right * width, bottom * height]})
    return {**joined, "entities": entities, "width": width, "height": height}


def _together(graphs: list[SceneGraph]) -> SceneGraph:
    """One graph of several, with the entities of each after those of the one before."""
    if len(graphs) == 1:
        return graphs[0]
    entities = tuple(entity for graph in graphs for entity in graph.entities)
    relations, first = [], 0
    for graph in graphs:
        relations += [replace(r, subject=r.subject + first, object=r.object + first) for r in graph.relations]
        first += len(graph.entities)
    return SceneGraph(entities, tuple(relations))
