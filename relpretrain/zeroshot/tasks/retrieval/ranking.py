"""Ranks of what should be found in a collection, ties counted against the model; by cosines, and re-ranked by matching.

Memory holds the embeddings of the collection and the scores of the re-ranked pairs. The tokens of the images, thousands
of times larger, wait in files until their pairs are scored, so that each image is encoded once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from relpretrain.progress import track
from relpretrain.zeroshot.analysis.decisions import require_finite
from relpretrain.zeroshot.scorers import EmbeddingScorer
from relpretrain.zeroshot.scorers.memory import fitting

CHUNK = 256
"""Images whose tokens are held at once."""

_QUERIES = 256  # rows of a similarity matrix that are held at once


class Ranks(NamedTuple):
    """Where the best right candidate of each query stands.

    Args:
        rank: 1 plus the number of wrong candidates that score at least as much, (queries,); 0 where no right candidate
            was among those that were scored.
        tied: How many of them score exactly the same, (queries,).
    """

    rank: Tensor
    tied: Tensor


class Retrieved(NamedTuple):
    """Ranks by cosine, and what was re-ranked; `None` where nothing was.

    Args:
        texts: Ranks of texts for images.
        images: Ranks of images for texts.
        reranked_texts: The same by match logit.
        reranked_images: The same by match logit.
        pairs: Image and text of the pairs that were matched, (pairs, 2); a text is numbered among the distinct ones.
        logits: Their match logits, (pairs,).
    """

    texts: Ranks
    images: Ranks
    reranked_texts: Ranks | None = None
    reranked_images: Ranks | None = None
    pairs: Tensor | None = None
    logits: Tensor | None = None


def best_right(scores: Tensor, right: Tensor) -> Ranks:
    """Rank the best right candidate of each query, ties counted against it.

    Args:
        scores: (queries, candidates).
        right: Whether a candidate is right, (queries, candidates), bool.
    """
    best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
    wrong_ahead = ((scores >= best) & ~right).sum(dim=1)
    tied = ((scores == best) & ~right).sum(dim=1)
    found = right.any(dim=1)
    return Ranks((1 + wrong_ahead) * found, tied * found)


def top(scores: Tensor, right: Tensor, k: int) -> Tensor:
    """The k best candidates of each query, (queries, k); where scores tie, wrong ones go first.

    Args:
        scores: (queries, candidates), float32.
        right: Whether a candidate is right, (queries, candidates), bool.
        k: How many; at most as many as there are candidates are returned.
    """
    exact = scores.double()
    # A step of float64 is smaller than any distance between two scores of float32.
    lowered = torch.where(right, torch.nextafter(exact, torch.full_like(exact, -torch.inf)), exact)
    return lowered.topk(min(k, scores.shape[1]), dim=1).indices


@torch.inference_mode()
def retrieve(
    scorer: EmbeddingScorer, images: Sequence[Any], texts: Sequence[str], owner: Sequence[int], k: int
) -> Retrieved:
    """Search texts for images and images for texts.

    As in the official ALBEF and X-VLM evaluations, the k candidates of highest cosine are scored again by the raw match
    logit (index 1), and a right one that is not among them counts as missed. Candidates of equal cosine compete for the
    last of the k places, and there a right one loses. A pair that both directions ask for is scored once, and so are
    equal texts, which therefore tie exactly.

    Args:
        scorer: The model.
        images: What opens as a PIL image on access: a sequence that is read once, in chunks.
        texts: The texts.
        owner: The image that each text belongs to, (texts,).
        k: Candidates to re-rank (`k_test`); all of them if there are fewer.

    Raises:
        ValueError: If a score is not a finite number.
    """
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    which, of = torch.tensor([number[text] for text in texts]), torch.tensor(owner)
    with tempfile.TemporaryDirectory(prefix="relpretrain-") as folder:
        vectors = _encode(scorer, images, Path(folder))
        words = _finite(fitting(scorer, partial(scorer.embed_texts, list(number))), "text embeddings")
        to_texts, text_candidates = _search(vectors, words[which], torch.arange(len(images)), of, k)
        to_images, image_candidates = _search(words[which], vectors, of, torch.arange(len(images)), k)
        if not scorer.fuses:
            return Retrieved(to_texts, to_images)
        # A pair is a number: image * distinct texts + text.
        rows = torch.arange(len(images))[:, None] * len(number) + which[text_candidates]
        columns = image_candidates * len(number) + which[:, None]
        pairs = torch.unique(torch.cat([rows.flatten(), columns.flatten()]))
        scores = _match(scorer, pairs, list(number), Path(folder))
    found = [scores[torch.searchsorted(pairs, asked)] for asked in (rows, columns)]
    own = torch.arange(len(images))[:, None] == of[text_candidates]
    by_match = best_right(found[0], own), best_right(found[1], image_candidates == of[:, None])
    ends = torch.stack([torch.div(pairs, len(number), rounding_mode="floor"), pairs % len(number)], dim=1)
    return Retrieved(to_texts, to_images, *by_match, ends, scores)


def _encode(scorer: EmbeddingScorer, images: Sequence[Any], folder: Path) -> Tensor:
    """Embeddings of images (images, dim); what re-ranking needs of them goes to numbered files in the folder."""
    vectors = []
    chunks = [range(start, min(start + CHUNK, len(images))) for start in range(0, len(images), CHUNK)]
    for number, chunk in enumerate(track(chunks, len(images), "images encoded", len)):
        features = fitting(scorer, partial(scorer.encode_images, [images[i] for i in chunk]))
        vectors.append(_finite(scorer.embed_images(features), "image embeddings"))
        if scorer.fuses:
            torch.save(features, folder / f"{number}.pt")
    return torch.cat(vectors)


def _search(
    queries: Tensor, candidates: Tensor, query_of: Tensor, candidate_of: Tensor, k: int
) -> tuple[Ranks, Tensor]:
    """Ranks by cosines, and the k best candidates of each query, (queries, k).

    Cosines are products in float64, rounded to float32: equal vectors tie, whatever block they are in.
    """
    ranks, chosen = [], []
    for start in range(0, len(queries), _QUERIES):
        cosines = (queries[start : start + _QUERIES] @ candidates.T).float()
        right = query_of[start : start + _QUERIES, None] == candidate_of
        ranks.append(best_right(cosines, right))
        chosen.append(top(cosines, right, k))
    return Ranks(*(torch.cat(parts) for parts in zip(*ranks, strict=True))), torch.cat(chosen)


def _match(scorer: EmbeddingScorer, pairs: Tensor, texts: Sequence[str], folder: Path) -> Tensor:
    """Raw match logits of pairs in ascending order, (pairs,), chunk by chunk of their images."""
    parts = []
    images = torch.div(pairs, len(texts), rounding_mode="floor")
    chunks = len(list(folder.iterdir()))
    ends = torch.searchsorted(images, CHUNK * torch.arange(chunks + 1)).tolist()  # each chunk's first pair
    for number in track(range(chunks), len(pairs), "pairs matched", lambda i: ends[i + 1] - ends[i]):
        file = folder / f"{number}.pt"
        features = torch.load(file, weights_only=False)  # ours, of a moment ago
        file.unlink()
        low, high = ends[number], ends[number + 1]
        index = (images[low:high] - number * CHUNK).tolist()
        asked = [texts[i] for i in (pairs[low:high] % len(texts)).tolist()]
        logits = fitting(scorer, partial(scorer.score, features, index, asked))
        parts.append(require_finite(logits[:, 1], "match logits").float())
    return torch.cat(parts)


def _finite(vectors: Tensor, what: str) -> Tensor:
    """Vectors (n, dim) in float64 on the CPU."""
    vectors = vectors.cpu().double()
    require_finite(vectors.flatten(), what)
    return vectors
