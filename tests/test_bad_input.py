"""What a user may get wrong: one clear line, exit code 2, before training; bad samples are left out and counted."""

import io
import json
import tarfile
import time
from pathlib import Path

import pytest
import torch

from relpretrain.backbones import XVLM
from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.cli import main
from relpretrain.objectives import MRC
from relpretrain.scene_graph import RelationVocabulary
from tests.data.small import picture, record, write_shards
from tests.small_fit import RECIPES, small_fit

SIZES = {"captions": 8, "regions": 4, "mrc": 4, "vsg": 4}


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return small_fit(tmp_path, "rex_vlm", SIZES, steps=6)


def errors(capsys):
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    lines = [line for line in captured.err.splitlines() if "error: " in line]
    assert all(line.startswith("relpretrain: error: ") for line in lines)
    return [line.removeprefix("relpretrain: error: ") for line in lines]


def write_sample(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


CASES = {
    "a shard path that matches nothing": (
        [
            '--data.streams.vsg.datasets={"vg": "nowhere/{00..03}.tar"}',
            '--data.streams.mrc.datasets={"vg": "no/*.tar"}',
        ],
        [
            ("Stream 'mrc', dataset 'vg': ", "'no/*.tar'"),
            ("Stream 'vsg', dataset 'vg': ", "nowhere/00.tar"),
        ],
    ),
    "ratios that ask for a type that no shard has": (
        ['--data.streams.regions.datasets={"web": "plain"}', '--data.streams.vsg.datasets={"web": "plain"}'],
        [
            ("Stream 'regions' (kind regions, ratio 1.5) needs samples with entities", "set its ratio to 0"),
            ("Stream 'vsg' (kind graphs, ratio 1) needs samples with relations", "set its ratio to 0"),
        ],
    ),
    "a text limit too short for one triplet": (
        ["--data.streams.vsg.max_tokens=4"],
        [("Stream 'vsg': max_tokens=4 is too short for one triplet", "Set max_tokens to at least 5.")],
    ),
    "more workers than shards can serve": (
        ["--data.num_workers=5000"],
        [("num_workers=5000 is more workers than the shards can serve", "Set num_workers to at most ")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_data_that_cannot_serve_ends_before_training(case, fit, tmp_path, capsys):
    write_shards(tmp_path / "plain", graph=False)
    arguments, expected = CASES[case]
    start = time.perf_counter()
    assert fit(*arguments) == 2
    assert time.perf_counter() - start < 20
    lines = errors(capsys)
    assert len(lines) == len(expected), lines
    for line, (opening, remedy) in zip(lines, expected, strict=True):
        assert line.startswith(opening), line
        assert remedy in line, line
    assert not Path("run/metrics.csv").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model.optimizer.lr=-1", "lr=-1"),
        (
            '--data.streams.vsg.dataset_ratios={"vg": 2.0}',
            "Stream 'vsg': dataset_ratios={'vg': 2.0} must give a number above 0 for each of its datasets: small.",
        ),
        ("--data.streams.vsg.dataset_ratios=sizes", "sizes"),
        ("--data.streams.vsg.neighbours=0", "Stream 'vsg': neighbours=0 must be at least 1."),
        ("--data.stop=exhausted", "first_exhausted"),
        ("--data.exclude=nowhere.json", "exclude: cannot read the exclusion list nowhere.json"),
        (
            "--data.streams.vsg.objectives=[vgs]",
            "data.streams.vsg.objectives: 'vgs' is not in model.objectives; did you mean 'vsg'?",
        ),
    ],
)
def test_a_wrong_override_is_one_line(argument, message, fit, capsys):
    assert fit(argument) == 2
    (line,) = errors(capsys)
    assert message in line


def test_image_rows_must_leave_room_for_an_entity(fit, capsys):
    assert fit("--data.streams.regions.image_rows=true", "--data.streams.regions.entities_per_image=1") == 2
    (line,) = errors(capsys)
    assert "'regions': entities_per_image=1 must be at least 2 with image_rows: one is a caption." in line


def test_unknown_names_in_a_recipe_are_told_together_with_suggestions(fit, tmp_path, capsys):
    text = (RECIPES / "rex_vlm.yaml").read_text()
    text = text.replace("class_path: VSG", "class_path: VGS").replace("max_tokens: 36", "max_token: 36")
    Path("mine.yaml").write_text(text)
    assert main(["fit", "-c", "mine.yaml"]) == 2
    lines = [line for line in errors(capsys) if "unknown " in line]
    assert len(lines) == 3
    assert "unknown objective 'VGS'; did you mean 'VSG'?" in lines[0]
    assert all("unknown argument 'max_token'; did you mean 'max_tokens'?" in line for line in lines[1:])


def test_the_checkpoints_relation_vocabulary_must_be_the_models(fit, capsys):
    other = {"mrc": MRC(RelationVocabulary(("on", "beside", "under")))}
    content = {"state_dict": {}, checkpoints.KEY: checkpoints.describe(XVLM("tiny", image_size=16), other, None)}
    torch.save(content, "other.ckpt")
    assert fit("--ckpt_path=other.ckpt") == 2
    (line,) = errors(capsys)
    assert "first differing names 0: 'on' / 'beside', 1: 'beside' / 'on'" in line


def _foreign(path):
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "epoch": 1}, path)


def _text(path):
    path.write_text("hello")


def _half(path):
    torch.save({"state_dict": {"weight": torch.zeros(9999)}, checkpoints.KEY: {}}, path)
    path.write_bytes(path.read_bytes()[:9000])


@pytest.mark.parametrize("write", [_foreign, _text, _half])
def test_a_checkpoint_that_is_none_is_named(write, fit, tmp_path, capsys):
    write(Path("x.ckpt"))
    assert fit("--ckpt_path=x.ckpt") == 2
    (training,) = errors(capsys)
    items = [{"image": "1.png", "caption": "a cat on a dog", "label": 1, "relation": "on"}]
    folder = tmp_path / "benchmarks/vsr/random"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (tmp_path / "benchmarks/images").mkdir()
    (tmp_path / "benchmarks/images/1.png").write_bytes(picture())
    options = ["--tasks", "vsr", "--data", "benchmarks", "--device", "cpu"]
    assert main(["zeroshot", "--checkpoint", "x.ckpt", *options]) == 2
    scoring = capsys.readouterr().err.splitlines()
    assert len(scoring) == 1
    assert training.startswith("x.ckpt ")
    assert scoring[0] == f"relpretrain zeroshot: error: {training}"


# Samples that are spoiled, by the reason under which they are counted.


def _spoiled(i):
    """Image and record of sample i of 40."""
    image, described = picture(i, format="JPEG"), record(i)
    if i == 3:
        image = image[: len(image) * 2 // 3]
    elif i == 12:
        image = None
    elif i == 21:
        described["relations"][0]["object"] = 9
    elif i == 30:
        described["entities"][0]["box"] = [1, 2, 60, 20]
    return image, described


@pytest.fixture
def spoiled(tmp_path):
    """Four shards of ten, one bad sample in each."""
    (tmp_path / "spoiled").mkdir()
    for shard in range(4):
        with tarfile.open(tmp_path / f"spoiled/s-{shard}.tar", "w") as tar:
            for i in range(10 * shard, 10 * shard + 10):
                image, described = _spoiled(i)
                if image is not None:
                    write_sample(tar, f"k{i:02d}.jpg", image)
                write_sample(tar, f"k{i:02d}.json", json.dumps(described).encode())
    return [f'--data.streams.{name}.datasets={{"zoo": "spoiled"}}' for name in SIZES]


BAD = {
    "truncated_image": "s-0/k03",
    "missing_image": "s-1/k12",
    "relation_without_entity": "s-2/k21",
    "box_outside_image": "s-3/k30",
}


def test_bad_samples_are_left_out_counted_and_reported(fit, spoiled, capsys):
    assert fit(*spoiled, "--data.max_bad_fraction=0.2", "--trainer.max_steps=40") == 0
    captured = capsys.readouterr()
    assert "error" not in captured.err.lower()
    report = captured.out.split("Left out of the data:\n")[1].splitlines()
    for reason, place in BAD.items():
        (line,) = [line for line in report if line.startswith(f"  zoo: {reason}: ")]
        assert line.endswith(f" (first: {place})")
        assert int(line.split()[2]) >= 1


def test_too_many_bad_samples_stop_the_run(fit, spoiled, capsys):
    assert fit(*spoiled, "--trainer.max_steps=60") == 2
    (line,) = errors(capsys)
    assert "samples are bad (" in line
    assert "more than max_bad_fraction=0.05 allows: truncated_image " in line
    assert "Worst shard: 's-0' with " in line
    assert "(such as s-0/k03)" in line
    assert not Path("run/checkpoints/last.ckpt").exists()
