"""What may be written into a report folder: nothing beside or over the scores of another model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from relpretrain.zeroshot.report.terminal import JSON_NAME, read_report

SOURCE = "source "
"""Before a model's name: the entry of a report's metadata with the report folder that the model's scores are from."""


def refuse_mixture(out: Path, metadata: Mapping[str, Any], files: Set[str]) -> None:
    """Refuse to leave another model's scores beside those of a model that is scored.

    Args:
        out: The report folder.
        metadata: Of the report that goes there.
        files: Names of the score files that are written anew.

    Raises:
        ValueError: Naming the files that the run would not write anew.
    """
    left = sorted(_held(out) - files)
    if left and (before := _model_of(out, metadata, ("model", "scorer", "weights", "images"))):
        raise _refusal(out, before, "leave beside its own", left)


def refuse_other_model(out: Path, sources: Mapping[str, str], paths: Sequence[Path]) -> None:
    """Refuse to write scores that were read into the folder of another model: scoring that one took its time.

    Args:
        out: The report folder.
        sources: The report folder that the scores of each model were read from, by the model's name; "" if from none.
        paths: The files that they were read from; into the folder that all of them lie in they may go back.

    Raises:
        ValueError: Naming the score files that are there.
    """
    home = (out / "scores").resolve()
    if all(path.resolve().parent == home for path in paths):
        return
    held, before = _held(out), _model_of(out, {}, ("model",))
    if not held or not before:
        return
    metadata = read_report(out / JSON_NAME).metadata
    there = {name: str(metadata.get(f"{SOURCE}{name}", "")) for name in (before, *before.split(", "))}
    if not _models(sources) <= _models(there):
        homes = ", ".join(filter(None, there.values()))
        told = f"{before} ({homes})" if homes else before
        raise _refusal(out, told, "mix with its own or overwrite", sorted(held))


def refuse_model_folder(out: Path, what: str) -> None:
    """Refuse to write a report that is of no one model over that of a model.

    Args:
        out: The report folder.
        what: What would be written.

    Raises:
        ValueError: Naming the model.
    """
    if _held(out) and (before := _model_of(out, {}, ("model",))):
        raise ValueError(f"{out} holds the report of a model, {before}, which {what} would overwrite: choose another "
                         "--out.")  # fmt: skip


def _models(sources: Mapping[str, str]) -> set[str]:
    """What tells models apart: the report folders of their scores, whose last parts may be alike, or else the names."""
    return {home or name for name, home in sources.items()}


def _held(out: Path) -> set[str]:
    """Names of the score files of a report folder."""
    return {path.name for path in (out / "scores").glob("*.jsonl")}


def _model_of(out: Path, metadata: Mapping[str, Any], names: Iterable[str]) -> str:
    """The model whose report lies in a folder; "" if none does, or if it is the one that `metadata` tells of."""
    if not (out / JSON_NAME).is_file():
        return ""
    before = read_report(out / JSON_NAME).metadata
    same = all(before.get(name) == metadata.get(name) for name in names)
    return "" if same else str(before.get("model") or before.get("models") or "whose name is not told")


def _refusal(out: Path, before: str, would: str, files: Sequence[str]) -> ValueError:
    named = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    return ValueError(
        f"{out} holds scores of another model, {before}, which this run would {would} ({named}): choose another --out, "
        "or remove them."
    )
