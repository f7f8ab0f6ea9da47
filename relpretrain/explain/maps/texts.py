"""Where a model looks for the words of a text, when it judges whether the text matches the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from relpretrain.backbones.encoders import Encoders
from relpretrain.data.pipeline.text import TextEncoder, Tokens, collate_texts
from relpretrain.explain.maps.spans import Reduce, Word, find, over, words_of
from relpretrain.explain.maps.watching import Model, checked, device_of, evaluating, fusion_layer, watched

_TEXTS = 32  # fused at once


class Match(NamedTuple):
    """What the matching head says of an image and a text.

    Args:
        score: Logit of the class "match", whose gain maps show.
        probability: That they match, in [0, 1]: the softmax over the logits of both classes.
    """

    score: float
    probability: float


@dataclass(frozen=True)
class TextMap:
    """Where a model looks for a text.

    Args:
        text: The text.
        tokens: Its wordpieces, [CLS] included, as the model sees them: cut to its limit.
        maps: A map for each of them, (tokens, rows, columns), from 0, in float32: how much of the matching score comes
            from looking there. Maps of one model and layer can be compared; their unit is that of the logit.
        score: Matching logit of the text, class "match": what the maps explain.
        probability: That image and text match, which takes the other class's logit into account, too: the number that
            `Loaded.score` gives and benchmarks decide by.
        encoder: What made the tokens.
    """

    text: str
    tokens: Tokens
    maps: Tensor
    score: float
    probability: float
    encoder: TextEncoder = field(repr=False, compare=False)

    @property
    def sentence(self) -> Tensor:
        """The map of the whole text, (rows, columns): the mean over all tokens, [CLS] included."""
        return self.maps.mean(0)

    @property
    def words(self) -> list[Word]:
        """The words in their order, each with the places of its wordpieces."""
        return words_of(self.tokens, self.encoder)

    def over(self, places: Sequence[int], reduce: Reduce = "mean") -> Tensor:
        """The map of some tokens, (rows, columns).

        Args:
            places: Their numbers in `tokens`.
            reduce: "mean" or "max" over them.

        Raises:
            ValueError: If there are none.
        """
        return over(self.maps, places, reduce)

    def of(self, words: str, reduce: Reduce = "mean") -> Tensor:
        """The map of words of the text, where they come first, (rows, columns).

        Args:
            words: One or several that stand side by side.
            reduce: "mean" or "max" over their wordpieces.

        Raises:
            ValueError: If the text does not have them, or only after the model's limit.
        """
        return self.over(find(words, self.tokens, self.encoder, self.text), reduce)


def text_maps(model: Model, image: Image.Image, texts: Sequence[str], layer: int | None = None) -> list[TextMap]:
    """Grad-CAM of the matching score, for each wordpiece of each text (ALBEF, arXiv 2107.07651, section 5.5).

    The map of a token is the mean over heads of its attention to the patches, times what the matching logit gains from
    more of that attention where it gains. The image's first token, which is no patch, is left out.

    Args:
        model: What `relpretrain.load` returned.
        image: The image, of any size and mode.
        texts: Texts about it, prepared as the model's preprocessing has it.
        layer: Number of the layer, see `fusion_layer`.

    Returns:
        A map for each text.

    Raises:
        ValueError: If the model is none of ours, or that layer shows no words.
    """
    encoder = model.preprocess.encoder
    tokens = [encoder.caption(text) for text in texts]
    found = token_maps(model, image, tokens, layer)
    return [
        TextMap(text, own, maps, *match, encoder)
        for text, own, (maps, match) in zip(texts, tokens, found, strict=True)
    ]  # fmt: skip


def token_maps(
    model: Model, image: Image.Image, tokens: Sequence[Tokens], layer: int | None = None, words: bool = True
) -> Iterator[tuple[Tensor, Match]]:
    """The map of each token, (tokens, rows, columns), and what the matching head says, of one text after the other.

    Args:
        model: What is explained.
        image: The image.
        tokens: The texts.
        layer: Number of the layer, see `fusion_layer`.
        words: Whether maps of single words are wanted; else the last layer may be asked for.
    """
    backbone = checked(model)
    cross, device = fusion_layer(backbone, layer, words), device_of(backbone)
    if not tokens:
        return
    # All tensors are made inside: of inference mode, in which a caller may be, none could be kept for a gradient.
    with evaluating(backbone), torch.no_grad():
        features = backbone.encode_image(model.preprocess.images([image]).to(device))
    for start in range(0, len(tokens), _TEXTS):
        some = tokens[start : start + _TEXTS]
        with watched(backbone, cross) as seen:
            text = collate_texts(some, model.preprocess.tokenizer.pad_token_id).to(device)
            with torch.no_grad():
                states = backbone.encode_text(text.input_ids, text.attention_mask)
            fused = backbone.fuse(states, text.attention_mask, features.tokens, features.mask)
            logits = backbone.match_logits(fused.float())
            maps = on_patches(seen.evidence(logits[:, 1].sum()), len(some), backbone)
        logits = logits.detach().double()
        matches = map(Match, logits[:, 1].tolist(), logits.softmax(-1)[:, 1].tolist())
        for own, evidence, match in zip(some, maps, matches, strict=True):
            yield evidence[: len(own)].clone(), match


def on_patches(evidence: Tensor, texts: int, backbone: Encoders) -> Tensor:
    """What `Watched.evidence` gave of text tokens, laid out as maps, (texts, tokens, rows, columns).

    Args:
        evidence: (images, texts of an image one after the other, 1 + patches).
        texts: Number of texts.
        backbone: The model.
    """
    rows, _ = backbone.patch_grid
    every = rearrange(evidence, "m (each l) k -> (m each) l k", each=texts // len(evidence))
    return rearrange(every[:, :, 1:], "n l (r c) -> n l r c", r=rows)
