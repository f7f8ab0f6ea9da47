"""What a training step costs: FLOPs beside the floor of what must be computed, time, memory, by stream and objective.

python benchmarks/step.py --data DIR                     the whole table: four models at three sizes
python benchmarks/step.py --data DIR --count             FLOPs alone, without running anything (seconds, any size)
python benchmarks/step.py --data DIR --models REX-VLM --sizes base --against 547164b
                                                         in turns with another checkout or commit of this package
python benchmarks/step.py --data DIR --official ALBEF X-VLM   in turns with the authors' code (folders of its checkouts)
                                                         (with --count: FLOPs alone)

DIR holds `coco_mini`, `vrd` and `bert/vocab.txt`; without it batches are made up. On a machine with a GPU the same
command fills the same table there, with MFU where the GPU's peak is known.

FLOPs are those of matrix products, forward and backward, counted on tensors without values; the floor is explained in
`step_floor.py`. Times are medians over turns, in each of which every side takes the same step; ratios are medians of
the ratios within a turn. CPU seconds are those of the process, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks import step_beside
from benchmarks.step_batches import OBJECTIVES, made_batches, real_batches
from benchmarks.step_floor import PARTS, floor
from relpretrain import types
from relpretrain.backbones.presets import from_preset
from relpretrain.types import Batch
from relpretrain.zeroshot.report.terminal import markdown_table

HOME = Path(__file__).resolve().parents[1]
MIXTURES = {
    "ALBEF": {"captions": (512, 1.0)},
    "REALBEF": {"captions": (512, 2.0), "mrc": (64, 1.0), "vsg": (128, 1.0)},
    "X-VLM": {"captions": (1024, 2.0), "regions": (256, 1.5)},
    "REX-VLM": {"captions": (1024, 2.0), "regions": (256, 1.5), "mrc": (128, 1.0), "vsg": (128, 1.0)},
}
"""Images of a batch and ratio of each stream, as in the recipes (Table 4 of arXiv 2305.14281)."""

IMAGES = {"captions": 8, "regions": 4, "mrc": 4, "vsg": 4}
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Published FLOP/s of dense bf16 matrix products, by a part of the GPU's name."""

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and measure, print tables, and write them as JSON."""
    args = _arguments(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relpretrain-step-")))
        paths = {"now": HOME}
        if args.against:
            paths["before"] = stack.enter_context(_checkout(args.against))
        rows: list[Row] = []
        if args.official:
            rows = step_beside.compare(args, folder, HOME, Worker)
            args.sizes = []
        for size in args.sizes:
            batches, relations = _batches(args, folder, size)
            for name in args.models:
                rows += _model(args, name, size, batches, relations, paths, folder)
    report = {"device": _device_name(args.device), "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(step_beside.table(rows, args) if args.official else _tables(rows, args))
    if args.json:
        Path(args.json).write_text(json.dumps(report | {"rows": rows}, indent=1), encoding="utf-8")
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of real images; made-up batches if not given")
    parser.add_argument("--models", nargs="+", choices=MIXTURES, default=list(MIXTURES))
    parser.add_argument("--sizes", nargs="+", choices=("tiny", "small", "base"), default=["tiny", "small", "base"])
    parser.add_argument("--vision", choices=("vit", "swin"), default="vit", help="image encoder of X-VLM and REX-VLM")
    parser.add_argument("--momentum", action="store_true", help="ALBEF and REALBEF with the momentum teacher and queue")
    parser.add_argument("--dropout", type=float, default=0.1)
    for stream, images in IMAGES.items():
        parser.add_argument(f"--{stream}", type=int, default=images, help="images of a batch")
    parser.add_argument("--count", action="store_true", help="count only")
    parser.add_argument("--turns", type=int, default=3, help="steps of each stream, after one to warm up")
    parser.add_argument("--against", help="a folder or commit with an earlier state of this package")
    parser.add_argument(
        "--official",
        type=Path,
        nargs="+",
        default=[],
        help="checkouts of the authors' ALBEF and X-VLM, to compare with",
    )
    parser.add_argument("--only", nargs="+", help="of these comparisons those whose row has all of these words")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="bf16" if torch.cuda.is_available() else "fp32"
    )
    parser.add_argument("--profile", type=Path, help="folder for a trace of a step of each stream")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    args = parser.parse_args(arguments)
    if args.turns < 1:
        parser.error(f"--turns {args.turns}: must be at least 1")
    args.official = step_beside.checkouts(parser, args.official)
    if args.official and not step_beside.kinds(args):
        parser.error(
            f"--only {' '.join(args.only)}: no step of {' or '.join(args.official)} has all of these in its row"
        )
    return args


def _batches(args: argparse.Namespace, folder: Path, size: str) -> tuple[dict[str, list[Batch]], list[str]]:
    """A batch of each stream for a warm-up step and one for each turn."""
    images = {stream: getattr(args, stream) for stream in IMAGES}
    pixels = 64 if size == "tiny" else 224
    number = 1 if args.count else args.turns + 1
    if args.data is None:
        return made_batches(pixels, images, number, 30522)
    return real_batches(args.data, folder, pixels, images, number)


def _model(
    args: argparse.Namespace,
    name: str,
    size: str,
    batches: dict[str, list[Batch]],
    relations: list[str],
    paths: dict[str, Path],
    folder: Path,
) -> list[Row]:
    """Rows of a model: one for each of its streams, and their mixture."""
    arguments: dict[str, Any] = {"image_size": 64 if size == "tiny" else 224, "dropout": args.dropout}
    queue = None
    if name in ("ALBEF", "REALBEF"):
        queue = 65536 if args.momentum else None
        momentum = {"momentum": 0.995, "queue_size": queue} if queue else {}
    else:
        arguments["vision"], momentum = args.vision, {}
    streams = MIXTURES[name]
    asked = {
        "model": "ALBEF" if name in ("ALBEF", "REALBEF") else "XVLM",
        "size": size,
        "arguments": arguments | momentum,
        "objectives": [objective for stream in streams for objective in OBJECTIVES[stream]],
        "relations": relations,
        "precision": args.precision,
    }
    files = {stream: [_save(batch, folder) for batch in batches[stream]] for stream in streams}
    rows: list[Row] = []
    config = from_preset(size=size, **arguments)
    with Worker("step_worker.py", [HOME], asked | {"device": "fake"}) as counter:
        for stream in streams:
            batch, objectives = batches[stream][0], OBJECTIVES[stream]
            counted = counter.ask({"do": "count", "batch": files[stream][0]})
            least = floor(config, batch, objectives, len(relations), queue)
            parts = floor(config, batch, objectives, len(relations), queue, backward=False)
            row: Row = {"model": name, "size": size, "stream": stream, "images": len(batch)}
            row["gflop_an_image"] = counted["total"] / len(batch) / 1e9
            row |= {
                "over_floor": counted["total"] / sum(least.values()),
                "gb_an_image": counted["bytes"] / len(batch) / 1e9,
            }
            row["forward_gflop"] = {p: [counted["forward"].get(p, 0) / 1e9, parts[p] / 1e9] for p in PARTS}
            rows.append(row)
    if not args.count:
        _measure(args, rows, asked, paths, files)
    return [*rows, _mixture(name, size, rows)]


def _measure(
    args: argparse.Namespace, rows: list[Row], asked: Row, paths: dict[str, Path], files: dict[str, list[str]]
) -> None:
    """Add times and memory: every side takes the same steps, in turns."""
    peak = next((flops for name, flops in PEAKS.items() if name in _device_name(args.device)), None)
    with ExitStack() as stack:
        sides = {
            s: stack.enter_context(Worker("step_worker.py", [path], asked | {"device": args.device}))
            for s, path in paths.items()
        }
        for row in rows:
            taken: dict[str, list[Row]] = {side: [] for side in sides}
            for path in files[row["stream"]]:
                for side, worker in sides.items():
                    taken[side].append(worker.ask({"do": "step", "batch": path}))
            now = taken["now"][1:]  # the first step warms up
            n = row["images"]
            for unit in ("cpu_s", "wall_s"):
                row[f"{unit}_an_image"] = statistics.median(step[unit] for step in now) / n
            row["samples_a_s"] = 1 / row["wall_s_an_image"]
            row["peak_mb"] = max(step["peak_mb"] for step in now)
            row["mfu"] = None if peak is None else row["gflop_an_image"] * 1e9 * row["samples_a_s"] / peak
            timed = sides["now"].ask({"do": "objectives", "batch": files[row["stream"]][0]})
            row["forward_s"] = {objective: seconds / n for objective, seconds in timed.items()}
            if "before" in taken:
                before = taken["before"][1:]
                unit = "wall_s" if args.device.startswith("cuda") else "cpu_s"
                ratios = [a[unit] / b[unit] for a, b in zip(now, before, strict=True)]
                row["against"] = [statistics.median(ratios), min(ratios), max(ratios)]
                row["before_s_an_image"] = statistics.median(step[unit] for step in before) / n
                row["before_peak_mb"] = max(step["peak_mb"] for step in before)
        if args.profile:
            args.profile.mkdir(parents=True, exist_ok=True)
            for row in rows:
                out = args.profile / f"{row['model']}_{row['size']}_{row['stream']}.json"
                print(sides["now"].ask({"do": "profile", "batch": files[row["stream"]][0], "out": str(out)})["table"])


def _mixture(name: str, size: str, rows: list[Row]) -> Row:
    """A model's streams in the shares of its recipe, per image."""
    weights = {stream: images * ratio for stream, (images, ratio) in MIXTURES[name].items()}
    whole = sum(weights.values())
    row: Row = {"model": name, "size": size, "stream": "mixture"}

    def mean(key: str) -> float:
        return float(sum(weights[of["stream"]] * of[key] for of in rows) / whole)

    row["gflop_an_image"], row["gb_an_image"] = mean("gflop_an_image"), mean("gb_an_image")
    for of in rows:
        of["floor_gflop"] = of["gflop_an_image"] / of["over_floor"]
    row["over_floor"] = row["gflop_an_image"] / mean("floor_gflop")
    if "cpu_s_an_image" in rows[0]:
        row["cpu_s_an_image"], row["wall_s_an_image"] = mean("cpu_s_an_image"), mean("wall_s_an_image")
        row["samples_a_s"] = 1 / row["wall_s_an_image"]
        row["peak_mb"] = max(of["peak_mb"] for of in rows)
    if "against" in rows[0]:
        before = sum(weights[of["stream"]] * of["before_s_an_image"] for of in rows)
        now = sum(weights[of["stream"]] * of["before_s_an_image"] * of["against"][0] for of in rows)
        row["against"] = [now / before, None, None]
    return row


def _save(batch: Batch, folder: Path) -> str:
    path = folder / f"{batch.stream}-{batch.images.shape[-1]}-{len(list(folder.iterdir()))}.pt"
    plain = dataclasses.replace(batch, images=batch.model_images(), normalisation=None)  # as an older side reads it
    with _public_names():
        torch.save(plain, path)
    return str(path)


@contextmanager
def _public_names() -> Iterator[None]:
    """Pickle types by the name that users import them by: an older side has them in other files."""
    own = {each: each.__module__ for each in vars(types).values() if isinstance(each, type)}
    for each, module in own.items():
        if module.startswith(types.__name__):
            each.__module__ = types.__name__
    try:
        yield
    finally:
        for each, module in own.items():
            if module.startswith(types.__name__):
                each.__module__ = module


class Worker:
    """A process that takes steps when told to.

    Args:
        script: `step_worker.py`, or `step_official.py` for the authors' code.
        paths: Where it imports from: the checkout to measure first.
        asked: What it builds.
    """

    def __init__(self, script: str, paths: list[Path], asked: Row) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        command = [sys.executable, str(Path(__file__).with_name(script)), json.dumps(asked)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=paths[0])

    def ask(self, order: Row) -> Row:
        """Give an order and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process that should {order['do']} died; its error is above")
        answer: Row = json.loads(line)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def _checkout(against: str) -> Iterator[Path]:
    """The folder itself, or a worktree of the commit for as long as it is needed."""
    if Path(against).is_dir():
        yield Path(against).resolve()
        return
    git = ["git", "-C", str(HOME), "worktree"]
    with tempfile.TemporaryDirectory(prefix="relpretrain-before-") as folder:
        path = Path(folder) / "checkout"
        if subprocess.run([*git, "add", "--detach", str(path), against], capture_output=True, check=False).returncode:
            raise SystemExit(f"--against {against}: neither a folder nor a commit of {HOME}")
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], capture_output=True, check=False)


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"


def _tables(rows: list[Row], args: argparse.Namespace) -> str:
    """The report as Markdown."""

    def shown(row: Row, key: str, form: str) -> str:
        return format(row[key], form) if row.get(key) is not None else ""

    columns = [("GFLOP an image", "gflop_an_image", ".1f"), ("over floor", "over_floor", ".3f")]
    columns += [("samples/s", "samples_a_s", ".2f"), ("CPU s an image", "cpu_s_an_image", ".3f")]
    columns += [("peak MB", "peak_mb", ",.0f"), ("MFU", "mfu", ".1%")]
    header = ["model", "size", "stream", *(title for title, _, _ in columns)]
    names = ("model", "size", "stream")
    table = [[*(row[name] for name in names), *(shown(row, key, form) for _, key, form in columns)] for row in rows]
    text = [f"{_device_name(args.device)}, {args.precision}, {torch.get_num_threads()} thread(s)\n"]
    text.append(markdown_table(header, table))
    parts = [
        [*(row[name] for name in names), *(f"{a:.1f} / {b:.1f}" if b or a else "" for a, b in by.values())]
        for row in rows
        if (by := row.get("forward_gflop"))
    ]
    text.append("\nForward GFLOP of a batch by part, counted / floor:\n")
    text.append(markdown_table([*names, *PARTS], parts))
    timed = [row for row in rows if "forward_s" in row]
    if timed:
        text.append("\nForward seconds an image by objective; what objectives share is in the first of them:\n")
        listed = [[*(row[n] for n in names), _named(row["forward_s"])] for row in timed]
        text.append(markdown_table([*names, "seconds"], listed))
    compared = [row for row in rows if "against" in row]
    if compared:
        text.append(f"\nTime of a step, now / {args.against} (median of {args.turns} turns, smallest, largest):\n")
        listed = [
            [*(row[n] for n in names), *(format(x, ".3f") if x else "" for x in row["against"])] for row in compared
        ]
        text.append(markdown_table([*names, "ratio", "from", "to"], listed))
    return "\n".join(text)


def _named(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in seconds.items())


if __name__ == "__main__":
    sys.exit(main())
