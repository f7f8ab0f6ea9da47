"""`relpretrain data calibrate CHECKPOINT SHARDS`: how good a tagger is, and what its scores mean."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from relpretrain.data.shards.find import resolve_shards, tell_copies
from relpretrain.data.shards.writer import check_writable, write_atomically
from relpretrain.errors import counted, positive
from relpretrain.progress import Meter, StageProgress
from relpretrain.sources.common.dropped import Dropped
from relpretrain.tagging.build import add_model, batched, build_tagger
from relpretrain.tagging.calibration import METHODS, Calibration, beside, fit, made_for, plot_reliability, reliability
from relpretrain.tagging.label import THRESHOLD, TOP_K


def add_parser(commands: Any) -> None:
    """Add `calibrate` to what `add_subparsers` returned."""
    calibrate = commands.add_parser(
        "calibrate",
        help="measure a tagger of relations on held-out graphs, and make probabilities of its scores",
        description="Score every relation of every ordered pair of boxes. One half of the images, by their names, fits "
        "the calibration; precision, recall and the calibration error are those of the other half.",
    )
    calibrate.add_argument("checkpoint", type=Path, help="trained by recipes/tagger.yaml")
    calibrate.add_argument("shards", nargs="+", metavar="SHARDS", help="graphs that it was not trained on")
    calibrate.add_argument("--method", choices=METHODS, default=METHODS[0], help="(default: %(default)s)")
    calibrate.add_argument(
        "--top-k", type=positive, default=TOP_K, metavar="K",
        help="relations of a pair that are kept (default: %(default)s)",
    )  # fmt: skip
    calibrate.add_argument(
        "--out", type=Path, metavar="FILE",
        help="where to write; a picture of the same name lies beside it (default: beside the checkpoint)",
    )  # fmt: skip
    add_model(calibrate)
    calibrate.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> None:
    """Carry the command out.

    Raises:
        ValueError: If an argument or what it names cannot be used.
        OSError: If a file cannot be read or written.
    """
    from relpretrain.tagging.held_out import cuts, score_graphs
    from relpretrain.tagging.shards import read_shard

    shards = resolve_shards(args.shards)
    tell_copies(shards)
    out = args.out or beside(args.checkpoint, args.by)
    check_writable(out.parent)
    tagger = build_tagger(args, args.checkpoint)
    dropped, meter = Dropped(), Meter()
    meter.begin("scoring", len(shards))

    def samples() -> Any:
        for shard in shards:
            yield from read_shard(shard, dropped)
            meter.advance()

    with StageProgress(meter):
        scored = score_graphs(tagger, batched(samples(), args.batch_size))
    fitting, measured = scored.of(scored.fitting), scored.of(~scored.fitting)
    if not len(fitting.scores) or not len(measured.scores):
        raise ValueError("the held-out shards have too few images to fit on one half and measure on the other")
    calibration = fit(fitting.scores, fitting.truth, args.method)
    after = measured._replace(scores=calibration(measured.scores))
    curves = {"raw": reliability(measured.scores, measured.truth), args.method: reliability(after.scores, after.truth)}
    errors = {name: _errors(some.scores, some.truth) for name, some in (("raw", measured), (args.method, after))}
    table = {"raw": cuts(measured, args.top_k), args.method: cuts(after, args.top_k)}
    about = {
        **made_for(args.checkpoint, args.by),
        "relations": len(tagger.vocabulary),
        "pairs": len(set(measured.pairs.tolist())),
        "true": int(measured.truth.sum()),
        "top_k": args.top_k,
        "calibration_error": errors,
        "reliability": {name: [bin_._asdict() for bin_ in bins] for name, bins in curves.items()},
        "cuts": {name: [cut._asdict() for cut in found] for name, found in table.items()},
    }
    stored = Calibration(calibration.method, calibration.scores, calibration.values, about).to_json()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, (json.dumps(_without_nan(stored), indent=1, allow_nan=False) + "\n").encode())
    plot_reliability(curves, out.with_suffix(".png"))
    _tell(args, about, table, errors, out)


def _without_nan(content: Any) -> Any:
    """The same with null where there is nothing to be told, such as the precision where nothing is kept."""
    if isinstance(content, dict):
        return {name: _without_nan(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _errors(scores: Any, truth: Any) -> dict[str, float]:
    """The calibration error of all scores, and of those that would be written at the usual threshold."""
    import torch

    from relpretrain.zeroshot.analysis.decisions import calibration_error

    written = scores >= THRESHOLD
    parts = {"all": slice(None), "written": written}
    return {
        name: float(calibration_error(torch.from_numpy(scores[rows]), torch.from_numpy(truth[rows])))
        if truth[rows].size else float("nan")
        for name, rows in parts.items()
    }  # fmt: skip


def _tell(args: argparse.Namespace, about: dict[str, Any], table: Any, errors: Any, out: Path) -> None:
    print(
        f"{counted(about['pairs'], 'pair')} of boxes, {counted(about['true'], 'true relation')} of "
        f"{about['relations']} kinds; of each pair the best {args.top_k}"
    )
    for name, found in table.items():
        print(f"\n{name:>10}  {'kept':>8}  precision  recall  mean recall")
        for cut in found:
            print(
                f"{cut.threshold:>10g}  {cut.kept:>8,}  {cut.precision:>9.3f}  {cut.recall:>6.3f}  "
                f"{cut.mean_recall:>11.3f}"
            )
    print("\ncalibration error")
    for name, of in errors.items():
        print(f"{name:>10}  all {of['all']:.4f}  at {THRESHOLD} or more {of['written']:.4f}")
    print(f"\n{out} and {out.with_suffix('.png').name}")
