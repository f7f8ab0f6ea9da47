"""Image encoders: regions out of the same pass, independence of the batch, pretrained weights."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F

from relpretrain.backbones.presets import from_preset
from relpretrain.backbones.vision import Swin, build_vision, load_pretrained
from relpretrain.types import Regions

TINY = {
    "vit": {"size": "tiny", "image_size": 64, "patch_size": 8, "vision_depth": 3, "region_depth": 2},
    "swin": {"size": "tiny", "image_size": 64},
}
TINY["clip"] = TINY["vit"]


def encoder(vision: str, **numbers):
    return build_vision(from_preset(vision=vision, **TINY[vision]), **numbers).eval()


@pytest.fixture(params=["vit", "clip", "swin"])
def vision(request):
    return encoder(request.param)


def patches(vision) -> int:
    return vision.patch_grid[0] * vision.patch_grid[1]


def test_a_region_of_all_patches_is_the_whole_image(vision):
    images = torch.randn(2, 3, 64, 64)
    index = torch.tensor([1, 0, 1])
    features = vision(images, Regions(index, torch.ones(3, patches(vision), dtype=torch.bool)))
    alone = vision(images)
    torch.testing.assert_close(features.tokens, alone.tokens)
    torch.testing.assert_close(features.region_tokens, alone.tokens[index])
    assert features.mask.all()
    assert features.region_mask.all()
    assert alone.region_tokens is None


def test_shapes_and_masks(vision):
    mask = torch.rand(4, patches(vision)) > 0.5
    features = vision(torch.randn(2, 3, 64, 64), Regions(torch.tensor([0, 0, 1, 1]), mask))
    assert features.tokens.shape == (2, 1 + patches(vision), vision.width)
    assert features.region_tokens.shape == (4, 1 + patches(vision), vision.width)
    assert features.mask.dtype == features.region_mask.dtype == torch.bool
    assert torch.equal(features.region_mask, F.pad(mask, (1, 0), value=True))


def test_no_regions_at_all(vision):
    empty = Regions(torch.zeros(0, dtype=torch.long), torch.zeros(0, patches(vision), dtype=torch.bool))
    features = vision(torch.randn(2, 3, 64, 64), empty)
    assert features.region_tokens.shape == (0, 1 + patches(vision), vision.width)


def test_an_image_does_not_depend_on_its_batch(vision):
    images = torch.randn(3, 3, 64, 64)
    mask = torch.rand(3, patches(vision)) > 0.5
    together = vision(images, Regions(torch.arange(3), mask))
    for i in range(3):
        alone = vision(images[i : i + 1], Regions(torch.tensor([0]), mask[i : i + 1]))
        torch.testing.assert_close(alone.tokens[0], together.tokens[i])
        torch.testing.assert_close(alone.region_tokens[0], together.region_tokens[i])


def test_vit_regions_equal_naive_attention_with_masked_keys():
    vision = encoder("vit")
    images, mask = torch.randn(2, 3, 64, 64), torch.rand(2, 64) > 0.6
    trunk, x = vision.trunk, vision.trunk.patch_embed(images)
    x = torch.cat([trunk.cls_token.expand(2, -1, -1), x], 1) + trunk.pos_embed
    for depth, block in enumerate(trunk.blocks):
        y = block.norm1(x)
        n, length, width = y.shape
        q, k, v = block.attn.qkv(y).view(n, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(2, 3) / (width // 4) ** 0.5
        if depth >= len(trunk.blocks) - 2:
            scores[..., 1:].masked_fill_(~mask[:, None, None], -1e4)  # the official code's constant
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width)
        x = x + block.attn.proj(y)
        x = x + block.mlp(block.norm2(x))
    features = vision(images, Regions(torch.arange(2), mask))
    seen = features.region_mask
    torch.testing.assert_close(features.region_tokens[seen], trunk.norm(x)[seen], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(features.region_tokens[seen], features.tokens[seen], atol=1e-3)
    assert not features.region_tokens[~seen].any()


def test_swin_region_is_the_mean_of_its_patches():
    vision = encoder("swin")
    mask = torch.tensor([[True, False, True, False]])
    features = vision(torch.randn(1, 3, 64, 64), Regions(torch.tensor([0]), mask))
    tokens = features.tokens[0]
    torch.testing.assert_close(tokens[0], tokens[1:].mean(0))
    torch.testing.assert_close(features.region_tokens[0, 0], (tokens[1] + tokens[3]) / 2)
    torch.testing.assert_close(features.region_tokens[0, 1:], tokens[1:] * mask.T)


def test_swin_fused_attention_equals_timms_own():
    vision = encoder("swin")
    assert isinstance(vision, Swin)
    images = torch.randn(2, 3, 64, 64)
    fused = vision(images).tokens
    switched = [m for m in vision.modules() if hasattr(m, "fused_attn")]
    assert all(m.fused_attn for m in switched)
    for module in switched:
        module.fused_attn = False
    torch.testing.assert_close(fused, vision(images).tokens)


@pytest.mark.parametrize("kind", ["vit", "clip", "swin"])
def test_checkpointing_changes_no_gradient(kind):
    plain, saving = encoder(kind), encoder(kind, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64)
    regions = Regions(torch.tensor([0, 1, 1]), torch.rand(3, patches(plain)) > 0.5)
    for model in (plain, saving):
        model(images, regions).region_tokens.square().sum().backward()
    for own, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


def test_images_of_another_size_are_refused(vision):
    with pytest.raises(ValueError, match=r"32x32 .* 64x64.*image_size"):
        vision(torch.randn(1, 3, 32, 32))


def test_sincos_positions_are_near_where_places_are():
    vision = build_vision(from_preset("tiny", image_size=64, positions="sincos", position_std=0.7))
    places = vision.trunk.pos_embed[0, 1:].detach()
    assert places.square().mean().sqrt() == pytest.approx(0.7)
    torch.testing.assert_close(places.mean(0), torch.zeros(64), atol=1e-5, rtol=0)
    grid = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))  # rows first, as patches come
    told = torch.linalg.lstsq(places, grid - grid.mean(0), driver="gelsd").solution
    torch.testing.assert_close(places @ told, grid - grid.mean(0), atol=1e-2, rtol=0)  # a linear map tells the place
    distance = torch.cdist(places, places)
    assert distance[0, 1] < distance[0, 2]
    assert distance[0, 8] < distance[0, 16]


@pytest.fixture
def timm_file(monkeypatch, tmp_path):
    """Let timm find "pretrained" weights in a file."""
    create = timm.create_model
    theirs = create("vit_tiny_patch16_224", depth=2)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")

    def create_model(name, **kwargs):
        overlay = {"file": str(tmp_path / "weights.pth"), "custom_load": False}
        return create(name, depth=2, pretrained_cfg_overlay=overlay, **kwargs)

    monkeypatch.setattr(timm, "create_model", create_model)
    return theirs


VIT_TINY = {"vision_width": 192, "vision_depth": 2, "vision_heads": 3, "patch_size": 16}


def test_pretrained_weights_of_timm_give_its_tokens(timm_file):
    vision = build_vision(from_preset("tiny", image_size=224, **VIT_TINY)).eval()
    load_pretrained(vision, "vit_tiny_patch16_224")
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(vision(images).tokens, timm_file.eval().forward_features(images))


def test_pretrained_position_embeddings_are_resized(timm_file):
    vision = build_vision(from_preset("tiny", image_size=64, **VIT_TINY))
    load_pretrained(vision, "vit_tiny_patch16_224")
    grid = timm_file.pos_embed[:, 1:].transpose(1, 2).reshape(1, 192, 14, 14)
    small = F.interpolate(grid, size=(4, 4), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(vision.trunk.pos_embed[:, 1:], small)
    torch.testing.assert_close(vision.trunk.pos_embed[:, :1], timm_file.pos_embed[:, :1])


def test_pretrained_weights_that_do_not_fit_are_listed(timm_file):
    deeper = build_vision(from_preset("tiny", image_size=224, **(VIT_TINY | {"vision_depth": 3})))
    with pytest.raises(ValueError, match=r"12 missing: blocks\.2\.attn\.proj\.bias"):
        load_pretrained(deeper, "vit_tiny_patch16_224")
    shallower = build_vision(from_preset("tiny", image_size=224, **(VIT_TINY | {"vision_depth": 1})))
    with pytest.raises(ValueError, match=r"12 unexpected: blocks\.1\.attn\.proj\.bias"):
        load_pretrained(shallower, "vit_tiny_patch16_224")
    wider = build_vision(from_preset("tiny", image_size=224, **(VIT_TINY | {"vision_width": 96})))
    with pytest.raises(ValueError, match=r"of another shape: .*cls_token \(1, 1, 192\) instead of \(1, 1, 96\)"):
        load_pretrained(wider, "vit_tiny_patch16_224")


def test_hidden_keys_of_shifted_windows_have_no_probability_at_all():
    """Not one below the smallest normal number, with which a CPU computes many times slower."""
    trunk = build_vision(
        from_preset(size="tiny", vision="swin", image_size=64, vision_depth=(2, 1), vision_heads=(1, 2))
    ).trunk
    masks = [module.attn_mask for module in trunk.modules() if getattr(module, "attn_mask", None) is not None]
    assert masks
    for mask in masks:
        assert set(mask.unique().tolist()) == {-math.inf, 0.0}
        assert not mask.diagonal(dim1=1, dim2=2).any()
