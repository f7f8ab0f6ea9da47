"""What goes wrong with a scene graph."""

from __future__ import annotations


class GraphError(ValueError):
    """A scene graph that cannot be trusted.

    Args:
        reason: A short snake_case word by which such cases are counted, such as "box_outside_image".
        message: What is wrong, for a person.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)  # both, so that the error survives pickling by a data worker
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class FlipRefused(GraphError):
    """A graph that a horizontal flip would make untrue."""
