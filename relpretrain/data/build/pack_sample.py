"""One sample of an existing shard on its way into a new one: checked, joined with annotations, made smaller."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image

from relpretrain.data.build.output import Outcome, PackedSample
from relpretrain.data.shards.record import caption_weights_of, captions_of, declared_size, texts_of
from relpretrain.data.shards.row_index import RawSample
from relpretrain.errors import BadSample
from relpretrain.pixels import BROKEN, open_image
from relpretrain.scene_graph import GraphError, SceneGraph
from relpretrain.scene_graph.tying import follow_captions
from relpretrain.sources.common.annotation import (
    ImageFile,
    broken_texts,
    clean_captions,
    make_record,
    probe_image,
)
from relpretrain.sources.common.dropped import Dropped
from relpretrain.sources.common.values import identity, size_of

QUALITY = 90
"""Of JPEG and WebP images that are made smaller."""
RATIO_TOLERANCE = 0.01
"""How far the ratio of an image's sides may be from that of the annotated one."""


class Located(NamedTuple):
    """A sample that is to be read.

    Args:
        path: Its shard.
        key: Its key.
        offsets: Of image, json and txt in the shard; -1 where absent.
        sizes: Their bytes.
        source: Name of the source, should the sample carry none.
        joined: Annotations to join.
    """

    path: Path
    key: str
    offsets: list[int]
    sizes: list[int]
    source: str
    joined: list[dict[str, Any]]

    def read(self) -> RawSample:
        """Read its bytes."""
        parts: list[bytes | None] = []
        with self.path.open("rb") as file:
            for offset, size in zip(self.offsets, self.sizes, strict=True):
                file.seek(max(offset, 0))
                parts.append(file.read(size) if offset >= 0 else None)
        return RawSample(self.key, parts[0] or b"", parts[1], parts[2])


@dataclass(frozen=True)
class Resize:
    """Makes images smaller, never larger.

    Args:
        shorter: Length of the shorter side, in pixels.
        longer: Length of the longer side; of both, the smaller image is taken.
        quality: Of JPEG and WebP.
    """

    shorter: int | None = None
    longer: int | None = None
    quality: int = QUALITY

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The new width and height, each at least 1."""
        scale = min(
            1.0,
            self.shorter / min(width, height) if self.shorter else 1.0,
            self.longer / max(width, height) if self.longer else 1.0,
        )
        return max(1, round(width * scale)), max(1, round(height * scale))

    def encode(self, content: bytes, size: tuple[int, int]) -> bytes:
        """Resize an image, in its format, with its orientation and colour profile.

        Raises:
            OSError: Or another one of `relpretrain.pixels.BROKEN`, if it cannot be decoded.
        """
        with open_image(io.BytesIO(content)) as image:
            kept = {name: image.info[name] for name in ("exif", "icc_profile") if image.info.get(name)}
            if image.mode in ("P", "PA"):
                small: Image.Image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            elif image.mode == "1":
                small = image.convert("L")
            elif image.mode.startswith("I;"):
                small = image.convert("I")
            else:
                small = image
            small = small.resize(size, Image.Resampling.LANCZOS)
            if image.mode.startswith("I;"):
                small = small.convert("I;16")
            buffer = io.BytesIO()
            options = {} if image.format == "PNG" else {"quality": self.quality}
            small.save(buffer, "JPEG" if image.format == "MPO" else image.format, **options, **kept)
        return buffer.getvalue()


class ReadSample(NamedTuple):
    """A sample that was read and checked, before anything is made of it."""

    raw: RawSample
    file: ImageFile
    record: dict[str, Any]
    source: str
    captions: Captions
    graph: SceneGraph

    @property
    def texts(self) -> list[str]:
        """The captions without their weights."""
        return [text for text, _ in self.captions]


def read_sample(located: Located, dropped: Counter[str]) -> ReadSample | None:
    """Read a sample: its image's size, captions and graph; None, with the reason counted, if it is broken."""
    raw = located.read()
    file = probe_image(io.BytesIO(raw.image), dropped)
    if file is None:
        return None
    try:
        record, txt = texts_of(raw.json, raw.txt)
        captions = read_captions(record, txt, dropped)
        told = [" ".join(text.split()) for text in captions_of(record, txt)]
        graph = follow_captions(own_graph(record, file), told, [text for text, _ in captions])
    except (GraphError, BadSample) as error:
        dropped[error.reason] += 1
        return None
    except ValueError:
        dropped["malformed_captions"] += 1
        return None
    return ReadSample(raw, file, record, str(record.get("source") or located.source), captions, graph)


@dataclass(frozen=True)
class Packing:
    """Makes a new sample of one that is read; records get the keys of the sample format and lose all others.

    Args:
        resize: How images are made smaller; None leaves them as they are, byte for byte.
        captions: Whether joined captions come after the sample's own or take their place.
    """

    resize: Resize | None = None
    captions: Literal["add", "replace"] = "add"

    def __call__(self, located: Located) -> Outcome:
        """Read and check a sample; None if it is left out."""
        dropped = Dropped()
        sample = self._sample(located, dropped)
        dropped.place(f"{located.path.name}/{located.key}")
        return sample, dropped

    def _sample(self, located: Located, dropped: Counter[str]) -> PackedSample | None:
        read = read_sample(located, dropped)
        if read is None:
            return None
        raw, file, record, source, captions, graph = read
        of_graph = captions
        try:
            for joined in located.joined:
                new = read_captions(joined, None, dropped)
                captions = joined_captions(captions, new, self.captions)
                if joined.get("entities"):
                    graph, of_graph = joined_graph(joined, record, file), new
        except GraphError as error:
            dropped[error.reason] += 1
            return None
        except ValueError:
            dropped["malformed_captions"] += 1
            return None
        graph = follow_captions(graph, [text for text, _ in of_graph], [text for text, _ in captions])
        image = raw.image
        if self.resize is not None and (size := self.resize.size(file.width, file.height)) != (file.width, file.height):
            try:
                image = self.resize.encode(image, size)
            except BROKEN:
                dropped["unreadable_image"] += 1
                return None
            graph = graph.resize(size[0] / file.width, size[1] / file.height)
            file = ImageFile(*size, file.extension)
        # Names that a download gave are unique in it alone: whoever writes the sample makes one of its key.
        image_id = identity(record.get("image_id"))
        new_record = make_record(image_id, source, file, **caption_parts(captions), **graph.to_json())
        dropped["replaced_character"] += broken_texts(new_record)
        return PackedSample(raw.key, image, file.extension, new_record)


Captions = list[tuple[str, float | None]]
"""Captions with their weights, None of those without."""


def read_captions(record: dict[str, Any], txt: str | None, dropped: Counter[str]) -> Captions:
    """Captions of a record, with single blanks between words; empty ones are counted.

    Raises:
        ValueError: If captions or weights are malformed.
    """
    listed = captions_of(record, txt)
    weights: Sequence[float | None] = caption_weights_of(record, listed) or [None] * len(listed)
    return [(clean, w) for text, w in zip(listed, weights, strict=True) for clean in clean_captions([text], dropped)]


def joined_captions(own: Captions, new: Captions, how: Literal["add", "replace"]) -> Captions:
    """Captions of a sample with those that are joined to it, its own first, each once.

    A weight that is joined counts in place of a caption's own. Nothing changes where nothing is joined.
    """
    if not new:
        return own
    found: dict[str, float | None] = {}
    for text, weight in (*(own if how == "add" else ()), *new):
        found[text] = found.get(text) if weight is None else weight
    return list(found.items())


def caption_parts(captions: Captions) -> dict[str, Any]:
    """The parts of a record that hold captions; one without weight weighs 1 beside others that have some."""
    weights = [1.0 if weight is None else weight for _, weight in captions]
    weighted = any(weight is not None for _, weight in captions) and any(weights)
    return {"captions": [text for text, _ in captions], "caption_weights": weights if weighted else []}


def own_graph(record: dict[str, Any], file: ImageFile) -> SceneGraph:
    """The graph of a sample's own record; its boxes must be of this very image.

    Raises:
        GraphError: If it is malformed, or the record tells of another size.
    """
    said = declared_size(record, file.width, file.height)
    if record.get("entities") and said != (file.width, file.height):
        raise GraphError("image_of_another_size", f"the record says {said}, the image has {file.width, file.height}")
    return SceneGraph.from_json(record, file.width, file.height)


def joined_graph(joined: dict[str, Any], record: dict[str, Any], file: ImageFile) -> SceneGraph:
    """A joined graph, brought to the size of the stored image.

    Its boxes count in the pixels of an image of its own `width` and `height`; without these, of the image before
    img2dataset resized it (`original_width`, `original_height` of the sample), else of the stored one.

    Raises:
        GraphError: If it is malformed, or the image has another shape than the annotated one, being cropped or padded.
    """
    said = size_of(joined.get("width"), joined.get("height"))
    if said is None and any(joined.get(side) for side in ("width", "height")):
        raise GraphError("malformed_size", f"expected pixels, got {joined.get('width')!r} x {joined.get('height')!r}")
    original = size_of(record.get("original_width"), record.get("original_height"))
    width, height = said or original or (file.width, file.height)
    scale_x, scale_y = file.width / width, file.height / height
    rounding = 1 / min(file.width, file.height)
    if abs(scale_x / scale_y - 1) > RATIO_TOLERANCE + rounding:
        raise GraphError("image_of_another_shape", f"annotated at {width} x {height}, stored as {file[:2]}")
    return SceneGraph.from_json(joined, width, height).resize(scale_x, scale_y)
