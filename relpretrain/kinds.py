"""What a stream takes of its samples, and what it needs them to have."""

from __future__ import annotations

from typing import Literal

Kind = Literal["captions", "regions", "graphs"]
"""Kind of a stream's samples, which determines the type of its batches."""

Need = Literal["captions", "regions", "graphs", "boxed_graphs"]
"""What a stream needs a sample to have: a caption, an entity with a box, a relation, or one between two boxes."""
