"""Steps that are computed again in the backward pass, and attention with dropout on a CPU."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from relpretrain.backbones import ALBEF, attention, lean
from relpretrain.backbones.attention import attend
from relpretrain.backbones.lean import linear_of


def measured(function, *tensors):
    """Value and gradients, numbers kept for the backward pass beside those given, and FLOPs."""
    given = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    kept = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in given:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            value = function()
        value.square().sum().backward()
    gradients = [tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    return [value, *gradients], sum(kept.values()), counter.get_total_flops()


@pytest.mark.parametrize("step", [F.gelu, nn.LayerNorm(16)])
def test_a_large_step_is_computed_again_with_the_same_result(step, monkeypatch):
    monkeypatch.setattr(lean, "LARGE", 1)
    torch.manual_seed(0)
    linear, x = nn.Linear(16, 8), torch.randn(32, 16, requires_grad=True)
    tensors = [x, *linear.parameters(), *(step.parameters() if isinstance(step, nn.Module) else ())]
    once, kept, flops = measured(lambda: linear(step(x)), *tensors)
    again, less, same = measured(lambda: linear_of(step, x, linear), *tensors)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert flops == same
    assert less <= kept - x.numel() * 4


def test_a_model_has_the_same_gradients_either_way():
    torch.manual_seed(0)
    model = ALBEF(size="tiny", image_size=32, vocab_size=30, dropout=0.0)
    images, found = torch.randn(2, 3, 32, 32), []
    for large in (1, 1 << 40):
        with mock.patch.object(lean, "LARGE", large):
            image = model.encode_image(images)
            text = model.encode_text(torch.tensor([[2, 5, 6], [2, 7, 8]]), torch.ones(2, 3, dtype=torch.bool))
            fused = model.fuse(text, torch.ones(2, 3, dtype=torch.bool), image.tokens, image.mask)
            trained = [p for name, p in model.named_parameters() if "layers" in name or "blocks" in name]
            found.append(torch.autograd.grad(fused.square().sum(), trained, allow_unused=True))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True) if a is not None)


@pytest.fixture
def rows():
    torch.manual_seed(0)
    q, k, v = (torch.randn(4, 3, length, 8, requires_grad=True) for length in (5, 7, 7))
    return q, k, v, (torch.arange(7) < torch.tensor([[7], [1], [4], [6]]))[:, None, None]


@pytest.mark.parametrize("masked", [True, False])
def test_attention_with_dropout_equals_its_formula(rows, masked):
    q, k, v, mask = rows
    kept = torch.rand(4, 3, 5, 7) > 0.2
    with mock.patch.object(torch.Tensor, "bernoulli_", lambda self, p: self.copy_(kept)):
        ours = attend(q, k, v, mask if masked else None, 0.2)
    scores = torch.einsum("nhld,nhkd->nhlk", q, k) / 8**0.5
    scores = scores.masked_fill(~mask, -torch.inf) if masked else scores
    expected = torch.einsum("nhlk,nhkd->nhld", scores.softmax(-1) * kept / 0.8, v)
    torch.testing.assert_close(ours, expected)
    grad = torch.randn_like(ours)
    both = (torch.autograd.grad(result, (q, k, v), grad) for result in (ours, expected))
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b)


def test_attention_with_dropout_in_bf16_is_near_that_in_fp32_and_keeps_its_inputs(rows):
    """torch's general way would keep copies of keys and values in fp32."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (x.detach().to(dtype).requires_grad_() for x in rows[:3])
        torch.manual_seed(2)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.dtype) or t, lambda t: t):  # noqa: B023
            attended = attend(q, k, v, rows[3], 0.2)
        gradients = torch.autograd.grad(attended.float().square().sum(), (q, k, v))
        assert attended.dtype == dtype
        assert set(kept) == {dtype, torch.bool}
        found[dtype] = [x.float() for x in (attended, *gradients)]
    for a, b in zip(*found.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


def test_dropout_leaves_out_its_share_and_is_seeded():
    one = torch.ones(8, 4, 32, 64, requires_grad=True)
    v = torch.eye(64).expand(8, 4, 64, 64)
    torch.manual_seed(3)
    first = attend(one, one[..., :1, :].expand(8, 4, 64, 64), v, None, 0.25)
    torch.manual_seed(3)
    assert torch.equal(first, attend(one, one[..., :1, :].expand(8, 4, 64, 64), v, None, 0.25))
    assert (first == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert first.sum(-1).mean().item() == pytest.approx(1, abs=0.01)


def test_keys_and_values_are_kept_once_for_several_fusions():
    kv = torch.randn(2, 64, 2, 4, 8, requires_grad=True)
    k, v = kv.permute(2, 0, 3, 1, 4)
    q = torch.randn(2, 4, 3, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.untyped_storage().data_ptr()) or t, lambda t: t
    ):
        attend(q, k, v, None, 0.1)
        attend(q, k, v, None, 0.1)
    assert kept.count(kv.untyped_storage().data_ptr()) == 4


def test_without_dropout_or_gradients_torch_attends(rows):
    q, k, v, mask = rows
    with mock.patch.object(attention, "_Attend", None), torch.no_grad():
        attend(q, k, v, mask, 0.3)
    with mock.patch.object(attention, "_Attend", None):
        assert torch.equal(attend(q, k, v, mask, 0.0), F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
