"""Samples on their way to labelled ones: their captions are parsed, and their graphs written anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from relpretrain.data.build.output import PackedSample
from relpretrain.data.build.pack import locate
from relpretrain.data.build.pack_sample import Located, ReadSample, caption_parts, read_sample
from relpretrain.data.build.parts import PartEnd, Piece
from relpretrain.progress import Meter
from relpretrain.scene_graph import SceneGraph
from relpretrain.scene_graph.parse import ParsedCaption, Parser, build_parser
from relpretrain.scene_graph.tying import Names, label_captions, without_relations
from relpretrain.sources.common.annotation import broken_texts, make_record
from relpretrain.sources.common.dropped import Dropped
from relpretrain.sources.common.values import identity

TOTALS, PREDICATES = "labelled", "labelled_relations"
"""Entries of an index.json: sums over the captions, and how often each new relation occurs."""
WITH_MODEL = ("factual",)
"""Parsers of a gigabyte or more, of which each process would load its own."""


class LabelledSample(NamedTuple):
    """A new sample, None if it is left out; what was left out, by reason; and what was counted, by table."""

    sample: PackedSample | None
    dropped: Dropped
    tables: dict[str, Counter[str]]


def pieces_of(shard: str, part: int, together: int, source: str | None) -> Iterator[Piece]:
    """The samples of a shard, some at a time, and its end.

    Args:
        shard: A path or address.
        part: Its number.
        together: Samples whose captions are parsed together.
        source: Name of the source for samples that carry none; by default their shard's name.

    Raises:
        ValueError: If it is no tar.
    """
    left_out = Dropped()
    located = (found for found, _ in locate([shard], left_out, Meter(), source))
    while some := list(islice(located, together)):
        yield Piece(part, some)
    yield Piece(part, PartEnd(left_out, []))


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
        read = self.read(items)
        return self.finish(items, read, self.built.parse(texts_read(read)), self.source)

    def read(self, items: Sequence[Located]) -> list[tuple[ReadSample | None, Dropped]]:
        """Read some samples, each with what was left out of it; None is left out as a whole."""
        dropped = [Dropped() for _ in items]
        return [(self._read(located, of), of) for located, of in zip(items, dropped, strict=True)]

    def finish(
        self,
        items: Sequence[Located],
        read: Sequence[tuple[ReadSample | None, Dropped]],
        parsed: Sequence[ParsedCaption],
        source: str,
    ) -> list[LabelledSample]:
        """Make labelled samples of those that are read; needs no parser.

        Args:
            items: Where the samples are.
            read: What `read` made of them.
            parsed: What the parser made of their texts, see `texts_read`.
            source: What triplets name as their source.

        Raises:
            ValueError: If there are more or fewer parsed captions than texts.
        """
        if len(parsed) != (texts := len(texts_read(read))):
            raise ValueError(
                f"{len(parsed)} captions are parsed and {texts} are read: has the shard changed meanwhile?"
            )
        rest = iter(parsed)
        made = []
        for located, (sample, of) in zip(items, read, strict=True):
            tables: dict[str, Counter[str]] = {}
            new = None
            if sample is not None:
                found = label_captions(
                    sample.graph, [next(rest) for _ in sample.captions], source, self.names, self.min_tie
                )
                of.update(found.dropped)
                totals = found.counts + Counter(captions=len(sample.captions), captioned=int(bool(sample.captions)))
                tables = {TOTALS: totals, PREDICATES: found.predicates}
                new = _packed(sample, found.graph, of)
            of.place(f"{located.path.name}/{located.key}")
            made.append(LabelledSample(new, of, tables))
        return made

    def _read(self, located: Located, dropped: Counter[str]) -> ReadSample | None:
        read = read_sample(located, dropped)
        return read._replace(graph=without_relations(read.graph)) if read and self.replace else read


def texts_read(read: Sequence[tuple[ReadSample | None, Dropped]]) -> list[str]:
    """The captions of samples, in their order: what a parser is given."""
    return [caption for sample, _ in read if sample for caption in sample.texts]


_OURS = ("captions", "caption", "caption_weights", "entities", "relations", "image_id", "source", "width", "height")


def _packed(sample: ReadSample, graph: SceneGraph, dropped: Counter[str]) -> PackedSample:
    image_id = identity(sample.record.get("image_id"))
    record = make_record(image_id, sample.source, sample.file, **caption_parts(sample.captions), **graph.to_json())
    dropped["replaced_character"] += broken_texts(record)
    others = {name: value for name, value in sample.record.items() if name not in _OURS}
    return PackedSample(sample.raw.key, sample.raw.image, sample.file.extension, record | others)
