"""A run's own settings of its data, judged before anything is read."""

from __future__ import annotations

import math
from typing import get_args

from relpretrain.data.sampling.stream import Stop


def wrong_settings(
    stop: str, seed: int, num_workers: int, groups: int | None, cache_gb: float | None, worker_timeout: float
) -> list[str]:
    """Report settings of the data module that no run can have, one line each."""
    problems = []
    if stop not in get_args(Stop):
        problems.append(f"stop={stop!r} must be one of {', '.join(get_args(Stop))}.")
    if seed < 0:
        problems.append(f"seed={seed} must not be negative.")
    if num_workers < 0:
        problems.append(f"num_workers={num_workers} must not be negative.")
    if groups is not None and groups < 1:
        problems.append(f"groups={groups} must be at least 1.")
    if cache_gb is not None and not 0 < cache_gb < math.inf:
        problems.append(f"cache_gb={cache_gb:g} must be above 0; leave it out for no limit.")
    if not worker_timeout >= 0:
        problems.append(f"worker_timeout={worker_timeout:g} must be seconds, or 0 to wait for ever.")
    return problems
