"""What is left out on the way from annotations to samples: how often, why and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from relpretrain.reading import mend

EXAMPLES = 3
"""Places that are kept of each reason."""

NOTED = frozenset(
    ("image_turned_by_exif", "nothing_to_join", "repeated_annotation", "repeated_image_id", "repeated_sample")
)
"""Reasons that are counted, too, though nothing is left out for them."""


class Dropped(Counter[str]):
    """What was left out, by reason, with the first places of each.

    Args:
        counts: By reason.
        examples: Places by reason.
    """

    def __init__(
        self, counts: Mapping[str, int] | None = None, examples: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        super().__init__(counts)
        self.examples = {reason: list(places) for reason, places in (examples or {}).items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return Dropped, (dict(self), self.examples)

    def include(self, other: Mapping[str, int]) -> None:
        """Add what was left out elsewhere."""
        self.update(other)
        for reason, places in getattr(other, "examples", {}).items():
            for place in places:
                self._keep(reason, place)

    def place(self, name: str) -> None:
        """Say where everything was that has no place yet."""
        for reason, times in self.items():
            if times and reason not in self.examples:
                self._keep(reason, name)

    def _keep(self, reason: str, place: str) -> None:
        places = self.examples.setdefault(reason, [])
        if len(places) < EXAMPLES and place not in places:
            places.append(mend(place))


def note(dropped: Counter[str], reason: str, place: str) -> None:
    """Count something that is left out, and keep the place where `dropped` keeps places."""
    dropped[reason] += 1
    if isinstance(dropped, Dropped):
        dropped._keep(reason, place)
