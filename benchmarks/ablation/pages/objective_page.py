"""The page on newer objectives: what each makes of the same texts of graphs; every number comes from the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.ablation.design import COMPARED, OBJECTIVE_SHARE, Budget, Preset, Way
from benchmarks.ablation.measures import HELD_OUT, TEXT_RETRIEVAL, VSR_HELD_OUT, Measure
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
from benchmarks.ablation.studies import Comparison, Setting, images

BASELINE, TEXTS = "captions alone", "same texts, no foils (VSG)"
TITLES: Mapping[str, str] = {
    "baseline": BASELINE,
    "+VSG": TEXTS,
    "+both": "VSG + MRC",
    "+both+units": "VSG + MRC + units",
    "+both+foils": "VSG + MRC + foils",
}
"""What the page calls arms whose name is not what it calls them."""
WAYS: Mapping[Way, str] = {"itm": "matching", "itc": "embeddings"}
"""What the page calls scores of a model."""

_HALF = "benchmarks/half_truth"
ATTRIBUTES = Measure("attributes exchanged", ("benchmarks/aro/attribution",), chance=0.5)
HARD_POSITIVES = Measure(
    "held-out hard positives",
    ("held_out_pairs/hard_positives/augmented", "held_out_combinations/hard_positives/augmented"),
    chance=1 / 3,
)
HALF_ENTITIES = Measure("half-truth, entities", (f"{_HALF}/entities/half-truth",), chance=0.5)
HALF_RELATIONS = Measure("half-truth, relations", (f"{_HALF}/relations/half-truth",), chance=0.5)
WHICH = tuple(
    Measure(f"{title}, {split}", (f"{_HALF}/{split}/{name}",), chance=0.5)
    for split in ("entities", "relations")
    for name, title in (("which", "true or false addition"), ("addition", "true addition"))
)
AUROC = replace(VSR_HELD_OUT, title="held-out VSR AUROC", metric="auroc")
IMAGE_RETRIEVAL = replace(TEXT_RETRIEVAL, title="image retrieval IR@1", metric="ir@1")
SHOWN: Mapping[Way, tuple[tuple[Measure, ...], ...]] = {
    "itm": (
        (ATTRIBUTES, HARD_POSITIVES, VSR_HELD_OUT),
        (HALF_ENTITIES, HALF_RELATIONS),
        WHICH,
    ),
    "itc": ((ATTRIBUTES, HARD_POSITIVES, AUROC), (HALF_ENTITIES, HALF_RELATIONS), WHICH),
}
"""The tables of each way of scoring, beside relations and retrieval; cosines have no accuracy at 0.5."""


def by(way: Way, measure: Measure) -> Measure:
    """A measure by some scores of a model."""
    return measure if way == "itm" else replace(measure, metric=f"{way} {measure.metric}")


def write_objective_page(out: Path, results: pd.DataFrame, preset: Preset, context: Context) -> Path:
    """Write the page as Markdown, and its plots into a folder beside it; arguments as of `page.write_page`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    page = _ObjectivePage(results, out.parent / out.stem)
    parts = [*page.head(preset, context), *page.equal_texts(), *page.equal_compute(), *_method(preset, context)]
    return write_paragraphs(out, [*parts, *reproduce(context)])


class _ObjectivePage(Page):
    """The sections, as paragraphs."""

    def compared(self, backbone: str, control: str = TEXTS, budget: Budget = "steps") -> Comparison:
        """The arms that were run, each against one of them; of equal compute, +both is that of equal steps."""
        rows = []
        for arm in COMPARED:
            own: Budget = "steps" if arm == "+both" else budget
            where = {"backbone": backbone, "arm": arm, "share": OBJECTIVE_SHARE, "budget": own}
            label = TITLES.get(arm, arm.removeprefix("+"))
            if len(HELD_OUT.by_seed(self.last, **where)):
                rows.append(Setting(label, where, "" if label == control else control))
        return Comparison(self.last, backbone, tuple(rows))

    def head(self, preset: Preset, context: Context) -> Iterator[str]:
        """What a reader sees first."""
        yield "# Evidence: what do newer objectives add?"
        yield (
            "Since VSG and MRC, other methods teach relations by false texts, by single triplets or by several texts "
            "of an image. Here all of them see the same images, captions and graphs of generated worlds, for the same "
            "number of steps, on two fusion models; foils are made of the graphs and are never true. "
            f"{count(len(self.last), 'training run')}, {count(self.last['seed'].nunique(), 'seed')}; differences are "
            "paired by seed."
        )
        yield "\n".join(f"- {answer}" for answer in self.answers())
        yield code(context.command)
        yield made_by(preset, context)

    def answers(self) -> Iterator[str]:
        """What the intervals allow to say, in sentences."""
        for backbone in self.backbones:
            for way, words in WAYS.items():
                start = f"{backbone}, by {words}, against {TEXTS}"
                yield self.compared(backbone).verdict(start, by(way, HELD_OUT))
            lost = self.compared(backbone, BASELINE)
            yield lost.verdict(f"{backbone}, what is forgotten, against {BASELINE}", TEXT_RETRIEVAL)

    def equal_texts(self) -> Iterator[str]:
        """All arms at equal steps."""
        yield "## Equal texts"
        yield (
            "Equal steps on the same captions and graphs. Means over seeds and 95 % intervals of Student's t, in "
            f"percent; differences are from “{TEXTS}”, where nothing is said of a control. Held-out probes are of "
            "compositions that no training image shows. A hard positive is right if the relation and the same one told "
            "from the other side both beat a false text. Half-truths: see [benchmarks](benchmarks.md); a model that "
            "always prefers the shorter text gets 100 of half-truth and 0 of true addition, and the columns must be "
            "read together."
        )
        for backbone in self.backbones:
            for way, words in WAYS.items():
                compared = self.compared(backbone)
                relations = by(way, HELD_OUT)
                yield f"### {backbone}, by {words}"
                yield compared.sentence(relations)
                yield table("arm", compared, (relations,), differences=True)
                for measures in SHOWN[way]:
                    yield table("arm", compared, [by(way, measure) for measure in measures])
                yield f"Retrieval by captions that only name things, differences from “{BASELINE}”:"
                retrieval = [by(way, measure) for measure in (TEXT_RETRIEVAL, IMAGE_RETRIEVAL)]
                yield table("arm", self.compared(backbone, BASELINE), retrieval, differences=True)
                shown = [relations, *(by(way, m) for m in (HARD_POSITIVES, HALF_RELATIONS))]
                yield self.dots(compared, shown, f"{backbone} {way}", f"Arms by {words}")

    def equal_compute(self) -> Iterator[str]:
        """Arms that trained as long as +both computes."""
        yield "## Equal compute"
        yield (
            "Here each arm trained for as many floating point operations (TFLOP: 10^12 of them) as VSG + MRC: longer "
            "if its steps are cheaper, and shorter if they are dearer."
        )
        answers = [part for backbone in self.backbones for part in self._same_compute(backbone)]
        yield from answers or ["No run of this preset asks this."]

    def _same_compute(self, backbone: str) -> Iterator[str]:
        compared = self.compared(backbone, budget="compute")
        if all(setting.where["budget"] == "steps" for setting in compared.settings):
            return
        yield f"### {backbone}, equal compute"
        yield self.costs(compared, (HELD_OUT, HARD_POSITIVES, TEXT_RETRIEVAL))
        yield compared.sentence(HELD_OUT)
        yield table("arm", compared, (by("itc", HELD_OUT), by("itc", HARD_POSITIVES), HALF_RELATIONS))


def _method(preset: Preset, context: Context) -> Iterator[str]:
    yield "## How it was measured"
    yield measured(preset)
    yield "\n".join(
        [
            f"- {images(OBJECTIVE_SHARE)} of the images have a graph. All arms but “{BASELINE}” train ITC, ITM and MLM "
            "on its triplets in words; foils as further columns, and several positives, take the place of ITC there.",
            "- **NegCLIP, TSVLC, CE-CLIP, FSC-CLIP, SGVL** are the presets of `TextFoil` with the papers' weights, "
            "kinds and numbers of foils, on top of these losses ([objectives](objectives.md)). They were meant for "
            "pretrained models: here everything is trained from nothing.",
            "- **MultiPositive** has up to three triplets an image with a foil each; **units** are `RelationUnits`, "
            "**foils** `TextFoil` by row and by matching, all with their defaults.",
            "- Foils use the words of the world alone (`foil_names`, `foil_words`).",
            "- By matching: the probability of the matching head; retrieval ranks again, by it, what embeddings find. "
            "By embeddings: the cosine of image and text. Most of these methods train embeddings alone, and are best "
            "judged by them.",
        ]
    )
    if context.tried:
        yield context.tried
