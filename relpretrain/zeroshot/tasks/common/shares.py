"""Work that several processes share inside `together`: each does neighbouring units, and all have what all found.

Units are the same whatever the number of processes, so that results are, too, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from relpretrain.distributed import gather_objects, is_distributed, rank, world_size
from relpretrain.progress import track
from relpretrain.types import PairScorer
from relpretrain.zeroshot.analysis.decisions import require_finite
from relpretrain.zeroshot.scorers.memory import fitting

T = TypeVar("T")
R = TypeVar("R")

_TEXTS = 1024  # texts that are embedded at once
_TOGETHER = ContextVar("together", default=False)


class FailedTogether(ValueError):
    """A failure in one process that all processes know of, so that none waits for another."""


@contextmanager
def together() -> Iterator[None]:
    """Share work among all processes, which must do the same; elsewhere each does all of its own."""
    before = _TOGETHER.set(is_distributed())
    try:
        yield
    finally:
        _TOGETHER.reset(before)


def exchange(value: R, failure: Exception | None = None) -> list[R]:
    """The values of all processes, by rank.

    Args:
        value: This process's.
        failure: What this process failed with instead.

    Raises:
        FailedTogether: In all processes, if one of them failed; one that works alone raises its failure itself.
    """
    if not _TOGETHER.get():
        if failure is not None:
            raise failure
        return [value]
    said = gather_objects((None if failure is None else str(failure), value))
    if failure is not None:
        raise FailedTogether(str(failure)) from failure
    for why, _ in said:
        if why is not None:
            raise FailedTogether(f"Another process failed: {why}")
    return [theirs for _, theirs in said]


def spread(
    units: Sequence[T], work: Callable[[T], Sequence[R]], done: list[R] | None = None, shown: str = ""
) -> list[R]:
    """What work makes of units, in their order.

    Args:
        units: All units, the same in each process.
        work: Makes a number of results of a unit.
        done: Gets the results of this process as they are ready.
        shown: What is counted while it goes on, where a unit holds a number of them; "" to show nothing.

    Raises:
        ValueError: If work failed in this or another process.
    """
    made = [] if done is None else done
    failure = None
    number, of = (rank(), world_size()) if _TOGETHER.get() else (0, 1)
    own: Any = units[len(units) * number // of : len(units) * (number + 1) // of]
    if shown and number == 0:
        own = track(own, sum(map(len, own)), shown, len)
    try:
        for unit in own:
            made += work(unit)
    except (ValueError, OSError) as error:
        failure = error
    return [result for share in exchange(made, failure) for result in share]


def embed_texts(scorer: Any, texts: Sequence[str]) -> Tensor:
    """Unit vectors of texts, (texts, dim), float64 on the CPU; equal texts are embedded once.

    Raises:
        ValueError: If they are not finite numbers.
    """
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    distinct = list(number)

    def embed(some: Sequence[str]) -> list[Tensor]:
        vectors = torch.as_tensor(fitting(scorer, partial(scorer.embed_texts, some))).cpu().double()
        require_finite(vectors.flatten(), "text embeddings")
        return [vectors]

    vectors = torch.cat(spread([distinct[i : i + _TEXTS] for i in range(0, len(distinct), _TEXTS)], embed))
    share_limits(scorer)
    return vectors if len(distinct) == len(texts) else vectors[[number[text] for text in texts]]


def texts_at_limit(scorer: PairScorer) -> Set[str]:
    """The texts, so far, that take as many tokens as a scorer reads, so that they may have been cut."""
    texts: Set[str] = getattr(scorer, "texts_at_limit", frozenset())
    return texts


def share_limits(scorer: PairScorer) -> None:
    """Let every process know the texts that reached the limit in any."""
    learn = getattr(scorer, "learn_limits", None)
    if learn is not None:
        for texts in exchange(set(texts_at_limit(scorer))):
            learn(texts)
