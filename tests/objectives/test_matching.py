import math

import pytest
import torch

from relpretrain.backbones import ALBEF
from relpretrain.features import Features
from relpretrain.objectives import ITM, MLM
from relpretrain.objectives.matching import matching_losses
from relpretrain.objectives.negatives import draw_hard_negatives, same_pair
from relpretrain.types import CachedFusion
from tests.objectives.standin import WORDS, StandIn, captions


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_equals_a_loop_over_pairs():
    model, batch = StandIn(), captions(5)
    loss = ITM().term(Features(model, batch, [batch.pairs], generator()).view(batch.pairs)).loss
    view = Features(model, batch, [batch.pairs]).view(batch.pairs)
    forbidden = same_pair(view.image_ids, batch.pairs.text_keys, view.image_ids, batch.pairs.text_keys)
    to_text, to_image = view.similarities
    draws = generator()
    other_image, _ = draw_hard_negatives(to_image, forbidden, draws)
    other_text, _ = draw_hard_negatives(to_text, forbidden, draws)
    text, mask, (image, image_mask) = view.text, batch.pairs.text.attention_mask, view.image

    def negative_log(t, i, label):
        fused = model.fuse(text[t : t + 1], mask[t : t + 1], image[i : i + 1], image_mask[i : i + 1])
        return -float(model.match_logits(fused).log_softmax(-1)[0, label])

    total = sum(
        negative_log(b, b, 1) + negative_log(b, int(other_image[b]), 0) + negative_log(int(other_text[b]), b, 0)
        for b in range(5)
    )
    assert float(loss) == pytest.approx(total / 15, rel=1e-5)


class Whole:
    """A model seen as one that has `fuse` alone."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        if name in ("precompute_image_kv", "precompute_text", "fuse_cached", "match"):
            raise AttributeError(name)
        return getattr(self.model, name)


@pytest.mark.parametrize(("layers", "checkpointing"), [(1, False), (2, False), (3, False), (2, True)])
def test_the_fast_way_has_the_same_loss_and_gradients(layers, checkpointing):
    """An image serves its own text and the negative one at once, and only first tokens leave the last layer."""
    torch.manual_seed(0)
    sizes = {"size": "tiny", "image_size": 32, "vocab_size": WORDS, "fusion_layers": layers, "dropout": 0.0}
    model = ALBEF(**sizes, checkpointing=checkpointing)
    batch = captions(5)
    batch.images = torch.randn(5, 3, 32, 32)
    assert isinstance(model, CachedFusion)
    assert not isinstance(Whole(model), CachedFusion)
    found = []
    for backbone in (model, Whole(model)):
        model.zero_grad()
        term = ITM().term(Features(backbone, batch, [batch.pairs], generator()).view(batch.pairs))
        term.loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append((term.loss.detach(), term.metrics["accuracy"], gradients))
    torch.testing.assert_close(found[0], found[1])


def test_images_make_their_keys_once_for_all_objectives():
    model = ALBEF(size="tiny", image_size=32, vocab_size=WORDS)
    batch, rows = captions(4), []
    batch.images = torch.randn(4, 3, 32, 32)
    model.fusion.layers[0].cross.kv.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    features = Features(model, batch, [batch.pairs], generator())
    for objective in (ITM(), MLM()):
        objective(features)
    assert rows == [4]


def test_one_means_match():
    sure = torch.tensor([[-9.0, 9.0]])
    assert matching_losses(sure, -sure, -sure).max() < 1e-6
    assert matching_losses(-sure, sure, sure).min() > 17


def test_pairs_of_one_image_leave_the_positives_alone():
    model, batch = StandIn(), captions(4)
    with torch.no_grad():
        model.itm_head.bias.copy_(torch.tensor([5.0, -5.0]))  # "no match", which would be right of negatives
    batch.image_ids[:] = 1
    view = Features(model, batch, [batch.pairs], generator()).view(batch.pairs)
    expected = -model.match_logits(view.fused).log_softmax(-1)[:, 1].mean()
    term = ITM().term(view)
    assert float(term.loss) == pytest.approx(float(expected), rel=1e-5)
    right = model.match_logits(view.fused).argmax(-1) == 1
    assert float(term.metrics["accuracy"]) == pytest.approx(float(right.float().mean()))


def test_negatives_share_neither_image_nor_text():
    """Duplicates of one pair would be labelled as mismatches if they were drawn."""
    model, batch = StandIn(), captions(4)
    batch.image_ids[:] = torch.tensor([1, 1, 2, 2])
    seen = []
    fuse = model.fuse
    model.fuse = lambda text, mask, image, image_mask: seen.append(image) or fuse(text, mask, image, image_mask)
    for seed in range(20):
        seen.clear()
        view = Features(model, batch, [batch.pairs], generator(seed)).view(batch.pairs)
        ITM().term(view)
        negatives = max(seen, key=len)[:4]
        for row, own in zip(negatives, (0, 0, 1, 1), strict=True):
            same_half = [torch.equal(row, view.image[0][k]) for k in (2 * own, 2 * own + 1)]
            assert not any(same_half)


def test_chance_is_log_two():
    logits = torch.zeros(3, 2)
    assert float(matching_losses(logits, logits, logits).mean()) == pytest.approx(math.log(2))
