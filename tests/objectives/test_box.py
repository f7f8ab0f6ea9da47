import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from relpretrain.adapters.hosts.xvlm import OfficialXVLM
from relpretrain.backbones import XVLM
from relpretrain.features import Features
from relpretrain.objectives import BOX
from relpretrain.objectives.box import box_losses
from tests.objectives.standin import StandIn, captions, regions
from tests.objectives.test_views import empty


def naive_giou(a, b):
    """GIoU of two (cx, cy, w, h) boxes from its definition: IoU - (hull - union) / hull."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    left, right = max(ax - aw / 2, bx - bw / 2), min(ax + aw / 2, bx + bw / 2)
    top, bottom = max(ay - ah / 2, by - bh / 2), min(ay + ah / 2, by + bh / 2)
    inter = max(right - left, 0) * max(bottom - top, 0)
    union = aw * ah + bw * bh - inter
    hull = (max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)) * (
        max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)
    )
    return inter / union - (hull - union) / hull


def test_equals_the_definition_box_by_box():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(2, 50, 4, generator=generator) * 0.5 + 0.1
    l1, giou = box_losses(*boxes)
    for k in range(50):
        a, b = boxes[0, k].tolist(), boxes[1, k].tolist()
        assert float(l1[k]) == pytest.approx(sum(abs(x - y) for x, y in zip(a, b, strict=True)), rel=1e-5)
        assert float(giou[k]) == pytest.approx(1 - naive_giou(a, b), rel=1e-4, abs=1e-6)


def test_a_perfect_box_costs_nothing():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    l1, giou = box_losses(boxes, boxes)
    assert float(l1) == 0
    assert float(giou) == pytest.approx(0, abs=1e-5)


def test_rows_for_whole_images_are_left_out():
    model, batch = StandIn(), regions()
    view = Features(model, batch, [batch.pairs]).view(batch.pairs)
    predicted = model.boxes(model.fuse(view.text, batch.pairs.text.attention_mask, *view.whole_image))
    l1, giou = box_losses(predicted, batch.pairs.boxes)
    batch.pairs.whole = torch.tensor([False, True, False, False])
    output = BOX()(Features(model, batch, [batch.pairs]))
    kept = [0, 2, 3]
    assert output.count == 3
    assert float(output.parts["l1"]) == pytest.approx(l1[kept].mean().item(), rel=1e-5)
    assert float(output.parts["giou"]) == pytest.approx(giou[kept].mean().item(), rel=1e-5)


def test_equals_the_official_loss_row_by_row(golden):
    """Sums of |p - t| and 1 - GIoU over the rows that are no images, divided by their number (X-VLM, official code)."""
    for name in ("xvlm_vit_tiny", "xvlm_swin_tiny"):
        io = load_file(golden / name / "io.safetensors")
        l1 = giou = number = 0
        rows = (io["outputs.region.bbox"], io["inputs.target_bbox"], io["inputs.is_whole_image"])
        for predicted, target, is_image in zip(*map(Tensor.tolist, rows), strict=True):
            if not is_image:
                l1 += sum(abs(p - t) for p, t in zip(predicted, target, strict=True))
                giou += 1 - naive_giou(predicted, target)
                number += 1
        assert 0 < number < len(io["inputs.is_whole_image"])
        assert float(io["outputs.region_step.loss_bbox"]) == pytest.approx(l1 / number, rel=1e-5)
        assert float(io["outputs.region_step.loss_giou"]) == pytest.approx(giou / number, rel=1e-5)


def test_all_rows_whole_is_a_finite_zero():
    batch = regions()
    batch.pairs.whole = torch.ones(4, dtype=torch.bool)
    output = BOX()(Features(StandIn(), batch, [batch.pairs]))
    assert output.count == 0
    assert float(output.loss) == 0


def test_the_box_is_predicted_from_the_whole_image():
    """If the region were masked, its box could be read off the mask."""
    model, batch = StandIn(), regions()
    images = batch.images.clone().requires_grad_()
    batch.images = images
    BOX()(Features(model, batch, [batch.pairs])).loss.backward()
    outside = images.grad[0, :, 2:, :]  # boxes 0 and 2 of image 0 do not cover its lower left
    assert outside.abs().sum() > 0


def test_batches_without_boxes_are_refused():
    batch = captions(3)
    with pytest.raises(ValueError, match="regions"):
        BOX()(Features(StandIn(), batch, [batch.pairs]))


class Host(nn.Module):
    """The head of X-VLM's official class, whose adapter takes the sigmoid."""

    def __init__(self):
        super().__init__()
        self.bbox_head = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 4))


class Adapted(StandIn):
    def __init__(self):
        super().__init__()
        self.host = Host()

    def boxes(self, fused):
        return OfficialXVLM.boxes(self, fused)


@pytest.mark.parametrize("kind", ["stand-in", "X-VLM", "official X-VLM"])
def test_a_perfect_small_box_costs_nothing_under_autocast(kind):
    """Eight bits hold 0.06 to 0.4 %, and a place of 0.9 to 0.2 %: as much as 4 % of such a box."""
    batch = regions(n=2)
    box = torch.tensor([0.9131, 0.8713, 0.06, 0.06])
    batch.pairs.boxes = box.expand(2, 4).clone()
    tiny = {"image_size": 4, "patch_size": 2, "vocab_size": 20, "dropout": 0.0}
    model = {"stand-in": StandIn, "official X-VLM": Adapted, "X-VLM": lambda: XVLM("tiny", **tiny)}[kind]()
    head = model.host.bbox_head if kind == "official X-VLM" else model.box_head
    last = head if kind == "stand-in" else head[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(box.logit())
    with torch.autocast("cpu", torch.bfloat16):
        output = BOX()(Features(model, batch, BOX().views(batch)))
    assert float(output.parts["giou"].detach()) < 1e-4
    assert float(output.parts["l1"].detach()) < 1e-5
    output.loss.backward()
    assert last.bias.grad.isfinite().all()


def test_images_alone_are_a_zero_of_count_zero():
    model, batch = StandIn(), regions()
    batch.pairs.whole = torch.ones(4, dtype=torch.bool)
    output = BOX()(Features(model, batch, [batch.pairs]))
    assert (int(output.count), float(output.loss)) == (0, 0.0)
    output.loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_without_a_row_nothing_is_fused():
    model, batch, calls = StandIn(), empty(regions()), []
    model.fuse = model.encode_text = lambda *given: calls.append(given)
    output = BOX()(Features(model, batch, [batch.pairs]))
    assert calls == []
    assert (output.count, float(output.loss)) == (0, 0.0)
