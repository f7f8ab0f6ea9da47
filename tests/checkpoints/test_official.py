"""Names of the official checkpoints: nothing lost, nothing left over."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.checkpoints.official.back import official_parts
from relpretrain.checkpoints.official.clip import from_clip
from relpretrain.checkpoints.official.names import arguments_from_state, convert_albef, convert_xvlm

TINY = {"size": "tiny", "image_size": 64, "vocab_size": 50}


def xvlm_state(vision: str) -> tuple[XVLM, dict[str, torch.Tensor]]:
    model = XVLM(**TINY, vision=vision, text_layers=1)
    return model, official_parts(model.state_dict(), 1, "vision_encoder.", vision == "clip")


@pytest.mark.parametrize("vision", ["vit", "clip", "swin"])
def test_names_go_both_ways(vision):
    model, state = xvlm_state(vision)
    ours = convert_xvlm(state)
    assert ours.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(ours[key], value), key


def test_queries_keys_and_values_keep_their_places():
    model, state = xvlm_state("vit")
    qkv = model.text.layers[0].attention.qkv.weight
    for i, name in enumerate(("query", "key", "value")):
        theirs = state[f"text_encoder.bert.encoder.layer.0.attention.self.{name}.weight"]
        assert torch.equal(theirs, qkv[64 * i : 64 * (i + 1)])
    assert torch.equal(
        state["text_encoder.bert.encoder.layer.1.crossattention.self.value.bias"],
        model.fusion.layers[0].cross.kv.bias[64:],
    )


def test_swin_merges_move_one_stage():
    model, state = xvlm_state("swin")
    theirs = state["vision_encoder.layers.0.downsample.reduction.weight"]
    assert torch.equal(theirs, model.vision.trunk.layers[1].downsample.reduction.weight)


def test_copies_and_tables_are_dropped_and_fine_tuned_names_accepted():
    model, state = xvlm_state("swin")
    words = state["text_encoder.bert.embeddings.word_embeddings.weight"]
    extra = {
        "text_encoder.bert.embeddings.position_ids": torch.arange(128)[None],
        "text_encoder.cls.predictions.decoder.weight": words.clone(),
        "text_encoder.cls.predictions.decoder.bias": state["text_encoder.cls.predictions.bias"].clone(),
        "vision_encoder.layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49),
        "vision_encoder.layers.2.blocks.1.attn_mask": torch.zeros(4, 49, 49),
    }
    short = {key.replace("bert.", ""): value for key, value in (state | extra).items()}
    assert convert_xvlm(short).keys() == model.state_dict().keys()
    extra["text_encoder.cls.predictions.decoder.weight"] += 1
    with pytest.raises(ValueError, match="not tied"):
        convert_xvlm(state | extra)


@pytest.mark.parametrize(
    "key",
    [
        "vision_encoder.encoder.layers.0.self_attn.k_proj.weight",
        "vision_encoder.blocks.0.attn.strange",
        "text_encoder.bert.encoder.layer.0.attention.self.relative.weight",
        "image_queue",
        "whatever",
    ],
)
def test_unknown_names_are_refused(key):
    _, state = xvlm_state("vit")
    with pytest.raises(ValueError, match="1 unknown weights") as error:
        convert_xvlm(state | {key: torch.zeros(1)})
    assert key.removeprefix("text_encoder.") in str(error.value)


def test_momentum_copies_and_queues_become_the_teacher():
    model = ALBEF(**TINY, momentum=0.9, queue_size=5, alpha_steps=100)
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("teacher.")}
    copies = {k.removeprefix("teacher.model."): v + 1 for k, v in model.state_dict().items() if "teacher.model." in k}
    state = official_parts(own, 2)
    for key, value in official_parts(copies, 2).items():
        head, rest = key.split(".", 1)
        state[f"{head}_m.{rest}"] = value
    state |= {"image_queue": torch.rand(32, 5), "text_queue": torch.rand(32, 5), "queue_ptr": torch.tensor([3])}
    model.load_state_dict(convert_albef(state))
    for key, value in copies.items():
        assert torch.equal(model.teacher.model.state_dict()[key], value)
    assert torch.equal(model.teacher.queue.text, state["text_queue"])
    assert int(model.teacher.queue.pointer) == 3
    assert model.teacher.queue.image_ids.eq(-1).all()
    assert model.teacher.alpha == 0.4  # official checkpoints are written after the ramp
    with pytest.raises(ValueError, match="other_queue"):
        convert_albef(state | {"other_queue": torch.zeros(1)})


def test_sizes_are_read_off_the_weights():
    model = XVLM("tiny", image_size=64, vocab_size=50, patch_size=16, text_heads=1, vision_heads=1, fusion_layers=3)
    found = arguments_from_state(official_parts(model.state_dict(), 2, "vision_encoder."))
    unseen = {"region_depth": 1, "init_std": model.config.init_std, "position_std": model.config.position_std}
    assert XVLM(**found, **unseen).config == model.config.__class__(**vars(model.config) | {"window_size": 0})


def test_base_sizes_are_read_off_the_weights():
    with torch.device("meta"):
        albef = ALBEF(image_size=256)
        swin = XVLM(vision="swin")
    assert ALBEF_ARGUMENTS.items() <= arguments_from_state(official_parts(albef.state_dict(), 6)).items()
    state = official_parts(swin.state_dict(), 6, "vision_encoder.")
    state["vision_encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    assert SWIN_ARGUMENTS.items() <= arguments_from_state(state).items()


ALBEF_ARGUMENTS = {
    "image_size": 256,
    "patch_size": 16,
    "vision_width": 768,
    "vision_depth": 12,
    "vision_heads": 12,
    "text_width": 768,
    "text_heads": 12,
    "text_layers": 6,
    "fusion_layers": 6,
    "embed_dim": 256,
    "vocab_size": 30522,
}
SWIN_ARGUMENTS = {
    "vision": "swin",
    "image_size": 224,
    "patch_size": 4,
    "vision_width": 1024,
    "vision_depth": [2, 2, 18, 2],
    "vision_heads": [4, 8, 16, 32],
    "window_size": 7,
}


def test_the_clip_vit_computes_what_hugging_faces_does():
    """Images as in CLIP's own vision model; X-VLM's takes its names from there, without "embeddings."."""
    numbers = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = CLIPVisionConfig(**numbers, image_size=64, patch_size=16, hidden_act="quick_gelu")
    theirs = CLIPVisionModel(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    renamed = {"patch_embedding": "patch_embed", "position_embedding": "pos_embed"}
    state = {}
    for key, value in theirs.state_dict().items():
        short = key.removeprefix("vision_model.").removeprefix("embeddings.")
        for old, new in renamed.items():
            short = short.replace(old, new)
        state[short] = value
    arguments = {"vision_width": 48, "vision_depth": 3, "vision_heads": 4, "vision_mlp_ratio": 2.0}
    model = XVLM(size="tiny", vision="clip", image_size=64, patch_size=16, vocab_size=50, **arguments).eval()
    model.vision.trunk.load_state_dict(from_clip(state))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = model.encode_image(images).tokens
        output = theirs(images)
    head = theirs.vision_model if hasattr(theirs, "vision_model") else theirs
    expected = head.post_layernorm(output.last_hidden_state)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[:, 0], output.pooler_output, rtol=1e-4, atol=1e-5)
