"""The batch schedule of a run as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relpretrain.data.sampling.schedule import BatchSchedule
from relpretrain.errors import counted
from relpretrain.scene_graph import Coverage, coverage_lines

RECORD = "data.txt"
"""Name of the file in a run's folder that keeps these lines."""

OFTEN = 500
"""Times that a sample may be seen without a warning: no recipe as it stands comes to more (docs/data.md)."""


def schedule_lines(
    schedule: BatchSchedule,
    batches: int | None,
    why: str,
    accumulate: int,
    processes: int,
    never_drawn: Mapping[tuple[str, str], Mapping[str, int]],
    outside: Mapping[tuple[str, str], Coverage] | None = None,
) -> list[str]:
    """Describe the schedule: number of batches, then per stream its batches, and per dataset its samples and epochs.

    Args:
        schedule: The samples of every step.
        batches: Number of batches of the run; None if it has no end.
        why: What decides that number, such as "max_steps".
        accumulate: Batches in an optimizer step.
        processes: Number of processes.
        never_drawn: Number of samples that are never drawn, by stream and dataset, and by reason.
        outside: How much of the relations MRC's vocabulary covers, by stream and dataset.
    """
    head = f"Data plan, seed {schedule.seed}: "
    head += "batches without end" if batches is None else f"{counted(batches, 'batch', 'batches')} (stop: {why})"
    head += f", {accumulate} to an optimizer step" if accumulate > 1 else ""
    lines = [head + (f", on {processes} processes" if processes > 1 else "")]
    taken = schedule.taken(batches or 0)
    for name, stream in schedule.streams.items():
        sizes = {dataset: size for (of, dataset), size in schedule.sizes().items() if of == name}
        held = ", ".join(f"{dataset} {size:,}" for dataset, size in sizes.items())
        lines.append(
            f"  {name}: {100 * schedule.probabilities[name]:.1f} % of the steps, {stream.batch_size} images each "
            f"({stream.kind}), samples per epoch: {held}; for {', '.join(stream.objectives) or 'no objective'}"
        )
        for dataset, size in sizes.items():
            samples = taken[name, dataset]
            said = f"{counted(samples // stream.batch_size, 'batch', 'batches')}, {counted(samples, 'sample')}"
            said += f"{' with replacement' if stream.replacement else ''}, {samples / size:.2f} epochs"
            never = ", ".join(f"{count:,} {reason}" for reason, count in never_drawn.get((name, dataset), {}).items())
            parts = [said] * (batches is not None) + [f"never drawn: {never}"] * bool(never)
            lines += [f"    {dataset}: {'; '.join(parts)}"] if parts else []
        lacking = {dataset: of for (of_stream, dataset), of in (outside or {}).items() if of_stream == name}
        lines += coverage_lines(lacking, "    ")
    return lines


def share_line(
    schedule: BatchSchedule,
    never_drawn: Mapping[tuple[str, str], Mapping[str, int]],
    seen: Mapping[tuple[str, str], float],
) -> str:
    """The schedule in one line: "captions 25 % (6,000 samples, seen 2.1 times), graphs 75 % (3,000, 12 times)".

    Args:
        schedule: The samples of every step.
        never_drawn: Number of samples that are never drawn, by stream and dataset, and by reason.
        seen: How many times each sample is seen (`passes`).
    """
    parts: list[str] = []
    sizes = schedule.sizes()
    for name in schedule.streams:
        samples = sum(size for (stream, _), size in sizes.items() if stream == name)
        never = sum(sum(reasons.values()) for (stream, _), reasons in never_drawn.items() if stream == name)
        said = (f"{samples:,}" if parts else counted(samples, "sample")) + (f", {never:,} never drawn" if never else "")
        if times := _times([number for (stream, _), number in seen.items() if stream == name]):
            said += f", {'' if parts else 'seen '}{times} times"
        parts.append(f"{name} {100 * schedule.probabilities[name]:.0f} % ({said})")
    return ", ".join(parts)


def _times(numbers: Sequence[float]) -> str:
    """Such as "2.1", or "0.3 to 12" where data sets of a stream differ; "" without any."""
    ends = (min(numbers), max(numbers)) if numbers else ()
    return " to ".join(dict.fromkeys(f"{number:,.0f}" if number >= 10 else f"{number:.2g}" for number in ends))


def passes(schedule: BatchSchedule, batches: int) -> dict[tuple[str, str], float]:
    """How many times each sample is seen in so many batches, by stream and dataset."""
    sizes = schedule.sizes()
    return {source: samples / sizes[source] for source, samples in schedule.taken(batches).items()}


def worn_lines(schedule: BatchSchedule, seen: Mapping[tuple[str, str], float]) -> list[str]:
    """Warnings about samples that are seen more than `OFTEN` times, one line each.

    Args:
        schedule: The samples of every step.
        seen: How many times each sample is seen (`passes`).
    """
    sizes, lines = schedule.sizes(), []
    for (stream, dataset), times in seen.items():
        if times > OFTEN:
            less = "dataset_ratios" if len(schedule.streams[stream].datasets) > 1 else "ratio"
            lines.append(
                f"stream {stream}: each of the {counted(sizes[stream, dataset], 'sample')} of {dataset} is seen "
                f"{times:,.0f} times, and a model may learn by heart what it sees more than {OFTEN} times: take fewer "
                f"steps (trainer.max_steps), draw it less (data.streams.{stream}.{less}), or bring more images"
            )
    return lines


def crowded_lines(schedule: BatchSchedule) -> list[str]:
    """Warnings about batches that hold the same sample several times, one line each.

    In such a batch an image meets copies of itself, so that contrast and matching have few negatives, or none.
    """
    lines = []
    for (stream, dataset), size in schedule.sizes().items():
        batch = schedule.streams[stream].batch_size
        if batch > size > 0 and schedule.probabilities[stream] > 0:
            lines.append(
                f"stream {stream}: {dataset} has {counted(size, 'sample')} and a batch {batch}, so that each sample "
                f"comes {batch / size:.3g} times in one batch, and meets copies of itself in place of negatives: set "
                f"data.streams.{stream}.batch_size to {size} or less, or bring more images"
            )
    return lines
