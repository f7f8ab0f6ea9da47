"""How files are written: whole, or not at all."""

from relpretrain.writing.files import aside, folder_aside, remove_unfinished, replace_folder, write_text

__all__ = ["aside", "folder_aside", "remove_unfinished", "replace_folder", "write_text"]
