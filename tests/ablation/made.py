"""Results of made-up runs."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd

from benchmarks.ablation.design import Run

FOLDERS = ("benchmarks", "held_out_pairs", "held_out_combinations")
SKILL = {"baseline": 0.52, "+VSG": 0.72, "+MRC": 0.60, "+both": 0.90}
"""Share of relation probes that an arm ends with."""


def table(rows):
    """A table of (run, step, probe, metric, value, n)."""
    return pd.DataFrame(
        [
            {**asdict(run), "step": step, "seconds": step / 10, "teraflops": 0.7 * step, "probe": probe}
            | {"metric": metric, "value": value, "n": n}
            for run, step, probe, metric, value, n in rows
        ]
    )


def made_run(run, steps=(250, 500, 1000), skill=None, n=200):
    """Results of a run, which follow from the run alone; several items short of its skill before the last step."""
    rng = np.random.default_rng([run.seed, sum(map(ord, run.name))])
    end = SKILL[run.arm] if skill is None else skill
    rows = []

    def add(step, probe, metric, value, items):
        value = round(float(np.clip(value + rng.normal(0, 0.01), 0, 1)), 4)
        rows.append((run, step, probe, metric, value, items))

    for step in steps:
        reached = 0.5 + (end - 0.5) * step / steps[-1]
        for folder in FOLDERS if step == steps[-1] else FOLDERS[-1:]:
            items = n if step == steps[-1] else 0
            for probe in ("valse/relations", "valse/actant-swap"):
                add(step, f"{folder}/{probe}", "accuracy", reached, items)
            for metric, value in (("accuracy", reached - 0.1), ("auroc", reached), ("ece", 0.2)):
                add(step, f"{folder}/vsr/test", metric, value, items)
    for probe in ("valse/existence", "valse/foil-it", "svo/verb"):
        add(steps[-1], f"benchmarks/{probe}", "accuracy", 0.95, n)
    for metric, value in (("tr@1", 0.6), ("ir@1", 0.5)):
        for split in ("val", "test"):
            add(steps[-1], f"benchmarks/coco_retrieval/{split}", metric, value, n // 2)
            if run.world == "long":
                long = value + 0.1 * (run.arm == "+VSG") + 0.01 * run.max_relations
                add(steps[-1], f"benchmarks/paragraphs/{split}", metric, long, n // 2)
    made = table(rows)
    return made if run.arm == "baseline" else made.assign(teraflops=made["teraflops"] * 1.5)


def made_study(seeds=(100, 101, 102)):
    """What a whole preset might give."""
    found = []
    for seed in seeds:
        for backbone in ("ALBEF", "X-VLM"):
            found += [made_run(Run(backbone, arm, seed)) for arm in SKILL]
            found.append(made_run(Run(backbone, "baseline", seed, budget="compute"), (500, 1000, 1500)))
            found.append(made_run(Run(backbone, "+both", seed, share=0.01), skill=0.7))
        both, texts = Run("ALBEF", "+both", seed), Run("ALBEF", "+VSG", seed, world="long")
        found.append(made_run(replace(both, share=0.005), skill=0.53))
        found.append(made_run(replace(both, share=0.2), skill=0.95))
        found.append(made_run(replace(both, masked=False), skill=0.8))
        found.append(made_run(replace(both, mixture="9:1")))
        found += [made_run(replace(texts, max_relations=k)) for k in (3, 8, 16)]
        found += [made_run(replace(texts, arm="baseline")), made_run(replace(texts, sort=False))]
    return pd.concat(found, ignore_index=True)
