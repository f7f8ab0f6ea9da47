"""How well and how fast the caption parsers are, on FACTUAL's test captions.

python -m benchmarks.parsers --data DIR --parsers lexicon spacy:en_core_web_sm

DIR holds FACTUAL's rows in `factual/`. A parser may name its model after a colon. Set match is the share of captions
whose graph is the annotated one; F1 is over things, attributes and triplets of a caption, averaged over captions, as
SPICE counts; both compare lemmas (relpretrain/scene_graph/parse/scores.py). With WordNet among nltk's data there is a
second F1 in which synonyms agree. Speed is in CPU seconds of this process, the median of the repeats; for a parser on a
GPU it says what the process takes beside it. OMP_NUM_THREADS=1 makes it that of one core.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from relpretrain.errors import ConfigError
from relpretrain.scene_graph.parse import ParsedCaption, Parser, build_parser
from relpretrain.scene_graph.parse.graph_text import read_graph_text
from relpretrain.scene_graph.parse.scores import KINDS, Meanings, f1, set_match, shares
from relpretrain.sources.common.tables import table_rows
from relpretrain.zeroshot.report.terminal import markdown_table

MANY = 12_000_000
"""Captions of the cost: those of CC12M."""

T5 = {"small": (512, 1024, 8, 6), "base": (768, 2048, 12, 12), "large": (1024, 2816, 24, 16)}
"""Width, width of the feed-forward layers, layers and heads of Flan-T5."""
READ, WRITTEN = 20, 32
"""Tokens of a caption with its prompt and of its graph."""

PUBLISHED = [
    ["SPICE/Stanford parser", "19.30", "", "64.77"],
    ["FACTUAL Flan-T5 small", "78.18", "", "92.26"],
    ["FACTUAL Flan-T5 base", "81.37", "", "93.27"],
    ["FACTUAL Flan-T5 large", "81.63", "", "93.20"],
]
"""Set match and SPICE, with WordNet's synonyms, of FACTUAL's README on its random split."""


def main() -> int:
    """Parse, compare, and print the tables."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="folder with factual/*.csv")
    options.add_argument("--parsers", nargs="+", default=["lexicon"], metavar="NAME[:MODEL]")
    options.add_argument("--splits", nargs="+", default=["random_test", "length_test"])
    options.add_argument("--repeats", type=int, default=3, help="of the timing")
    options.add_argument("--t5", choices=T5, help="time a Flan-T5 of that size with random weights, too")
    options.add_argument("--histogram", type=int, default=0, metavar="N", help="the N most frequent relations of each")
    args = options.parse_args()
    try:
        parsers = {name: named_parser(name) for name in args.parsers}
        splits = {split: read_rows(args.data / "factual" / f"{split}.csv") for split in args.splits}
    except (ConfigError, ValueError) as error:
        print(f"parsers: {error}", file=sys.stderr)
        return 2
    meanings = wordnet_meanings()
    for split, (captions, truth) in splits.items():
        found = {name: parser.parse(captions) for name, parser in parsers.items()}
        print(f"\n{split}: {len(captions):,} captions\n")
        print(agreement_table(found, truth, meanings, published=split == "random_test"))
        print("\nF1 by kind, over all captions\n")
        print(kind_table(found, truth))
        for name in found if args.histogram else ():
            print(f"\n{name}: {histogram(found[name], args.histogram)}")
    print("\nSpeed\n")
    captions = next(iter(splits.values()))[0]
    print(speed_table(parsers, captions, args.repeats))
    if args.t5:
        _, speed, hours = cost("", 1 / t5_seconds(args.t5, args.repeats))
        print(
            f"Flan-T5 {args.t5}, {READ} tokens read, {WRITTEN} written: {speed} captions per second, {hours} core-hours"
        )
    return 0


def named_parser(name: str) -> Parser:
    """A parser of NAME or NAME:MODEL."""
    kind, _, model = name.partition(":")
    return build_parser(kind, **({"model": model} if model else {}))


def read_rows(path: Path) -> tuple[list[str], list[ParsedCaption]]:
    """Captions of a file of FACTUAL, and their annotated graphs."""
    rows = [row for _, row in table_rows(path, "FACTUAL's rows", Counter(), columns=("caption", "scene_graph"))]
    return [row["caption"] for row in rows], [read_graph_text(row["scene_graph"]) for row in rows]


def wordnet_meanings() -> Meanings | None:
    """Synsets of a word as its meanings; None if WordNet is not among nltk's data."""
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return None

    @lru_cache(None)
    def meanings(word: str) -> frozenset[str]:
        return frozenset(synset.name() for synset in wordnet.synsets(word.replace(" ", "_")))

    return meanings


def agreement_table(
    found: dict[str, list[ParsedCaption]], truth: Sequence[ParsedCaption], meanings: Meanings | None, published: bool
) -> str:
    """Set match, both F1 and the yield of each parser, in percent."""
    rows = []
    for name, parsed in found.items():
        pairs = list(zip(parsed, truth, strict=True))
        match = statistics.fmean(set_match(one, other) for one, other in pairs)
        words = statistics.fmean(f1(one, other) for one, other in pairs)
        meant = f"{100 * statistics.fmean(f1(one, other, meanings) for one, other in pairs):.2f}" if meanings else "-"
        triplets = statistics.fmean(len(one.relations) for one in parsed)
        rows.append([name, f"{100 * match:.2f}", f"{100 * words:.2f}", meant, f"{triplets:.2f}"])
    annotated = statistics.fmean(len(other.relations) for other in truth)
    rows += [[f"{row[0]} (published)", *row[1:], ""] for row in PUBLISHED] if published else []
    rows.append(["annotators", "", "", "", f"{annotated:.2f}"])
    return markdown_table(["parser", "set match", "F1", "F1, synonyms", "triplets per caption"], rows)


def kind_table(found: dict[str, list[ParsedCaption]], truth: Sequence[ParsedCaption]) -> str:
    """F1 of things, attributes and each kind of relation, with how many the annotators have."""
    kinds = ("things", "attributes", *KINDS)
    by_parser = {name: shares(parsed, truth) for name, parsed in found.items()}
    rows = [[name, *(f"{100 * own[kind].f1:.1f}" for kind in kinds)] for name, own in by_parser.items()]
    rows.append(["annotated", *(f"{next(iter(by_parser.values()))[kind].truth:,}" for kind in kinds)])
    return markdown_table(["parser", *kinds], rows)


def histogram(parsed: Sequence[ParsedCaption], number: int) -> str:
    """The most frequent relations with their counts."""
    counts = Counter(relation.relation for one in parsed for relation in one.relations)
    return ", ".join(f"{name} {n:,}" for name, n in counts.most_common(number))


def t5_seconds(size: str, repeats: int, captions: int = 16) -> float:
    """CPU seconds of a caption in FACTUAL's model, of which only the shape matters for that."""
    from transformers import T5Config, T5ForConditionalGeneration

    width, inner, layers, heads = T5[size]
    config = T5Config(
        vocab_size=32128, d_model=width, d_kv=64, d_ff=inner, num_layers=layers, num_heads=heads,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0,
    )  # fmt: skip
    model: Any = T5ForConditionalGeneration(config).eval()
    tokens = model.dummy_inputs["input_ids"].new_ones(captions, READ)
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        model.generate(tokens, min_length=WRITTEN, max_length=WRITTEN, num_beams=1, do_sample=False)
        taken.append(time.process_time() - start)
    return statistics.median(taken) / captions


def speed_table(parsers: dict[str, Parser], captions: list[str], repeats: int) -> str:
    """Captions per CPU second, and the core-hours of many."""
    rows = []
    for name, parser in parsers.items():
        parser.parse(captions[:64])  # what is read once
        taken = []
        for _ in range(repeats):
            start = time.process_time()
            parser.parse(captions)
            taken.append(time.process_time() - start)
        rows.append(cost(name, len(captions) / statistics.median(taken)))
    return markdown_table(["parser", "captions per second and core", "core-hours of 12 million"], rows)


def cost(name: str, speed: float) -> list[str]:
    """Captions per CPU second, and what many take."""
    return [name, f"{speed:,.4g}", f"{MANY / speed / 3600:,.2g}" if speed > 1000 else f"{MANY / speed / 3600:,.0f}"]


if __name__ == "__main__":
    sys.exit(main())
