"""How files are written: whole, or not at all."""

from relpretrain.writing.files import aside, remove_unfinished, write_text

__all__ = ["aside", "remove_unfinished", "write_text"]
