"""Maps of the triplets of many images: the figures of all, and what a page shows of some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from relpretrain.explain.figures import Figure, Look, Maps, measure, summarise
from relpretrain.explain.maps.contrast import Contrast, contrast_map
from relpretrain.explain.maps.mrc import MRCMap, mrc_head, mrc_maps
from relpretrain.explain.maps.relations import RelationMap, relation_maps
from relpretrain.explain.maps.spans import triplet_spans
from relpretrain.explain.maps.watching import Model
from relpretrain.explain.samples import Sample, another_triplet
from relpretrain.explain.sanity import agreement
from relpretrain.progress import track
from relpretrain.scene_graph import Entity, Relation, SceneGraph
from relpretrain.scene_graph.foils import triplet_foils

_FOILS = ("rel_replace", "swap_so", "subj_replace")
"""Kinds of foils, the first that a triplet has: what relations are about comes first."""
_CHECKED = 8  # images for which the top layer is made random


@dataclass(frozen=True)
class Triplet:
    """All that is shown of a triplet.

    Args:
        found: Maps of its words.
        looks: Its figures.
        contrast: Its foil, and the map against it; None where its graph gives no certain one.
        mrc: What MRC makes of it; None without MRC.
    """

    found: RelationMap
    looks: Sequence[Look]
    contrast: Contrast | None
    mrc: MRCMap | None


@dataclass(frozen=True)
class Explained:
    """A sample with its image, and what is shown of its triplets."""

    sample: Sample
    image: Image.Image
    triplets: Sequence[Triplet]


@dataclass
class Survey:
    """What many images say.

    Args:
        figures: Means over all triplets.
        shown: Samples for a page.
        agreements: Correlations of maps with those of a random top layer, see `sanity.agreement`.
        left_out: Triplets that the model cannot read, and why.
    """

    figures: list[Figure] = field(default_factory=list)
    shown: list[Explained] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def survey(model: Model, samples: Sequence[Sample], shown: int, layer: int | None = None, seed: int = 0) -> Survey:
    """Look at the triplets of samples.

    Args:
        model: What `relpretrain.load` returned.
        samples: What `samples.draw` gave.
        shown: How many of them are kept for a page.
        layer: The layer that is watched, see `maps.watching.fusion_layer`.
        seed: Of the random weights of the check.
    """
    result = Survey()
    looks: list[Look] = []
    for number, sample in enumerate(track(samples, len(samples), "images")):
        image = sample.image()
        readable = _readable(model, image, sample, layer, result.left_out)
        own = _measured(model, image, samples, number, readable, layer)
        looks += [look for some in own for look in some]
        if number < _CHECKED and readable:
            texts = [found.words.text for found in readable]
            values = agreement(model, image, texts, layer, seed)
            result.agreements += [value for value in values if not math.isnan(value)]
        if number < shown:
            result.shown.append(Explained(sample, image, _triplets(model, image, sample, readable, own, layer)))
    result.figures = summarise(looks)
    return result


def _readable(
    model: Model, image: Image.Image, sample: Sample, layer: int | None, left_out: list[str]
) -> list[RelationMap]:
    """The maps of a sample's triplets, one pass for all that are short enough."""
    fitting: list[Relation] = []
    for relation in sample.relations:
        try:
            triplet_spans(*sample.triplet(relation), model.preprocess.encoder)
            fitting.append(relation)
        except ValueError as error:
            left_out.append(f"{sample.name}: {error}")
    return relation_maps(model, image, sample.graph, fitting, layer)


def _measured(
    model: Model, image: Image.Image, samples: Sequence[Sample], number: int, found: Sequence[RelationMap],
    layer: int | None,
) -> list[list[Look]]:  # fmt: skip
    """The figures of each triplet, beside the map of another image's triplet on this image."""
    sample = samples[number]
    others = [another_triplet(samples, number, own.relation) for own in found]
    strange = [other for other in others if other is not None]
    entities = tuple(Entity(name) for subject, _, object_ in strange for name in (subject, object_))
    graph = SceneGraph(entities, tuple(Relation(2 * i, name, 2 * i + 1) for i, (_, name, _) in enumerate(strange)))
    try:
        maps = iter(relation_maps(model, image, graph, layer=layer))
    except ValueError:  # one of them is too long: without this baseline for once
        maps, others = iter(()), [None for _ in found]
    shuffled = [None if other is None else Maps.of(next(maps)) for other in others]
    return [
        measure(Maps.of(own), other, sample.graph, own.relation, sample.size, sample.name)
        for own, other in zip(found, shuffled, strict=True)
    ]


def _triplets(
    model: Model, image: Image.Image, sample: Sample, found: Sequence[RelationMap], looks: Sequence[Sequence[Look]],
    layer: int | None,
) -> list[Triplet]:  # fmt: skip
    made = []
    for own, figures in zip(found, looks, strict=True):
        foils = triplet_foils(sample.graph, own.relation, _FOILS)
        foil = next((foils[kind].text for kind in _FOILS if kind in foils), None)
        contrast = None if foil is None else contrast_map(model, image, own.words.text, foil, layer)
        mrc = None
        if mrc_head(model) is not None:
            (mrc,) = mrc_maps(model, image, sample.graph, [own.relation], layer=layer)
        made.append(Triplet(own, figures, contrast, mrc))
    return made
