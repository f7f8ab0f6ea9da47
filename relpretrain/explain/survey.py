"""Maps of the triplets of many images: the figures of all, and what a page shows of some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from relpretrain.explain.figures import Figure, Look, Maps, measure, summarise
from relpretrain.explain.maps.contrast import Contrast, differs
from relpretrain.explain.maps.mrc import MRCMap, mrc_head, mrc_maps
from relpretrain.explain.maps.relations import RelationMap, relation_maps
from relpretrain.explain.maps.spans import triplet_spans
from relpretrain.explain.maps.texts import text_maps
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
        shown: How many of them are kept for a page, of those with a triplet that the model can read.
        layer: The layer that is watched, see `maps.watching.fusion_layer`.
        seed: Of the random weights of the check.
    """
    result = Survey()
    looks: list[Look] = []
    for number, sample in enumerate(track(samples, len(samples), "images")):
        image = sample.image()
        found, own = _measured(model, image, samples, number, layer, result.left_out)
        looks += [look for some in own for look in some]
        if number < _CHECKED:
            values = agreement(model, image, [one.words.text for one in found], layer, seed)
            result.agreements += [value for value in values if not math.isnan(value)]
        if found and len(result.shown) < shown:
            result.shown.append(Explained(sample, image, _triplets(model, image, sample, found, own, layer)))
    result.figures = summarise(looks)
    return result


def _measured(
    model: Model, image: Image.Image, samples: Sequence[Sample], number: int, layer: int | None, left_out: list[str]
) -> tuple[list[RelationMap], list[list[Look]]]:
    """The maps of a sample's triplets, and the figures of each beside the map of another image's triplet."""
    sample = samples[number]
    own = [relation for relation in sample.relations if _fits(model, sample.triplet(relation), sample, left_out)]
    others = [another_triplet(samples, number, relation) for relation in own]
    others = [other if other is not None and _fits(model, other) else None for other in others]
    # All of them as one graph, so that the image is encoded once: the others' entities come last.
    entities, strange = list(sample.graph.entities), []
    for other in others:
        if other is not None:
            strange.append(Relation(len(entities), other[1], len(entities) + 1))
            entities += [Entity(other[0]), Entity(other[2])]
    graph = SceneGraph(tuple(entities), (*own, *strange))
    maps = relation_maps(model, image, graph, layer=layer)
    found, rest = maps[: len(own)], iter(maps[len(own) :])
    shuffled = [None if other is None else Maps.of(next(rest)) for other in others]
    looks = [
        measure(Maps.of(one), other, sample.graph, one.relation, sample.size, sample.name)
        for one, other in zip(found, shuffled, strict=True)
    ]
    return found, looks


def _fits(
    model: Model, triplet: tuple[str, str, str], sample: Sample | None = None, left_out: list[str] | None = None
) -> bool:
    """Whether the model can read a triplet; if not, and it is a sample's own, why."""
    try:
        triplet_spans(*triplet, model.preprocess.encoder)
    except ValueError as error:
        if sample is not None and left_out is not None:
            left_out.append(f"{sample.name}: {error}")
        return False
    return True


def _triplets(
    model: Model, image: Image.Image, sample: Sample, found: Sequence[RelationMap], looks: Sequence[Sequence[Look]],
    layer: int | None,
) -> list[Triplet]:  # fmt: skip
    foils = []
    for one in found:
        kinds = triplet_foils(sample.graph, one.relation, _FOILS)
        text = next((kinds[kind].text for kind in _FOILS if kind in kinds), None)
        foils.append(text if text is not None and differs(model, one.words.text, text) else None)
    maps = iter(text_maps(model, image, [foil for foil in foils if foil is not None], layer))
    contrasts = [
        None if foil is None else Contrast(one.words, next(maps)) for one, foil in zip(found, foils, strict=True)
    ]
    relations = [one.relation for one in found]
    mrc: Sequence[MRCMap | None] = [None] * len(found)
    if mrc_head(model) is not None:
        mrc = mrc_maps(model, image, sample.graph, relations, layer=layer)
    return [Triplet(*parts) for parts in zip(found, looks, contrasts, mrc, strict=True)]
