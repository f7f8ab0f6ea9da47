"""Take the graphs of shards away, let a tagger label the boxes, and compare with what was taken away.

In the generated world, where every true relation is annotated:

    python benchmarks/tagging_world.py --tagger runs/tagger/checkpoints/last.ckpt SHARDS --work runs/tagger/labelled
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

from relpretrain.cli import main as relpretrain
from relpretrain.data.shards import ShardWriter
from relpretrain.data.shards.find import resolve_shards
from relpretrain.scene_graph import RelationVocabulary, SceneGraph
from relpretrain.tagging.held_out import THRESHOLDS, holding

Triplets = dict[str, set[tuple[int, int, int]]]


def records(shard: Path) -> dict[str, dict[str, Any]]:
    """The records of a shard, by key."""
    with tarfile.open(shard) as tar:
        files = {m.name: tar.extractfile(m) for m in tar.getmembers()}
        return {Path(n).stem: json.load(f) for n, f in files.items() if n.endswith(".json") and f is not None}


def strip(shards: list[str], out: Path) -> None:
    """Copy shards without their relations."""
    with ShardWriter(out, overwrite=True) as writer:
        for shard in shards:
            with tarfile.open(shard) as tar:
                content = {m.name: (tar.extractfile(m) or io.BytesIO()).read() for m in tar.getmembers()}
            for name, image in content.items():
                stem, _, ending = name.rpartition(".")
                if ending != "json":
                    record = json.loads(content[f"{stem}.json"])
                    writer.write(stem, image, ending, {k: v for k, v in record.items() if k != "relations"})


def compare(truth: Triplets, said: dict[str, list[tuple[float, tuple[int, int, int]]]], threshold: float) -> list[Any]:
    """What is kept at a threshold: how many an image, precision, recall and mean recall."""
    kept = {key: {triplet for sure, triplet in found if sure >= threshold} for key, found in said.items()}
    number, right = sum(map(len, kept.values())), sum(len(kept[key] & truth[key]) for key in truth)
    true = Counter(c for found in truth.values() for _, c, _ in found)
    hit = Counter(c for key, found in truth.items() for _, c, _ in found & kept[key])
    mean = sum(hit[c] / n for c, n in true.items()) / len(true)
    precision = right / number if number else float("nan")
    return [threshold, number / len(truth), precision, right / sum(true.values()), mean]


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", nargs="+", help="graphs that the tagger has not seen")
    parser.add_argument("--tagger", required=True)
    parser.add_argument("--vocabulary", type=Path, required=True, help="the relations, with their converses")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--options", default="", help="further options of relpretrain data label")
    args = parser.parse_args()
    shards = resolve_shards(args.shards)
    known = RelationVocabulary.load(args.vocabulary)
    strip(shards, args.work / "without")
    command = ["data", "label", str(args.work / "without"), "--tagger", args.tagger, "--out", str(args.work / "with")]
    if relpretrain([*command, "--overwrite", "--threshold", "0", *args.options.split()]):
        raise SystemExit(2)
    truth = {
        key: holding(SceneGraph.from_json(record, record["width"], record["height"]), known)
        for shard in shards
        for key, record in records(Path(shard)).items()
    }
    said = {
        key: [
            (r.get("confidence", 1.0), (r["subject"], known.index(r["relation"]), r["object"]))
            for r in record.get("relations", ())
        ]
        for shard in resolve_shards(str(args.work / "with"))
        for key, record in records(Path(shard)).items()
    }
    print(f"\n{len(truth):,} images, {sum(map(len, truth.values())):,} true relations from either side\n")
    print("| threshold | relations an image | precision | recall | mean recall |\n|---|---|---|---|---|")
    for threshold in THRESHOLDS:
        _, each, *shares = compare(truth, said, threshold)  # type: ignore[arg-type]
        print(f"| {threshold:g} | {each:.2f} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")


if __name__ == "__main__":
    main()
