"""The comparison with the authors' code: whose checkout it is, what both sides are given, and the ratios."""

import argparse
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from benchmarks import step, step_beside
from benchmarks.step_batches import made_batches
from benchmarks.step_beside import KINDS, Kind, _fill, _save_official
from benchmarks.step_official import MARKS, recognise

REGIONS = Kind("X-VLM", "swin", "regions", 2, 224, 30, False)


@pytest.fixture
def batches():
    return {stream: of[0] for stream, of in made_batches(224, {"captions": 2, "regions": 2}, 1, 100)[0].items()}


@pytest.fixture
def clones(tmp_path):
    for name, (file, text) in MARKS.items():
        (tmp_path / name / file).parent.mkdir(parents=True)
        (tmp_path / name / file).write_text(f"{text}(nn.Module): pass")
    return tmp_path


def test_checkouts_are_recognised(clones):
    assert [recognise(clones / name) for name in MARKS] == list(MARKS)
    assert recognise(clones) is None


def test_a_folder_that_is_no_checkout_is_one_line(clones, capsys):
    with pytest.raises(SystemExit) as stopped:
        step.main(["--official", str(clones / "ALBEF"), str(clones)])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert str(clones) in last
    assert "salesforce/ALBEF" in last


def test_words_that_no_row_has_are_told(clones, capsys):
    with pytest.raises(SystemExit) as stopped:
        step.main(["--official", str(clones / "ALBEF"), "--only", "swin"])
    assert stopped.value.code == 2
    assert "--only swin" in capsys.readouterr().err


def test_the_authors_are_given_the_same_words(batches, tmp_path):
    pairs = batches["regions"].pairs
    given = torch.load(_save_official(REGIONS, batches["regions"], tmp_path))
    assert given["ids"].shape == (len(pairs), 30)
    assert torch.equal(given["mask"].sum(1), pairs.text.attention_mask.sum(1))
    for i, labels in enumerate(pairs.text.labels):
        found = {(p, w) for p, w in zip(given["places"][i].tolist(), given["words"][i].tolist(), strict=True) if w >= 0}
        assert found == {(p, labels[p].item()) for p in (labels >= 0).nonzero().flatten().tolist()}
    assert given["image_atts"].shape == (len(pairs), 50)
    assert given["image_atts"][:, 0].all()
    assert torch.equal(given["target_bbox"], pairs.boxes)


def test_albef_pads_to_the_longest_text(batches, tmp_path):
    given = torch.load(_save_official(KINDS[0], batches["captions"], tmp_path))
    assert given["ids"].shape == batches["captions"].pairs.text.input_ids.shape
    assert set(given) == {"images", "ids", "mask", "masked", "labels"}


def test_all_tokens_are_filled_with_the_texts_own(batches):
    before, text = batches["captions"].pairs.text, _fill(batches["captions"], 25).pairs.text
    assert text.attention_mask.all()
    assert text.input_ids.shape == (2, 25)
    for i, length in enumerate(before.attention_mask.sum(1).tolist()):
        assert torch.equal(text.input_ids[i, :length], before.input_ids[i, :length])
        assert torch.equal(text.input_ids[i, length : length + 2], before.input_ids[i, 1:3])
    assert torch.equal(text.labels != -100, text.labels == text.input_ids)


def test_ratios_are_those_of_turns_and_the_first_step_is_left_out(batches, tmp_path, monkeypatch):
    asked = []

    class Told:
        def __init__(self, script, paths, what):
            self.ours = script == "step_worker.py"
            self.answers = iter([(99, 1), (2, 100), (4, 100)] if self.ours else [(1, 99), (6, 400), (6, 200)])
            asked.append((script, paths[0], what))

        def ask(self, order):
            if order["do"] == "live":
                assert self.ours == (torch.load(order["batch"], weights_only=False).__class__.__name__ == "RegionBatch")
                return {"live_mb": 30 if self.ours else 120}
            if order["do"] == "flops":
                return {"gflop": 3000 if self.ours else 6000}
            assert order["do"] == "train"
            seconds, memory = next(self.answers)
            return {"cpu_s": seconds, "wall_s": seconds, "peak_mb": memory}

    def worker(*given):
        return nullcontext(Told(*given))

    monkeypatch.setattr(step_beside, "KINDS", [REGIONS])
    args = argparse.Namespace(turns=2, data=None, device="cpu", precision="fp32", dropout=0.1, only=None, count=False)
    args.official = {"X-VLM": Path("/there")}
    (row,) = step_beside.compare(args, tmp_path, Path("/here"), worker)
    assert row["cpu_s_ratio"] == [2.25, 1.5, 3]
    assert row["peak_mb_ratio"] == [0.375, 0.25, 0.5]
    assert row["live_mb_ratio"] == 0.25
    assert [(script, str(path)) for script, path, _ in asked] == [
        ("step_official.py", "/there"),
        ("step_worker.py", "/here"),
    ]
    assert asked[0][2]["dropout"] == asked[1][2]["arguments"]["dropout"]
    assert "2.25 (1.50 to 3.00)" in step_beside.table([row], args)
    assert "6,000 | 3,000 | 2.00 |" in step_beside.table([row], args)
    args.count = True  # no step is timed
    (row,) = step_beside.compare(args, tmp_path, Path("/here"), worker)
    assert "cpu_s" not in row
    assert "6,000 | 3,000 | 2.00 |" in step_beside.table([row], args)
