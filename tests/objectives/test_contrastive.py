import math

import pytest
import torch

from relpretrain.backbones import ALBEF
from relpretrain.features import Features
from relpretrain.objectives import ITC, contrastive
from relpretrain.objectives.contrastive import contrastive_losses
from tests.objectives.standin import StandIn, captions

SIZES = {"image_size": 4, "patch_size": 2, "vocab_size": 20}


def naive(image, text, temperature, image_ids, text_keys):
    """ALBEF's equations 1 and 2, one pair at a time."""
    n, total = len(image), 0.0
    for rows, columns in ((image, text), (text, image)):
        for i in range(n):
            scores = [float(rows[i] @ columns[j]) / temperature for j in range(n)]
            allowed = [
                j for j in range(n) if j == i or not (image_ids[i] == image_ids[j] or text_keys[i] == text_keys[j])
            ]
            total += math.log(sum(math.exp(scores[j]) for j in allowed)) - scores[i]
    return total / (2 * n)


@pytest.mark.parametrize("shared", ["nothing", "image", "text"])
def test_equals_a_loop_over_pairs(shared):
    batch = captions(6)
    if shared == "image":
        batch.image_ids[3] = batch.image_ids[1]
    if shared == "text":
        batch.pairs.text_keys[0] = batch.pairs.text_keys[5]
    view = Features(StandIn(), batch, [batch.pairs]).view(batch.pairs)
    expected = naive(
        view.image_embedding,
        view.text_embedding,
        float(view.backbone.temperature),
        batch.image_ids.tolist(),
        batch.pairs.text_keys.tolist(),
    )
    assert float(ITC().term(view).loss) == pytest.approx(expected, rel=1e-5)


def test_does_not_depend_on_the_order_of_pairs():
    batch, order = captions(6), torch.tensor([3, 1, 5, 0, 2, 4])
    loss = ITC()(Features(StandIn(), batch, [batch.pairs])).loss
    batch.pairs.image_index = batch.pairs.image_index[order]
    batch.pairs.text_keys = batch.pairs.text_keys[order]
    for name in ("input_ids", "attention_mask"):
        setattr(batch.pairs.text, name, getattr(batch.pairs.text, name)[order])
    assert float(ITC()(Features(StandIn(), batch, [batch.pairs])).loss) == pytest.approx(float(loss), rel=1e-5)


def test_a_batch_of_one_image_has_no_negatives_and_no_loss():
    batch = captions(3)
    batch.image_ids[:] = 7
    output = ITC()(Features(StandIn(), batch, [batch.pairs]))
    assert float(output.loss) == pytest.approx(0.0, abs=1e-6)
    assert float(output.metrics["itc_accuracy"]) == 1


def test_soft_targets_mix_by_alpha():
    logits, positive = torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 1])
    soft = torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    hard = contrastive_losses(logits, positive)
    full = contrastive_losses(logits, positive, soft_targets=soft, alpha=1.0)
    log_p = logits.log_softmax(1)
    assert torch.allclose(full, -(soft * log_p).sum(1))
    mixed = contrastive_losses(logits, positive, soft_targets=soft, alpha=0.4)
    assert torch.allclose(mixed, 0.6 * hard + 0.4 * full)


def test_half_precision_logits_are_summed_in_single():
    losses = contrastive_losses(torch.randn(4, 4).bfloat16(), torch.arange(4))
    assert losses.dtype == torch.float32


def test_similarities_are_exact_under_autocast():
    batch = captions(6)
    view = Features(StandIn(), batch, [batch.pairs]).view(batch.pairs)
    exact = float(ITC().term(view).loss), view.similarities
    again = Features(StandIn(), batch, [batch.pairs]).view(batch.pairs)
    again.image_embedding, again.text_embedding = view.image_embedding, view.text_embedding
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(ITC().term(again).loss) == pytest.approx(exact[0], rel=1e-6)
        assert all(torch.equal(a, b) for a, b in zip(again.similarities, exact[1], strict=True))


def test_the_weight_scales_the_loss_but_not_the_part():
    batch = captions(4)
    output = ITC(weight=0.5)(Features(StandIn(), batch, [batch.pairs]))
    assert float(output.loss) == pytest.approx(0.5 * float(output.parts["itc"]))
    assert output.count == 4


@pytest.mark.parametrize("shared", [True, False])
def test_rows_in_parts_give_the_same_value_and_gradient(monkeypatch, shared):
    """Seven rows, three of them at a time, of a student whose keys are its own or a teacher's with a queue."""
    results = []
    for logits in (1 << 24, 3 * 7 if shared else 3 * (7 + 16)):
        monkeypatch.setattr(contrastive, "LOGITS", logits)
        torch.manual_seed(0)
        model = StandIn() if shared else ALBEF("tiny", **SIZES, momentum=0.9, queue_size=16).eval()
        batch = captions(7)
        batch.image_ids[2] = batch.image_ids[5]
        view = Features(model, batch, [batch.pairs], teacher=None if shared else model.teacher).view(batch.pairs)
        term = ITC().term(view)
        term.loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((term.loss.detach(), term.metrics["accuracy"], *gradients))
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_square(monkeypatch):
    def kept(n):
        """Numbers that the loss of n pairs saves."""
        batch, sizes = captions(n), {}
        view = Features(StandIn(), batch, []).view(batch.pairs)
        view.image_embedding = view.text_embedding = torch.randn(n, 6).requires_grad_()

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            ITC().term(view)
        return sum(sizes.values())

    assert kept(64) > 3 * kept(32)
    monkeypatch.setattr(contrastive, "LOGITS", 64)
    assert kept(64) < 2.5 * kept(32)


def test_a_queue_is_not_copied():
    model, batch, saved = ALBEF("tiny", **SIZES, momentum=0.9, queue_size=5000).eval(), captions(4), []
    view, queue = Features(model, batch, [batch.pairs], teacher=model.teacher).view(batch.pairs), model.teacher.queue
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        ITC().term(view)
    wide = {t.data_ptr() for t in saved if t.numel() >= queue.image.numel()}
    assert wide == {queue.image.data_ptr(), queue.text.data_ptr()}
