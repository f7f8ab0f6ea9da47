"""What the page shows of an image: rows of panels, each a map over the image with boxes and a line below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from relpretrain.explain.figures import MODEL, UNIFORM, Look
from relpretrain.explain.maps.contrast import Contrast
from relpretrain.explain.maps.embeddings import EmbeddingMap
from relpretrain.explain.maps.mrc import MRCMap
from relpretrain.explain.maps.spans import ROLES
from relpretrain.explain.maps.texts import TextMap
from relpretrain.explain.survey import Explained, Triplet
from relpretrain.scene_graph import Box
from relpretrain.showing import unbroken

_PREDICATES = 3  # of MRC's probabilities


@dataclass(frozen=True)
class Panel:
    """A map over the image.

    Args:
        title: What it is the map of.
        map: (rows, columns).
        role: "subject", "predicate" or "object", whose colour it has; "" for none.
        boxes: Boxes to draw by role, in pixels of the image.
        note: The line below.
        signed: Whether values below 0 mean the opposite.
    """

    title: str
    map: Tensor
    role: str = ""
    boxes: Mapping[str, Box] = field(default_factory=dict)
    note: str = ""
    signed: bool = False


@dataclass(frozen=True)
class Row:
    """Panels side by side.

    Args:
        title: Above them, pieces of text by role; "" for no role.
        note: Below the title.
        panels: The panels.
        folded: A line that opens the row; "" where it is open.
    """

    title: Sequence[tuple[str, str]]
    note: str
    panels: Sequence[Panel]
    folded: str = ""


@dataclass(frozen=True)
class Card:
    """All about an image.

    Args:
        title: What the image is called.
        image: The image.
        boxes: Entities of its graph with boxes, by what they are called.
        notes: Such as its captions.
        rows: The maps.
    """

    title: str
    image: Image.Image
    boxes: Sequence[tuple[str, Box]] = ()
    notes: Sequence[str] = ()
    rows: Sequence[Row] = ()


def card_of_sample(explained: Explained) -> Card:
    """Subject, predicate and object of an image's triplets, against their foils, and by MRC."""
    sample = explained.sample
    boxes = [(entity.label, entity.box) for entity in sample.graph.entities if entity.box is not None]
    rows = [_triplet_row(explained, triplet) for triplet in explained.triplets]
    return Card(sample.name, explained.image, boxes, sample.captions, rows)


def text_rows(found: TextMap, embedding: EmbeddingMap, contrast: Contrast | None = None) -> list[Row]:
    """A text as a whole, by both scores, against its foil, and word by word."""
    cosine = f"cosine {embedding.cosine:.3f} (divided by the temperature: {embedding.score:+.2f})"
    panels = [
        Panel("whole text", found.sentence, note=_match(found)),
        Panel("embeddings", embedding.map, note=cosine),
    ]
    if contrast is not None:
        panels.append(contrast_panel(contrast))
    words = [Panel(word.text, found.over(word.places)) for word in found.words]
    head = Row([(found.text, "")], "" if contrast is None else f"Foil: {contrast.foil.text}", panels)
    return [head, Row([], "", words, folded=f"Word by word ({len(words)})")] if words else [head]


def contrast_panel(contrast: Contrast, boxes: Mapping[str, Box] | None = None) -> Panel:
    """Evidence for a text less evidence for its foil."""
    by = contrast.preference
    said = "prefers the text" if by > 0 else "prefers the foil" if by < 0 else "is undecided"
    note = f"{said}: {_match(contrast.true)}, foil {_match(contrast.foil)}"
    return Panel("against the foil", contrast.difference, "", boxes or {}, note, signed=True)


def _triplet_row(explained: Explained, triplet: Triplet) -> Row:
    sample, relation, found = explained.sample, triplet.found.relation, triplet.found
    names = sample.triplet(relation)
    ends = {"subject": sample.graph.entities[relation.subject], "object": sample.graph.entities[relation.object]}
    boxes = {role: entity.box for role, entity in ends.items() if entity.box is not None}
    below = {role: _inside(f"{role}: energy", triplet.looks) for role in ROLES}
    panels = [
        Panel(names[0], found.subject, "subject", {"subject": boxes["subject"]}, below["subject"]),
        Panel(names[1], found.predicate, "predicate", boxes, below["predicate"]),
        Panel(names[2], found.object, "object", {"object": boxes["object"]}, below["object"]),
    ]
    note = f"The text as a whole: {_match(found.words)}."
    if triplet.contrast is not None:
        panels.append(contrast_panel(triplet.contrast, boxes))
        note += f" Foil: {triplet.contrast.foil.text}."
    if triplet.mrc is not None:
        panels += _mrc_panels(names, boxes, triplet.mrc)
        note += f" MRC: {_likeliest(triplet.mrc)}."
    return Row(list(zip(names, ROLES, strict=True)), note, panels)


def _mrc_panels(names: tuple[str, str, str], boxes: Mapping[str, Box], mrc: MRCMap) -> list[Panel]:
    note = f"for {mrc.predicate}"
    return [
        Panel(f"MRC: {names[0]}", mrc.subject, "subject", {"subject": boxes["subject"]}, note),
        Panel(f"MRC: {names[2]}", mrc.object, "object", {"object": boxes["object"]}, note),
    ]


def _likeliest(mrc: MRCMap) -> str:
    few = list(mrc.probabilities.items())[:_PREDICATES]
    return ", ".join(f"{name} {_percent(value)}" for name, value in few)


def _inside(figure: str, looks: Sequence[Look]) -> str:
    """How much of a map lies inside, beside the share of the area."""
    values = next(look.values for look in looks if look.figure == figure)
    where = "both boxes, which cover" if figure.startswith("predicate") else "its box, which covers"
    return f"{_percent(values[MODEL])} in {where} {_percent(values[UNIFORM])}"


def _match(found: TextMap) -> str:
    """What the matching head says of a text: as Python's `score` does, and by the logit that maps explain."""
    return f"{unbroken(f'match {found.probability:.3f}')} {unbroken(f'(logit {found.score:+.2f})')}"


def _percent(share: float) -> str:
    """A share in words; of a small one not 0."""
    digits = 0 if share >= 0.1 or share == 0 else 1
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"
