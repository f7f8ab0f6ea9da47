"""Official checkpoints of base size: every key finds its place, and comes back."""

import pytest
import torch

from relpretrain.backbones import ALBEF
from relpretrain.checkpoints.official.back import to_official
from relpretrain.checkpoints.official.build import build_official
from relpretrain.checkpoints.published import KNOWN
from tests.parity.official_keys import shapes, state

COUNTS = {"albef_256": 844, "xvlm_swin_224": 644, "xvlm_vit_224": 432, "xvlm_clip_224": 482}
PUBLISHED = {"ALBEF.pth": "albef_256", "ALBEF_4M.pth": "albef_256"} | {
    f"{size}_base_model_state_step_199999.th": "xvlm_swin_224" for size in ("4m", "16m")
}
TRAINABLE = {"albef_256": 209_937_725, "xvlm_swin_224": 215_637_241}


@pytest.mark.parametrize("name", COUNTS)
def test_every_key_is_converted_and_comes_back(name):
    given = state(name)
    model, report = build_official(given)
    assert len(given) == len(report.names) + len(report.skipped) == len(report.keys) == COUNTS[name]
    back = to_official(model.state_dict(), model.config, isinstance(model, ALBEF))
    assert {key: (tuple(value.shape), value.dtype) for key, value in back.items()} == shapes(name)
    if name in TRAINABLE:
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == TRAINABLE[name]


def test_every_published_checkpoint_has_a_list():
    """The two of a model differ in their training data alone, so four files have two lists."""
    assert {known.file: known.image_size for known in KNOWN} == {
        file: int(name.rpartition("_")[2]) for file, name in PUBLISHED.items()
    }


def test_the_list_of_albef_has_the_recorded_number_of_elements():
    assert sum(value.numel() for value in state("albef_256").values()) == 500_372_204


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("spoil", [lambda s, k: s.pop(k), lambda s, k: s.update({k + "_old": s.pop(k)})])
def test_a_single_key_missing_or_unexpected_is_an_error(name, spoil):
    given = state(name)
    spoil(given, "text_encoder.bert.encoder.layer.7.crossattention.output.dense.bias")
    with pytest.raises(ValueError, match=r"layers\.1\.cross\.out\.bias|dense\.bias_old"):
        build_official(given)


def test_at_384_pixels_only_positions_and_bias_tables_change():
    _, report = build_official(state("albef_256"), image_size=384)
    changed = ((1, 257, 768), (1, 577, 768))
    assert report.resized == {"visual_encoder.pos_embed": changed, "visual_encoder_m.pos_embed": changed}
    tables = {key: torch.zeros(v.shape) for key, v in state("xvlm_swin_224").items() if key.endswith("bias_table")}
    model, report = build_official(state("xvlm_swin_224") | tables, image_size=384)
    assert report.resized.keys() == tables.keys()
    assert {new[0] for _, new in report.resized.values()} == {529}
    assert model.config.window_size == 12
