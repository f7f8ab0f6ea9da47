"""The size table, its overrides, and sizes that cannot be built."""

import re

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.backbones.presets import from_preset


def trainable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_base_sizes_have_the_official_parameter_counts():
    with torch.device("meta"):
        albef = ALBEF(image_size=256, momentum=0.995)
        swin = XVLM(vision="swin", image_size=224)
    assert trainable(albef) == 209_937_725
    assert sum(p.numel() for p in albef.parameters()) == 419_873_911  # with the momentum copies
    assert trainable(swin) == 215_637_241


def test_rex_vlm_has_the_base_vit_and_two_mlp_heads():
    with torch.device("meta"):
        albef, rex = ALBEF(), XVLM()
    heads = 2 * (768 * 1536 + 1536 + 2 * 1536) + 1536 * 6 + 6
    assert trainable(rex) == trainable(albef) - (768 * 2 + 2) + heads
    assert 212e6 < trainable(rex) < 213e6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": "bsae"}, ["'bsae'", "did you mean 'base'"]),
        ({"vision": "swim"}, ["'swim'", "did you mean 'swin'"]),
        ({"image_size": 230}, ["image_size=230", "16", "image_size=224"]),
        ({"size": "tiny", "image_size": 32, "patch_size": 5}, ["image_size=32", "patch_size=5"]),
        ({"vision": "swin", "image_size": 208}, ["image_size=208", "32", "image_size="]),
        ({"vision_width": 770}, ["vision_width=770", "vision_heads=12"]),
        ({"text_width": 770}, ["text_width=770", "text_heads=12"]),
        ({"region_depth": 13}, ["region_depth=13"]),
        ({"vision": "swin", "vision_depth": 4}, ["list"]),
        ({"dropout": 1.5}, ["dropout=1.5"]),
        ({"fusion_layers": 0}, ["fusion_layers=0"]),
        ({"positions": "sincoss"}, ["positions", "'sincoss'", "did you mean 'sincos'"]),
        ({"positions": "sincos", "vision": "swin"}, ["positions='sincos'", "ViT"]),
        ({"positions": "sincos", "vision_width": 90, "vision_heads": 3}, ["vision_width=90", "4", "sincos"]),
    ],
)
def test_impossible_sizes_are_refused_in_one_line(arguments, words):
    in_order = ".*".join(re.escape(word) for word in words)
    with pytest.raises(ValueError, match=f"^.*{in_order}.*$") as error:
        from_preset(**arguments)
    assert "\n" not in str(error.value)


def test_a_number_overrides_the_table_and_the_rest_stays():
    config = from_preset("tiny", image_size=32, patch_size=4, text_width=32, embed_dim=8)
    assert (config.patch_grid, config.text_width, config.embed_dim, config.vision_width) == ((8, 8), 32, 8, 64)
    assert from_preset(**config.arguments()) == config


def test_jsonargparse_sees_every_number_and_refuses_others():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "backbone")
    tiny = ["--backbone=relpretrain.backbones.XVLM", "--backbone.init_args.size=tiny"]
    config = parser.parse_args([*tiny, "--backbone.init_args.vision_depth=2"])
    assert config.backbone.init_args.vision_depth == 2
    with pytest.raises(Exception, match="vision_dept"):
        parser.parse_args([*tiny, "--backbone.init_args.vision_dept=2"])


@pytest.mark.parametrize(("build", "vision"), [(ALBEF, "vit"), (XVLM, "vit"), (XVLM, "swin")])
def test_init_args_build_the_same_model_again(build, vision):
    model = build(
        "tiny",
        image_size=32,
        vocab_size=50,
        vision=vision,
        text_ffn=40,
        **({"momentum": 0.9, "queue_size": 6} if build is ALBEF else {}),
    )
    again = build(**model.init_args)
    again.load_state_dict(model.state_dict())
    assert again.init_args == model.init_args
    for key, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])
