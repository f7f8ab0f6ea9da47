"""The plan of a run in words."""

from __future__ import annotations

from collections.abc import Mapping

from relpretrain.data.sampling.schedule import Plan
from relpretrain.errors import counted
from relpretrain.scene_graph import Coverage, coverage_lines

RECORD = "data.txt"
"""File of a run's folder that keeps these lines."""


def plan_lines(
    plan: Plan,
    batches: int | None,
    why: str,
    accumulate: int,
    processes: int,
    left: Mapping[tuple[str, str], Mapping[str, int]],
    outside: Mapping[tuple[str, str], Coverage] | None = None,
) -> list[str]:
    """What a step holds, how many steps there are, how often each dataset is passed: a line each.

    Args:
        plan: The plan.
        batches: How many batches there will be; None if nothing says so.
        why: What says so: a stopping rule.
        accumulate: Batches in an optimizer step.
        processes: Number of processes.
        left: Samples that are never drawn, by stream and dataset, and by reason.
        outside: What MRC's vocabulary has of the relations, by stream and dataset.
    """
    head = f"Data plan, seed {plan.seed}: "
    head += "batches without end" if batches is None else f"{counted(batches, 'batch', 'batches')} (stop: {why})"
    head += f", {accumulate} to an optimizer step" if accumulate > 1 else ""
    lines = [head + (f", on {processes} processes" if processes > 1 else "")]
    dealt = plan.dealt(batches or 0)
    for name, stream in plan.streams.items():
        sizes = {dataset: size for (of, dataset), size in plan.sizes().items() if of == name}
        held = ", ".join(f"{dataset} {size:,}" for dataset, size in sizes.items())
        lines.append(
            f"  {name}: {100 * plan.shares[name]:.1f} % of the steps, {stream.batch_size} images each "
            f"({stream.kind}), samples per pass: {held}; for {', '.join(stream.objectives) or 'no objective'}"
        )
        for dataset, size in sizes.items():
            samples = dealt[name, dataset]
            said = f"{counted(samples // stream.batch_size, 'batch', 'batches')}, {counted(samples, 'sample')}"
            said += f"{' with replacement' if stream.replacement else ''}, {samples / size:.2f} passes"
            never = ", ".join(f"{count:,} {reason}" for reason, count in left.get((name, dataset), {}).items())
            parts = [said] * (batches is not None) + [f"never drawn: {never}"] * bool(never)
            lines += [f"    {dataset}: {'; '.join(parts)}"] if parts else []
        lacking = {dataset: of for (of_stream, dataset), of in (outside or {}).items() if of_stream == name}
        lines += coverage_lines(lacking, "    ")
    return lines
