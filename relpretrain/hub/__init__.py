"""Weights in the layout of the Hugging Face hub: a folder and its model card."""

from relpretrain.hub.card import card
from relpretrain.hub.folder import is_folder, read_folder, write_folder

__all__ = ["card", "is_folder", "read_folder", "write_folder"]
