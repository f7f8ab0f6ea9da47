"""The tagger that the options of a command ask for."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from relpretrain.errors import check_checkpoint, positive

if TYPE_CHECKING:
    from relpretrain.tagging.head import HeadTagger
    from relpretrain.tagging.margin import MarginTagger

T = TypeVar("T")
BY = ("head", "itm")


def add_model(parser: Any, batches: bool = True) -> None:
    """Add the options that say how a checkpoint scores; `--batch-size` only if a command has none yet."""
    parser.add_argument(
        "--by", choices=BY, default=BY[0],
        help="head: a trained RelationTagger; itm: how far a triplet's text matches better than its foils, without "
        "training (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--relations", metavar="FILE", help="of --by itm: the relations to ask, a vocabulary or a bundled name (gqa)"
    )
    parser.add_argument("--device", help="cpu or cuda (default: the first GPU if there is one)")
    if batches:
        parser.add_argument(
            "--batch-size", type=positive, default=32, metavar="N", help="images at a time (default: %(default)s)"
        )


def build_tagger(args: argparse.Namespace, checkpoint: Path) -> HeadTagger | MarginTagger:
    """Load a checkpoint as a tagger.

    Raises:
        CheckpointError: If it is none, or has no head for it.
        ValueError: If options do not go together, or the device cannot be used.
    """
    if args.by == "head" and args.relations:
        raise ValueError("--relations is for --by itm: a trained head has its own")
    check_checkpoint(checkpoint)
    import torch

    from relpretrain.checkpoints import load
    from relpretrain.distributed import check_device
    from relpretrain.scene_graph import RelationVocabulary
    from relpretrain.tagging.head import HeadTagger
    from relpretrain.tagging.margin import MarginTagger
    from relpretrain.zeroshot.scorers import MatchScorer

    relations = RelationVocabulary.load(args.relations) if args.relations else None
    device = check_device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    loaded = load(checkpoint)
    if args.by == "head":
        return HeadTagger(loaded, device)
    vocabulary = relations or loaded.vocabulary
    if vocabulary is None:
        raise ValueError("--by itm needs the relations to ask, for the checkpoint has none: name --relations FILE")
    return MarginTagger(MatchScorer(loaded.backbone, loaded.preprocess, device, args.batch_size), vocabulary)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Items, so many at a time."""
    some: list[T] = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
