"""The scorer that the options of the command ask for."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from torch import nn

from relpretrain.identity import folder_digest
from relpretrain.threads import choose_threads
from relpretrain.types import PairScorer
from relpretrain.zeroshot.scorers.base import EmbeddingScorer
from relpretrain.zeroshot.scorers.blind import BlankImageScorer, LanguageModelScorer, LengthScorer
from relpretrain.zeroshot.scorers.constant import ConstantScorer
from relpretrain.zeroshot.scorers.matching import By, MatchScorer

WAYS: tuple[str, ...] = get_args(By)
"""What a checkpoint can score by."""

PRECISIONS = ("fp32", "bf16")

KINDS = ("hf:", "open_clip:", "vqa:")
"""What `--model` can name."""

_MODES = ("checkpoint", "model", "blind", "constant")
_OF_A_CHECKPOINT = ("by", "tokenizer", "image_size", "clean", "relations")


def chosen_model(args: argparse.Namespace) -> str:
    """Which option names the model; "" if none does.

    Raises:
        ValueError: If several do, if the model cannot be there, or if options do not go together.
    """
    chosen = [mode for mode in _MODES if getattr(args, mode)]
    if len(chosen) > 1:
        raise ValueError(f"Give one of {' and '.join(f'--{mode}' for mode in chosen)}, not both.")
    mode = chosen[0] if chosen else ""
    if mode == "checkpoint" and not args.checkpoint.exists():
        raise ValueError(f"There is no checkpoint {args.checkpoint}.")
    if mode == "model" and not args.model.startswith(KINDS):
        raise ValueError(
            f"--model is hf:FOLDER_OR_NAME, open_clip:NAME/WEIGHTS or vqa:FOLDER_OR_NAME, not {args.model!r}."
        )
    if mode == "model" and args.by == "both":
        raise ValueError("--by both is for --checkpoint; BLIP and BLIP-2 of Hugging Face have itm and itc.")
    if args.question and not (args.model or "").startswith("vqa:"):
        raise ValueError("--question is for --model vqa:FOLDER_OR_NAME.")
    own = _OF_A_CHECKPOINT[mode == "model" :]
    foreign = [option for option in own if mode not in ("", "checkpoint") and getattr(args, option)]
    if foreign:
        raise ValueError(f"--{foreign[0].replace('_', '-')} is for --checkpoint, not for --{mode}.")
    if args.blank_image and mode not in ("checkpoint", "model"):
        raise ValueError("--blank-image needs a model that looks at images: --checkpoint or --model.")
    return mode


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
