"""`render_template` by its earlier place."""

from relpretrain.showing.html import render_template

__all__ = ["render_template"]
