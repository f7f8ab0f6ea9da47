"""The page on where graphs come from: a human, a parser, a tagger, and noise; every number comes from the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.ablation.design import GRAPH_SHARE, Preset
from benchmarks.ablation.graphs import SENTENCES, TAGGER_IMAGES, TAGGER_STEPS, THRESHOLD, WORDINGS
from benchmarks.ablation.measures import HEADLINES, HELD_OUT, RELATIONS, TEXT_RETRIEVAL, Measure
from benchmarks.ablation.pages.page import Page
from benchmarks.ablation.pages.paragraphs import (
    Context,
    code,
    count,
    made_by,
    measured,
    reproduce,
    table,
    write_paragraphs,
)
from benchmarks.ablation.studies import Comparison, Selection, Setting, images
from benchmarks.ablation.train import GRAPHS
from relpretrain.zeroshot.report.terminal import markdown_table

_BASE: Mapping[str, Any] = {"backbone": "ALBEF", "arm": "+both", "share": GRAPH_SHARE}
BASELINE, HUMAN = "baseline", "human"
SOURCES: Mapping[str, Selection] = {
    BASELINE: {"backbone": "ALBEF", "arm": "baseline"},
    HUMAN: _BASE,
    "parsed": {**_BASE, "graphs": "parsed"},
    "tagged": {**_BASE, "graphs": "tagged"},
    "human and tagged": {**_BASE, "graphs": "mixed"},
    "noise of 10 %": {**_BASE, "graphs": "noise-0.1"},
    "noise of 30 %": {**_BASE, "graphs": "noise-0.3"},
}
"""The sources of graphs as the page names them, and their runs."""
GATED = "human, gated fusion"
FUSIONS: Mapping[str, Selection] = {HUMAN: _BASE, GATED: {**_BASE, "fusion": "gated"}}
"""Ways of fusion as the page names them, and their runs."""
AUTOMATIC = ("parsed", "tagged", "human and tagged")
NOISY = ("noise of 10 %", "noise of 30 %")
_RUNS: Mapping[str, Selection] = {**SOURCES, **FUSIONS}
QUALITY = (Measure("precision", (GRAPHS,), "precision"), Measure("recall", (GRAPHS,), "recall"))


def write_graph_page(out: Path, results: pd.DataFrame, preset: Preset, context: Context) -> Path:
    """Write the page as Markdown, and its plots into a folder beside it; arguments as of `page.write_page`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    page = _GraphPage(results, out.parent / out.stem)
    parts = [
        *page.head(preset, context),
        *page.sources(),
        *page.noise(),
        *page.quality(),
        *page.curves(),
        *page.fusion(),
    ]
    parts += [*_method(preset, context), *reproduce(context)]
    return write_paragraphs(out, parts)


class _GraphPage(Page):
    """The sections, as paragraphs."""

    def compared(self, labels: tuple[str, ...], control: str = "") -> Comparison:
        """Sources side by side, as far as they were run, each against one of them."""
        rows = [
            Setting(label, _RUNS[label], "" if label == control else control)
            for label in labels
            if len(HELD_OUT.by_seed(self.last, **_RUNS[label]))
        ]
        return Comparison(self.last, "graphs", tuple(rows), HEADLINES)

    def head(self, preset: Preset, context: Context) -> Iterator[str]:
        """What a reader sees first."""
        yield "# Evidence: human graphs or automatic ones?"
        yield (
            "The paper names automatic annotation as its next step, and leaves open what it costs. Here people, a "
            "parser of captions and a tagger of boxes annotate the very same images of generated worlds, whose "
            f"relations are known: {images(GRAPH_SHARE)} of all images, one triplet each at most. "
            f"{count(len(self.last), 'training run')}, {count(self.last['seed'].nunique(), 'seed')}; differences are "
            "paired by seed."
        )
        yield "\n".join(f"- {answer}" for answer in self.answers())
        yield code(context.command)
        yield made_by(preset, context)

    def answers(self) -> Iterator[str]:
        """What the intervals allow to say, in sentences."""
        against = {control: self.compared((control, *AUTOMATIC), control) for control in (HUMAN, BASELINE)}
        yield against[BASELINE].verdict("Against no graphs", HELD_OUT)
        yield against[HUMAN].verdict("Against human graphs", HELD_OUT)
        yield self.compared((HUMAN, *NOISY), HUMAN).verdict("Noise, against human graphs", HELD_OUT)
        yield against[BASELINE].verdict("Retrieval, against no graphs", TEXT_RETRIEVAL)

    def sources(self) -> Iterator[str]:
        """All sources side by side."""
        yield "## What graphs of each source are worth"
        yield (
            "Equal steps, the same captions, images and boxes; means over seeds and 95 % intervals of Student's t, in "
            "percent. Held-out relation probes are of compositions that no training image shows."
        )
        compared = self.compared(tuple(SOURCES), HUMAN)
        for measure in HEADLINES:
            yield compared.sentence(measure)
        yield table("graphs", compared, (HELD_OUT,), differences=True)
        yield table("graphs", compared, HEADLINES[1:], differences=True)
        yield table("graphs", compared, RELATIONS[:3])
        yield table("graphs", compared, RELATIONS[3:])
        yield self.dots(compared, HEADLINES, "sources", "Sources of graphs")

    def noise(self) -> Iterator[str]:
        """Noise as a dial."""
        yield "## Noise as a dial"
        yield "Human graphs in which a share of the relations is replaced by a false one of the same two things."
        compared = self.compared((HUMAN, *NOISY), HUMAN)
        yield compared.sentence(HELD_OUT)
        yield table("graphs", compared, (HELD_OUT,), differences=True)
        yield self.dots(compared, (HELD_OUT,), "noise", "Noise as a dial")

    def quality(self) -> Iterator[str]:
        """The graphs themselves."""
        yield "## How good the graphs are"
        yield (
            "Triplets held against what is true of the boxes. Precision is the share of the triplets that are true, "
            "recall the share of what is true that they tell, from either side; in percent, with 95 % intervals over "
            "seeds."
        )
        rows = []
        for setting in self.compared(tuple(SOURCES)).settings:
            shares = [measure.by_seed(self.last, **setting.where) for measure in QUALITY]
            each = Measure("", (GRAPHS,), "per_image").by_seed(self.last, **setting.where)
            if len(each):
                cells = [Comparison(self.last, "", ()).mean(setting, measure).percent for measure in QUALITY]
                rows.append([setting.label, f"{each.mean():.2f}", *cells, str(len(shares[0]))])
        yield markdown_table(["graphs", "triplets an image", "precision", "recall", "seeds"], rows) if rows else ""

    def curves(self) -> Iterator[str]:
        """Figures along training."""
        yield "## Learning curves"
        yield "Held-out combinations, on a sample of the items; the last point is on all of them."
        for name, labels in (("sources", (BASELINE, HUMAN, *AUTOMATIC)), ("noise", (HUMAN, *NOISY))):
            path = self.lines({label: SOURCES[label] for label in labels}, f"{name} curves", "step")
            yield path and f"![Learning curves: {name}]({path})"

    def fusion(self) -> Iterator[str]:
        """Whether texts that meet images early learn faster."""
        yield "## Gated fusion"
        yield (
            "RLIPv2 lets texts and images meet before the last blocks of the image's encoder, through gates that are "
            "small at first, and says that this converges faster. `fusion: gated` of our backbones does so "
            "([tagging](tagging.md)); here on human graphs, with equal steps, then by what the steps cost."
        )
        compared = self.compared(tuple(FUSIONS), HUMAN)
        yield compared.sentence(HELD_OUT)
        yield table("fusion", compared, (HELD_OUT,), differences=True)
        yield table("fusion", compared, HEADLINES[1:], differences=True)
        for axis in ("step", "teraflops"):
            path = self.lines(FUSIONS, f"fusion by {axis}", axis)
            yield path and f"![Gated and late fusion by {axis}]({path})"


def _method(preset: Preset, context: Context) -> Iterator[str]:
    yield "## How it was measured"
    yield measured(preset)
    forms = ", ".join(f"“{wording}”" for wordings in WORDINGS.values() for wording in wordings)
    world = preset.worlds["main"]
    size, whole = world["shard_size"], round(GRAPH_SHARE * world["images_captions"])
    yield "\n".join(
        [
            f"- **human**: of each of {whole:,} images one true triplet, which chance chooses.",
            f"- **parsed**: a caption of each image tells one true relation, which chance chooses, in one of "
            f"{len(SENTENCES)} kinds of sentences and {sum(map(len, WORDINGS.values()))} wordings ({forms}). "
            "`relpretrain data label --parser lexicon` reads it and ties its nouns to the boxes; wordings are named as "
            "the vocabulary has them, and triplets outside of it are left out. These captions are for the parser "
            "alone: all runs train on the same others.",
            f"- **tagged**: a `RelationTagger` on a model of the same size, both trained together from nothing for "
            f"{TAGGER_STEPS:,} steps on {TAGGER_IMAGES:,} further images with human graphs, and calibrated on {size:,} "
            "others, which no other run sees; `relpretrain data label --tagger --top-k 1 --threshold "
            f"{THRESHOLD:g}` on the boxes, and of each image the surest triplet. Streams set no `min_confidence` and "
            "do not weigh losses.",
            "- **human and tagged**: human graphs for the first half of the images, tagged ones for the second.",
            "- **noise**: the human graphs, each relation replaced by chance; what is false at 10 % is false at 30 %, "
            "too.",
        ]
    )
    if context.tried:
        yield context.tried
