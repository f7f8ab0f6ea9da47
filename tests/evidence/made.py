"""Figures of made-up runs."""

from dataclasses import replace

import numpy as np

from relpretrain.evidence.design import Run
from relpretrain.evidence.results import Figure

PAIRWISE = ("valse/relations", "valse/actant-swap")
ELSEWHERE = ("valse/existence", "valse/foil-it", "svo/verb")
FOLDERS = ("benchmarks", "held_out_pairs", "held_out_combinations")
SKILL = {"baseline": 0.52, "+VSG": 0.72, "+MRC": 0.60, "+both": 0.90}
"""Share of relation probes that an arm ends with."""


def made_run(run, steps=(250, 500, 1000), skill=None, n=200):
    """Figures of a run, which follow from the run alone; several items short of its skill before the last step."""
    rng = np.random.default_rng([run.seed, sum(map(ord, run.name))])
    end = SKILL[run.arm] if skill is None else skill
    figures = []

    def add(step, probe, metric, value, items):
        value = round(float(np.clip(value + rng.normal(0, 0.01), 0, 1)), 4)
        teraflops = 0.7 * step * (1.0 if run.arm == "baseline" else 1.5)
        figures.append(Figure(run, step, step / 10, teraflops, probe, metric, value, items))

    for step in steps:
        reached = 0.5 + (end - 0.5) * step / steps[-1]
        for folder in FOLDERS if step == steps[-1] else FOLDERS[-1:]:
            items = n if step == steps[-1] else 0
            for probe in PAIRWISE:
                add(step, f"{folder}/{probe}", "accuracy", reached, items)
            for metric, value in (("accuracy", reached - 0.1), ("auroc", reached), ("ece", 0.2)):
                add(step, f"{folder}/vsr/test", metric, value, items)
    for probe in ELSEWHERE:
        add(steps[-1], f"benchmarks/{probe}", "accuracy", 0.95, n)
    for metric, value in (("tr@1", 0.6), ("ir@1", 0.5)):
        for split in ("val", "test"):
            add(steps[-1], f"benchmarks/coco_retrieval/{split}", metric, value, n // 2)
            if run.world == "long":
                long = value + 0.1 * (run.arm == "+VSG") + 0.01 * run.max_relations
                add(steps[-1], f"benchmarks/paragraphs/{split}", metric, long, n // 2)
    return figures


def made_study(seeds=(100, 101, 102)):
    """What a whole preset might give."""
    figures = []
    for seed in seeds:
        for backbone in ("ALBEF", "X-VLM"):
            for arm in SKILL:
                figures += made_run(Run(backbone, arm, seed))
            figures += made_run(Run(backbone, "baseline", seed, budget="compute"), (500, 1000, 1500))
            figures += made_run(Run(backbone, "+both", seed, share=0.01), skill=0.7)
        both = Run("ALBEF", "+both", seed)
        figures += made_run(replace(both, share=0.005), skill=0.53)
        figures += made_run(replace(both, share=0.2), skill=0.95)
        figures += made_run(replace(both, masked=False), skill=0.8)
        figures += made_run(replace(both, mixture="9:1"))
        texts = Run("ALBEF", "+VSG", seed, world="long")
        figures += made_run(replace(texts, arm="baseline"))
        for changed in (texts, replace(texts, max_relations=3), replace(texts, max_relations=16)):
            figures += made_run(changed)
        figures += made_run(replace(texts, sort=False))
    return figures
