"""Describe a model in its checkpoint, and rebuild it from that file alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from PIL import Image
from torch import Tensor, nn

from relpretrain.backbones.vision import not_finite
from relpretrain.checkpoints.card import card
from relpretrain.checkpoints.described import build, check_size, record
from relpretrain.checkpoints.file import read_file
from relpretrain.checkpoints.folder import is_folder, read_folder, write_folder
from relpretrain.checkpoints.heads import stored_heads
from relpretrain.checkpoints.official.build import LoadReport, build_official
from relpretrain.checkpoints.official.file import OfficialFile, official_file
from relpretrain.checkpoints.scoring import By, score
from relpretrain.checkpoints.sharded import are_shards, read_shards
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.errors import CheckpointError, counted
from relpretrain.objectives import Objective
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.types import Backbone
from relpretrain.version import __version__

KEY = "relpretrain"
"""Entry of a checkpoint with the result of `describe`, beside Lightning's own."""

OFFICIAL_TOKENIZER = "bert-base-uncased"
"""The tokenizer that the official checkpoints were trained with."""


@dataclass
class Loaded(ModelHubMixin):
    """A model from a checkpoint, in evaluation mode.

    `huggingface_hub`'s mixin saves and shares it: `save_pretrained(folder)`, `push_to_hub("USER/NAME")`,
    `Loaded.from_pretrained("USER/NAME")`, which also takes a folder.

    Args:
        backbone: The model.
        preprocess: Preprocessing of its images and texts.
        objectives: The objectives that it was trained with, by name, with their heads.
        vocabulary: The relations that MRC classifies; None without MRC.
        report: How each weight of an official checkpoint was converted; None for one of ours.
        official_keys: Weight names of the official checkpoint that the weights came from; None for one of ours.
        name: Name of the weights, for the model card.
    """

    backbone: Backbone
    preprocess: Preprocess
    objectives: dict[str, Objective]
    vocabulary: RelationVocabulary | None
    report: LoadReport | None = None
    official_keys: tuple[str, ...] | None = None
    name: str = "relpretrain"

    def score(self, images: Sequence[Image.Image | str | Path], texts: Sequence[str], by: By = "itm") -> Tensor:
        """Score every image with every text, such as your own photos with what might be true of them.

        Example:
            >>> loaded = relpretrain.load("last.ckpt")  # doctest: +SKIP
            >>> loaded.score(["cat.jpg"], ["a cat on a sofa", "a sofa on a cat"])  # doctest: +SKIP
            tensor([[0.9731, 0.1264]])

        Args:
            images: Paths, or images of PIL, of any size and mode.
            texts: Any number; each meets each image.
            by: "itm", the matching head: the probability that image and text match, in [0, 1], each pair for itself;
                benchmarks decide by it, and the page of `relpretrain explain` has it beside the logit of its maps.
                "itc", the embeddings: their cosine, in [-1, 1], faster, for the order of many, and no probability.

        Returns:
            Scores (images, texts), float32 on the CPU.

        Raises:
            ValueError: If `by` is unknown.
            OSError: If a path names no image.
        """
        return score(self.backbone, self.preprocess, images, texts, by)

    def __repr__(self) -> str:
        """One line, without the weights."""
        said = [f"{type(self.backbone).__name__}, {self._parameters():,} parameters"]
        said.append(
            f"images of {self.preprocess.image_size} pixels, texts of up to {self.preprocess.max_tokens} tokens"
        )
        said.append(f"objectives: {', '.join(self.objectives) or 'none'}")
        if self.vocabulary is not None:
            said.append(counted(len(self.vocabulary.names), "relation"))
        return f"{type(self).__name__}({'; '.join(said)})"

    def _parameters(self) -> int:
        return sum(p.numel() for p in cast(nn.Module, self.backbone).parameters())

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the folder (called by the mixin's `save_pretrained` and `push_to_hub`)."""
        described = describe(self.backbone, self.objectives, self.preprocess)
        if self.official_keys is not None:
            described["official_keys"] = list(self.official_keys)
        backbone = cast(nn.Module, self.backbone)
        modules = {"backbone": backbone, "objectives": nn.ModuleDict(self.objectives)}
        state = {f"{p}.{key}": value for p, module in modules.items() for key, value in module.state_dict().items()}
        text = card(self.name, backbone, self.preprocess, self.objectives, self.official_keys is not None)
        write_folder(Path(save_directory), described, state, self.preprocess, text)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, device: torch.device | str = "cpu", **options: Any) -> Loaded:
        """Load a folder, or a repository of the hub (called by the mixin's `from_pretrained`)."""
        if Path(model_id).is_dir():
            return load(model_id, device)
        asked = {name: options[name] for name in _DOWNLOAD if options.get(name) is not None}
        return load(snapshot_download(model_id, **asked), device)


_DOWNLOAD = ("revision", "cache_dir", "force_download", "local_files_only", "token")
"""Options of the download that the mixin passes on."""


def describe(backbone: Any, objectives: Mapping[str, Objective], preprocess: Preprocess | None) -> dict[str, Any]:
    """Describe everything that `load` needs beside the weights, as plain types."""
    vocabulary = relation_vocabulary(objectives)
    return {
        "version": __version__,
        "backbone": record(backbone),
        "objectives": {name: record(objective) for name, objective in objectives.items()},
        "preprocess": None if preprocess is None else preprocess.state(),
        "vocabulary": None if vocabulary is None else vocabulary.to_json(),
        "fingerprint": None if vocabulary is None else vocabulary.fingerprint,
    }


def relation_vocabulary(objectives: Mapping[str, Any]) -> RelationVocabulary | None:
    """The vocabulary of the first objective that has one."""
    for objective in objectives.values():
        vocabulary = getattr(objective, "vocabulary", None)
        if isinstance(vocabulary, RelationVocabulary):
            return vocabulary
    return None


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of relpretrain; code in it is not executed.

    Raises:
        CheckpointError: If the file is missing or is no checkpoint of relpretrain.
    """
    return _ours(read_any(path), path)


def read_any(path: str | Path, mapped: bool = True) -> Any:
    """Read any checkpoint file or folder of weights that contains only tensors and plain types.

    Args:
        path: The file or folder.
        mapped: Whether a file's tensors may stay on the disk until they are used.

    Raises:
        CheckpointError: If it is missing, cut off or damaged, or contains anything else.
    """
    path = Path(path)
    if is_folder(path):
        described, state = read_folder(path)
        return {KEY: described, "state_dict": state}
    if are_shards(path):
        return read_shards(path)
    return read_file(path, mapped)


def _ours(content: Any, path: str | Path) -> dict[str, Any]:
    if not isinstance(content, dict) or not isinstance(content.get(KEY), dict) or "state_dict" not in content:
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} was not written by relpretrain: it lacks the entry {KEY!r} (found: {found})")
    return content


def load(
    path: str | Path,
    device: torch.device | str = "cpu",
    tokenizer: str | None = None,
    image_size: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    vocabulary: str | RelationVocabulary | None = None,
) -> Loaded:
    """Load a trained model from a checkpoint of ours, or from an official one of ALBEF or X-VLM.

    A checkpoint of ours needs nothing beside the file. Official checkpoints (pretraining or retrieval, with a ViT or
    Swin) may be `{"model": state}`, a bare state dict, or wrapped by other scripts (`official_file`). Their texts are
    preprocessed as in their published evaluations: cleaned, at most 40 words, [CLS] without [SEP]. A relation head that
    was trained with them (`add_relation_objectives`) is loaded if its vocabulary is known, and skipped otherwise.

    Args:
        path: A checkpoint written by training, a folder written by `relpretrain weights`, or an official checkpoint.
        device: Device of the model.
        tokenizer: For official checkpoints: name or folder of the tokenizer (default: bert-base-uncased).
        image_size: For official checkpoints: another image size in pixels, to which weights are resized.
        arguments: For official checkpoints: keywords of the model that cannot be inferred from the weights
            (`build_official`).
        vocabulary: For official checkpoints: vocabulary of the relation head, as for `MRC`, unless it is a bundled one.

    Raises:
        CheckpointError: If the file is no such checkpoint, or its weights do not fit the model.
    """
    content = read_any(path)
    official = find_official(content)
    if official is not None:
        loaded = _load_official(path, official, tokenizer, image_size, arguments, vocabulary)
    elif tokenizer is not None or image_size is not None or arguments or vocabulary is not None:
        _ours(content, path)
        raise CheckpointError(
            f"{path} is a checkpoint of relpretrain, which holds its tokenizer, sizes and relations: leave out "
            "tokenizer, image_size, arguments and vocabulary"
        )
    else:
        loaded = _load_ours(path, _ours(content, path))
    for module in (loaded.backbone, *loaded.objectives.values()):
        cast(nn.Module, module).to(device).eval()
    return loaded


def find_official(content: Any) -> OfficialFile | None:
    """The official model in a file's content (`official_file`); None for a checkpoint of ours, or if there is none."""
    return None if isinstance(content, dict) and KEY in content else official_file(content)


def _load_official(
    path: str | Path,
    official: OfficialFile,
    tokenizer: str | None,
    image_size: int | None,
    arguments: Mapping[str, Any] | None,
    vocabulary: str | RelationVocabulary | None,
) -> Loaded:
    try:
        backbone, report = build_official(official.state, image_size, arguments)
        if vocabulary is not None and not isinstance(vocabulary, RelationVocabulary):
            vocabulary = RelationVocabulary.load(vocabulary)
        heads, told = stored_heads(official.relations, cast(Backbone, backbone), vocabulary)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be loaded: {' '.join(str(error).split())[:1000]}") from error
    try:
        words = load_tokenizer(tokenizer or OFFICIAL_TOKENIZER)
    except ValueError as error:
        raise CheckpointError(f"{path} holds no tokenizer; give one by `tokenizer`. {error}") from error
    config = backbone.config
    if len(words) != config.vocab_size:
        raise CheckpointError(
            f"the tokenizer {str(tokenizer or OFFICIAL_TOKENIZER)!r} has {len(words)} words, but {path} has "
            f"embeddings of {config.vocab_size}: give the tokenizer that it was trained with"
        )
    preprocess = Preprocess(words, config.image_size, config.max_positions, separator=False, clean=True)
    report = replace(report, notes=(*official.notes, *report.notes, *told))
    return Loaded(cast(Backbone, backbone), preprocess, heads, relation_vocabulary(heads), report, report.keys)


def _load_ours(path: str | Path, content: Mapping[str, Any]) -> Loaded:
    described = content[KEY]
    if described.get("preprocess") is None:
        raise CheckpointError(f"{path} does not say how images and texts are prepared: train with RelationDataModule")
    try:
        check_size(path, described, content["state_dict"])
        backbone = cast(nn.Module, build(described["backbone"], nn.Module))
        objectives = {name: build(state, Objective) for name, state in described["objectives"].items()}
        for objective in objectives.values():
            objective.attach(cast(Backbone, backbone))
        state = content["state_dict"]
        backbone.load_state_dict(below(state, "backbone."), strict=True)
        nn.ModuleDict(objectives).load_state_dict(below(state, "objectives."), strict=True)
        preprocess = Preprocess.from_state(described["preprocess"])
        size = getattr(getattr(backbone, "config", None), "image_size", preprocess.image_size)
        if preprocess.image_size != size:
            raise CheckpointError(f"{path} prepares images of {preprocess.image_size} pixels for a model of {size}")
        if broken := not_finite(below(state, "backbone.")):
            raise CheckpointError(
                f"{path} holds values that are not finite (its run had diverged), in {len(broken)} weights: {broken[0]}"
            )
    except CheckpointError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:  # whatever stands in the file
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{path} (relpretrain {described.get('version')}) does not fit this version: {reason}"
        ) from error
    keys = tuple(described.get("official_keys") or ()) or None
    return Loaded(cast(Backbone, backbone), preprocess, objectives, relation_vocabulary(objectives), None, keys)


def check_vocabulary(described: Mapping[str, Any], own: RelationVocabulary | None) -> None:
    """Check that a checkpoint's relation vocabulary, if any, is the model's.

    Raises:
        CheckpointError: If they number relations differently.
    """
    if own is None or described.get("vocabulary") is None or described.get("fingerprint") == own.fingerprint:
        return
    stored = RelationVocabulary.from_json(described["vocabulary"])
    differing = [
        f"{number}: {theirs!r} / {ours!r}"
        for number, (theirs, ours) in enumerate(zip_longest(stored.names, own.names))
        if theirs != ours
    ]
    names = f"first differing names {', '.join(differing[:3])}" if differing else "their aliases differ"
    raise CheckpointError(
        f"the checkpoint's relation vocabulary has {len(stored)} relations, this model's has {len(own)}, and they are "
        f"not the same ({names}): give MRC the vocabulary that the checkpoint was trained with"
    )


def check_groups(path: Path, saved: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]) -> None:
    """Compare the groups of a stored optimizer with those of this run.

    Args:
        path: The checkpoint, for the message.
        saved: Its groups.
        own: Those of the optimizer that is to take it.

    Raises:
        CheckpointError: If their sizes differ.
    """
    theirs, ours = ([len(group["params"]) for group in groups] for groups in (saved, own))
    if theirs != ours:
        raise CheckpointError(
            f"{path} is of an optimizer with groups of {theirs} parameters, this one has groups of {ours}: go on with "
            "the settings of its run (optimizer.groups, optimizer.new_lr and freeze_backbone make the groups)"
        )


def below(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries of a state dict with a prefix, which is removed from their names."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
