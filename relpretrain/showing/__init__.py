"""What a person sees of texts that others wrote."""

from relpretrain.showing.texts import from_cell, literal, markdown, say, short, to_cell, unbroken, visible

__all__ = ["from_cell", "literal", "markdown", "say", "short", "to_cell", "unbroken", "visible"]
