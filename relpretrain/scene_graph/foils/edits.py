"""Parts of a caption replaced, by the places of their words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Edit = tuple[int, int, str]
"""Characters of a caption from one place to another, and what stands there instead."""

_ARTICLE = re.compile(r"(?<![A-Za-z])(an?) (?=([A-Za-z]))", re.IGNORECASE)

_AND = re.compile(r",|\band\b")


def edited(caption: str, edits: Sequence[Edit]) -> str:
    """The caption with parts of it replaced; "a" and "an" before a replaced part follow its first letter."""
    for start, end, words in sorted(edits, reverse=True):
        before = _ARTICLE.sub(_article_before(words), caption[:start] + words[:1])[: -len(words[:1]) or None]
        caption = before + words + caption[end:]
    return caption


def _article_before(words: str) -> Callable[[re.Match[str]], str]:
    """What an article that ends right before some words becomes."""

    def article(match: re.Match[str]) -> str:
        if match.end() < len(match.string) - 1:
            return match.group()
        wanted = "an" if words[0].lower() in "aeiou" else "a"
        return (wanted.capitalize() if match.group(1)[0].isupper() else wanted) + " "

    return article


def reads_alike(one: str, other: str) -> bool:
    """Whether two texts are equal but for case, white space, and the order of what "and" and commas join."""
    return _joined(one) == _joined(other)


def _joined(text: str) -> list[list[str]]:
    """What "and" and commas join, in an order of its own."""
    parts = _AND.split(text.lower().rstrip(" .!?"))
    return sorted(words for part in parts if (words := part.split()))
