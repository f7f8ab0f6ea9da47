"""What training makes of a sample, taken apart so that a page can show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from relpretrain.data.pipeline.images import decode, to_image
from relpretrain.data.pipeline.stages import Pipeline, parse, read_graph
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.text_writer import Text, TextWriter
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import BadSample
from relpretrain.features import patch_mask
from relpretrain.identity import number_of
from relpretrain.inspect.common.survey import SHARDS, sample_name
from relpretrain.scene_graph import Box, Relation, RelationVocabulary, SceneGraph, triplet_text
from relpretrain.types import IGNORE


@dataclass(frozen=True)
class Token:
    """A token of a text.

    Args:
        text: As it was.
        seen: As the model sees it, with words masked for MLM.
        chosen: Whether MLM asks for it.
        special: Whether it is [CLS], [SEP] or the like.
        role: "subject", "relation" or "object" in a verbalised triplet, else "".
        entity: Number of the entity that it names in the whole image, or None.
    """

    text: str
    seen: str
    chosen: bool
    special: bool
    role: str = ""
    entity: int | None = None


@dataclass(frozen=True)
class Masked:
    """A triplet for MRC: what the model sees of its subject and of its object.

    Args:
        relation: What is to be classified.
        subject: Number of the entity in the whole image.
        object: Number of the entity in the whole image.
        masks: Patches that stay visible, (2, rows, columns), bool: the subject's and the object's.
    """

    relation: str
    subject: int
    object: int
    masks: NDArray[np.bool_]


@dataclass
class Draw:
    """A sample as a stream gave it once.

    Args:
        image: Augmented, without the normalisation; None if the sample is bad.
        boxes: Of the entities that are left, by their number in the whole image, in pixels.
        texts: Tokens of each text, and the entity that it is about.
        masked: Triplets for MRC.
        lost: Why parts of it were left out.
        bad: Why the stream cannot use the sample, or "".
    """

    image: Image.Image | None = None
    boxes: dict[int, Box] = field(default_factory=dict)
    texts: list[tuple[list[Token], int | None]] = field(default_factory=list)
    masked: list[Masked] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    bad: str = ""


@dataclass
class Shown:
    """A sample, before and after.

    Args:
        place: Shard and key, as every command names them.
        dataset: What a recipe calls the data set, or "".
        source: Where its annotations come from.
        image: The whole image, or None if it cannot be decoded.
        size: Width and height that the boxes refer to.
        captions: Its captions.
        graph: Its entities and relations, as far as they can be read.
        draws: What each stream makes of it, several times.
        bad: Why it cannot be used at all, or "".
    """

    place: str
    dataset: str = ""
    source: str = ""
    image: Image.Image | None = None
    size: tuple[int, int] = (1, 1)
    captions: list[str] = field(default_factory=list)
    graph: SceneGraph = field(default_factory=SceneGraph)
    draws: dict[str, list[Draw]] = field(default_factory=dict)
    bad: str = ""


@dataclass
class Lens:
    """A stream to look through.

    Args:
        stream: The stream.
        encoder: Of its texts.
        image_size: Side of the image that the model sees, in pixels.
        grid: Rows and columns of the model's patches.
        mask_fraction: Share of the tokens masked for MLM.
        vocabulary: Relations that triplets for MRC are drawn from; None takes all.
        exclusion: Images that it never draws.
    """

    stream: Stream
    encoder: TextEncoder
    image_size: int
    grid: tuple[int, int]
    mask_fraction: float = 0.25
    vocabulary: RelationVocabulary | None = None
    exclusion: Exclusion | None = None

    def draws(self, index: ShardIndex, row: int) -> bool:
        """Whether it may draw a sample, as far as its image's id tells."""
        return self.exclusion is None or self.exclusion.reason(index.image_ids[row]) is None


def look(dataset: str, index: ShardIndex, row: int, lenses: Mapping[str, Lens], draws: int = 3, seed: int = 0) -> Shown:
    """Take a sample apart.

    Args:
        dataset: Name of its dataset; `SHARDS` where no recipe names one.
        index: Index of its shard.
        row: Its row there.
        lenses: Streams that draw it, by name.
        draws: How often each of them draws it.
        seed: Of all random choices.
    """
    place = index.place(row)
    shown = Shown(sample_name(index, row), "" if dataset == SHARDS else dataset)
    try:
        raw = index.read(row)
        record = parse(raw, dataset, index)
        decoded = decode(raw.image, 640)
        shown.image, shown.size = to_image(decoded.image), decoded.stored_size
        shown.captions, shown.source = record.captions, str(record.content.get("source") or "")
        if any(lens.stream.kind != "captions" for lens in lenses.values()):
            shown.graph = read_graph(record, *shown.size)
    except BadSample as error:
        shown.bad = f"{error.reason}: {error.detail}".rstrip(": ")
    for name, lens in lenses.items():
        rngs = [np.random.default_rng([seed, number_of(name, place), number]) for number in range(draws)]
        shown.draws[name] = [_draw(dataset, index, row, lens, rng) for rng in rngs]
    return shown


def _draw(dataset: str, index: ShardIndex, row: int, lens: Lens, rng: np.random.Generator) -> Draw:
    writer = TextWriter(lens.stream, lens.encoder, lens.mask_fraction, lens.vocabulary)
    pipeline = Pipeline(lens.stream, lens.image_size, writer, lens.exclusion)
    try:
        raw = index.read(row)
        decoded = decode(raw.image, lens.image_size, lens.stream.min_scale)
        augmented = pipeline.augment(parse(raw, dataset, index), decoded, rng)
        example = pipeline.write(augmented, rng)
    except BadSample as error:
        return Draw(bad=f"{error.reason}: {error.detail}".rstrip(": "))
    graph = augmented.sample.graph
    spans = _spans(graph, lens.encoder) if lens.stream.kind == "graphs" else {}
    boxes = torch.tensor([text.box for text in example.entities], dtype=torch.float32).reshape(-1, 4)
    masks = patch_mask(boxes, lens.grid).reshape(-1, *lens.grid).numpy()
    ends = [text.entity for text in example.entities if text.entity is not None]
    return Draw(
        to_image(augmented.pixels),
        {entity.id: entity.box for entity in graph.entities if entity.box is not None},
        [(_tokens(text, lens.encoder, spans), text.entity) for text in example.texts],
        [Masked(relation, ends[s], ends[o], masks[[s, o]]) for s, o, relation in example.triplets],
        example.lost,
    )


_Roles = list[tuple[str, int | None]]


def _spans(graph: SceneGraph, encoder: TextEncoder) -> dict[tuple[int, ...], _Roles]:
    """Role and entity of each token, by the tokens of a verbalised triplet; the first triplet that reads so counts."""
    found: dict[tuple[int, ...], _Roles] = {}
    for relation in graph.relations:
        ids = _ids(triplet_text(graph, relation), encoder)
        found.setdefault(ids, _roles(graph, relation, encoder, len(ids)))
    return found


def _roles(graph: SceneGraph, relation: Relation, encoder: TextEncoder, length: int) -> _Roles:
    subject, object_ = graph.entities[relation.subject], graph.entities[relation.object]
    first, last = len(_ids(subject.label, encoder)), len(_ids(object_.label, encoder))
    middle = length - first - last
    return [
        *[("subject", subject.id)] * first,
        *[("relation", None)] * middle,
        *[("object", object_.id)] * last,
    ]


def _ids(text: str, encoder: TextEncoder) -> tuple[int, ...]:
    """Token ids of a text alone, as far as any model sees them."""
    whole = TextEncoder(encoder.tokenizer, 1 << 12, True, encoder.clean)
    return tuple(whole.caption(text).ids[1:-1])


def _tokens(text: Text, encoder: TextEncoder, spans: Mapping[tuple[int, ...], _Roles]) -> list[Token]:
    tokenizer: Any = encoder.tokenizer
    ids = list(text.tokens.ids)
    seen, labels = text.masked or (ids, [IGNORE] * len(ids))
    roles: _Roles = [("", None)]  # of [CLS]
    start = 1
    for place in range(1, len(ids) + 1):
        if place == len(ids) or ids[place] == tokenizer.sep_token_id:
            piece = ids[start:place]
            roles += spans.get(tuple(piece)) or [("", None)] * len(piece)
            roles += [("", None)] * (place < len(ids))
            start = place + 1
    special = set(tokenizer.all_special_ids)
    words, shown = tokenizer.convert_ids_to_tokens(ids), tokenizer.convert_ids_to_tokens(list(seen))
    return [Token(words[i], shown[i], labels[i] != IGNORE, ids[i] in special, *roles[i]) for i in range(len(ids))]
