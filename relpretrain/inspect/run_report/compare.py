"""Two runs' zero-shot results side by side, item by item."""

from __future__ import annotations

from pathlib import Path

from relpretrain.zeroshot.results.comparison import Comparison, compare
from relpretrain.zeroshot.results.scores import read_scores, shared_files, split_of, task_of
from relpretrain.zeroshot.tasks import TASKS


def compare_runs(first: Path, second: Path, names: tuple[str, str], seed: int = 0) -> list[Comparison]:
    """Compare the score files that two zero-shot result folders have in common.

    Args:
        first: Folder that `--out` named for the first run.
        second: Likewise for the second.
        names: What the two are called in the table.
        seed: Seed of the intervals.

    Raises:
        ValueError: If they have no file in common, or its items differ.
    """
    comparisons = []
    for a, b in shared_files(first, second):
        before, after = read_scores(a), read_scores(b)
        task = TASKS[task_of(before, a)]
        comparisons.append(compare(task, before, after, names, split_of(a, task.name), seed))
    return comparisons
