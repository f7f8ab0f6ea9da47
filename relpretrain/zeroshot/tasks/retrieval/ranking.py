"""Ranks of what should be found in a collection, ties counted against the model; by cosines, and re-ranked by matching.

Memory holds the embeddings of the collection and the scores of the re-ranked pairs. The tokens of the images, thousands
of times larger, wait in files until their pairs are scored, so that each image is encoded once. Several processes have
chunks of images each, and rows of the matrices of cosines.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from relpretrain.threads import in_threads
from relpretrain.zeroshot.analysis.decisions import require_finite
from relpretrain.zeroshot.scorers import EmbeddingScorer
from relpretrain.zeroshot.scorers.memory import fitting
from relpretrain.zeroshot.tasks.common.shares import embed_texts, spread

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
        words = embed_texts(scorer, list(number))
        to_texts, text_candidates = _search(vectors, words[which], torch.arange(len(images)), of, k)
        to_images, image_candidates = _search(words[which], vectors, of, torch.arange(len(images)), k)
        if not scorer.fuses:
            return Retrieved(to_texts, to_images)
        # A pair is a number: image * distinct texts + text.
        rows = torch.arange(len(images))[:, None] * len(number) + which[text_candidates]
        columns = image_candidates * len(number) + which[:, None]
        pairs = torch.unique(torch.cat([rows.flatten(), columns.flatten()]))
        scores = _match(scorer, pairs, list(number), Path(folder), len(images))
    found = [scores[torch.searchsorted(pairs, asked)] for asked in (rows, columns)]
    own = torch.arange(len(images))[:, None] == of[text_candidates]
    by_match = best_right(found[0], own), best_right(found[1], image_candidates == of[:, None])
    ends = torch.stack([torch.div(pairs, len(number), rounding_mode="floor"), pairs % len(number)], dim=1)
    return Retrieved(to_texts, to_images, *by_match, ends, scores)


def _encode(scorer: EmbeddingScorer, images: Sequence[Any], folder: Path) -> Tensor:
    """Embeddings of images (images, dim), float64 on the CPU; what re-ranking needs of them goes to files."""

    def encode(chunk: range) -> list[Tensor]:
        features = fitting(scorer, partial(scorer.encode_images, in_threads(lambda i: images[i], chunk)))
        vectors = scorer.embed_images(features).cpu().double()
        require_finite(vectors.flatten(), "image embeddings")
        if scorer.fuses:
            torch.save(features, folder / f"{chunk.start}.pt")
        return [vectors]

    return torch.cat(spread(_ranges(len(images), CHUNK), encode, shown="images encoded"))


def _search(
    queries: Tensor, candidates: Tensor, query_of: Tensor, candidate_of: Tensor, k: int
) -> tuple[Ranks, Tensor]:
    """Ranks by cosines, and the k best candidates of each query, (queries, k).

    Cosines are products in float64, rounded to float32: equal vectors tie, whatever block they are in.
    """

    def search(block: range) -> list[tuple[Tensor, ...]]:
        rows = slice(block.start, block.stop)
        cosines = (queries[rows] @ candidates.T).float()
        right = query_of[rows, None] == candidate_of
        return [(*best_right(cosines, right), top(cosines, right, k))]

    rank, tied, chosen = map(torch.cat, zip(*spread(_ranges(len(queries), _QUERIES), search), strict=True))
    return Ranks(rank, tied), chosen


def _match(scorer: EmbeddingScorer, pairs: Tensor, texts: Sequence[str], folder: Path, size: int) -> Tensor:
    """Raw match logits of pairs in ascending order, (pairs,), by the chunks of the `size` images, as encoded."""
    images = torch.div(pairs, len(texts), rounding_mode="floor")
    chunks = _ranges(size, CHUNK)
    ends = torch.searchsorted(images, torch.tensor([*(chunk.start for chunk in chunks), size])).tolist()

    def match(asked: range) -> list[Tensor]:
        start = int(images[asked.start]) // CHUNK * CHUNK
        file = folder / f"{start}.pt"
        features = torch.load(file, weights_only=False)  # ours, of a moment ago
        file.unlink()
        rows = slice(asked.start, asked.stop)
        index = (images[rows] - start).tolist()
        chosen = [texts[i] for i in (pairs[rows] % len(texts)).tolist()]
        logits = fitting(scorer, partial(scorer.score, features, index, chosen))
        return [require_finite(logits[:, 1], "match logits").float()]

    # Every image is asked about, so that the pairs of a chunk are never none.
    return torch.cat(spread([range(low, high) for low, high in pairwise(ends)], match, shown="pairs matched"))


def _ranges(total: int, size: int) -> list[range]:
    return [range(start, min(start + size, total)) for start in range(0, total, size)]
