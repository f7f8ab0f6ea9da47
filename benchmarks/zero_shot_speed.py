r"""How fast zero-shot scoring is, beside the one-item-at-a-time way of the reference scripts, on the same model.

python benchmarks/zero_shot_speed.py --data DIR
python benchmarks/zero_shot_speed.py --data DIR --size base --image-size 224 --items 24 --images 24 --texts 120 \
    --k-test 16 --queries 24 --repeats 1
python benchmarks/zero_shot_speed.py --data DIR --count

DIR holds VALSE's annotations in `valse/`. Its images are not needed: small random ones of the same names are drawn into
a folder that is removed in the end. Retrieval ranks random images and VALSE's texts. Times are CPU seconds of this
process, which other work on the machine disturbs least, as medians of interleaved repeats; ratios are medians of the
ratios of each repeat. With one thread (OMP_NUM_THREADS=1) CPU seconds are those that the process would need alone.

The reference ways, written from what the scripts do:

- VALSE (fine-grained-evals): item by item, the image is read and encoded, then each of its two texts by itself.
- Retrieval (ALBEF, X-VLM): all texts padded to the limit, then query by query, the k_test best of each fused at once.
  Where that takes too long it is timed on a sample of the queries, and the table says so. The way that fuses one pair
  at a time, as in the first benchmark, is timed on a sample, too.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from relpretrain.backbones.albef import ALBEF
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.zeroshot.evaluate import scored_as_pairs
from relpretrain.zeroshot.report.terminal import markdown_table
from relpretrain.zeroshot.scorers import MatchScorer, match_probability
from relpretrain.zeroshot.tasks import TASKS, Item, Source
from relpretrain.zeroshot.tasks.common.base import read_image
from relpretrain.zeroshot.tasks.retrieval.ranking import retrieve

TOKENS = 30


def main() -> int:
    """Run both benchmarks and print their table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with valse/*.json")
    parser.add_argument("--size", default="tiny", help="of the model: tiny (default), small or base")
    parser.add_argument("--image-size", type=int, default=32, help="pixels; the quickstart's model has 32")
    parser.add_argument("--images", type=int, default=1000, help="of retrieval")
    parser.add_argument("--texts", type=int, default=5000, help="of retrieval")
    parser.add_argument("--k-test", type=int, default=128)
    parser.add_argument("--items", type=int, help="VALSE items; all 7,702 if not given")
    parser.add_argument("--queries", type=int, help="queries of the reference way; all if not given")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--precision", default="fp32", help="of our way: fp32 (default) or bf16; the reference has fp32"
    )
    parser.add_argument("--count", action="store_true", help="instead: images that the tasks in DIR ask about")
    args = parser.parse_args()
    if args.count:
        print(markdown_table(["task", "splits", "items", "images, split by split", "images"], _count(args.data)))
        return 0
    with tempfile.TemporaryDirectory(prefix="relpretrain-speed-") as folder:
        items = _valse(args.data, Path(folder))
        texts = list(dict.fromkeys(text for item in items for text in item.texts))
        model = Model(texts, Path(folder), args.image_size, args.size, args.precision)
        header = ["benchmark", "pairs", "reference CPU s", "ours CPU s", "images", "times faster", "largest difference"]
        rows = [_time_valse(model, items[: args.items], args.repeats)]
        threads, pixels = torch.get_num_threads(), args.image_size
        print(f"{threads} thread(s), torch {torch.__version__}, images of {pixels} pixels, ours {args.precision}\n")
        rows += _time_retrieval(model, args.images, texts[: args.texts], args)
        print(markdown_table(header, rows))
        print("images: the share of ours that encodes them")
        if args.size != "tiny":
            return 0
        print("Peak memory of retrieval (k_test 16), and what the image tokens would take in memory:\n")
        print(markdown_table(["images", "peak MB", "tokens MB"], [_memory(n, texts[:500]) for n in (500, 5000)]))
    return 0


class Model:
    """An untrained ALBEF with a tokenizer made of the texts; `encoding` are CPU s that its scorer took for images."""

    def __init__(
        self, texts: Sequence[str], folder: Path, image_size: int, size: str = "tiny", precision: str = "fp32"
    ) -> None:
        write_wordpiece(texts, folder / "tokenizer")
        tokenizer = load_tokenizer(folder / "tokenizer")
        torch.manual_seed(0)
        self.backbone = ALBEF(size=size, image_size=image_size, vocab_size=len(tokenizer)).eval()
        self.preprocess = Preprocess(tokenizer, image_size, max_tokens=TOKENS)
        self.precision = precision
        self.encoding = 0.0

    def scorer(self) -> MatchScorer:
        """A scorer of this model, whose time for images is counted anew."""
        scorer: Any = MatchScorer(self.backbone, self.preprocess, precision=self.precision)
        encode, self.encoding = scorer.encode_images, 0.0

        def timed(images: Sequence[Any]) -> Any:
            begin = time.process_time()
            found = encode(images)
            self.encoding += time.process_time() - begin
            return found

        scorer.encode_images = timed
        return scorer  # type: ignore[no-any-return]


def _count(data: Path) -> list[list[str]]:
    """Images that each task encodes split by split, and once; of those tasks whose annotations are there."""
    rows, everything, total = [], set(), [0, 0, 0]
    for name, task in TASKS.items():
        if not scored_as_pairs(task):
            continue
        with contextlib.suppress(ValueError, OSError):
            splits = task.items(Source(data)).values()
            images = [{(item.image, item.box) for item in items} for items in splits]
            numbers = [len(images), sum(map(len, splits)), sum(map(len, images))]
            rows.append([name, *(f"{number:,}" for number in (*numbers, len(set().union(*images))))])
            everything |= set().union(*images)
            total = [a + b for a, b in zip(total, numbers, strict=True)]
    return [*rows, ["all", *(f"{number:,}" for number in (*total, len(everything)))]]


def _valse(data: Path, folder: Path) -> list[Item]:
    """VALSE's items with random images in the place of its own."""
    task, rng = TASKS["valse"], np.random.default_rng(0)
    items = task.items(Source(data))[""]
    (folder / "images").mkdir()
    for name in dict.fromkeys(item.image for item in items):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / "images" / name)
    return task.locate(items, Source(data, (folder / "images",)))[0]


@torch.inference_mode()
def _one_item_at_a_time(model: Model, items: Sequence[Item]) -> list[float]:
    backbone, preprocess, scores = model.backbone, model.preprocess, []
    for item in items:
        image = backbone.encode_image(preprocess.images([read_image(item.image)]))
        for text in item.texts:
            words = preprocess.texts([text])
            states = backbone.encode_text(words.input_ids, words.attention_mask)
            logits = backbone.match_logits(backbone.fuse(states, words.attention_mask, image.tokens, image.mask))
            scores.append(float(match_probability(logits)[0]))
    return scores


def _time_valse(model: Model, items: Sequence[Item], repeats: int) -> list[str]:
    ways = (
        lambda: _one_item_at_a_time(model, items),
        lambda: [record["score"] for record in TASKS["valse"].score(model.scorer(), items)],
    )
    times, (reference, ours) = _interleave(ways, repeats)
    difference = float(np.abs(np.array(reference) - np.array(ours)).max())
    return _row("VALSE, one item at a time", len(reference), times, 1.0, difference, model.encoding)


class _Noise(Sequence[Image.Image]):
    """Random images."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, number: int) -> Image.Image:  # type: ignore[override]
        rng = np.random.default_rng([number])
        return Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))


@torch.inference_mode()
def _one_query_at_a_time(
    model: Model, images: Sequence[Image.Image], texts: Sequence[str], k: int, every: int
) -> tuple[Tensor, float]:
    """Match logits (images, texts) of the k best of every n-th query by cosine, NaN elsewhere; seconds of encoding."""
    begin = time.process_time()
    backbone, preprocess = model.backbone, model.preprocess
    encoded = [backbone.encode_image(preprocess.images([images[i] for i in part])) for part in _batches(len(images))]
    tokens, mask = torch.cat([e.tokens for e in encoded]), torch.cat([e.mask for e in encoded])
    states, visible = [], []
    for part in _batches(len(texts)):
        words = preprocess.texts([texts[i] for i in part])
        room = (0, TOKENS - words.input_ids.shape[1])
        visible.append(torch.nn.functional.pad(words.attention_mask, room))
        states.append(backbone.encode_text(torch.nn.functional.pad(words.input_ids, room), visible[-1]))
    text, text_mask = torch.cat(states), torch.cat(visible)
    cosines = backbone.project_image(tokens) @ backbone.project_text(text).T
    logits = torch.full_like(cosines, torch.nan)
    encoding = time.process_time() - begin
    for i in range(0, len(images), every):
        best = cosines[i].topk(k).indices
        shown = tokens[i].expand(k, -1, -1), mask[i].expand(k, -1)
        logits[i, best] = backbone.match_logits(backbone.fuse(text[best], text_mask[best], *shown))[:, 1]
    for t in range(0, len(texts), every):
        best = cosines[:, t].topk(k).indices
        asked, seen = text[t].expand(k, -1, -1), text_mask[t].expand(k, -1)
        logits[best, t] = backbone.match_logits(backbone.fuse(asked, seen, tokens[best], mask[best]))[:, 1]
    return logits, encoding


@torch.inference_mode()
def _one_pair_at_a_time(model: Model, images: Sequence[Image.Image], texts: Sequence[str], pairs: Tensor) -> Tensor:
    scores = []
    for i, t in pairs.tolist():
        image = model.backbone.encode_image(model.preprocess.images([images[i]]))
        words = model.preprocess.texts([texts[t]])
        states = model.backbone.encode_text(words.input_ids, words.attention_mask)
        scores.append(
            model.backbone.match_logits(model.backbone.fuse(states, words.attention_mask, image.tokens, image.mask))[
                0, 1
            ]
        )
    return torch.stack(scores)


def _time_retrieval(model: Model, number: int, texts: Sequence[str], args: argparse.Namespace) -> list[list[str]]:
    images, owner = _Noise(number), [i * number // len(texts) for i in range(len(texts))]
    every = max(1, (number + len(texts)) // args.queries) if args.queries else 1
    ways = (
        lambda: _one_query_at_a_time(model, images, texts, args.k_test, every),
        lambda: retrieve(model.scorer(), images, texts, owner, args.k_test),
    )
    times, ((reference, encoding), ours) = _interleave(ways, args.repeats)
    times = [(encoding + every * (seconds - encoding), whole) for seconds, whole in times]  # only queries are a sample
    own = model.encoding
    image, text = ours.pairs.T
    asked = reference[image, text]
    known = ~asked.isnan()
    difference = float((asked - ours.logits).abs()[known].max())
    missed = int((~reference.isnan()).sum()) - int(known.sum())  # cosines that tie in float32 only
    if args.precision == "fp32" and missed > 0.001 * int(known.sum()):
        raise RuntimeError(f"{missed} pairs of the reference way were not scored by ours.")
    part = f" (1 query in {every})" if every > 1 else ""
    rows = [_row(f"retrieval, one query at a time{part}", len(ours.pairs), times, 1, difference, own)]
    sample = ours.pairs[:: max(1, len(ours.pairs) // 500)]
    begin = time.process_time()
    alone = _one_pair_at_a_time(model, images, texts, sample)
    seconds = time.process_time() - begin
    difference = float((alone - ours.logits[:: max(1, len(ours.pairs) // 500)]).abs().max())
    share = len(ours.pairs) / len(sample)
    name = f"retrieval, one pair at a time ({len(sample)} pairs timed)"
    return [*rows, _row(name, len(ours.pairs), [(seconds, ours_s) for _, ours_s in times], share, difference, own)]


def _interleave(ways: Sequence[Callable[[], object]], repeats: int) -> tuple[list[tuple[float, ...]], list[Any]]:
    """CPU seconds of each way in each repeat, and the last results."""
    times: list[tuple[float, ...]] = []
    results: list[Any] = []
    for _ in range(repeats):
        results, seconds = [], []
        for way in ways:
            begin = time.process_time()
            results.append(way())
            seconds.append(time.process_time() - begin)
        times.append(tuple(seconds))
        print(f"{seconds[0]:.1f} s and {seconds[1]:.1f} s", file=sys.stderr)
    return times, results


def _row(
    name: str, pairs: int, times: Sequence[tuple[float, ...]], scale: float, difference: float, images: float
) -> list[str]:
    """A row of the table; the reference took `scale` times as long as was measured, `images` is of the last repeat."""
    reference, ours = (statistics.median(t[i] for t in times) for i in (0, 1))
    ratio = statistics.median(scale * t[0] / t[1] for t in times)
    share = f"{100 * images / times[-1][1]:.0f} %"
    return [name, f"{pairs:,}", f"{scale * reference:.1f}", f"{ours:.1f}", share, f"{ratio:.2f}", f"{difference:.1g}"]


def _batches(number: int, size: int = 64) -> list[range]:
    return [range(start, min(start + size, number)) for start in range(0, number, size)]


def _memory(images: int, texts: Sequence[str]) -> list[str]:
    """Peak memory of a fresh process that ranks so many images of 96 pixels, and what their tokens weigh."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak = pool.apply(_peak, (images, list(texts)))
    tokens = images * (1 + (96 // 8) ** 2) * 64 * 4
    return [f"{images:,}", f"{peak:.0f}", f"{tokens / 2**20:.0f}"]


def _peak(images: int, texts: Sequence[str]) -> float:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = Model(texts, Path(folder), 96)
        retrieve(model.scorer(), _Noise(images), texts, [i % images for i in range(len(texts))], 16)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux


if __name__ == "__main__":
    sys.exit(main())
