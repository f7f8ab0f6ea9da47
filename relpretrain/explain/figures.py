"""Figures beside the pictures: how well maps of words fit the boxes of what the words name, and what chance gives.

Baselines for the same boxes: a constant map, a Gaussian in the middle of the image (deviation: a quarter of its sides),
and the map that the same model makes on the same image for a triplet of another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from relpretrain.explain.maps.boxes import Size, box_scores, energy_inside, overlap, points_inside
from relpretrain.explain.maps.relations import RelationMap
from relpretrain.scene_graph import Box, Relation, SceneGraph
from relpretrain.zeroshot.analysis.means import mean_interval
from relpretrain.zeroshot.analysis.statistics import Interval, compare_paired, share_interval

MODEL, UNIFORM, CENTRE, SHUFFLED = "model", "uniform", "centre", "shuffled"

FIGURES = {
    "subject: energy": "share of the subject's map inside its box",
    "subject: points": "the subject's map is largest at a patch that its box touches",
    "subject: box": "of all boxes of the image, the one that fits the subject's map best overlaps its own by half",
    "object: energy": "share of the object's map inside its box",
    "object: points": "the object's map is largest at a patch that its box touches",
    "object: box": "of all boxes of the image, the one that fits the object's map best overlaps its own by half",
    "predicate: energy": "share of the predicate's map inside both boxes together",
    "predicate: points": "the predicate's map is largest at a patch that one of the two boxes touches",
    "apart": "energy of either map in its own box less that in the other's, mean of the two: 0 for equal maps",
}
"""What is measured, with what it means."""

_MEANT = 0.5  # intersection over union from which a box is taken for another one


class Maps(NamedTuple):
    """Maps of the parts of one triplet, each (rows, columns)."""

    subject: Tensor
    predicate: Tensor
    object: Tensor

    @classmethod
    def of(cls, found: RelationMap) -> Maps:
        """Those that a model makes."""
        return cls(found.subject, found.predicate, found.object)


class Look(NamedTuple):
    """One figure of one triplet: by the model's maps and by each baseline's.

    Args:
        image: What the image is called, by which intervals are clustered.
        figure: Its name in `FIGURES`.
        values: By whose map it is; without `SHUFFLED` where there was no other triplet.
    """

    image: str
    figure: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Figure:
    """One figure of many triplets.

    Args:
        name: Its name in `FIGURES`.
        n: Number of triplets.
        images: Number of images.
        model: Mean by the model's maps, with its 95 % interval.
        baselines: Mean by each baseline's maps.
        gain: How much more the model's maps have than those of shuffled captions, where there are such, likewise.
    """

    name: str
    n: int
    images: int
    model: Interval
    baselines: Mapping[str, float]
    gain: Interval

    @property
    def meaning(self) -> str:
        """What is measured."""
        return FIGURES[self.name]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON; bounds that there are none of are left out."""
        return {
            "figure": self.name,
            "meaning": self.meaning,
            "n": self.n,
            "images": self.images,
            "model": _plain(self.model),
            **{name: value for name, value in self.baselines.items() if value == value},
            "more than shuffled": _plain(self.gain),
        }


def measure(
    found: Maps, shuffled: Maps | None, graph: SceneGraph, relation: Relation, size: Size, image: str
) -> list[Look]:
    """The figures of one triplet.

    Args:
        found: The model's maps of it.
        shuffled: Its maps of another image's triplet on this image; None where there is none.
        graph: The image's graph.
        relation: The triplet, of entities with boxes.
        size: Width and height of the image in pixels.
        image: What the image is called.

    Raises:
        ValueError: If one of the two has no box.
    """
    ends = [graph.entities[end] for end in (relation.subject, relation.object)]
    boxes = [entity.box for entity in ends]
    if boxes[0] is None or boxes[1] is None:
        name = ends[0].label if boxes[0] is None else ends[1].label
        raise ValueError(f"The entity {name!r} has no box, against which its map could be measured.")
    all_boxes = list(dict.fromkeys(entity.box for entity in graph.entities if entity.box is not None))
    grid = (int(found.subject.shape[0]), int(found.subject.shape[1]))
    middle = centre_map(grid)
    flat = torch.ones(grid)
    by = {MODEL: found, UNIFORM: Maps(flat, flat, flat), CENTRE: Maps(middle, middle, middle)}
    if shuffled is not None:
        by[SHUFFLED] = shuffled
    values = {whose: _values(maps, boxes[0], boxes[1], all_boxes, size) for whose, maps in by.items()}
    return [Look(image, name, {whose: own[name] for whose, own in values.items()}) for name in FIGURES]


def summarise(looks: Iterable[Look]) -> list[Figure]:
    """The figures of many triplets, in the order of `FIGURES`; those of none are left out."""
    of: dict[str, list[Look]] = {name: [] for name in FIGURES}
    for look in looks:
        of[look.figure].append(look)
    return [_figure(name, own) for name, own in of.items() if own]


def centre_map(grid: tuple[int, int]) -> Tensor:
    """A Gaussian in the middle of the image, (rows, columns)."""
    down, across = (torch.exp(-0.5 * ((torch.arange(n) + 0.5) / n - 0.5).div(0.25) ** 2) for n in grid)
    return down[:, None] * across


def _values(maps: Maps, subject: Box, object_: Box, boxes: Sequence[Box], size: Size) -> dict[str, float]:
    values: dict[str, float] = {}
    for role, found, own in (("subject", maps.subject, subject), ("object", maps.object, object_)):
        values[f"{role}: energy"] = energy_inside(found, [own], size)
        values[f"{role}: points"] = points_inside(found, [own], size)
        best = boxes[int(box_scores(found, boxes, size).argmax())]
        values[f"{role}: box"] = float(float(found.max()) > 0 and overlap(best, own) >= _MEANT)
    values["predicate: energy"] = energy_inside(maps.predicate, [subject, object_], size)
    values["predicate: points"] = points_inside(maps.predicate, [subject, object_], size)
    own_energy = values["subject: energy"] + values["object: energy"]
    other = energy_inside(maps.subject, [object_], size) + energy_inside(maps.object, [subject], size)
    values["apart"] = (own_energy - other) / 2
    return values


def _figure(name: str, looks: Sequence[Look]) -> Figure:
    images = [look.image for look in looks]
    own = [look.values[MODEL] for look in looks]
    model = share_interval(own, images) if _are_shares(own) else mean_interval(own, images)
    baselines = {}
    for whose in (UNIFORM, CENTRE, SHUFFLED):
        values = [look.values[whose] for look in looks if whose in look.values]
        baselines[whose] = sum(values) / len(values) if values else float("nan")
    gain = _gain([look for look in looks if SHUFFLED in look.values])
    return Figure(name, len(looks), len(set(images)), model, baselines, gain)


def _gain(looks: Sequence[Look]) -> Interval:
    """How much more the model's maps have than those of other triplets."""
    images = [look.image for look in looks]
    model, other = ([look.values[whose] for look in looks] for whose in (MODEL, SHUFFLED))
    if looks and _are_shares([*model, *other]):
        paired = compare_paired(other, model, clusters=images)
        return Interval(paired.difference, paired.low, paired.high)
    return mean_interval([a - b for a, b in zip(model, other, strict=True)], images)


def _are_shares(values: Sequence[float]) -> bool:
    """Whether each value says right (1) or wrong (0)."""
    return all(value in (0, 1) for value in values)


def _plain(found: Interval) -> dict[str, Any]:
    if found.value != found.value:
        return {}
    bounds = {"interval": [found.low, found.high]} if found.low == found.low else {}
    return {"value": found.value, **bounds}
