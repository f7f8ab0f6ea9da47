"""The way of a sample as stages of a webdataset pipeline of your own, without our schedule and cache.

    wds.DataPipeline(
        wds.SimpleShardList(shards), wds.split_by_worker, wds.tarfile_to_samples(), wds.shuffle(1000),
        decode(stream, 224), augment(stream, 224), verbalise(stream, tokenizer), collate(stream, tokenizer),
    )

Each stage takes an iterator of one form of the samples and gives one of the next. A sample that cannot be used goes to
`handler`, as in webdataset: it says whether to go on without it. Random choices are seeded by torch's generator, which
`DataLoader` seeds in each worker and anew for each epoch.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from relpretrain.data.pipeline import images, transforms
from relpretrain.data.pipeline.collate import collate as batch_of
from relpretrain.data.pipeline.host_tokenizer import Padding, SentenceEncoder, text_encoder
from relpretrain.data.pipeline.sample import Augmented, Sample
from relpretrain.data.pipeline.stages import Pipeline, check, parse
from relpretrain.data.pipeline.text_writer import Example, TextWriter
from relpretrain.data.sampling.exclusion import Exclusion
from relpretrain.data.sampling.stream import Stream
from relpretrain.data.shards.record import image_id_of
from relpretrain.data.shards.remote import name_of
from relpretrain.data.shards.row_index import RawSample
from relpretrain.data.shards.writer import IMAGE_EXTENSIONS
from relpretrain.errors import BadSample
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import Batch, Normalisation

_From = TypeVar("_From")
_To = TypeVar("_To")

Handler = Callable[[Exception], bool]
"""Told each bad sample; whether to go on without it. Those of webdataset serve."""

Stage = Callable[[Iterable[_From]], Iterator[_To]]

_log = logging.getLogger(__name__)


def log_and_continue(error: Exception) -> bool:
    """Log a bad sample, and go on without it."""
    _log.warning("Left out: %s", error)
    return True


def decode(
    stream: Stream, image_size: int, exclusion: Exclusion | None = None, handler: Handler = log_and_continue
) -> Stage[Mapping[str, Any], Sample]:
    """Decode webdataset's samples, of our shards, img2dataset's or OpenCLIP's, and check their graphs.

    Args:
        stream: Whose `kind`, `min_scale` and `reads_graph` are used.
        image_size: Side of the images that the model sees, in pixels.
        exclusion: Images to leave out.
        handler: Told each sample that cannot be used.

    Returns:
        A stage from samples with bytes under "jpg" (or "jpeg", "png", "webp"), "json" and "txt".
    """
    return partial(_each, partial(_decoded, stream, image_size, exclusion), handler)


def augment(stream: Stream, image_size: int, handler: Handler = log_and_continue) -> Stage[Sample, Augmented]:
    """Crop, flip and colour samples so that what is said of them stays true, see `transforms.augment`.

    Args:
        stream: Whose `kind`, `boxed`, `min_confidence`, `min_scale`, `flip` and `color` are used.
        image_size: Side of the square that comes out, in pixels.
        handler: Told each sample without a triplet that is sure enough.
    """
    return partial(_each, partial(_augmented, stream, image_size), handler)


def verbalise(
    stream: Stream,
    tokenizer: Any,
    mask_fraction: float = 0.25,
    vocabulary: RelationVocabulary | None = None,
    separator: bool | None = None,
    normalisation: Normalisation = images.CLIP_NORMALISATION,
    transform: Callable[[Tensor], Tensor] | None = None,
    handler: Handler = log_and_continue,
) -> Stage[Augmented, Example]:
    """Draw the texts of samples, captions, phrases or verbalised triplets, tokenise them and mask words.

    Args:
        stream: Whose `kind`, `max_tokens` and numbers per image are used.
        tokenizer: The model's: a Hugging Face tokenizer or the name of one, or one of OpenCLIP.
        mask_fraction: Fraction of tokens masked; a tokenizer without [MASK] masks none.
        vocabulary: Relations that triplets for MRC are drawn from; None takes all.
        separator: Whether a caption ends with [SEP]; None for what the tokenizer itself does.
        normalisation: What the batch is to be normalised by, on the device (`Batch.model_images`).
        transform: Makes the model's input of pixels here instead, such as a `HostTransform`.
        handler: Told each sample that has nothing that the stream is about.

    Raises:
        ValueError: If there is no such tokenizer, or nothing is known of its kind.
    """
    encoder = text_encoder(tokenizer, stream.max_tokens, separator)
    fraction = 0.0 if encoder.tokenizer.mask_token_id is None else mask_fraction
    pipeline = Pipeline(
        stream, 0, TextWriter(stream, encoder, fraction, vocabulary), normalisation=normalisation, host=transform
    )
    return partial(_each, pipeline.write, handler)


def collate(stream: Stream, tokenizer: Any, whole: bool = True) -> Stage[Example, Batch]:
    """Put examples together to typed batches.

    Args:
        stream: Whose `kind` is the batches' type; its `batch_size` is this process's here.
        tokenizer: As in `verbalise`.
        whole: Whether the last examples are left out where they are less than a batch.

    Returns:
        A stage to batches; their `step` counts those of all workers.
    """
    encoder = text_encoder(tokenizer, stream.max_tokens)
    finish = encoder.padding if isinstance(encoder, SentenceEncoder) else None
    return partial(_collated, stream, encoder.tokenizer.pad_token_id, finish, whole)


class _Shard(NamedTuple):
    name: str
    path: Path


def _raw(sample: Mapping[str, Any]) -> tuple[RawSample, _Shard]:
    """A sample of webdataset's, as its bytes lie in the shard."""
    parts = [next((sample[e] for e in IMAGE_EXTENSIONS if e in sample), None), sample.get("json"), sample.get("txt")]
    if odd := [type(part).__name__ for part in parts if not isinstance(part, bytes | None)]:
        raise TypeError(f"decode takes bytes, got {odd[0]}: put it right after wds.tarfile_to_samples().")
    image, json, txt = parts
    if image is None:
        raise BadSample("missing_image", f"none of {', '.join(IMAGE_EXTENSIONS)}")
    url = str(sample.get("__url__", ""))
    return RawSample(str(sample["__key__"]), image, json, txt), _Shard(name_of(url) if url else "", Path(url))


def _each(
    one: Callable[[_From, np.random.Generator], _To], handler: Handler, samples: Iterable[_From]
) -> Iterator[_To]:
    """Do one thing to each sample."""
    rng = np.random.default_rng(int(torch.empty((), dtype=torch.int64).random_()))
    for sample in samples:
        try:
            made = one(sample, rng)
        except BadSample as error:
            if not handler(BadSample(error.reason, f"{_name(sample)} {error.detail}".strip())):
                return
            continue
        yield made


def _decoded(
    stream: Stream, size: int, exclusion: Exclusion | None, sample: Mapping[str, Any], rng: np.random.Generator
) -> Sample:
    raw, shard = _raw(sample)
    record = parse(raw, shard.path.parent.name or shard.name, shard)
    if exclusion is not None and (reason := exclusion.reason(image_id_of(record.content, raw.key))):
        raise BadSample(reason)
    decoded = images.decode(raw.image, size, stream.min_scale)
    return check(record, decoded, stream.kind, exclusion, stream.reads_graph)


def _augmented(stream: Stream, size: int, sample: Sample, rng: np.random.Generator) -> Augmented:
    return transforms.augment(sample, size, stream, rng)


def _collated(
    stream: Stream, pad_id: int, finish: Padding | None, whole: bool, examples: Iterable[Example]
) -> Iterator[Batch]:
    worker, waiting = get_worker_info(), iter(examples)
    for step in itertools.count(*(0, 1) if worker is None else (worker.id, worker.num_workers)):
        some = list(itertools.islice(waiting, stream.batch_size))
        if not some or (whole and len(some) < stream.batch_size):
            return
        batch = batch_of(stream.kind, some, pad_id, objectives=tuple(stream.objectives), step=step)
        yield batch if finish is None else finish(batch)


def _name(sample: Any) -> str:
    """Where a sample comes from, in any of its forms."""
    if isinstance(sample, Mapping):
        return f"{sample.get('__url__', '')} {sample.get('__key__', '')}".strip()
    return str((sample.sample if isinstance(sample, Augmented) else sample).key)
