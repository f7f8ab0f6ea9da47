"""What a stream takes of its samples."""

from __future__ import annotations

from typing import Literal

Kind = Literal["captions", "regions", "graphs"]
"""Kind of a stream's samples, which determines the type of its batches."""
