"""Checks of a recipe's data before training; each returns its problems, one line each."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.bad_samples import too_many
from relpretrain.data.batches import uneven
from relpretrain.data.pipeline.collate import BATCH_TYPES
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.sampling.schedule import BatchSchedule, wrong_groups, wrong_neighbours, wrong_ratios
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.cache import Cache
from relpretrain.data.shards.find import named_manifests, resolve_shards
from relpretrain.data.shards.manifest import ShardEntry, manifests, place_of_problem
from relpretrain.data.shards.remote import is_remote, name_of
from relpretrain.data.shards.row_index import ShardIndex
from relpretrain.errors import ConfigError, suggest, wrong_fraction
from relpretrain.kinds import Kind, Need
from relpretrain.reading import parse_json
from relpretrain.scene_graph import GraphError, SceneGraph, triplet_text
from relpretrain.scene_graph.foils import GRAPH_KINDS, build_tagger, check_kinds, word_rules

_ODD = 0.05  # share of those that may have no triplet of usual length
_LOOK = 64  # graphs examined for the text limit
_SHARDS = 8  # of a dataset, that are opened for it
_TOLD = 3  # broken shards of a dataset that are named one by one
_NEEDS: dict[Need, str] = {
    "captions": "captions",
    "regions": "entities with boxes",
    "graphs": "relations",
    "boxed_graphs": "relations between two boxes",
}

_TEXTS: tuple[Kind, ...] = ("captions", "graphs")
_FOR: dict[str, tuple[Kind, ...]] = {
    **dict.fromkeys(("blocks_per_text", "foils_per_text", "foil_names", "units_per_image"), _TEXTS),
    **dict.fromkeys(("positions_per_text", "mirrored", "foil_words"), ("graphs",)),
    **dict.fromkeys(("min_confidence", "confidence_weights"), ("graphs",)),
    "foil_tagger": ("captions",),
}
"""Settings that do nothing for streams of another kind."""
_UNSET = {"foil_tagger": "lexicon"}


def settings(streams: Mapping[str, Stream], world_size: int) -> list[str]:
    """Report settings of streams that are invalid whatever the data."""
    problems = []
    for name, stream in streams.items():
        where = f"Stream {name!r}"
        if stream.kind not in get_args(Kind):
            problems.append(f"{where}: kind={stream.kind!r} must be one of {', '.join(get_args(Kind))}.")
        if not stream.datasets:
            problems.append(f"{where} names no dataset: give datasets={{name: shards}}.")
        problems += [
            f"{where}: the name of dataset {dataset!r} must not hold '/'."
            for dataset in stream.datasets
            if "/" in dataset
        ]
        for field in ("batch_size", "entities_per_image", "relations_per_text", "relations_per_image"):
            value = getattr(stream, field)
            if value is not None and value < 1:
                problems.append(f"{where}: {field}={value} must be at least 1.")
        if stream.boxes_per_image is not None and (stream.boxes_per_image < 0 or stream.boxes_per_image == 1):
            problems.append(f"{where}: boxes_per_image={stream.boxes_per_image} must be 0, or 2 or more for pairs.")
        for field in ("foils_per_text", "units_per_image", "positions_per_text", "blocks_per_text"):
            if (value := getattr(stream, field)) is not None and value < 0:
                problems.append(f"{where}: {field}={value} must not be negative.")
        try:
            if stream.foil_synonyms != "auto":  # which takes what there is
                word_rules(stream.foil_synonyms)
            build_tagger(stream.foil_tagger)
        except ConfigError as error:
            problems.append(f"{where}: {error}.")
        for kinds in (stream.foil_kinds, stream.unit_kinds):
            try:
                check_kinds(kinds or GRAPH_KINDS)
            except ValueError as error:
                problems.append(f"{where}: {error}.")
        if stream.image_rows and stream.entities_per_image == 1:
            problems.append(f"{where}: entities_per_image=1 must be at least 2 with image_rows: one is a caption.")
        if not 0 < stream.min_scale <= 1:
            problems.append(f"{where}: min_scale={stream.min_scale:g} must be above 0 and at most 1.")
        for problem in (
            wrong_fraction("flip", stream.flip, "probability"),
            wrong_fraction("mirrored", stream.mirrored, "probability"),
            wrong_fraction("min_confidence", stream.min_confidence),
        ):
            problems += [f"{where}: {problem}"] if problem else []
        for field, kinds_of in _FOR.items():
            value = getattr(stream, field)
            if value and value != _UNSET.get(field) and stream.kind in get_args(Kind) and stream.kind not in kinds_of:
                whose = " and ".join(kinds_of)
                problems.append(f"{where}: {field}={value} is for {whose}: its kind is {stream.kind}; leave it out.")
        if stream.batch_size % world_size:
            problems.append(uneven(name, stream.batch_size, world_size))
        problems += [problem for wrong in (wrong_ratios, wrong_neighbours) if (problem := wrong(name, stream))]
    return problems


def fractions(**values: float) -> list[str]:
    """Report values that are not between 0 and 1."""
    return [problem for name, value in values.items() if (problem := wrong_fraction(name, value))]


def resolve(streams: Mapping[str, Stream], problems: list[str]) -> dict[str, dict[str, list[str]]]:
    """Find the shards of all streams, by stream and dataset; patterns without a match are added to `problems`."""
    found: dict[str, dict[str, list[str]]] = {}
    noted: set[str] = set()
    for name, stream in streams.items():
        found[name] = {}
        for dataset, patterns in stream.datasets.items():
            try:
                found[name][dataset] = resolve_shards(patterns)
            except (OSError, ValueError) as error:
                found[name][dataset] = []
                if str(error) not in noted:
                    problems.append(f"Stream {name!r}, dataset {dataset!r}: {error}")
                noted.add(str(error))
    return found


def find(
    streams: Mapping[str, Stream], problems: list[str], workers: int = 0
) -> dict[str, dict[str, list[ShardEntry]]]:
    """Find the shards of all streams, by stream and dataset; a dataset with a broken shard has none.

    Args:
        streams: The streams.
        problems: Error lines are added to it, for at most three broken shards of a dataset.
        workers: Processes that read shards without a manifest.

    Returns:
        What their manifests say of them.
    """
    resolved = resolve(streams, problems)
    shards = [shard for datasets in resolved.values() for shards in datasets.values() for shard in shards]
    made = manifests(shards, workers, manifests_of(streams))
    found: dict[str, dict[str, list[ShardEntry]]] = {}
    noted: set[str] = set()
    for name, datasets in resolved.items():
        found[name] = {}
        for dataset, names in datasets.items():
            entries = [made[shard] for shard in names]
            errors = dict.fromkeys(str(error) for error in entries if isinstance(error, Exception))
            new = [error for error in errors if error not in noted]
            noted.update(new)
            problems += [f"Stream {name!r}, dataset {dataset!r}: {error}" for error in new[:_TOLD]]
            if len(new) > _TOLD:
                problems.append(f"Stream {name!r}, dataset {dataset!r}: {len(new) - _TOLD} more of its shards fail.")
            found[name][dataset] = [] if errors else [entry for entry in entries if isinstance(entry, ShardEntry)]
    return found


def manifests_of(streams: Mapping[str, Stream]) -> list[str]:
    """The manifests that streams name in the place of shards."""
    patterns = [patterns for stream in streams.values() for patterns in stream.datasets.values()]
    return list(dict.fromkeys(place for each in patterns for place in named_manifests(each)))


def holdings(
    streams: Mapping[str, Stream], shards: Mapping[str, Mapping[str, Sequence[ShardEntry]]], max_bad_fraction: float
) -> list[str]:
    """Report datasets with no eligible samples, and datasets with too many bad ones."""
    problems = []
    judged = set()
    for name, stream in streams.items():
        for dataset, entries in shards[name].items():
            if not entries or stream.kind not in BATCH_TYPES:
                continue  # reported by `find` or `settings`
            have = {need: sum(entry.eligible[need] for entry in entries) for need in _NEEDS}
            if not have[stream.need]:
                ends = name_of(entries[0].shard), name_of(entries[-1].shard)
                names = ends[0] if len(entries) == 1 else f"{ends[0]} ... {ends[1]}"
                problems.append(
                    f"Stream {name!r} (kind {stream.kind}, ratio {stream.ratio:g}) needs samples with "
                    f"{_NEEDS[stream.need]}, but dataset {dataset!r} has none: its {len(entries)} shard(s) ({names}) "
                    f"hold {sum(entry.samples for entry in entries)} samples, "
                    f"{', '.join(f'{have[need]} with {what}' for need, what in _NEEDS.items())}. "
                    "Give it other shards, or set its ratio to 0."
                )
            bad = Counter[tuple[str, str, str]]()
            lossy: dict[str, ShardEntry] = {}  # by reason, the first shard that lost a sample for it
            for entry in entries:
                for reason, count in entry.problems.items():
                    bad[dataset, reason, name_of(entry.shard)] += count
                    lossy.setdefault(reason, entry)
            seen = sum(entry.samples for entry in entries) + sum(bad.values())
            if sum(bad.values()) > max_bad_fraction * seen and dataset not in judged:
                first = {(dataset, reason): place_of_problem(entry, reason) for reason, entry in lossy.items()}
                problems.append(too_many(dataset, bad, first, seen, max_bad_fraction))
            judged.add(dataset)
    return problems


def objectives(streams: Mapping[str, Stream], known: Mapping[str, Any]) -> list[str]:
    """Report streams without objectives, with unknown ones, or with ones that do not do what the stream is made for.

    Args:
        streams: The streams.
        known: The module's objectives by name.
    """
    problems = []
    for name, stream in streams.items():
        if not stream.objectives:
            problems.append(
                f"Stream {name!r} names no objective, of: {', '.join(known)}. Set its ratio to 0 to pause it."
            )
        for objective in stream.objectives:
            if objective not in known:
                problems.append(f"Stream {name!r}: unknown objective {objective!r}{suggest(objective, known)}")
                continue
            consumes = known[objective].consumes
            if stream.kind in BATCH_TYPES and not issubclass(BATCH_TYPES[stream.kind], tuple(consumes)):
                fits = [kind for kind, batch in BATCH_TYPES.items() if issubclass(batch, tuple(consumes))]
                problems.append(
                    f"Stream {name!r} gives {stream.kind}, but objective {objective!r} "
                    f"({type(known[objective]).__name__}) takes {' or '.join(fits) or 'another type'}."
                )
        consumers = [known[objective] for objective in stream.objectives if objective in known]
        confident = stream.kind == "graphs" and stream.confidence_weights
        if confident and consumers and not any(getattr(o, "weighs", False) for o in consumers):
            weighing = [objective for objective, one in known.items() if getattr(one, "weighs", False)]
            problems.append(
                f"Stream {name!r}: confidence_weights=true weighs texts of VSG and triplets of MRC, and nothing of "
                f"{', '.join(stream.objectives)}. Leave it out, or add {' or '.join(weighing) or 'one of these'}."
            )
    return problems


def text_limits(
    name: str,
    stream: Stream,
    shards: Mapping[str, Sequence[ShardEntry]],
    encoder: TextEncoder,
    cache: Cache,
    first: Callable[[str, NDArray[np.int64]], int],
) -> list[str]:
    """Report a `max_tokens` too small for a single triplet of some graph.

    Args:
        name: Of the stream.
        stream: The stream.
        shards: What its shards hold, by dataset.
        encoder: Of its texts.
        cache: Fetches a shard where all are remote.
        first: Which one: the number of the shard that is read first, by dataset and eligible rows of its shards.
    """
    for dataset, entries in shards.items():
        rows = np.array([entry.eligible[stream.need] for entry in entries])
        looked = [entry for entry in entries if entry.eligible[stream.need] and not is_remote(entry.shard)][:_SHARDS]
        try:
            if not looked and rows.any():
                looked = [entries[first(dataset, rows)]]
            found = text_limit(name, stream, (_index(entry, cache) for entry in looked), encoder)
        except (OSError, ValueError) as error:
            found = [f"Stream {name!r}, dataset {dataset!r}: {error}"]
        if found:
            return found
    return []


def _index(entry: ShardEntry, cache: Cache) -> ShardIndex:
    cache.fetch(entry)
    return ShardIndex.at(cache.path(entry), name_of(entry.shard))


def text_limit(name: str, stream: Stream, shards: Iterable[ShardIndex], encoder: TextEncoder) -> list[str]:
    """Report a `max_tokens` too small for a single triplet of more graphs of a dataset than a few odd ones."""
    shortest: list[tuple[int, str]] = []
    for index in shards:
        for row in index.eligible(stream.need)[: _LOOK - len(shortest)].tolist():
            try:
                graph = SceneGraph.from_json(parse_json(index.read(row).json or b"{}"), math.inf, math.inf)
            except (GraphError, ValueError):
                continue  # counted in training
            if graph.relations:
                texts = [triplet_text(graph, relation) for relation in graph.relations]
                shortest.append(min((1 + encoder.triplet_length(text), text) for text in texts))
        if len(shortest) == _LOOK:
            break
    over = [pair for pair in shortest if pair[0] > stream.max_tokens]
    if len(over) <= _ODD * len(shortest):
        return []  # counted in training
    length, text = max(over)
    return [
        f"Stream {name!r}: max_tokens={stream.max_tokens} is too short for one triplet in {len(over)} of "
        f"{len(shortest)} graphs looked at; {text!r:.80} takes {length} tokens. Set max_tokens to at least {length}."
    ]


def grouping(
    groups: int, nodes: int, streams: Mapping[str, Stream], shards: Mapping[str, Mapping[str, Sequence[ShardEntry]]]
) -> list[str]:
    """Report groups that this run's machines, or its batches, cannot be divided by.

    Args:
        groups: Number of groups.
        nodes: Number of machines.
        streams: The training streams.
        shards: What their shards hold.
    """
    problems = [problem for name, stream in streams.items() if (problem := wrong_groups(name, stream, groups))]
    if groups > 1 and groups % nodes and any(
        is_remote(entry.shard) for name in streams for entries in shards.get(name, {}).values() for entry in entries
    ):  # fmt: skip
        fits = ", ".join(str(number) for number in range(1, groups + 1) if groups % number == 0)
        problems.append(
            f"The batches are divided among {groups} groups (data.groups), which {nodes} machines cannot share: some "
            f"would fetch the shards of others too. Take {fits} machines, or begin a new run with data.groups={nodes}."
        )
    return problems


def workers(num_workers: int, schedule: BatchSchedule) -> list[str]:
    """Report more workers than the machine or the shards can serve."""
    most = 4 * (os.cpu_count() or 1)
    batches = sum(math.ceil(size / schedule.streams[name].batch_size) for (name, _), size in schedule.sizes().items())
    if num_workers > batches:
        return [
            f"num_workers={num_workers} is more workers than the shards can serve: one epoch of all streams is "
            f"{batches} batches. Set num_workers to at most {min(batches, most)}."
        ]
    if num_workers > most:
        return [
            f"num_workers={num_workers} is more than this machine can serve: it has {os.cpu_count()} processors. Set "
            f"num_workers to at most {most}."
        ]
    return []


def image_size(size: int, backbone: Any) -> list[str]:
    """Report an image size other than the model's."""
    if size < 1:
        return [f"image_size={size} must be at least 1."]
    expected = getattr(backbone, "image_size", None)
    sides = {int(side) for side in (expected if isinstance(expected, list | tuple) else [expected or size])}
    if sides == {size}:
        return []
    return [f"image_size={size} of the data differs from the backbone's image_size={expected}. Set both to the same."]
