"""`relpretrain data label SHARDS --tagger CHECKPOINT`: relations of boxes, by a tagger."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from relpretrain.data.build.output import Job, Outcome, PackedSample, plain_options, shards_in
from relpretrain.data.build.parts import PartEnd, Piece, merge_parts, write_parts
from relpretrain.data.build.tasks import Task, is_merging, task_of
from relpretrain.data.shards.remote import is_remote
from relpretrain.errors import check_checkpoint, positive, wrong_fraction
from relpretrain.progress import Meter
from relpretrain.scene_graph import Relation
from relpretrain.sources.common.dropped import Dropped
from relpretrain.tagging.build import BY, add_model, batched, build_tagger
from relpretrain.tagging.calibration import Calibration, beside, made_for
from relpretrain.tagging.proposals import every_pair, kept, own_relations
from relpretrain.tagging.shards import TagSample, read_shard

PROPOSALS = ("vocabulary", "own")
THRESHOLD = 0.05
TOP_K = 2


def extend(label: argparse.ArgumentParser) -> None:
    """Let `relpretrain data label` tag boxes where `--tagger` is given, and parse captions else."""
    parse = label.get_default("run_data")
    add_options(label)

    def run_either(args: argparse.Namespace) -> Any:
        if args.tagger is not None:
            return run(args)
        given = [name for name in ("calibration", "confidence", "relations", "device") if getattr(args, name)]
        if given or args.by != BY[0] or args.proposals != PROPOSALS[0]:
            raise ValueError("these options are for a tagger, and there is none: name --tagger CHECKPOINT")
        return parse(args)

    label.set_defaults(run_data=run_either)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the tagger to `relpretrain data label`."""
    tagger = parser.add_argument_group("relations between boxes, by a tagger")
    tagger.add_argument("--tagger", type=Path, metavar="CHECKPOINT", help="trained by recipes/tagger.yaml")
    tagger.add_argument(
        "--proposals", choices=PROPOSALS, default=PROPOSALS[0],
        help="what is asked of a pair of boxes: every relation that the tagger knows, or only what the sample's graph "
        "says of it, such as relations parsed from captions (default: %(default)s)",
    )  # fmt: skip
    tagger.add_argument(
        "--threshold", type=float, default=THRESHOLD, metavar="P",
        help="lowest confidence that is written (default: %(default)s); streams choose later, by min_confidence",
    )  # fmt: skip
    tagger.add_argument(
        "--top-k", type=positive, default=TOP_K, metavar="K", help="most relations of a pair (default: %(default)s)"
    )
    tagger.add_argument(
        "--confidence", choices=("calibrated", "raw"),
        help="what is written as confidence (default: calibrated where a calibration lies beside the checkpoint)",
    )  # fmt: skip
    tagger.add_argument("--calibration", type=Path, metavar="FILE", help="written by relpretrain data calibrate")
    add_model(tagger, batches=False)


def run(args: argparse.Namespace) -> None:
    """Carry the command out.

    Raises:
        ValueError: If an argument or what it names cannot be used.
        OSError: If a file cannot be read or written.
    """
    shards = shards_in(args)
    if problem := wrong_fraction("--threshold", args.threshold, "probability"):
        raise ValueError(problem)
    if args.model or args.replace:
        raise ValueError("--model and --replace are for parsers of captions: leave them out beside --tagger")
    if args.ray:
        raise ValueError("--ray is for parsers of captions: beside --tagger leave it out, and share the work by --task")
    calibration = find_calibration(args)
    args.workers = 1
    options = {**plain_options(args), "confidence": "raw" if calibration is None else "calibrated"}
    files = [*(Path(shard) for shard in shards if not is_remote(shard)), args.tagger]
    dropped, meter = Dropped(), Meter()
    job = Job(iter(()), _as_it_is, dropped, meter, None, options, files)
    if is_merging(args):
        merge_parts(job, args)
        return
    if not args.overwrite and (args.out / "index.json").exists():
        raise ValueError(f"--out {args.out} holds shards already; choose another folder, or add --overwrite")
    task = task_of(args)
    pieces = partial(_pieces, shards, args, calibration, meter)
    if task is not None:
        write_parts(job, pieces, task, args)
        return
    write_parts(job, pieces, Task(0, 1), args, alone=True)
    merge_parts(job, args)
    print(f"confidence: {'raw scores' if calibration is None else f'calibrated probabilities ({calibration.method})'}")


def find_calibration(args: argparse.Namespace) -> Calibration | None:
    """The calibration that is used, if any.

    Raises:
        ValueError: If it is asked for and absent, or a raw confidence with a calibration.
    """
    if args.confidence == "raw":
        if args.calibration is not None:
            raise ValueError("--confidence raw and --calibration do not go together: leave out one of them")
        return None
    place = args.calibration or beside(args.tagger, args.by)
    if args.calibration is None and not place.exists():
        if args.confidence == "calibrated":
            raise ValueError(
                f"{place} does not exist: write it with relpretrain data calibrate, or take --confidence raw"
            )
        return None
    check_checkpoint(args.tagger)
    found, own = Calibration.load(place), made_for(args.tagger, args.by)
    if any((found.about or {}).get(name) != value for name, value in own.items()):
        raise ValueError(
            f"{place} is not of {args.tagger} as it is now, with --by {args.by}: write it anew with relpretrain data "
            "calibrate, or take --confidence raw"
        )
    return found


def _pieces(
    shards: list[str],
    args: argparse.Namespace,
    calibration: Calibration | None,
    meter: Meter,
    takes: Callable[[int], bool],
) -> Iterator[Piece]:
    """The tagged samples of those shards that a task takes: a shard in, a shard out."""
    own = [part for part in range(len(shards)) if takes(part)]
    if not own:
        return
    tagger = build_tagger(args, args.tagger)
    meter.begin("tagging", len(own))
    for part in own:
        dropped = Dropped()
        for samples in batched(read_shard(shards[part], dropped), args.batch_size):
            for packed, lost in tag(tagger, samples, args.proposals, args.threshold, args.top_k, calibration):
                dropped.include(lost)
                yield Piece(part, packed)
        yield Piece(part, PartEnd(dropped, []))
        meter.advance()


def tag(
    tagger: Any,
    samples: list[TagSample],
    proposals: str,
    threshold: float,
    top_k: int,
    calibration: Calibration | None = None,
) -> Iterator[tuple[PackedSample, Dropped]]:
    """Samples with the relations that a tagger gives them.

    Asked every relation ("vocabulary"), it adds to what a sample's graph says already; asked the graph's own
    ("own"), those between two boxes are scored and cut, and all others stay as they are. The raw score is kept as
    "score" beside a calibrated confidence.

    Yields:
        Each sample, and what was not scored or not kept, by reason.
    """
    asked = [
        own_relations(s.graph) if proposals == "own" else every_pair(s.graph, tagger.vocabulary.names) for s in samples
    ]
    found = tagger.scores([s.image for s in samples], [s.graph for s in samples], asked)
    for sample, pairs, scores in zip(samples, asked, found, strict=True):
        lost = Dropped()
        raw = {(p.subject, name, p.object): v for p, vs in zip(pairs, scores, strict=True)
               for name, v in zip(p.relations, vs, strict=True)}  # fmt: skip
        sure = scores if calibration is None else [calibration(values).tolist() for values in scores]
        relations = kept(pairs, sure, threshold, top_k, f"tagger {tagger.name}")
        if proposals == "own":
            lost["relation_not_scored"] = sum(map(math.isnan, raw.values()))
            lost["relation_below_threshold"] = len(raw) - lost["relation_not_scored"] - len(relations)
        record = dict(sample.packed.record)
        before = _untouched(sample, proposals)
        said = {(r["subject"], r["relation"], r["object"]) for r in before}
        new = [_record(r, raw, calibration is not None) for r in relations if _triplet(r) not in said]
        record.pop("relations", None)
        if before or new:
            record["relations"] = [*before, *new]
        yield sample.packed._replace(record=record), lost


def _untouched(sample: TagSample, proposals: str) -> list[dict[str, Any]]:
    """The relations of a sample's record that are not asked about."""
    stored = sample.packed.record.get("relations")
    stored = [stored] if isinstance(stored, dict) else list(stored) if isinstance(stored, list | tuple) else []
    if proposals != "own":
        return stored
    asked = {(p.subject, name, p.object) for p in own_relations(sample.graph) for name in p.relations}
    return [r for r in stored if (r["subject"], r["relation"], r["object"]) not in asked]


def _triplet(relation: Relation) -> tuple[int, str, int]:
    return relation.subject, relation.relation, relation.object


def _record(relation: Relation, raw: dict[tuple[int, str, int], float], calibrated: bool) -> dict[str, Any]:
    """A relation in the sample format."""
    said = {"subject": relation.subject, "relation": relation.relation, "object": relation.object}
    told = {"confidence": round(relation.confidence, 6), "source": relation.source}
    return said | told | ({"score": round(raw[_triplet(relation)], 6)} if calibrated else {})


def _as_it_is(sample: PackedSample) -> Outcome:
    return sample, Dropped()
