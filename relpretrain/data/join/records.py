"""From rows of published caption sets to records in the sample format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relpretrain.data.shards.record import captions_of
from relpretrain.sources.common.dropped import note
from relpretrain.sources.common.values import as_number

Record = dict[str, Any]
"""A record in the sample format. Boxes count in fractions of the image where `fractions` is set, else as
`relpretrain.data.build.pack_sample.joined_graph` says."""

_SENTENCES = re.compile(r"\n|</s>|[.]")
_END = "</s>"


@dataclass(frozen=True)
class Choice:
    """What is taken of a row.

    Args:
        captions: Columns, or labels of descriptions in GBC, that hold texts; the format's own where empty.
        sentences: Whether each text is cut into its sentences, as DreamLIP and FLAIR draw them.
        regions: What an entity of GBC is called: by its name, or by its description.
        min_score: Smallest detection score of a box that is taken.
    """

    captions: tuple[str, ...] = ()
    sentences: bool = False
    regions: Literal["name", "description"] = "name"
    min_score: float = 0.0


def texts(values: Sequence[Any], sentences: bool) -> list[str]:
    """Texts without the end mark that some language models leave, each once; cut into sentences where asked for.

    DreamLIP's own loader (`split_caption` in training/data.py) cuts at full stops, line ends and "</s>".
    """
    flat = [text for value in values for text in (value if isinstance(value, list) else [value])]
    whole = [_ended(text) for text in flat if isinstance(text, str)]
    parts = [part for text in whole for part in _SENTENCES.split(text)] if sentences else whole
    return list(dict.fromkeys(text for part in parts if (text := " ".join(part.split()))))


def _ended(text: str) -> str:
    while (text := text.rstrip()).endswith(_END):
        text = text.removesuffix(_END)
    return text


def of_columns(*default: str) -> Any:
    """A format whose texts stand in columns of their own."""

    def record(row: Mapping[str, Any], choice: Choice, dropped: Counter[str], place: str) -> Record | None:
        found = texts([row.get(column) for column in choice.captions or default], choice.sentences)
        return {"captions": found} if found else None

    return record


def of_sample(row: Mapping[str, Any], choice: Choice, dropped: Counter[str], place: str) -> Record | None:
    """The sample format itself, or img2dataset's; of a tar, its txt members are captions as well."""
    if choice.captions:
        listed: list[Any] = [row.get(column) for column in choice.captions]
    else:
        try:
            listed = list(captions_of(row, row.get("txt")))
        except ValueError:
            note(dropped, "malformed_captions", place)
            listed = []
    record = {name: row[name] for name in ("entities", "relations", "width", "height") if row.get(name) is not None}
    if found := texts(listed, choice.sentences):
        record["captions"] = found
        weights = row.get("caption_weights")
        if weights is not None and not choice.captions and not choice.sentences and len(found) == len(listed):
            record["caption_weights"] = weights
    return record if found or record.get("entities") else None


def of_weighted(row: Mapping[str, Any], choice: Choice, dropped: Counter[str], place: str) -> Record | None:
    """Several texts with weights: lists in one row, or a row for each text.

    ALIP (arXiv 2308.08428) weighs an image's own text and a synthetic one by how well they fit. Its code computes the
    weights while it trains and publishes none, so that there is no file of theirs to be read: this is the form in
    which such weights are written by others, `captions` and `weights`, or `caption` and `weight`.
    """
    columns = choice.captions or ("captions", "caption")
    listed = next((row[column] for column in columns if row.get(column)), None)
    weights = next((row[name] for name in ("weights", "caption_weights", "weight") if row.get(name) is not None), None)
    captions = [listed] if isinstance(listed, str) else listed
    numbers = [as_number(weight) for weight in (weights if isinstance(weights, list) else [weights])]
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        return None
    if len(numbers) != len(captions) or not all(0 <= number < float("inf") for number in numbers):
        note(dropped, "malformed_caption_weights", place)
        return {"captions": captions}
    return {"captions": captions, "caption_weights": numbers}
