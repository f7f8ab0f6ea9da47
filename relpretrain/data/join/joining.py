"""One sample of a shard with what is joined to it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from relpretrain.data.build.output import Outcome, PackedSample
from relpretrain.data.build.pack_sample import (
    Captions,
    Located,
    caption_parts,
    joined_captions,
    joined_graph,
    own_graph,
    read_captions,
)
from relpretrain.data.shards.record import texts_of
from relpretrain.errors import BadSample
from relpretrain.scene_graph import Entity, GraphError, Relation, SceneGraph
from relpretrain.sources.common.annotation import ImageFile, broken_texts, make_record, probe_image
from relpretrain.sources.common.dropped import Dropped
from relpretrain.sources.common.values import as_number, identity, size_of

T = TypeVar("T", Entity, Relation)

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
        raw = located.read()
        file = probe_image(io.BytesIO(raw.image), dropped)
        if file is None:
            return None
        try:
            record, txt = texts_of(raw.json, raw.txt)
            captions = read_captions(record, txt, dropped)
            graph = own_graph(record, file)
        except (GraphError, BadSample) as error:
            dropped[error.reason] += 1
            return None
        except ValueError:
            dropped["malformed_captions"] += 1
            return None
        new_captions: Captions = []
        joined_graphs: list[tuple[SceneGraph, Captions]] = []
        for joined in located.joined:
            texts: Captions = []
            try:
                texts = read_captions(joined, None, dropped)
            except ValueError:
                dropped["malformed_captions"] += 1
            new_captions = joined_captions(new_captions, texts, "add")
            try:
                if joined.get("entities"):
                    joined_graphs.append((joined_graph(_in_pixels(joined, record, file), record, file), texts))
            except GraphError as error:
                dropped[f"joined_{error.reason}"] += 1
        own = [(graph, captions)] if self.graphs == "add" or not joined_graphs else []
        captions = joined_captions(captions, new_captions, self.captions)
        graphs = [_recaptioned(found, before, captions) for found, before in (*own, *joined_graphs)]
        parts = {**caption_parts(captions), **_together(graphs).to_json()}
        kept = {name: value for name, value in record.items() if name not in _REPLACED}
        source = str(record.get("source") or located.source)
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
        left, top, right, bottom = (min(max(as_number(side), 0.0), 1.0) for side in entity["box"])
        entities.append({**entity, "box": [left * width, top * height, right * width, bottom * height]})
    return {**joined, "entities": entities, "width": width, "height": height}


def _recaptioned(graph: SceneGraph, before: Captions, after: Captions) -> SceneGraph:
    """A graph whose entities and relations name the captions that they were read from by their new numbers.

    What was read from a caption that is gone names none.
    """
    places = {text: number for number, (text, _) in enumerate(after)}
    moved = {old: places.get(text) for old, (text, _) in enumerate(before)}
    if all(old == new for old, new in moved.items()):
        return graph

    def follow(thing: T) -> T:
        new = None if thing.caption is None else moved.get(thing.caption)
        return replace(thing, caption=new, span=thing.span if new is not None else None)

    return SceneGraph(tuple(map(follow, graph.entities)), tuple(map(follow, graph.relations)))


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
