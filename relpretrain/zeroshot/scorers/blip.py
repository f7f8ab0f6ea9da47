"""Scores pairs with BLIP and BLIP-2 of Hugging Face: by their matching heads, or by their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from relpretrain.zeroshot.scorers.base import check_pairs, cosine_logits
from relpretrain.zeroshot.scorers.batches import rectangles
from relpretrain.zeroshot.scorers.hugging_face import HuggingFaceScorer
from relpretrain.zeroshot.scorers.matching import autocast

By = Literal["itm", "itc"]


def check_heads(name: str, config: Any) -> None:
    """Refuse BLIP and BLIP-2 without a matching head, as those that write captions.

    Raises:
        ValueError: Saying what to do.
    """
    made = getattr(config, "architectures", None) or []
    if made and not any(kind.endswith("ForImageTextRetrieval") for kind in made):
        raise ValueError(f"{name} is a {made[0]}, which has no matching head: give one for retrieval (such as "
                         "Salesforce/blip-itm-base-coco, Salesforce/blip2-itm-vit-g), or ask it with --model vqa:"
                         f"{name}.")  # fmt: skip


class BlipScorer(HuggingFaceScorer):
    """BLIP's image-text matching head, and its embeddings for retrieval (Li et al., 2022, arXiv 2201.12086).

    As transformers computes it: texts begin with [CLS], where the official code puts BLIP's own [ENC]. Arguments as of
    `hugging_face_scorer`.
    """

    def __init__(self, *arguments: Any, by: By = "itm", **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.by = by
        self.calibrated = self.fuses = by == "itm"

    def _class(self) -> Any:
        from transformers import BlipForImageTextRetrieval

        return BlipForImageTextRetrieval

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Any]) -> Tensor:
        """Tokens (images, 1 + patches, dim)."""
        parts = []
        for pixels in self._pixels(images):
            with autocast(self.precision, self.device):
                parts.append(self.model.vision_model(**pixels).last_hidden_state.float())
        return torch.cat(parts) if parts else torch.zeros(0, 1, 1)

    @torch.inference_mode()
    def embed_images(self, image_features: Tensor) -> Tensor:
        """Unit vectors (images, dim)."""
        return F.normalize(self.model.vision_proj(image_features[:, 0]), dim=-1)

    @torch.inference_mode()
    def score(self, image_features: Tensor, index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Logits (n, 2), float32 on the CPU, of each text with image `index[i]`; index 1 means match."""
        if self.by == "itc":
            return super().score(image_features, index, texts)
        check_pairs(index, texts)
        logits = torch.zeros(len(texts), 2)
        lengths = [len(text) for text in texts]
        for wide in rectangles(index, lengths, 2 * self.batch_size):
            tokens = self.tokens([texts[row] for row in wide.rows])
            image = image_features[wide.images].repeat_interleave(len(wide.rows) // len(wide.images), dim=0)
            with autocast(self.precision, self.device):
                logits[wide.rows] = self._match(tokens, image).float().cpu()
        return logits

    def _match(self, tokens: dict[str, Tensor], image: Tensor) -> Tensor:
        """Match logits (n, 2) of tokenised texts with image tokens (n, 1 + patches, dim)."""
        fused = self.model.text_encoder(
            **tokens, encoder_hidden_states=image, encoder_attention_mask=_whole(image)
        ).last_hidden_state
        logits: Tensor = self.model.itm_head(fused[:, 0].float())
        return logits

    def _text_vectors(self, tokens: dict[str, Tensor]) -> Tensor:
        hidden = self.model.text_encoder(**tokens).last_hidden_state
        vectors: Tensor = self.model.text_proj(hidden[:, 0])
        return vectors


class Blip2Scorer(BlipScorer):
    """BLIP-2's image-text matching by its Q-Former, or the best cosine of a query (Li et al., 2023, arXiv 2301.12597).

    As transformers computes it. An image has as many vectors as there are queries, and the cosine is that of the best:
    there is no vector of an image, so that retrieval over whole collections is refused. LAVIS cuts texts to 32 tokens;
    here the limit is the Q-Former's, if `max_tokens` does not say 32.
    """

    embed_images = None  # type: ignore[assignment]  # no vector of an image: no `EmbeddingScorer`
    similarities = None  # type: ignore[assignment]

    def _class(self) -> Any:
        from transformers import Blip2ForImageTextRetrieval

        return Blip2ForImageTextRetrieval

    def _positions(self) -> int:
        return int(self.model.config.qformer_config.max_position_embeddings)

    @torch.inference_mode()
    def score(self, image_features: Tensor, index: Sequence[int], texts: Sequence[str]) -> Tensor:
        """Logits (n, 2), float32 on the CPU, of each text with image `index[i]`; index 1 means match."""
        if self.by == "itm":
            return super().score(image_features, index, texts)
        check_pairs(index, texts)
        if not texts:
            return torch.zeros(0, 2)
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        vectors = self.embed_texts(list(distinct))
        queries = self._queries(image_features)
        rows = [distinct[text] for text in texts]
        cosines = torch.cat(
            [
                (queries[list(index[i : i + 256])] @ vectors[rows[i : i + 256], :, None])[..., 0].amax(dim=1)
                for i in range(0, len(rows), 256)
            ]
        )
        return cosine_logits(cosines.cpu(), self.temperature)

    def _queries(self, image: Tensor) -> Tensor:
        """Unit vectors (images, queries, dim) of image tokens."""
        parts = []
        for some in torch.split(image, self.batch_size):
            with autocast(self.precision, self.device):
                hidden = self.model.qformer(
                    query_embeds=self.model.query_tokens.expand(len(some), -1, -1),
                    encoder_hidden_states=some,
                    encoder_attention_mask=_whole(some),
                ).last_hidden_state
            parts.append(F.normalize(self.model.vision_projection(hidden.float()), dim=-1))
        return torch.cat(parts)

    def _match(self, tokens: dict[str, Tensor], image: Tensor) -> Tensor:
        queries = self.model.query_tokens.expand(len(image), -1, -1)
        mask = torch.cat([_whole(queries), tokens["attention_mask"]], dim=1)
        hidden = self.model.qformer(
            query_embeds=self.model.embeddings(input_ids=tokens["input_ids"], query_embeds=queries),
            query_length=queries.shape[1],
            attention_mask=mask,
            encoder_hidden_states=image,
            encoder_attention_mask=_whole(image),
        ).last_hidden_state
        logits: Tensor = self.model.itm_head(hidden[:, : queries.shape[1]].float()).mean(dim=1)
        return logits

    def _text_vectors(self, tokens: dict[str, Tensor]) -> Tensor:
        hidden = self.model.qformer(
            query_embeds=self.model.embeddings(input_ids=tokens["input_ids"]),
            query_length=0,
            attention_mask=tokens["attention_mask"],
        ).last_hidden_state
        vectors: Tensor = self.model.text_projection(hidden[:, 0].float())
        return vectors


def _whole(tokens: Tensor) -> Tensor:
    """A mask (n, length) that shows all of some tokens (n, length, dim)."""
    return torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
