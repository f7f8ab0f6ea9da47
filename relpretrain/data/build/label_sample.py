"""Samples on their way to labelled ones: their captions are parsed, and their graphs written anew."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from relpretrain.data.build.output import PackedSample
from relpretrain.data.build.pack_sample import Captions, Located, caption_parts, own_graph, read_captions
from relpretrain.data.shards.record import captions_of, texts_of
from relpretrain.data.shards.row_index import RawSample
from relpretrain.errors import BadSample
from relpretrain.scene_graph import GraphError, SceneGraph
from relpretrain.scene_graph.parse import Parser, build_parser
from relpretrain.scene_graph.tying import Names, follow_captions, label_captions, without_relations
from relpretrain.sources.common.annotation import ImageFile, broken_texts, make_record, probe_image
from relpretrain.sources.common.dropped import Dropped
from relpretrain.sources.common.values import identity

TOTALS, PREDICATES = "labelled", "labelled_relations"
"""Entries of an index.json: sums over the captions, and how often each new relation occurs."""


class LabelledSample(NamedTuple):
    """A new sample, None if it is left out; what was left out, by reason; and what was counted, by table."""

    sample: PackedSample | None
    dropped: Dropped
    tables: dict[str, Counter[str]]


class _Read(NamedTuple):
    """A sample before its captions are parsed."""

    raw: RawSample
    file: ImageFile
    record: dict[str, Any]
    source: str
    captions: Captions
    graph: SceneGraph

    @property
    def texts(self) -> list[str]:
        """The captions without their weights."""
        return [text for text, _ in self.captions]


@dataclass(frozen=True)
class Labelling:
    """Makes labelled samples of samples; records keep all that is no caption and no graph.

    Args:
        parser: Name of the parser.
        options: Arguments of the parser.
        synonyms: Where synonyms come from, see `Names`.
        min_tie: How sure the tie of a noun to a box must be.
        replace: Whether relations that are there, and entities without a box, are left out first.
    """

    parser: str
    options: Mapping[str, Any] = field(default_factory=dict)
    synonyms: Any = "table"
    min_tie: float = 0.5
    replace: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("built", "names")}

    @cached_property
    def built(self) -> Parser:
        """The parser, built once in each process."""
        return build_parser(self.parser, **self.options)

    @cached_property
    def names(self) -> Names:
        """Says whether nouns fit labels."""
        return Names(self.synonyms)

    @property
    def source(self) -> str:
        """What triplets name as their source."""
        return f"{self.built.name} {self.built.version}"

    def __call__(self, items: Sequence[Located]) -> list[LabelledSample]:
        """Label some samples, whose captions are parsed together."""
        dropped = [Dropped() for _ in items]
        read = [self._read(located, of) for located, of in zip(items, dropped, strict=True)]
        parsed = iter(self.built.parse([caption for sample in read if sample for caption in sample.texts]))
        made = []
        for located, sample, of in zip(items, read, dropped, strict=True):
            tables: dict[str, Counter[str]] = {}
            new = None
            if sample is not None:
                found = label_captions(
                    sample.graph, [next(parsed) for _ in sample.captions], self.source, self.names, self.min_tie
                )
                of.update(found.dropped)
                totals = found.counts + Counter(captions=len(sample.captions), captioned=int(bool(sample.captions)))
                tables = {TOTALS: totals, PREDICATES: found.predicates}
                new = _packed(sample, found.graph, of)
            of.place(f"{located.path.name}/{located.key}")
            made.append(LabelledSample(new, of, tables))
        return made

    def _read(self, located: Located, dropped: Counter[str]) -> _Read | None:
        raw = located.read()
        file = probe_image(io.BytesIO(raw.image), dropped)
        if file is None:
            return None
        try:
            record, txt = texts_of(raw.json, raw.txt)
            told = captions_of(record, txt)
            captions = read_captions(record, txt, dropped)
            graph = own_graph(record, file)
        except (GraphError, BadSample) as error:
            dropped[error.reason] += 1
            return None
        except ValueError:
            dropped["malformed_captions"] += 1
            return None
        clean = [" ".join(text.split()) for text in told]
        texts = [text for text, _ in captions]
        graph = without_relations(graph) if self.replace else follow_captions(graph, clean, texts)
        return _Read(raw, file, record, str(record.get("source") or located.source), captions, graph)


_OURS = ("captions", "caption", "caption_weights", "entities", "relations", "image_id", "source", "width", "height")


def _packed(sample: _Read, graph: SceneGraph, dropped: Counter[str]) -> PackedSample:
    image_id = identity(sample.record.get("image_id"))
    record = make_record(image_id, sample.source, sample.file, **caption_parts(sample.captions), **graph.to_json())
    dropped["replaced_character"] += broken_texts(record)
    others = {name: value for name, value in sample.record.items() if name not in _OURS}
    return PackedSample(sample.raw.key, sample.raw.image, sample.file.extension, record | others)
