"""The data section of a recipe: streams and the stopping rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from relpretrain.kinds import Kind, Need
from relpretrain.scene_graph.foils import Synonyms

Stop = Literal["max_steps", "first_exhausted", "all_exhausted"]
"""When a run ends: at the trainer's `max_steps` alone, or earlier: before any dataset begins its second epoch, or once
all datasets have completed their first. The names are those of `datasets.interleave_datasets`."""


@dataclass
class Stream:
    """A source of batches of one type.

    Args:
        kind: Type of its batches: captions, regions or graphs.
        datasets: Shards by dataset name: a path, glob, brace pattern, folder, address, or a list of these. A batch is
            of one dataset, drawn by `dataset_ratios`.
        batch_size: Images in a step's global batch, that of all processes together.
        objectives: Names of the objectives that consume the batches.
        ratio: How often the stream is drawn, relative to the others.
        max_tokens: Maximum length of a text, special tokens included.
        entities_per_image: Entities drawn from an image, each with its box (regions).
        image_rows: Whether an image that has captions puts one of them in the place of an entity, with the whole image
            for its box, as the official X-VLM code does (regions). VMA learns from it, BOX does not.
        relations_per_text: Triplets verbalised into one text, K (graphs, VSG); None for what the stream's objectives
            ask for (`VSG.max_relations`), 8 without one that does.
        relations_per_image: Triplets drawn from an image for classification (graphs, MRC); None for what the stream's
            objectives ask for (`MRC.relations_per_image`), 2 without one that does.
        boxes_per_image: Entities drawn from an image, among which every ordered pair is looked at, with all its
            relations or as one without any (graphs, RelationTagger); in place of `relations_per_image`. None for what
            the stream's objectives ask for (`RelationTagger.boxes_per_image`), 0 (drawn triplets) without one.
        boxed: Whether only graphs are drawn with a relation between two entities that have boxes (graphs); None for
            what the stream's objectives ask for: yes where all of them look at pairs of boxes, as MRC does.
        min_confidence: Relations of less confidence are left out, and with them samples that have no other (graphs).
        confidence_weights: Whether VSG weighs a text, and MRC a triplet, by its confidence (graphs); no other objective
            weighs anything by it.
        positions_per_text: Relations that boxes tell ("left of", "inside", "larger than") which join those that a text
            is drawn from (graphs, VSG).
        blocks_per_text: Sentences at the end of a text that say in which block of a 3 x 3 grid a thing is, as PTP does:
            "The block 4 has a dog" (captions of samples with boxes, graphs).
        mirrored: Probability with which an image whose text tells left from right comes as its mirror image as well,
            with the mirrored text: a further row of the batch, whose image is a hard negative of the first text and
            whose text is one of the first image (graphs, VSG). Each costs as much as an image more.
        foils_per_text: Foils made of a text, each of another kind (captions, graphs); None for what the stream's
            objectives ask for (`TextFoil.foils_per_text`), 0 without one that does.
        foil_kinds: What foils may change, of `relpretrain.scene_graph.foils.KINDS`; None likewise.
        foil_names: Names of things that may stand in the place of others in foils; None for common ones, and those of
            the graph itself. Give the data's own where it has few.
        foil_words: Relations and adjectives that may stand in the place of others in foils of triplets (graphs); None
            for all that contradict them. Give the data's own where it has few: a word that only foils have gives them
            away without a look at the image.
        foil_synonyms: What knows which words may be said of one thing: "table" for the bundled tables, "wordnet" for
            WordNet as well, through nltk; "auto" for WordNet where its data is on the machine. Name one where machines
            of a run differ.
        foil_tagger: What finds parts of speech for foils of the kind `swap`: "lexicon", or "spacy" as NegCLIP has it
            (captions).
        units_per_image: Short texts made of an image, with a foil each: single triplets (graphs), or sentences and
            captions (captions); None for what the stream's objectives ask for (`RelationUnits.units_per_image`), 0
            without one that does.
        unit_kinds: What the foils of these may change; None likewise.
        sort_relations: Whether the triplets of a text are sorted by where their subjects stand, as the paper does, or
            stand in random order (graphs, VSG).
        min_scale: Smallest fraction of the image's area that a random crop keeps; 1 switches cropping off.
        flip: Probability of a horizontal flip, applied only where it leaves every text true.
        color: Whether colours are jittered; "randaugment" for the random operations of the official ALBEF and X-VLM
            code instead, which on captions also shear, shift and turn.
        dataset_ratios: How often each dataset is drawn: "uniform", "size" (by what it holds for the stream, as if all
            were one dataset), or a number for each by name, relative to the others.
        replacement: Whether samples are drawn with replacement, instead of each once per epoch.
        neighbours: How many neighbouring samples of a shard are drawn one after the other. Where neighbours are alike,
            as the frames of a video are, a batch then holds hard negatives; not with `replacement`.
    """

    kind: Kind
    datasets: dict[str, str | list[str]]
    batch_size: int
    objectives: list[str] = field(default_factory=list)
    ratio: float = 1.0
    max_tokens: int = 36
    entities_per_image: int = 4
    image_rows: bool = False
    relations_per_text: int | None = None
    relations_per_image: int | None = None
    boxes_per_image: int | None = None
    boxed: bool | None = None
    min_confidence: float = 0.0
    confidence_weights: bool = False
    positions_per_text: int = 0
    blocks_per_text: int = 0
    mirrored: float = 0.0
    foils_per_text: int | None = None
    foil_kinds: list[str] | None = None
    foil_names: list[str] | None = None
    foil_words: list[str] | None = None
    foil_synonyms: Synonyms = "auto"
    foil_tagger: Literal["lexicon", "spacy"] = "lexicon"
    units_per_image: int | None = None
    unit_kinds: list[str] | None = None
    sort_relations: bool = True
    min_scale: float = 0.5
    flip: float = 0.5
    color: bool | Literal["randaugment"] = True
    dataset_ratios: Literal["uniform", "size"] | dict[str, float] = "uniform"
    replacement: bool = False
    neighbours: int = 1

    @property
    def need(self) -> Need:
        """What a sample must have to be drawn."""
        return "boxed_graphs" if self.kind == "graphs" and self.boxed else self.kind

    @property
    def reads_graph(self) -> bool:
        """Whether a sample's graph is looked at: of captions only for what is made of it."""
        return self.kind != "captions" or bool(self.blocks_per_text) or self.asks_what_is_true

    @property
    def asks_what_is_true(self) -> bool:
        """Whether something is made of a sample that must be false of its image."""
        return bool(self.foils_per_text or self.units_per_image or self.mirrored)


def with_defaults(stream: Stream, objectives: Mapping[str, Any]) -> Stream:
    """The stream with what it leaves open, such as `relations_per_text`, filled in from its objectives.

    Args:
        stream: The stream as written in the recipe.
        objectives: The model's objectives by name.
    """
    consumers = [objectives[name] for name in stream.objectives if name in objectives]

    def asked(attribute: str, default: int) -> int:
        return max((getattr(o, attribute) for o in consumers if hasattr(o, attribute)), default=default)

    per_text, per_image = stream.relations_per_text, stream.relations_per_image

    def kinds(attribute: str) -> list[str]:
        return list(dict.fromkeys(kind for o in consumers for kind in getattr(o, attribute, ())))

    return replace(
        stream,
        boxed=bool(consumers) and all(getattr(o, "needs_boxes", False) for o in consumers)
        if stream.boxed is None
        else stream.boxed,
        relations_per_text=asked("max_relations", 8) if per_text is None else per_text,
        relations_per_image=asked("relations_per_image", 2) if per_image is None else per_image,
        boxes_per_image=asked("boxes_per_image", 0) if stream.boxes_per_image is None else stream.boxes_per_image,
        foils_per_text=asked("foils_per_text", 0) if stream.foils_per_text is None else stream.foils_per_text,
        foil_kinds=kinds("foil_kinds") if stream.foil_kinds is None else stream.foil_kinds,
        units_per_image=asked("units_per_image", 0) if stream.units_per_image is None else stream.units_per_image,
        unit_kinds=kinds("unit_kinds") if stream.unit_kinds is None else stream.unit_kinds,
    )
