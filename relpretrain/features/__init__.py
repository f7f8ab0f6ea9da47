"""Features of one step, each computed once: `step` shares them, `view` is what a loss sees, `regions` are laid out."""

from relpretrain.features.regions import lay_out, patch_mask, wanted_regions
from relpretrain.features.step import Features, step_generator
from relpretrain.features.view import View, full_precision

__all__ = ["Features", "View", "full_precision", "lay_out", "patch_mask", "step_generator", "wanted_regions"]
