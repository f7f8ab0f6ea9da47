"""The findings of `relpretrain data doctor`, for the terminal and as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relpretrain.data.batches import uneven
from relpretrain.data.checks import workers as workers_problems
from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.data.shards.record import Counts as SampleCounts
from relpretrain.errors import counted, singular
from relpretrain.inspect.common.tables import print_table
from relpretrain.inspect.doctor.counts import BOX_FINDINGS, TRIPLET_FINDINGS
from relpretrain.inspect.doctor.examination import Examination
from relpretrain.scene_graph import coverage_lines
from relpretrain.showing import say

_SHOWN = 12  # rows of a histogram or list on the terminal; JSON holds all
_MEASURES = {"width": ", pixels", "height": ", pixels", "longer / shorter": ""}


@dataclass(frozen=True)
class Terms:
    """In what the findings of a data set are told.

    Args:
        title: What the data set is called.
        image_size: Side of the images that the model sees, in pixels.
        too_long: When a caption is, such as "over 40 words".
        recipe: Whether the size is that of a recipe rather than a usual one.
    """

    title: str
    image_size: int
    too_long: str
    recipe: bool


def print_examination(found: Examination, schedule: BatchSchedule | None, terms: Terms) -> None:
    """Print the tables of a dataset."""
    state = to_json(found, schedule, terms.image_size)
    totals = ", ".join(counted(count, singular(name), name) for name, count in state["totals"].items())
    say(f"\n{terms.title}: {totals}")
    print_table(
        "Streams", ["stream", "eligible", "excluded", "bad", "bad %", "reasons"],
        [(n, s["eligible"], s["excluded"], s["bad"], f"{100 * s['bad'] / max(s['eligible'], 1):.2f}",
          ", ".join(f"{reason} {count:,}" for reason, count in s["reasons"].items()))
         for n, s in state["streams"].items()],
    )  # fmt: skip
    if found.bad:
        bad = [(b.shard, b.key, b.field, b.reason, b.detail[:60]) for b in found.bad[:_SHOWN]]
        more = f", the first {_SHOWN}" if len(found.bad) > _SHOWN else ""
        title = f"Bad samples ({len(found.bad):,}{more})"
        print_table(title, ["shard", "key", "field", "reason", "detail"], bad, left=5)
    header = ["stream", "reason", "times"]
    print_table("Lost in part by cropping, or for lack of room in a text", header, state["lost_in_part"], left=2)
    histograms = {
        "Relations": "relations",
        "Entities": "labels",
        "Sources": "sources",
        "Sources of relations": "origins",
    }
    for title, name in histograms.items():
        _print_histogram(title, getattr(found.counts, name))
    for line in _vocabulary_lines(found, terms.title):
        say(line)
    _print_findings("Triplets", found.counts.triplets, found.counts.examples, TRIPLET_FINDINGS, "triplet")
    _print_findings("Boxes", found.counts.boxes, found.counts.examples, BOX_FINDINGS, "box")
    _print_findings("Captions", found.counts.captions, found.counts.examples, {"too long": terms.too_long}, "caption")
    _print_findings("Labels and relations", found.counts.names, found.counts.examples, {}, "name")
    sizes = state["images"]
    print_table(
        "Images", ["", "min", "5 %", "median", "95 %", "max"],
        [(f"{name}{unit}", *sizes[name]) for name, unit in _MEASURES.items()],
    )  # fmt: skip
    formats = ", ".join(f"{kind} {count:,}" for kind, count in found.counts.formats.most_common())
    whose = "the recipe's image size" if terms.recipe else "a usual image size; -c RECIPE takes yours"
    say(formats)
    if smaller := sizes["smaller"]:
        small = f"{counted(smaller, 'image')} with a side under {terms.image_size} pixels"
        say(f"{small} ({whose}), which training enlarges")
    print_table("Repeated among the samples", ["", "times"], list(state["duplicates"].items()))
    rows = [
        (order, trait, m["pairs"], m["shared"], f"{m['expected']:,.1f}", "yes" if m["as_random"] else "NO")
        for order, traits in state["mixing"].items()
        for trait, m in traits.items()
        if (m["shared"] or m["expected"]) and m["expected"] < m["pairs"]  # neither none nor all
    ]
    header = ["order", "neighbours share", "pairs", "they do", "random order", "as random"]
    print_table("Shuffling", header, rows, left=2)


def to_json(found: Examination, schedule: BatchSchedule | None, image_size: int) -> dict[str, Any]:
    """Everything about a dataset as plain types."""
    counts = found.counts
    nothing = np.zeros((1, len(SampleCounts._fields)), np.int64)
    graphs = np.concatenate([nothing, *(index.counts for index in found.indexes)])
    by_stream: dict[str, Counter[str]] = {name: Counter() for name in found.eligible | found.excluded}
    for bad in found.bad:
        for name in bad.streams:
            by_stream[name][bad.reason] += 1
    return {
        "totals": {
            "shards": len(found.indexes),
            "samples": found.samples,
            "captions": int(graphs[:, 0].sum()),
            "entities": int(graphs[:, 1].sum()),
            "relations": int(graphs[:, 2].sum()),
            **_unplaced(graphs),
            "bad samples": len(found.bad),
        },
        "shards": {
            str(index.path): {"samples": len(index), "left out": dict(Counter(p.reason for p in index.problems))}
            for index in found.indexes
        },
        "bad_fraction": found.bad_fraction,
        "streams": {
            name: {
                "eligible": found.eligible[name],
                "excluded": found.excluded[name],
                "bad": sum(reasons.values()),
                "reasons": dict(reasons.most_common()),
            }
            for name, reasons in by_stream.items()
        },
        "bad": [asdict(bad) for bad in found.bad],
        "lost_in_part": [[*key, count] for key, count in found.parts.most_common()],
        "relations": dict(counts.relations.most_common()),
        "outside_vocabulary": _outside(found),
        "entities": dict(counts.labels.most_common()),
        "sources": dict(counts.sources.most_common()),
        "relation_sources": dict(counts.origins.most_common()),
        "triplets": dict(counts.triplets),
        "boxes": dict(counts.boxes),
        "captions": dict(counts.captions),
        "names": dict(counts.names),
        "examples": counts.examples,
        "images": _sizes(found, image_size) | {"formats": dict(counts.formats.most_common())},
        "duplicates": found.duplicates(),
        "mixing": {
            order: {
                trait: {"pairs": m.pairs, "shared": m.shared, "expected": m.expected, "as_random": m.is_random}
                for trait, m in traits.items()
            }
            for order, traits in found.mixing(schedule).items()
        },
    }


def _unplaced(graphs: NDArray[np.int64]) -> dict[str, int]:
    """How many entities have no box, and relations no two, of the counts (samples, 5) of a dataset, if any."""
    totals = SampleCounts(*graphs.sum(axis=0).tolist())
    without = {
        "entities without a box": totals.entities - totals.boxed_entities,
        "relations without two boxes": totals.relations - totals.boxed_relations,
    }
    return without if without["entities without a box"] else {}


def serving(schedule: BatchSchedule, ranks: int, workers: int, steps: int | None) -> tuple[list[str], list[str]]:
    """Whether ranks and workers can be served, and how many samples an epoch and the steps take.

    Returns:
        What holds, and what does not: a line each.
    """
    lines, problems = [], workers_problems(workers, schedule)
    for (name, dataset), size in schedule.sizes().items():
        batch = schedule.streams[name].batch_size
        line = f"{name} from {dataset}: an epoch is {counted(size, 'sample')}, "
        line += f"{counted(math.ceil(size / batch), 'batch', 'batches')} of {batch:,}"
        if batch % ranks:
            problems.append(uneven(name, batch, ranks))
        elif ranks > 1:
            line += f", {batch // ranks:,} on each of {ranks} ranks"
        if steps is not None:
            taken = schedule.taken(steps)[name, dataset]
            line += f"; {counted(steps, 'step')} take {counted(taken, 'sample')}, {taken / size:.2f} epochs"
        lines.append(line)
    if not problems:
        lines.append(f"{ranks} rank{'s' * (ranks > 1)} with {workers} worker{'s' * (workers != 1)} each can be served.")
    return lines, problems


def _vocabulary_lines(found: Examination, title: str) -> list[str]:
    """How many of the relations MRC could learn, where there are any."""
    part = found.coverage
    if part is None or not part.known + part.unknown:
        return []
    said = f"{title}: all {part.known:,} relations are in {found.vocabulary_name}"
    return coverage_lines({title: part}, vocabulary=found.vocabulary_name) or [said]


def _outside(found: Examination) -> dict[str, Any] | None:
    part = found.coverage
    if part is None:
        return None
    return {"vocabulary": found.vocabulary_name, "known": part.known, "unknown": part.unknown,
            "relations": dict(part.most_common)}  # fmt: skip


def _sizes(found: Examination, image_size: int) -> dict[str, Any]:
    width, height = np.array(found.counts.widths), np.array(found.counts.heights)
    read = (width > 0) & (height > 0)
    width, height = width[read], height[read]
    ratio = np.maximum(width, height) / np.maximum(np.minimum(width, height), 1)
    state: dict[str, Any] = {"smaller": int((np.minimum(width, height) < image_size).sum())}
    for name, values in (("width", width), ("height", height), ("longer / shorter", ratio)):
        digits = 2 if name == "longer / shorter" else 0
        marks = np.percentile(values, [0, 5, 50, 95, 100]) if len(values) else np.zeros(5)
        state[name] = [round(float(mark), digits) if digits else int(mark) for mark in marks]
    return state


def _print_histogram(title: str, counts: Counter[str]) -> None:
    if len(counts) < 2:
        return
    total = sum(counts.values())
    rows: list[Sequence[object]] = [
        (name, count, f"{100 * count / total:.1f}") for name, count in counts.most_common(_SHOWN)
    ]
    if len(counts) > _SHOWN:
        rest = total - sum(count for _, count in counts.most_common(_SHOWN))
        rows.append((f"{len(counts) - _SHOWN:,} others", rest, f"{100 * rest / total:.1f}"))
    print_table(f"{title} ({len(counts):,} kinds)", ["name", "count", "%"], rows)


def _print_findings(
    title: str, counts: Counter[str], examples: dict[str, list[str]], meanings: dict[str, str], kind: str
) -> None:
    rows = [
        (
            name + (f" ({meanings[name]})" if name in meanings else ""),
            count,
            ", ".join(examples.get(f"{kind} {name}", [])[:2]),
        )
        for name, count in counts.items()
        if count
    ]
    print_table(title, ["", "count", "such as"], rows)
