"""From augmented samples to the texts of a batch: drawn, tokenised, words masked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from relpretrain.data.pipeline.foils import FoilWriter, TripletFoil, Unit
from relpretrain.data.pipeline.sample import Sample
from relpretrain.data.pipeline.text import Masked, TextEncoder, Tokens, mask_words, token_identity
from relpretrain.data.sampling.stream import Stream, with_defaults
from relpretrain.errors import BadSample
from relpretrain.identity import number_of
from relpretrain.scene_graph import (
    Entity,
    Relation,
    RelationVocabulary,
    SceneGraph,
    all_pairs,
    choose_relations,
    claim_meaning,
    triplet_meaning,
    verbalised,
)
from relpretrain.scene_graph.blocks import block_text, draw_blocks
from relpretrain.scene_graph.foils import GRAPH_KINDS, WORDS, Mirrored, Statement, build_tagger, mirrored, word_rules
from relpretrain.scene_graph.positions import with_positions
from relpretrain.types import Normalisation


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
        mirrored: The mirror image with the mirrored text, a row of its own behind all others; None without.
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
    mirrored: Example | None = None
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

    Raises:
        ConfigError: If the stream asks for WordNet or spaCy, which is not on this machine.
    """

    stream: Stream
    encoder: TextEncoder
    mask_fraction: float = 0.25
    vocabulary: RelationVocabulary | None = None

    def __post_init__(self) -> None:
        self.stream = with_defaults(self.stream, {})
        stream, self._foils, self._units = self.stream, None, None
        per_text, per_image = stream.foils_per_text or 0, stream.units_per_image or 0
        self._words = word_rules(stream.foil_synonyms) if stream.asks_what_is_true else WORDS
        if per_text or per_image:
            tagger = build_tagger(stream.foil_tagger) if stream.kind == "captions" else None
            instead = stream.foil_names, stream.foil_words
            made = FoilWriter(per_text, stream.foil_kinds or GRAPH_KINDS, *instead, self._words, tagger)
            self._foils = made if per_text else None
            self._units = replace(made, per_text=1, kinds=stream.unit_kinds or GRAPH_KINDS) if per_image else None

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
        text = drawn_caption = _one_caption(sample, rng)
        drawn = draw_blocks(sample.graph, self.stream.blocks_per_text, rng)
        ending = "".join(f". {block_text(sample.graph, index, *size)}" for index in drawn) + "." * bool(drawn)
        text = text.rstrip(". ") if ending else text
        example.texts = [self._text(text, rng, ending=ending)]
        if self._foils is not None:
            others = [caption for caption in sample.captions if caption != drawn_caption]
            foils = self._foils.of_caption(text, _known(sample.graph, sample), rng, others)
            plain = [(self._plain(self.encoder.caption(foil, ending)), kind) for foil, kind in foils]
            example.foils = self._distinct(example.texts[0], plain)
        if self._units is not None:
            count = self.stream.units_per_image or 0
            found = self._units.units_of_captions(sample.captions, _known(sample.graph, sample), count, rng)
            example.units = self._short(found, lambda text, _: self._plain(self.encoder.caption(text)))

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
        drawn = draw_blocks(graph, self.stream.blocks_per_text, rng)
        blocks = [block_text(graph, index, *size) for index in drawn]
        if blocks and not self.encoder.fits([*told, *blocks]):
            drawn, blocks = [], []
        weight = sum(r.confidence for r in told.values()) / len(told) if self.stream.confidence_weights else None
        example.texts = [self._told(spoken, told, blocks, weight, rng)]
        if self._foils is not None:
            meanings, made = self._meanings(spoken, told), self._foils.of_triplets(_known(spoken, sample), told, rng)
            example.foils = self._distinct(
                example.texts[0],
                [
                    (self._claimed([*foil.texts, *blocks], self._with(meanings, foil), blocks), foil.kind)
                    for foil in made
                    if self.encoder.fits([*foil.texts, *blocks])
                ],
            )
        if self._units is not None:
            found = self._units.units_of_graph(_known(spoken, sample), self.stream.units_per_image or 0, rng)
            example.units = self._short(found, self._claim)
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
        if self.stream.mirrored and rng.random() < self.stream.mirrored:
            known, sort = _known(spoken, sample), self.stream.sort_relations
            self._mirror(example, sample, mirrored(known, told, size[0], sort, words=self._words), drawn, rng)

    def _told(
        self,
        graph: SceneGraph,
        told: Mapping[str, Relation],
        blocks: Sequence[str],
        weight: float | None,
        rng: np.random.Generator,
    ) -> Text:
        """A verbalised graph as a text, with sentences of blocks at its end."""
        text = self._claimed([*told, *blocks], self._meanings(graph, told), blocks)
        masked = mask_words(text.tokens, self.mask_fraction, rng, self.encoder.tokenizer)
        return text._replace(masked=masked, weight=weight)

    def _meanings(self, graph: SceneGraph, told: Mapping[str, Relation]) -> list[tuple[int, ...]]:
        """What each triplet says, from whichever side it is told, as token ids."""
        return [triplet_meaning(graph, relation, self.encoder.ids) for relation in told.values()]

    def _with(self, meanings: Sequence[tuple[int, ...]], foil: TripletFoil) -> list[tuple[int, ...]]:
        """The same with a foil in the place of one of them."""
        return [*meanings[: foil.place], claim_meaning(foil.claim, self.encoder.ids), *meanings[foil.place + 1 :]]

    def _claimed(self, texts: Sequence[str], meanings: Iterable[tuple[int, ...]], blocks: Sequence[str] = ()) -> Text:
        """Triplets as a text, true or false, that has one identity in whatever order and from whichever side told."""
        same = sorted({*meanings, *(self.encoder.ids(text) for text in blocks)})
        ids = [i for meaning in same for i in (*meaning, -1)]  # -1 is no token: it ends a triplet
        return Text(self.encoder.triplets(texts), token_identity(ids))

    def _claim(self, text: str, claim: Statement | None) -> Text | None:
        """A single triplet as a text; None if it does not fit."""
        if not self.encoder.fits([text]):
            return None
        assert claim is not None  # units of graphs are triplets
        return self._claimed([text], [claim_meaning(claim, self.encoder.ids)])

    def _mirror(
        self, example: Example, sample: Sample, other: Mirrored | None, blocks: list[int], rng: np.random.Generator
    ) -> None:
        """Give an example its mirror image, if that has another text and there is room for it.

        It is an image of its own: the two are negatives of each other.
        """
        if other is None:
            return
        height, width = example.image.shape[1:]
        sentences = [block_text(other.graph, index, float(width), float(height)) for index in blocks]
        if self.encoder.fits([*other.told, *sentences]):
            text = self._told(other.graph, other.told, sentences, example.texts[0].weight, rng)
            if text.identity != example.texts[0].identity:  # words that the tokenizer does not know read alike
                image_id = number_of(sample.source, sample.image_id, "mirrored")
                example.mirrored = Example(example.image.flip(2), image_id, sample.key, [text])

    def _triplets(self, graph: SceneGraph, rng: np.random.Generator) -> list[tuple[int, str, int, float]]:
        """Subject, relation and object of what is classified, and how sure that is."""
        if self.stream.boxes_per_image:
            return [(*triplet, 1.0) for triplet in all_pairs(graph, self.stream.boxes_per_image, rng)]
        chosen = choose_relations(graph, self.stream.relations_per_image or 0, rng, self.vocabulary)
        return [(r.subject, r.relation, r.object, r.confidence) for r in chosen]

    def _short(
        self,
        units: Sequence[Unit],
        written: Callable[[str, Statement | None], Text | None],
    ) -> list[tuple[Text, Text | None]]:
        """The units of an image as texts, those that fit; those that say the same count as one."""
        kept: dict[int, tuple[Text, Text | None]] = {}
        for unit in units:
            if (text := written(unit.text, unit.claim)) is not None:
                foil = None if unit.foil is None else written(unit.foil, unit.foil_claim)
                foil = None if foil is None or foil.identity == text.identity else foil
                kept.setdefault(text.identity, (text, foil))
        return list(kept.values())

    def _distinct(self, text: Text, foils: Sequence[tuple[Text, str]]) -> list[tuple[Text, int, str]]:
        """The foils of the first text: none twice, and none with its tokens, for the difference was cut off."""
        kept: dict[tuple[int, ...], tuple[Text, int, str]] = {}
        for foil, kind in foils:
            if foil.tokens.ids != text.tokens.ids:
                kept.setdefault(tuple(foil.tokens.ids), (foil, 0, kind))
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
        ending: str = "",
    ) -> Text:
        tokens = self.encoder.caption(text, ending)
        masked = mask_words(tokens, self.mask_fraction, rng, self.encoder.tokenizer)
        return Text(tokens, token_identity(tokens.ids), masked, box, entity=entity)


def _relative(entity: Entity, size: tuple[float, float]) -> tuple[float, float, float, float] | None:
    """Where an entity is, (cx, cy, w, h) as fractions of an image of this width and height."""
    return None if entity.box is None else entity.box.relative(*size)


def _known(graph: SceneGraph, sample: Sample) -> SceneGraph:
    """The graph, and things that are in the picture with too little to be told of: nothing of them is called false."""
    return SceneGraph((*graph.entities, *sample.cut), graph.relations) if sample.cut else graph


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
