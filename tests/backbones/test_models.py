"""ALBEF and X-VLM as a whole."""

import pytest
import torch

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.types import Backbone, BoxBackbone, Regions


@pytest.fixture(params=["albef", "xvlm", "swin"])
def model(request):
    tiny = {"size": "tiny", "image_size": 64, "vocab_size": 50, "dropout": 0.0}
    build = {"albef": ALBEF, "xvlm": XVLM, "swin": XVLM}[request.param]
    return build(**tiny, vision="swin" if request.param == "swin" else "vit").eval()


def test_they_satisfy_the_protocols(model):
    assert isinstance(model, Backbone)
    assert isinstance(model, BoxBackbone) == isinstance(model, XVLM)
    features = model.encode_image(torch.randn(1, 3, 64, 64))
    rows, columns = model.patch_grid
    assert features.tokens.shape[1] == 1 + rows * columns


def test_layer_norms_have_the_official_epsilons(model):
    def epsilons(*parts):
        return {m.eps for part in parts for m in part.modules() if isinstance(m, torch.nn.LayerNorm)}

    assert epsilons(model.text, model.fusion, model.mlm_head) == {1e-12}
    assert epsilons(model.vision) == ({1e-5} if model.config.vision == "swin" else {1e-6})
    if isinstance(model, XVLM):
        assert epsilons(model.itm_head, model.box_head) == {1e-5}


def test_shapes_of_everything(model):
    features = model.encode_image(torch.randn(2, 3, 64, 64))
    ids, mask = torch.randint(4, 50, (2, 6)), torch.ones(2, 6, dtype=torch.bool)
    text = model.encode_text(ids, mask)
    fused = model.fuse(text, mask, features.tokens, features.mask)
    assert fused.shape == (2, 6, model.fusion_dim)
    assert model.match_logits(fused).shape == (2, 2)
    assert model.word_logits(fused[:, 1]).shape == (2, 50)
    torch.testing.assert_close(model.project_image(features.tokens).norm(dim=1), torch.ones(2))
    torch.testing.assert_close(model.project_text(text).norm(dim=1), torch.ones(2))
    if isinstance(model, XVLM):
        boxes = model.boxes(fused)
        assert boxes.shape == (2, 4)
        assert ((boxes > 0) & (boxes < 1)).all()


def test_temperature_stays_in_range_and_keeps_its_gradient(model):
    assert float(model.temperature.detach()) == pytest.approx(0.07)
    for given, kept in [(-1.0, 0.001), (3.0, 0.5)]:
        model.scale.value.data.fill_(given)
        model.zero_grad()
        (1 / model.temperature).backward()
        assert model.temperature.shape == ()
        assert float(model.temperature.detach()) == pytest.approx(kept)
        assert float(model.scale.value.grad) == pytest.approx(-1 / kept**2)


def test_every_parameter_learns(model):
    features = model.encode_image(
        torch.randn(2, 3, 64, 64), Regions(torch.tensor([0, 1]), torch.rand(2, model.patch_grid[0] ** 2) > 0.5)
    )
    ids, mask = torch.randint(4, 50, (2, 6)), torch.ones(2, 6, dtype=torch.bool)
    text = model.encode_text(ids, mask)
    fused = model.fuse(text, mask, features.region_tokens, features.region_mask)
    outputs = [model.match_logits(fused), model.word_logits(fused[:, 1]), model.project_image(features.tokens)]
    outputs += [model.project_text(text) / model.temperature]
    outputs += [model.boxes(fused)] if isinstance(model, XVLM) else []
    sum((o * torch.randn_like(o)).sum() for o in outputs).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_it_runs_in_bfloat16(model):
    images, ids, mask = torch.randn(2, 3, 64, 64), torch.randint(4, 50, (2, 6)), torch.ones(2, 6, dtype=torch.bool)
    regions = Regions(torch.tensor([0, 1]), torch.rand(2, model.patch_grid[0] ** 2) > 0.5)

    def logits():
        features = model.encode_image(images, regions)
        text = model.encode_text(ids, mask)
        return model.match_logits(model.fuse(text, mask, features.region_tokens, features.region_mask)).float()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = logits()
    torch.testing.assert_close(low, logits(), rtol=0.1, atol=0.05)


def test_another_fuse_alone_is_refused():
    with pytest.raises(TypeError, match="Other has another fuse, but objectives call fuse_cached"):
        type("Other", (ALBEF,), {"fuse": lambda self, *given: None})
    assert type("Whole", (ALBEF,), {"fuse": None, "fuse_cached": None})
