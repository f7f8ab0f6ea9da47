"""Scores pairs with models of OpenCLIP (<https://github.com/mlfoundations/open_clip>)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from relpretrain.zeroshot.scorers.base import CosineScorer
from relpretrain.zeroshot.scorers.matching import autocast, check_precision


class OpenCLIPScorer(CosineScorer):
    """Cosine over temperature; images and texts are prepared as the model's configuration says.

    Args:
        name: "NAME/PRETRAINED", such as "ViT-B-32/laion2b_s34b_b79k", where PRETRAINED may be the path of a file; or
            "hf-hub:OWNER/NAME", or "local-dir:FOLDER".
        device: Where to compute.
        batch_size: Images encoded at once.
        max_tokens: Must be None, or the length that the model reads.
        precision: "fp32", or "bf16" on CUDA or a CPU with instructions for it.

    Raises:
        ValueError: If OpenCLIP is not installed, or the model is unknown or cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        device: torch.device | str = "cpu",
        batch_size: int = 32,
        max_tokens: int | None = None,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        try:
            import open_clip  # type: ignore[import-untyped,import-not-found]
        except ImportError as error:
            raise ValueError('--model open_clip:... needs OpenCLIP: pip install "relpretrain[benchmarks]".') from error
        model, _, weights = (name, "", "") if name.startswith(("hf-hub:", "local-dir:")) else name.partition("/")
        if not weights and model == name and ":" not in name:
            raise ValueError(f"An OpenCLIP model is NAME/PRETRAINED, such as ViT-B-32/laion2b_s34b_b79k, not {name!r}.")
        self.device = torch.device(device)
        self.precision = check_precision(precision, self.device)
        self.batch_size = batch_size
        self.name = name
        try:
            with tempfile.TemporaryDirectory() as folder:
                file, self.loaded = _without_relations(weights, folder, open_clip.factory.load_state_dict)
                self.model, self.transform = open_clip.create_model_from_pretrained(model, file or None)
            self.tokenizer = open_clip.get_tokenizer(model)
        except (RuntimeError, ValueError, OSError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"OpenCLIP cannot load {name!r}: {reason}") from error
        self.model.eval().to(self.device)
        self.max_tokens = int(self.tokenizer.context_length)
        if max_tokens not in (None, self.max_tokens):
            raise ValueError(f"{name} reads exactly {self.max_tokens} tokens; --max-tokens asks for {max_tokens}.")
        self.temperature = float(self.model.logit_scale.detach().exp()) ** -1

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Any]) -> Tensor:
        """Unit vectors (images, dim)."""
        parts = []
        for start in range(0, len(images), self.batch_size):
            few: list[Any] = [self.transform(image) for image in images[start : start + self.batch_size]]
            with autocast(self.precision, self.device):
                parts.append(self.model.encode_image(torch.stack(few).to(self.device)))
        return F.normalize(torch.cat(parts).float(), dim=-1) if parts else torch.zeros(0, 1)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (texts, dim)."""
        parts = []
        for start in range(0, len(texts), 2 * self.batch_size):
            few = list(texts[start : start + 2 * self.batch_size])
            ids = self.tokenizer(few)
            own = getattr(self.tokenizer, "tokenizer", None)
            padding = getattr(own, "pad_token_id", None) or 0
            ended = int(padding == getattr(own, "eos_token_id", None))  # padding that is the end of the text, too
            self.note_lengths(few, ((ids != padding).sum(dim=1) + ended).tolist())
            with autocast(self.precision, self.device):
                parts.append(self.model.encode_text(ids.to(self.device)))
        return F.normalize(torch.cat(parts).float(), dim=-1) if parts else torch.zeros(0, 1)


def _without_relations(weights: str, folder: str, read: Callable[[str], dict[str, Tensor]]) -> tuple[str, str]:
    """A file without the relation heads of `add_relation_objectives`, which OpenCLIP refuses, and what was left aside.

    Args:
        weights: Name of published weights, or a file.
        folder: Where a file without them is written.
        read: OpenCLIP's own reader of files.
    """
    if not Path(weights).is_file() or Path(weights).suffix in (".npz", ".npy"):
        return weights, ""
    state = read(weights)
    own = {key: value for key, value in state.items() if not key.startswith("relation_")}
    if len(own) == len(state):
        return weights, ""
    torch.save({"state_dict": own}, Path(folder) / "weights.pt")
    return str(Path(folder) / "weights.pt"), f"left aside: {len(state) - len(own)} weights of relation objectives"
