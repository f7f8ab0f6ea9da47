"""Splits and tasks with the same images: what a later one asks is answered while an image is encoded for the first.

Encoding images is most of what a model of usual size does. Only scores are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

View = Hashable
"""What identifies an image that is encoded: its path, and a box or None."""


class Answer(NamedTuple):
    """The score of a text with an image.

    Args:
        view: The image.
        text: The text.
        score: As records have it.
        at_limit: Whether the text takes as many tokens as the scorer reads.
    """

    view: View
    text: str
    score: float
    at_limit: bool


class Ahead:
    """The texts that several splits ask of the same images, and the scores that are known of them.

    Args:
        splits: The texts by image, of each split.
    """

    def __init__(self, splits: Sequence[Mapping[View, Sequence[str]]] = ()) -> None:
        number = Counter(view for split in splits for view in split)
        self._asked: dict[View, dict[str, None]] = {view: {} for view, times in number.items() if times > 1}
        for split in splits:
            for view, texts in split.items():
                if view in self._asked:
                    self._asked[view].update(dict.fromkeys(texts))
        self._known: dict[View, dict[str, Answer]] = {}

    def further(self, view: View, texts: Set[str]) -> list[str]:
        """The texts that other splits ask of an image besides these."""
        return [text for text in self._asked.get(view, ()) if text not in texts]

    def asked(self, view: View) -> bool:
        """Whether several splits ask of an image."""
        return view in self._asked

    def known(self, view: View) -> Mapping[str, Answer] | None:
        """The answers to all texts of an image; None before it was scored."""
        return self._known.get(view)

    def learn(self, answers: Sequence[Answer]) -> None:
        """Take over answers, those to all texts of an image together."""
        for answer in answers:
            self._known.setdefault(answer.view, {})[answer.text] = answer


_AHEAD: ContextVar[Ahead | None] = ContextVar("ahead", default=None)


@contextmanager
def looking_ahead(ahead: Ahead) -> Iterator[None]:
    """Let tasks that score pairs use it."""
    before = _AHEAD.set(ahead)
    try:
        yield
    finally:
        _AHEAD.reset(before)


def current() -> Ahead:
    """The one in use; elsewhere one that knows of nothing."""
    return _AHEAD.get() or Ahead()


def learn_limits(scorer: Any, answers: Sequence[Answer]) -> None:
    """Let a scorer know the texts at its limit that it scored for an earlier split."""
    learn = getattr(scorer, "learn_limits", None)
    if learn is not None:
        learn({answer.text for answer in answers if answer.at_limit})


def forget_limits(scorer: Any, texts: Set[str]) -> None:
    """Let a scorer's notes on this split leave out texts that only others ask about."""
    forget = getattr(scorer, "forget_limits", None)
    if forget is not None:
        forget(texts)
