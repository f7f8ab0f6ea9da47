"""Training starts from weights: ours or official, with and without a teacher, for another image size."""

import pytest
import torch

from relpretrain.backbones import ALBEF, XVLM
from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.checkpoints.official.back import to_official
from relpretrain.errors import CheckpointError
from relpretrain.objectives import ITC, MRC
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training import RelationModule

NUMBERS = {"size": "tiny", "image_size": 64, "vocab_size": 50}
NAMES = RelationVocabulary(("on", "under"))


def official(model, path, keys=None):
    torch.save({"model": to_official(model.state_dict(), model.config, isinstance(model, ALBEF), keys)}, path)
    return str(path)


def ours(model, objectives, path):
    parts = torch.nn.ModuleDict({"backbone": model, "objectives": torch.nn.ModuleDict(objectives)})
    described = checkpoints.describe(model, objectives, None)
    torch.save({checkpoints.KEY: described, "state_dict": parts.state_dict()}, path)
    return str(path)


def equal(own, other, but=()):
    own, other = own.state_dict(), other.state_dict()
    return [key for key in own if key in other and not torch.equal(own[key], other[key]) and not key.startswith(but)]


@pytest.mark.parametrize("vision", ["vit", "clip", "swin"])
def test_official_weights_are_a_start(vision, tmp_path):
    source, model = XVLM(**NUMBERS, vision=vision), XVLM(**NUMBERS, vision=vision)
    module = RelationModule(model, {"itc": ITC()}, weights=official(source, tmp_path / "c.th"))
    assert equal(model, source) == []
    assert module.starts_official
    assert "weights" not in module.hparams  # a checkpoint of this run does not need the file


def test_a_teacher_begins_as_the_student(tmp_path):
    source, model = ALBEF(**NUMBERS), ALBEF(**NUMBERS, momentum=0.9, queue_size=8)
    queue = model.teacher.queue.image.clone()
    RelationModule(model, {"itc": ITC()}, weights=official(source, tmp_path / "c.pth"))
    assert equal(model, source) == equal(model.teacher.model, source) == []
    assert torch.equal(model.teacher.queue.image, queue)


def test_a_teacher_is_kept_or_left_out(tmp_path):
    source = ALBEF(**NUMBERS, momentum=0.9, queue_size=8)
    for value in source.teacher.model.parameters():
        value.add_(1)
    path = official(source, tmp_path / "c.pth")
    kept, without, longer = (ALBEF(**NUMBERS, momentum=m, queue_size=q) for m, q in ((0.9, 8), (None, 8), (0.9, 16)))
    for model in (kept, without, longer):
        RelationModule(model, {"itc": ITC()}, weights=path)
    assert equal(kept, source, but="teacher._extra") == equal(without, source) == []
    assert equal(longer, source, but=("teacher.queue.", "teacher._extra")) == []
    assert kept.teacher.alpha == kept.teacher.final_alpha  # the ramp is over


@pytest.mark.parametrize("vision", ["vit", "swin"])
def test_images_of_another_size(vision, tmp_path):
    source, model = XVLM(**NUMBERS, vision=vision), XVLM(**{**NUMBERS, "image_size": 96}, vision=vision, window_size=6)
    RelationModule(model, {"itc": ITC()}, weights=official(source, tmp_path / "c.th"))
    positions = [key for key, value in source.state_dict().items() if value.shape != model.state_dict()[key].shape]
    assert positions
    assert all(key.endswith(("pos_embed", "bias_table")) for key in positions)
    changed = [key for key in source.state_dict() if key not in positions]
    assert all(torch.equal(source.state_dict()[key], model.state_dict()[key]) for key in changed)
    assert model.encode_image(torch.randn(1, 3, 96, 96)).tokens.isfinite().all()


def test_ours_bring_the_heads_whose_relations_are_the_same(tmp_path, caplog):
    source, objectives = XVLM(**NUMBERS), {"mrc": MRC(NAMES)}
    objectives["mrc"].attach(source)
    path = ours(source, objectives, tmp_path / "c.ckpt")
    same, other = {"mrc": MRC(NAMES)}, {"mrc": MRC(RelationVocabulary(("on", "beside")))}
    for chosen, told in ((same, "mrc's head too"), (other, "mrc's head left aside")):
        model = XVLM(**NUMBERS)
        caplog.clear()
        with caplog.at_level("INFO"):
            RelationModule(model, chosen, weights=path)
        assert equal(model, source) == []
        assert told in caplog.text
    assert equal(same["mrc"], objectives["mrc"]) == []
    assert "head.0.weight" in equal(other["mrc"], objectives["mrc"])


def test_retrieval_weights_leave_the_word_head_new(tmp_path):
    source, model = ALBEF(**NUMBERS), ALBEF(**NUMBERS)
    full = to_official(source.state_dict(), source.config, True)
    bare = {key.replace("bert.", "", 1): value for key, value in full.items() if ".cls." not in key}
    torch.save(bare, tmp_path / "retrieval.pth")
    RelationModule(model, {"itc": ITC()}, weights=str(tmp_path / "retrieval.pth"))
    assert equal(model, source, but="mlm_head.") == []


def test_what_does_not_fit_is_told_in_one_line(tmp_path):
    path = official(XVLM(**NUMBERS), tmp_path / "c.th")
    with pytest.raises(CheckpointError, match=r"model.weights=.*box_head") as caught:
        RelationModule(ALBEF(**NUMBERS), {"itc": ITC()}, weights=path)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="does not exist"):
        RelationModule(ALBEF(**NUMBERS), {"itc": ITC()}, weights=str(tmp_path / "none.pth"))
    torch.save({"something": 1}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="neither a checkpoint of relpretrain nor an official"):
        RelationModule(ALBEF(**NUMBERS), {"itc": ITC()}, weights=str(tmp_path / "other.pt"))


def test_official_weights_bring_the_head_that_was_attached_to_them(tmp_path, caplog):
    source, mrc = XVLM(**NUMBERS), MRC(NAMES)
    mrc.attach(source)
    state = to_official(source.state_dict(), source.config, False)
    state |= {f"relation_objectives.mrc.{key}": value for key, value in mrc.state_dict().items()}
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "c.th")
    same, other, none = {"mrc": MRC(NAMES)}, {"mrc": MRC(RelationVocabulary(("on", "beside")))}, {"itc": ITC()}
    for chosen, told in ((same, "mrc's head too"), (other, "mrc's head left aside"), (none, "mrc's head left aside")):
        model = XVLM(**NUMBERS)
        caplog.clear()
        with caplog.at_level("INFO"):
            RelationModule(model, chosen, weights=str(tmp_path / "c.th"))
        assert equal(model, source) == []
        assert told in caplog.text
        assert "taken from model.module.*" in caplog.text
    assert equal(same["mrc"], mrc) == []
    assert "head.0.weight" in equal(other["mrc"], mrc)
