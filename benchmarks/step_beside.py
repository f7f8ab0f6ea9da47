"""Our steps beside those of the authors' code, in turns: `benchmarks/step.py --official ALBEF_CHECKOUT XVLM_CHECKOUT`.

Both sides take the same images, texts, masked words and boxes, at base size with new weights, the same dropout and
number of threads, each in its own process; a step ends with AdamW's. Texts come to the authors' X-VLM as its loader
gives them, padded to 30 tokens, and to their ALBEF padded to the longest; "all tokens" fills every text up. Ratios are
medians, smallest and largest over turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.step_batches import OBJECTIVES, made_batches, real_batches
from benchmarks.step_official import recognise
from relpretrain.features import patch_mask
from relpretrain.types import IGNORE, Batch, TextBatch
from relpretrain.zeroshot.report.terminal import markdown_table

Row = dict[str, Any]
QUEUE = 65536


class Kind(NamedTuple):
    """Steps that are compared."""

    model: str  # whose checkout
    vision: str
    stream: str
    images: int
    pixels: int
    tokens: int
    filled: bool  # every text has all tokens

    @property
    def title(self) -> str:
        """Its row in the table."""
        length = f"all {self.tokens} tokens" if self.filled else f"real lengths up to {self.tokens}"
        name = "ALBEF, momentum, queue" if self.model == "ALBEF" else f"X-VLM {self.vision}"
        return f"{name}, {self.stream}, {self.pixels} px, {length}, batch {self.images}"


KINDS = [Kind("ALBEF", "vit", "captions", 8, *size) for size in ((256, 25, True), (256, 25, False), (224, 30, True))]
KINDS += [
    Kind("X-VLM", vision, stream, 4, 224, 30, filled)
    for vision in ("swin", "vit")
    for stream in ("captions", "regions")
    for filled in (True, False)
]


def checkouts(parser: argparse.ArgumentParser, paths: list[Path]) -> dict[str, Path]:
    """Folders of the authors' code by name; a path that is none ends the program with a line that says so."""
    found: dict[str, Path] = {}
    for path in paths:
        name = recognise(path)
        if name is None:
            parser.error(
                f"--official {path}: no checkout of github.com/salesforce/ALBEF or github.com/zengyan-97/X-VLM: clone "
                "one of them, and give its folder"
            )
        found[name] = path.resolve()
    return found


def kinds(args: argparse.Namespace) -> list[Kind]:
    """Steps whose checkout is in `args.official`, and whose row has all of `args.only`."""
    return [kind for kind in KINDS if kind.model in args.official and all(p in kind.title for p in args.only or [])]


def compare(args: argparse.Namespace, folder: Path, home: Path, worker: Any) -> list[Row]:
    """Rows of all steps that were asked for; `worker` starts a process (`step.Worker`)."""
    rows: list[Row] = []
    for kind in kinds(args):
        rows.append(_row(args, kind, args.official[kind.model], folder, home, worker))
        print(_line(rows[-1]), flush=True)
    return rows


def _row(args: argparse.Namespace, kind: Kind, path: Path, folder: Path, home: Path, worker: Any) -> Row:
    files = [(_save(batch, folder), _save_official(kind, batch, folder)) for batch in _batches(args, kind, folder)]
    common = {"device": args.device, "precision": args.precision}
    arguments: Row = {"image_size": kind.pixels, "dropout": args.dropout}
    if kind.model == "ALBEF":
        arguments |= {"momentum": 0.995, "queue_size": QUEUE}
    else:
        arguments |= {"vision": kind.vision}
    ours = {"model": kind.model.replace("-", ""), "size": "base", "arguments": arguments, "relations": []}
    ours |= {"objectives": OBJECTIVES[kind.stream], **common}
    theirs = {"model": kind.model, "vision": kind.vision, "path": str(path), "image_size": kind.pixels}
    theirs |= {"dropout": args.dropout, "queue_size": QUEUE, **common}
    with ExitStack() as stack:
        one = stack.enter_context(worker("step_official.py", [path, home], theirs))
        other = stack.enter_context(worker("step_worker.py", [home], ours))
        last, their_last = files[-1]
        sides = ((one, their_last), (other, last))
        products = [side.ask({"do": "flops", "batch": batch})["gflop"] for side, batch in sides]
        row: Row = {"row": kind.title, "turns": args.turns, **kind._asdict()}
        row |= {"official_gflop": products[0], "gflop": products[1], "gflop_ratio": products[0] / products[1]}
        if args.count:
            return row
        taken = [(one.ask({"do": "train", "batch": b}), other.ask({"do": "train", "batch": a})) for a, b in files]
        live = [side.ask({"do": "live", "batch": batch})["live_mb"] for side, batch in sides]
    row |= {"official_live_mb": live[0], "live_mb": live[1], "live_mb_ratio": live[1] / live[0]}
    for unit in ("cpu_s", "wall_s", "peak_mb"):
        of = taken[1:]  # the first step warms up, and makes AdamW's states
        row[f"official_{unit}"], row[unit] = (statistics.median(pair[i][unit] for pair in of) for i in (0, 1))
        ratios = [theirs[unit] / ours[unit] for theirs, ours in of]
        if unit == "peak_mb":
            ratios = [1 / ratio for ratio in ratios]
        row[f"{unit}_ratio"] = [statistics.median(ratios), min(ratios), max(ratios)]
    return row


def _batches(args: argparse.Namespace, kind: Kind, folder: Path) -> list[Batch]:
    """A batch to warm up, and one for each turn."""
    number, sizes = args.turns + 1, {kind.stream: kind.images}
    if args.data is None:
        found, _ = made_batches(kind.pixels, sizes, number, 30522)
    else:
        more = {"entities_per_image": 3} if kind.stream == "regions" else {}
        found, _ = real_batches(args.data, folder, kind.pixels, sizes, number, max_tokens=kind.tokens, **more)
    return [_fill(batch, kind.tokens) if kind.filled else batch for batch in found[kind.stream]]


def _fill(batch: Batch, tokens: int) -> Batch:
    """The batch with the words of each text over and over until it has all tokens, masked as before."""
    text = batch.pairs.text
    lengths = text.attention_mask.sum(1, keepdim=True)
    step = torch.arange(tokens - 1)
    columns = F.pad(1 + step % (lengths - 1), (1, 0))  # [CLS], then the words over and over

    def fill(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.gather(1, columns)

    ids, mask = text.input_ids.gather(1, columns), torch.ones_like(columns, dtype=torch.bool)
    longer = TextBatch(ids, mask, fill(text.masked_input_ids), fill(text.labels)).located()
    return dataclasses.replace(batch, pairs=dataclasses.replace(batch.pairs, text=longer))


def _save(batch: Batch, folder: Path) -> str:
    return _saved(dataclasses.replace(batch, images=batch.model_images(), normalisation=None), folder)


def _save_official(kind: Kind, batch: Batch, folder: Path) -> str:
    """The batch as the authors' models take it."""
    pairs, text = batch.pairs, batch.pairs.text
    assert text.masked_input_ids is not None
    assert text.labels is not None
    longest = text.input_ids.shape[1] if kind.model == "ALBEF" else max(kind.tokens, text.input_ids.shape[1])

    def pad(x: Tensor, value: int = 0) -> Tensor:
        return F.pad(x, (0, longest - x.shape[1]), value=value)

    given = {"images": batch.model_images(), "ids": pad(text.input_ids), "mask": pad(text.attention_mask.long())}
    given["masked"] = pad(text.masked_input_ids)
    labels = pad(text.labels, IGNORE)
    if kind.model == "ALBEF":
        return _saved(given | {"labels": labels}, folder)
    # Places of masked words, the same number for all texts.
    chosen = labels != IGNORE
    most = int(chosen.sum(1).max())
    places = chosen.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    given |= {"places": places.where(chosen.gather(1, places), 0), "words": labels.gather(1, places)}
    if pairs.boxes is not None:
        side = 7 if kind.vision == "swin" else 14
        seen = F.pad(patch_mask(pairs.boxes, (side, side)), (1, 0), value=True).long()
        given |= {"image_atts": seen, "idx_to_group_img": pairs.image_index, "target_bbox": pairs.boxes}
        given["is_image"] = torch.zeros(len(pairs), dtype=torch.long)
    return _saved(given, folder)


def _saved(what: Any, folder: Path) -> str:
    path = folder / f"beside-{len(list(folder.iterdir()))}.pt"
    torch.save(what, path)
    return str(path)


def _line(row: Row) -> str:
    if "cpu_s" not in row:
        return f"{row['row']}: FLOPs {row['gflop_ratio']:.2f}"
    memory = f"memory {row['peak_mb_ratio'][0]:.2f}, of tensors {row['live_mb_ratio']:.2f}"
    return f"{row['row']}: CPU {row['cpu_s_ratio'][0]:.2f}, {memory}"


def table(rows: list[Row], args: argparse.Namespace) -> str:
    """The comparison as Markdown: FLOPs, and where steps were timed, time and memory."""
    header = ["step", "official GFLOP", "our GFLOP", "official / ours"]
    counted = [
        [r["row"], *(f"{r[key]:,.0f}" for key in ("official_gflop", "gflop")), f"{r['gflop_ratio']:.2f}"] for r in rows
    ]
    counts = markdown_table(header, counted)
    if args.count:
        return counts

    def spread(ratio: list[float]) -> str:
        return f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})"

    unit = "wall_s" if args.device.startswith("cuda") else "cpu_s"
    header = ["step", "official s", "our s", "official / ours", "official MB", "our MB", "ours / official"]
    header += ["official tensors MB", "our tensors MB", "ours / official"]
    listed = [
        [
            row["row"],
            f"{row[f'official_{unit}']:.2f}",
            f"{row[unit]:.2f}",
            spread(row[f"{unit}_ratio"]),
            f"{row['official_peak_mb']:,.0f}",
            f"{row['peak_mb']:,.0f}",
            spread(row["peak_mb_ratio"]),
            f"{row['official_live_mb']:,.0f}",
            f"{row['live_mb']:,.0f}",
            f"{row['live_mb_ratio']:.2f}",
        ]
        for row in rows
    ]
    return f"{counts}\n\n{markdown_table(header, listed)}"
