"""Checkpoints of the official ALBEF and X-VLM code.

`file` finds the weights in a file, `names` and `clip` convert their names to ours and `back` ours to theirs, `build`
builds a model, and `resize` adapts it to another image size.
"""

from relpretrain.checkpoints.official.back import to_official
from relpretrain.checkpoints.official.build import LoadReport, build_official
from relpretrain.checkpoints.official.file import OfficialFile, official_file

__all__ = ["LoadReport", "OfficialFile", "build_official", "official_file", "to_official"]
