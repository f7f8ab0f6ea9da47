"""The scorer that the options of the command ask for."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from relpretrain.allocator import keep_freed_memory
from relpretrain.identity import folder_digest
from relpretrain.threads import choose_threads
from relpretrain.types import PairScorer
from relpretrain.zeroshot.scorers.base import EmbeddingScorer
from relpretrain.zeroshot.scorers.blind import BlankImageScorer, LanguageModelScorer, LengthScorer
from relpretrain.zeroshot.scorers.constant import ConstantScorer
from relpretrain.zeroshot.scorers.matching import By, MatchScorer


def build_scorer(args: argparse.Namespace, device: str) -> tuple[PairScorer, dict[str, Any]]:
    """The scorer, and what a report says of it.

    Raises:
        ValueError: If it cannot be loaded (`CheckpointError` for a checkpoint).
    """
    scorer, described = _build(args, device)
    if args.blank_image:
        if not isinstance(scorer, EmbeddingScorer):
            raise ValueError(f"--blank-image needs a scorer with embeddings, which {type(scorer).__name__} is not.")
        return BlankImageScorer(scorer), described | {"images": "all replaced by a grey one"}
    return scorer, described


def _build(args: argparse.Namespace, device: str) -> tuple[PairScorer, dict[str, Any]]:
    sizes = {"device": device, "batch_size": args.batch_size}
    if device == "cpu":
        keep_freed_memory()
    if args.constant:
        return ConstantScorer(), {"scorer": "constant"}
    if args.blind == "length":
        return LengthScorer(), {"scorer": "length of the text"}
    if args.blind:
        blind = LanguageModelScorer(args.blind, **sizes)
        return blind, {"scorer": f"mean log-likelihood under {blind.name}"} | _weights(args.blind)
    lengths = {"max_tokens": args.max_tokens, "precision": args.precision}
    if args.model:
        kind, _, name = args.model.partition(":")
        scorer = _foreign(kind, name, args, sizes | lengths)
        told = {"loaded": scorer.loaded} if getattr(scorer, "loaded", "") else {}
        described = {"scorer": f"{type(scorer).__name__} of {scorer.name}", "precision": args.precision}
        return scorer, described | told | _weights(name)
    return _checkpoint_scorer(args, sizes)


def _foreign(kind: str, name: str, args: argparse.Namespace, keywords: dict[str, Any]) -> Any:
    """The scorer of a model of another codebase."""
    if kind == "hf":
        from relpretrain.zeroshot.scorers.hugging_face import hugging_face_scorer

        return hugging_face_scorer(name, by=args.by, **keywords)
    if args.by:
        raise ValueError(f"--by is for --checkpoint and for BLIP and BLIP-2 (--model hf:...), not for {kind}: models.")
    if kind == "vqa":
        from relpretrain.zeroshot.scorers.vqa import QUESTION, VQAScorer

        return VQAScorer(name, question=args.question or QUESTION, **keywords)
    from relpretrain.zeroshot.scorers.openclip import OpenCLIPScorer

    return OpenCLIPScorer(name, **keywords)


def _checkpoint_scorer(args: argparse.Namespace, sizes: dict[str, Any]) -> tuple[PairScorer, dict[str, Any]]:
    from relpretrain.checkpoints.checkpoint import load

    loaded = load(args.checkpoint, tokenizer=args.tokenizer, image_size=args.image_size, vocabulary=args.relations)
    if line := choose_threads(cast(nn.Module, loaded.backbone)):
        print(line, file=sys.stderr)
    preprocess = loaded.preprocess
    if args.max_tokens is not None:
        positions = getattr(getattr(loaded.backbone, "config", None), "max_positions", args.max_tokens)
        if not 3 <= args.max_tokens <= positions:
            raise ValueError(f"--max-tokens must be from 3 to {positions}, which the model has positions for, not "
                             f"{args.max_tokens}.")  # fmt: skip
        preprocess = replace(preprocess, max_tokens=args.max_tokens)
    by: By = args.by or "itm"
    scorer = MatchScorer(
        loaded.backbone,
        preprocess,
        clean=args.clean,
        objectives=loaded.objectives,
        by=by,
        precision=args.precision,
        **sizes,
    )
    described = {"scorer": f"{type(loaded.backbone).__name__} by {by}", "precision": args.precision}
    if loaded.report is not None and loaded.report.notes:
        described["loaded"] = "; ".join(loaded.report.notes)
    return scorer, described | {"weights": folder_digest(args.checkpoint)}


def _weights(name: str) -> dict[str, str]:
    """The hash of weights in a folder or a file; a name on a hub speaks for itself."""
    path = Path(name)
    return {"weights": folder_digest(path)} if path.exists() else {}
