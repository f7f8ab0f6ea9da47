"""Official weights give the official outputs, losses and gradients."""

import pytest
import torch

from relpretrain.features import patch_mask
from tests.parity.check_golden import check, load, main


@pytest.mark.parametrize("name", ["albef_tiny", "xvlm_vit_tiny", "xvlm_swin_tiny"])
def test_recorded_outputs_of_the_official_code(golden, name):
    errors, failed = check(golden / name)
    assert failed == [], {key: errors[key] for key in failed}
    assert {n.split("grad.")[-1].split(".")[0] for n in errors} >= {"itm_head", "text_encoder", "temp", "vision_proj"}
    assert len(errors) >= 39


@pytest.mark.parametrize("name", ["xvlm_vit_tiny", "xvlm_swin_tiny"])
def test_boxes_give_the_recorded_masks(golden, name):
    """Those of image-level rows, too: with the whole image for their box, all patches are theirs."""
    model, io = load(golden / name)
    masks, whole = patch_mask(io["inputs.target_bbox"], model.patch_grid), io["inputs.is_whole_image"].bool()
    assert torch.equal(masks, io["inputs.region_patch_mask"][:, 1:].bool())
    assert torch.equal(masks.all(1), whole)
    assert whole.any()
    assert (io["inputs.target_bbox"][whole] == torch.tensor([0.5, 0.5, 1.0, 1.0])).all()


def test_a_wrong_weight_is_seen(golden, monkeypatch, capsys):
    def spoiled(folder):
        model, io = load(folder)
        with torch.no_grad():
            model.fusion.layers[0].cross.out.weight *= 1.01
        return model, io

    monkeypatch.setattr("tests.parity.check_golden.load", spoiled)
    assert main([str(golden / "xvlm_vit_tiny")]) == 1
    printed = capsys.readouterr().out
    assert "FAIL  region.cross_embeds" in printed
    assert "ok    text_embeds" in printed


def test_a_folder_without_a_recording_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path)])
    assert "no config.json" in capsys.readouterr().err
