"""Conversion of BERT's weight names (Hugging Face's BertForMaskedLM, the official text encoders) to ours.

Pure functions of state dicts. Only weights without information of their own are dropped: copies of tied weights, which
are compared first, and those that no model here uses (pooler, next-sentence head).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]

# Inside a layer: their name -> our name, and the index and number of the parts that are stacked in it.
LAYER: dict[str, tuple[str, int, int]] = {
    "attention.self.query": ("attention.qkv", 0, 3),
    "attention.self.key": ("attention.qkv", 1, 3),
    "attention.self.value": ("attention.qkv", 2, 3),
    "attention.output.dense": ("attention.out", 0, 1),
    "attention.output.LayerNorm": ("attention_norm", 0, 1),
    "crossattention.self.query": ("cross.q", 0, 1),
    "crossattention.self.key": ("cross.kv", 0, 2),
    "crossattention.self.value": ("cross.kv", 1, 2),
    "crossattention.output.dense": ("cross.out", 0, 1),
    "crossattention.output.LayerNorm": ("cross_norm", 0, 1),
    "intermediate.dense": ("up", 0, 1),
    "output.dense": ("down", 0, 1),
    "output.LayerNorm": ("ffn_norm", 0, 1),
}
BERT = {
    "bert.embeddings.word_embeddings": "text.words",
    "bert.embeddings.position_embeddings": "text.positions",
    "bert.embeddings.token_type_embeddings": "text.types",
    "bert.embeddings.LayerNorm": "text.norm",
    "cls.predictions.transform.dense": "mlm_head.dense",
    "cls.predictions.transform.LayerNorm": "mlm_head.norm",
    "cls.predictions": "mlm_head",
}
BERT_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.(.+)")
COPIES = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_UNUSED_BERT = re.compile(r"bert\.embeddings\.(position_ids|token_type_ids)|bert\.pooler\..*|cls\.seq_relationship\..*")


def convert_bert(state: Mapping[str, Tensor], text_layers: int) -> State:
    """Rename the weights of a BERT with its language modelling head.

    Args:
        state: State dict of Hugging Face's BertForMaskedLM or an official text encoder.
        text_layers: Number of layers of the text encoder; the rest belong to the fusion encoder.

    Raises:
        ValueError: If a name is unknown, or the head's output matrix is not tied to the word embeddings.
    """
    state = {with_bert(key): value for key, value in state.items()}
    for copy, original in COPIES.items():
        if copy in state and not same(state[copy], state.get(original, state[copy])):
            raise ValueError(f"{copy} differs from {original}: the word head of this checkpoint is not tied.")
    parts: dict[str, dict[int, Tensor]] = {}
    unknown = []
    for key, value in state.items():
        if key in COPIES or _UNUSED_BERT.fullmatch(key):
            continue
        place = _bert_place(key, text_layers)
        if place is None:
            unknown.append(key)
        else:
            parts.setdefault(place[0], {})[place[1]] = value
    refuse_unknown(unknown)
    return {name: torch.cat([p[i] for i in sorted(p)]) if len(p) > 1 else p[0] for name, p in parts.items()}


def same(a: Tensor, b: Tensor) -> bool:
    """Whether tensors are equal; on the meta device, whether their shapes are."""
    return a.shape == b.shape and (a.is_meta or b.is_meta or torch.equal(a, b.to(a.dtype)))


def _bert_place(key: str, text_layers: int) -> tuple[str, int] | None:
    """Our name of a weight, and its index among the parts stacked in it; None if unknown."""
    prefix, _, last = key.rpartition(".")
    layer = BERT_LAYER.fullmatch(prefix)
    if layer and layer[2] in LAYER:
        number, (name, part, _) = int(layer[1]), LAYER[layer[2]]
        half, number = ("text", number) if number < text_layers else ("fusion", number - text_layers)
        return f"{half}.layers.{number}.{name}.{last}", part
    if prefix in BERT:
        return f"{BERT[prefix]}.{last}", 0
    return None


def count_text_layers(text: Mapping[str, Tensor]) -> int:
    """Number of layers before the first one with cross-attention."""
    layers = {int(m[1]) for m in map(BERT_LAYER.match, text) if m}
    crossing = {int(m[1]) for m in map(BERT_LAYER.match, text) if m and m[2].startswith("crossattention.")}
    return min(crossing, default=len(layers))


def with_bert(key: str) -> str:
    """Add the prefix "bert.", which fine-tuning checkpoints lack."""
    return f"bert.{key}" if key.startswith(("embeddings.", "encoder.")) else key


def refuse_unknown(unknown: list[str]) -> None:
    """Raise a ValueError that lists the unknown weights, if there are any."""
    if unknown:
        raise ValueError(f"{len(unknown)} unknown weights in the checkpoint: {', '.join(sorted(unknown))}.")
