"""Ranks and recalls against naive loops, the official way, and adversarial ties."""

import numpy as np
import pytest
import torch

from relpretrain.zeroshot.scorers import ConstantScorer, EmbeddingScorer
from relpretrain.zeroshot.tasks.retrieval import ranking
from relpretrain.zeroshot.tasks.retrieval.ranking import best_right, retrieve, top


def naive_rank(scores, right):
    """How far down the list the best right candidate is, every equal wrong one before it; and how many are equal."""
    ranks, tied = [], []
    for row, good in zip(scores.tolist(), right.tolist(), strict=True):
        best = max((s for s, g in zip(row, good, strict=True) if g), default=None)
        wrong = [s for s, g in zip(row, good, strict=True) if not g]
        ranks.append(0 if best is None else 1 + sum(s >= best for s in wrong))
        tied.append(0 if best is None else sum(s == best for s in wrong))
    return ranks, tied


def case(kind, seed):
    rng = np.random.default_rng([seed, 7])
    scores = torch.tensor(rng.normal(size=(9, 14)), dtype=torch.float32)
    right = torch.tensor(rng.random((9, 14)) < 0.2)
    if kind == "few values":
        scores = torch.tensor(rng.integers(0, 3, (9, 14)), dtype=torch.float32)
    if kind == "all equal":
        scores = torch.full((9, 14), -0.5)
    if kind == "close":
        scores = torch.nextafter(
            scores.round(), torch.full_like(scores, 9) * torch.tensor(rng.choice([-1, 1], (9, 14)))
        )
    return scores, right


@pytest.mark.parametrize("kind", ["distinct", "few values", "all equal", "close"])
@pytest.mark.parametrize("seed", range(4))
def test_ranks_are_those_of_a_naive_loop(kind, seed):
    scores, right = case(kind, seed)
    found = best_right(scores, right)
    assert (found.rank.tolist(), found.tied.tolist()) == naive_rank(scores, right)


@pytest.mark.parametrize("kind", ["distinct", "few values", "all equal", "close"])
@pytest.mark.parametrize("k", [1, 3, 14, 50])
def test_the_top_prefers_wrong_ones_among_equals(kind, k):
    scores, right = case(kind, 1)
    for row, good, chosen in zip(scores.tolist(), right.tolist(), top(scores, right, k).tolist(), strict=True):
        order = sorted(range(14), key=lambda i: (-row[i], good[i]))
        wanted = [(row[i], good[i]) for i in order[:k]]
        assert [(row[i], good[i]) for i in chosen] == wanted


class Matrix:
    """A scorer of given cosines and match logits; images are their numbers, texts too."""

    fuses = True
    calibrated = True

    def __init__(self, cosines, logits):
        self.cosines, self.logits, self.encoded, self.asked = cosines, logits, [], []

    def encode_images(self, images):
        self.encoded += images
        return list(images)

    def embed_images(self, image_features):
        return self.cosines[image_features]

    def embed_texts(self, texts):
        return torch.eye(self.cosines.shape[1])[[int(text) for text in texts]]

    def similarities(self, image_features, texts):
        return self.embed_images(image_features) @ self.embed_texts(texts).T

    def score(self, image_features, index, texts):
        images = [image_features[i] for i in index]
        self.asked += zip(images, texts, strict=True)
        values = self.logits[images, [int(text) for text in texts]]
        return torch.stack([torch.full_like(values, 3.0), values], 1)


def official(scores, right, k):
    """Recall as the official code finds it: the place of a right one in the order of the scores, from behind."""
    places = []
    for row, good in zip(scores.numpy(), right.numpy(), strict=True):
        order = np.argsort(row)[::-1]
        places.append(min((np.where(order == i)[0][0] for i in np.where(good)[0]), default=10**9))
    return 100 * np.mean(np.array(places) < k)


def official_rerank(cosines, logits, k):
    """All -100 but the k of highest cosine, which get the match logit."""
    reranked = torch.full_like(cosines, -100.0)
    chosen = cosines.topk(k, dim=1).indices
    return reranked.scatter(1, chosen, logits.gather(1, chosen))


def world(images=30, each=3, seed=0):
    rng = np.random.default_rng([seed, 3])
    owner = np.repeat(np.arange(images), each).tolist()
    cosines, logits = (torch.tensor(rng.normal(size=(images, len(owner))), dtype=torch.float32) for _ in range(2))
    right = torch.arange(images)[:, None] == torch.tensor(owner)
    return Matrix(cosines + 2 * right, logits + right), [str(i) for i in range(len(owner))], owner, right


@pytest.mark.parametrize("k", [1, 8, 30, 1000])
def test_recalls_are_the_official_ones_where_nothing_ties(k):
    scorer, texts, owner, right = world()
    assert isinstance(scorer, EmbeddingScorer)
    found = retrieve(scorer, range(30), texts, owner, k)
    ways = (scorer.cosines, right), (scorer.cosines.T, right.T)
    reranked = [
        (official_rerank(c, m, min(k, c.shape[1])), r)
        for (c, r), m in zip(ways, (scorer.logits, scorer.logits.T), strict=True)
    ]
    for ranks, (scores, good) in zip(found[:4], (*ways, *reranked), strict=True):
        for at in (1, 5, 10):
            recall = 100 * float(((ranks.rank > 0) & (ranks.rank <= at)).float().mean())
            assert recall == pytest.approx(official(scores, good, at) if k > at or k == 1000 else recall)
        # A right one outside the k is missed, whatever the place that -100 would have given it.
        outside = ((scores == -100) | ~good).all(dim=1)
        assert torch.equal(ranks.rank == 0, outside)


def test_images_are_encoded_once_and_pairs_scored_once(monkeypatch):
    monkeypatch.setattr(ranking, "CHUNK", 4)
    scorer, texts, owner, _ = world()
    found = retrieve(scorer, range(30), texts, owner, 8)
    assert torch.equal(found.logits, scorer.logits[tuple(found.pairs.T)])
    assert {(i, str(t)) for i, t in found.pairs.tolist()} == set(scorer.asked)
    assert scorer.encoded == list(range(30))
    assert len(scorer.asked) == len(set(scorer.asked))
    by_image, by_text = scorer.cosines.topk(8, dim=1).indices, scorer.cosines.T.topk(8, dim=1).indices
    wanted = {(i, str(t)) for i in range(30) for t in by_image[i].tolist()}
    wanted |= {(i, str(t)) for t in range(90) for i in by_text[t].tolist()}
    assert set(scorer.asked) == wanted


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_do_not_change_ranks(monkeypatch, chunk):
    scorer, texts, owner, _ = world(seed=1)
    whole = retrieve(scorer, range(30), texts, owner, 5)
    monkeypatch.setattr(ranking, "CHUNK", chunk)
    monkeypatch.setattr(ranking, "_QUERIES", chunk)
    for a, b in zip(whole[:4], retrieve(scorer, range(30), texts, owner, 5)[:4], strict=True):
        assert torch.equal(a.rank, b.rank)


@pytest.mark.parametrize("k", [3, 1000])
def test_nothing_is_found_without_knowledge(k):
    owner = [i for i in range(20) for _ in range(2)]
    found = retrieve(ConstantScorer(), range(20), [str(i) for i in range(40)], owner, k)
    assert found.texts.rank.tolist() == [39] * 20
    assert found.images.rank.tolist() == [20] * 40
    assert found.texts.tied.tolist() == [38] * 20
    expected = (0, 0) if k == 3 else (39, 20)
    assert (set(found.reranked_texts.rank.tolist()), set(found.reranked_images.rank.tolist())) == (
        {expected[0]},
        {expected[1]},
    )


def test_equal_texts_of_two_images_tie():
    scorer, texts, owner, _ = world()
    texts[3] = texts[0]  # the first caption of image 1 is that of image 0
    scorer.cosines[0, 0] = scorer.cosines[1, 0] = 99
    scorer.logits[0, 0] = scorer.logits[1, 0] = 99
    found = retrieve(scorer, range(30), texts, owner, 4)
    assert found.texts.rank[:2].tolist() == found.reranked_texts.rank[:2].tolist() == [2, 2]
    assert found.texts.tied[:2].tolist() == found.reranked_texts.tied[:2].tolist() == [1, 1]


def test_broken_scores_are_refused():
    scorer, texts, owner, _ = world()
    scorer.logits[4] = torch.nan
    with pytest.raises(ValueError, match="match logits are not finite"):
        retrieve(scorer, range(30), texts, owner, 4)
    scorer.cosines[2, 2] = torch.inf
    with pytest.raises(ValueError, match="image embeddings are not finite"):
        retrieve(scorer, range(30), texts, owner, 4)
