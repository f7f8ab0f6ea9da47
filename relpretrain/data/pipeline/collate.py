"""From augmented samples to texts and tokens, and from those to typed batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from relpretrain.data.pipeline.foils import FoilWriter, Unit, kind_number
from relpretrain.data.pipeline.sample import Sample
from relpretrain.data.pipeline.text import (
    Masked,
    TextEncoder,
    Tokens,
    collate_texts,
    mask_words,
    token_identity,
)
from relpretrain.data.sampling.stream import Stream, with_defaults
from relpretrain.errors import BadSample
from relpretrain.identity import number_of
from relpretrain.scene_graph import (
    Entity,
    RelationVocabulary,
    SceneGraph,
    all_pairs,
    choose_relations,
    triplet_meaning,
    verbalised,
)
from relpretrain.scene_graph.foils import GRAPH_KINDS
from relpretrain.scene_graph.positions import with_positions
from relpretrain.types import Batch, CaptionBatch, Foils, GraphBatch, Kind, Normalisation, Pairs, RegionBatch, Units

BATCH_TYPES: dict[Kind, type[Batch]] = {"captions": CaptionBatch, "regions": RegionBatch, "graphs": GraphBatch}
"""Type of the batches of each kind of stream."""


class Text(NamedTuple):
    """A tokenised text, and the box (cx, cy, w, h) that it is about, as fractions of the image.

    `whole` is true of a caption among region texts; `entity` is the id of the entity that a text is about; `weight` is
    how much the text counts, None where all count alike.
    """

    tokens: Tokens
    identity: int
    masked: Masked | None = None
    box: tuple[float, float, float, float] | None = None
    whole: bool = False
    entity: int | None = None
    weight: float | None = None


@dataclass
class Example:
    """What a sample brings into a batch.

    Args:
        image: Pixels, uint8, or the input that a host makes of them, (3, size, size).
        image_id: Identity of the image.
        key: Where it comes from, as "dataset/shard/key".
        texts: Rows of the batch's `pairs`.
        entities: Rows of a graph batch's `entities`.
        triplets: Subject and object as rows of `entities`, and the relation.
        weights: How much each triplet counts; empty where all count alike.
        foils: False texts: the text of each, the row of `texts` that it is a foil of, and its kind; None where the
            stream makes none.
        units: Short true texts, each with a false one or None; None where the stream makes none.
        lost: Why parts of the sample were left out: what augmentation dropped, and for each triplet that was drawn for
            a text without room for it "triplet_too_long", or is never drawn for classification
            "relation_outside_vocabulary".
        normalisation: What makes the model's input of `image`, on the device; None where it is that.
    """

    image: Tensor
    image_id: int
    key: str
    texts: list[Text]
    entities: list[Text] = field(default_factory=list)
    triplets: list[tuple[int, int, str]] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    foils: list[tuple[Text, int, str]] | None = None
    units: list[tuple[Text, Text | None]] | None = None
    lost: list[str] = field(default_factory=list)
    normalisation: Normalisation | None = None


@dataclass
class TextWriter:
    """Draws the texts of a sample, tokenises them and masks words.

    Args:
        stream: Whose kind and numbers per image are used.
        encoder: Of texts to tokens, with the stream's limit.
        mask_fraction: Share of the tokens masked for MLM.
        vocabulary: Relations that triplets for MRC are drawn from; None takes all.
    """

    stream: Stream
    encoder: TextEncoder
    mask_fraction: float = 0.25
    vocabulary: RelationVocabulary | None = None

    def __post_init__(self) -> None:
        self.stream = with_defaults(self.stream, {})
        per_text, kinds = self.stream.foils_per_text or 0, self.stream.foil_kinds or GRAPH_KINDS
        instead = self.stream.foil_names, self.stream.foil_words
        self._foils = FoilWriter(per_text, kinds, *instead) if per_text else None
        unit_kinds = self.stream.unit_kinds or GRAPH_KINDS
        self._units = FoilWriter(1, unit_kinds, *instead) if self.stream.units_per_image else None

    def __call__(self, image: Tensor, sample: Sample, rng: np.random.Generator) -> Example:
        """Draw the texts of a sample whose boxes are in pixels of `image`.

        Raises:
            BadSample: If there is nothing that the stream is about.
        """
        example = Example(image, number_of(sample.source, sample.image_id), sample.key, [])
        size = (float(image.shape[2]), float(image.shape[1]))
        {"captions": self._caption, "regions": self._regions, "graphs": self._graph}[self.stream.kind](
            example, sample, size, rng
        )
        return example

    def _caption(self, example: Example, sample: Sample, size: tuple[float, float], rng: np.random.Generator) -> None:
        if not sample.captions:
            raise BadSample("no_caption")
        text = _one_caption(sample, rng)
        example.texts = [self._text(text, rng)]
        if self._foils is not None:
            foils = self._foils.of_caption(text, sample.graph, rng)
            example.foils = [(self._plain(self.encoder.caption(text)), 0, kind) for text, kind in foils]
        if self._units is not None:
            count = self.stream.units_per_image or 0
            found = self._units.units_of_captions(sample.captions, sample.graph, count, rng)
            example.units = self._short(found, self.encoder.caption)

    def _regions(self, example: Example, sample: Sample, size: tuple[float, float], rng: np.random.Generator) -> None:
        entities = [entity for entity in sample.graph.entities if entity.box is not None]
        if not entities:
            raise BadSample("no_entity")
        if self.stream.image_rows and sample.captions:  # the first row, as in the official X-VLM code
            caption = self._text(_one_caption(sample, rng), rng, (0.5, 0.5, 1.0, 1.0))
            example.texts = [caption._replace(whole=True)]
        drawn = rng.permutation(len(entities))[: self.stream.entities_per_image - len(example.texts)].tolist()
        example.texts += [
            self._text(_phrase(entity, rng), rng, _relative(entity, size), entity.id)
            for entity in (entities[i] for i in drawn)
        ]

    def _graph(self, example: Example, sample: Sample, size: tuple[float, float], rng: np.random.Generator) -> None:
        graph = sample.graph
        if not graph.relations:
            raise BadSample("no_relation")

        def fits(texts: list[str]) -> bool:
            good = self.encoder.fits(texts)
            example.lost += ["triplet_too_long"] * (not good)
            return good

        spoken = graph
        if self.stream.positions_per_text:
            spoken = with_positions(graph, self.stream.positions_per_text, *size, rng)
        told = verbalised(spoken, self.stream.relations_per_text or 0, rng, fits, self.stream.sort_relations)
        if not told:
            raise BadSample("no_triplet_fits", f"no triplet fits into max_tokens={self.stream.max_tokens}")
        tokens = self.encoder.triplets(list(told))
        masked = mask_words(tokens, self.mask_fraction, rng, self.encoder.tokenizer)
        meanings = {triplet_meaning(spoken, relation, self.encoder.ids) for relation in told.values()}
        same = sorted(meanings)  # whatever the order and the direction
        ids = [i for meaning in same for i in (*meaning, -1)]  # -1 is no token: it ends a triplet
        weight = sum(r.confidence for r in told.values()) / len(told) if self.stream.confidence_weights else None
        example.texts = [Text(tokens, token_identity(ids), masked, weight=weight)]
        if self._foils is not None:
            foils = self._foils.of_triplets(spoken, told, rng)
            fitting = (foil for foil in foils if self.encoder.fits(foil.texts))
            example.foils = [(self._plain(self.encoder.triplets(foil.texts)), 0, foil.kind) for foil in fitting]
        if self._units is not None:
            found = self._units.units_of_graph(spoken, self.stream.units_per_image or 0, rng)
            example.units = self._short(found, lambda text: self.encoder.triplets([text]), self.encoder.fits)
        rows: dict[int, int] = {}
        for subject, name, object_, confidence in self._triplets(graph, rng):
            first, second = (rows.setdefault(i, len(rows)) for i in (subject, object_))
            example.triplets.append((first, second, name))
            example.weights += [confidence] * self.stream.confidence_weights
        if self.vocabulary is not None:
            outside = sum(relation.relation not in self.vocabulary for relation in graph.relations)
            example.lost += ["relation_outside_vocabulary"] * outside
        for index in rows:
            entity = graph.entities[index]
            label = self.encoder.caption(entity.label)
            box = _relative(entity, size)
            example.entities.append(Text(label, token_identity(label.ids), box=box, entity=entity.id))

    def _triplets(self, graph: SceneGraph, rng: np.random.Generator) -> list[tuple[int, str, int, float]]:
        """Subject, relation and object of what is classified, and how sure that is."""
        if self.stream.boxes_per_image:
            return [(*triplet, 1.0) for triplet in all_pairs(graph, self.stream.boxes_per_image, rng)]
        chosen = choose_relations(graph, self.stream.relations_per_image or 0, rng, self.vocabulary)
        return [(r.subject, r.relation, r.object, r.confidence) for r in chosen]

    def _short(
        self,
        units: Sequence[Unit],
        encode: Callable[[str], Tokens],
        fits: Callable[[list[str]], bool] = lambda texts: True,
    ) -> list[tuple[Text, Text | None]]:
        """The units of an image as texts; those of equal tokens count as one."""
        kept: dict[int, tuple[Text, Text | None]] = {}
        for unit in units:
            if fits([unit.text]):
                text = self._plain(encode(unit.text))
                foil = None if unit.foil is None or not fits([unit.foil]) else self._plain(encode(unit.foil))
                kept.setdefault(text.identity, (text, foil))
        return list(kept.values())

    def _plain(self, tokens: Tokens) -> Text:
        """A text of which no words are masked."""
        return Text(tokens, token_identity(tokens.ids))

    def _text(
        self,
        text: str,
        rng: np.random.Generator,
        box: tuple[float, float, float, float] | None = None,
        entity: int | None = None,
    ) -> Text:
        tokens = self.encoder.caption(text)
        masked = mask_words(tokens, self.mask_fraction, rng, self.encoder.tokenizer)
        return Text(tokens, token_identity(tokens.ids), masked, box, entity=entity)


def _relative(entity: Entity, size: tuple[float, float]) -> tuple[float, float, float, float] | None:
    """Where an entity is, (cx, cy, w, h) as fractions of an image of this width and height."""
    return None if entity.box is None else entity.box.relative(*size)


def _one_caption(sample: Sample, rng: np.random.Generator) -> str:
    """One of a sample's captions, drawn by their weights where it has some."""
    if sample.caption_weights is None:
        return sample.captions[int(rng.integers(len(sample.captions)))]
    weights = np.asarray(sample.caption_weights)
    return sample.captions[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _phrase(entity: Entity, rng: np.random.Generator) -> str:
    """The label with one attribute in front, if it has any (as the official X-VLM code does)."""
    if not entity.attributes:
        return entity.label
    return f"{entity.attributes[int(rng.integers(len(entity.attributes)))]} {entity.label}"


def collate(kind: Kind, examples: Sequence[Example], pad_id: int, **origin: Any) -> Batch:
    """Put examples together.

    Args:
        kind: Type of the batch.
        examples: At least one, all of one pipeline.
        pad_id: Id of the padding token.
        **origin: Further fields of the batch: stream, objectives, step, skipped.
    """
    common: dict[str, Any] = {
        "images": default_collate([example.image for example in examples]),  # in a worker: into shared memory at once
        "image_ids": torch.tensor([example.image_id for example in examples], dtype=torch.long),
        "pairs": _pairs([example.texts for example in examples], pad_id, boxes=kind == "regions", masked=True),
        "normalisation": examples[0].normalisation,
        "keys": tuple(example.key for example in examples),
        **origin,
    }
    if any(example.foils is not None for example in examples):
        common["foils"] = _foils(examples, pad_id)
    if any(example.units is not None for example in examples):
        common["units"] = _units(examples, pad_id)
    if kind != "graphs":
        return BATCH_TYPES[kind](**common)
    first = np.cumsum([0] + [len(example.entities) for example in examples])
    triplets = [
        (start + s, start + o, relation)
        for start, example in zip(first.tolist(), examples, strict=False)
        for s, o, relation in example.triplets
    ]
    return GraphBatch(
        **common,
        entities=_pairs([example.entities for example in examples], pad_id, boxes=True, masked=False),
        subjects=torch.tensor([s for s, _, _ in triplets], dtype=torch.long),
        objects=torch.tensor([o for _, o, _ in triplets], dtype=torch.long),
        relations=tuple(relation for _, _, relation in triplets),
        weights=None if common["pairs"].weights is None else _weights(w for e in examples for w in e.weights),
    )


def _pairs(texts: Sequence[Sequence[Text]], pad_id: int, boxes: bool, masked: bool) -> Pairs:
    """Texts by image to pairs."""
    flat = [text for of_image in texts for text in of_image]
    masks = [text.masked for text in flat if text.masked is not None] if masked else None
    return Pairs(
        collate_texts([text.tokens for text in flat], pad_id, masks),
        torch.repeat_interleave(torch.tensor([len(of_image) for of_image in texts], dtype=torch.long)),
        torch.tensor([text.identity for text in flat], dtype=torch.long),
        torch.tensor([text.box for text in flat], dtype=torch.float32).reshape(-1, 4) if boxes else None,
        torch.tensor([text.whole for text in flat]) if any(text.whole for text in flat) else None,
        _weights(text.weight for text in flat) if flat and flat[0].weight is not None else None,
    )


def _foils(examples: Sequence[Example], pad_id: int) -> Foils:
    """The foils of all examples, each with the place of its true text among the pairs."""
    first = np.cumsum([0] + [len(example.texts) for example in examples]).tolist()
    of_image = [example.foils or [] for example in examples]
    of = [start + row for start, foils in zip(first, of_image, strict=False) for _, row, _ in foils]
    slots = [
        sum(other == row for _, other, _ in foils[:i]) for foils in of_image for i, (_, row, _) in enumerate(foils)
    ]
    return Foils(
        _pairs([[text for text, _, _ in foils] for foils in of_image], pad_id, boxes=False, masked=False),
        torch.tensor(of, dtype=torch.long),
        torch.tensor(slots, dtype=torch.long),
        torch.tensor([kind_number(kind) for foils in of_image for _, _, kind in foils], dtype=torch.long),
        max(slots, default=0) + 1,
    )


def _units(examples: Sequence[Example], pad_id: int) -> Units:
    """The units of all examples, and their foils."""
    of_image = [example.units or [] for example in examples]
    foils = [[foil for _, foil in units if foil is not None] for units in of_image]
    has_foil = [foil is not None for units in of_image for _, foil in units]
    of = torch.tensor([row for row, has in enumerate(has_foil) if has], dtype=torch.long)
    slots = [slot for units in of_image for slot in range(len(units))]
    return Units(
        _pairs([[text for text, _ in units] for units in of_image], pad_id, boxes=False, masked=False),
        torch.tensor(slots, dtype=torch.long),
        Foils(_pairs(foils, pad_id, boxes=False, masked=False), of, torch.zeros_like(of), torch.zeros_like(of)),
    )


def _weights(values: Iterable[Any]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32)
