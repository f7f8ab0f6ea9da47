"""Checkpoints of the official ALBEF and X-VLM code.

`names` and `clip` turn their weight names into ours, `back` ours into theirs; `build` makes a model of one, with
`resize` at another image size.
"""

from relpretrain.checkpoints.official.back import to_official
from relpretrain.checkpoints.official.build import LoadReport, build_official
from relpretrain.checkpoints.official.file import OfficialFile, official_file

__all__ = ["LoadReport", "OfficialFile", "build_official", "official_file", "to_official"]
