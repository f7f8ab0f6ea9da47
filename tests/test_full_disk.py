"""Disks that are really full: one line, no torn file under its name, nobody left behind."""

import json

import pytest
import torch

from relpretrain.checkpoints.file import check
from relpretrain.cli import main
from tests import full_disk
from tests.training.survival_run import write_home

LINES = [{"id": n, "label": n % 2, "relation": "on", "score": 0.5, "image": f"{n}.jpg"} for n in range(200)]

COMMANDS = {
    "a checkpoint": (["fit", "-c", "recipe.yaml", "--run=disk/run"], 9_000_000, "run/checkpoints/last.ckpt"),
    "the settings of a run": (["fit", "-c", "recipe.yaml", "--run=disk/run"], 4096, "run/config.yaml"),
    "shards": (["data", "pack", "shards", "--out", "disk/o", "--workers=2"], 90_000, "o"),
    "a manifest": (["data", "index", "shards", "--out", "disk/x.json"], 4096, "x.json.tasks/shard-"),
    "a page": (["data", "show", "-c", "recipe.yaml", "--out", "disk/p.html"], 40_000, "p.html"),
    "a tokenizer": (["weights", "export", "m.ckpt", "disk/w"], 8192, "w/"),
    "weights": (["weights", "export", "m.ckpt", "disk/w"], 200_000, "w/model.safetensors"),
    "a report": (["zeroshot", "--scores", "s.jsonl", "--out", "disk/z"], 16_384, "z/zero_shot.json"),
    "a rendered world": (
        ["data", "synthetic", "disk/syn", "--images-captions=60", "--images-regions=10", "--images-graphs=10",
         "--images-validation=5", "--items-vsr=20", "--items-valse=10"], 400_000, "syn/benchmarks/"),
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        if not full_disk.can_mount():
            pytest.skip("this system lets nobody mount a file system")
        folder = tmp_path_factory.mktemp("home")
        patch.chdir(folder)
        write_home(folder)
        (folder / "disk").mkdir()
        (folder / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
        quick = ["--trainer.max_steps=1", "--data.num_workers=0", "--trainer.val_check_interval=null"]
        assert main(["fit", "-c", "recipe.yaml", *quick]) == 0
        (folder / "run/checkpoints/last.ckpt").rename(folder / "m.ckpt")
        yield folder


def whole(path):
    """Whether a file of a known kind can be read to its end."""
    if path.suffix == ".ckpt":
        check(path)
        return bool(torch.load(path, weights_only=True))
    if path.suffix == ".json":
        return bool(json.loads(path.read_text()))
    if path.suffix == ".tar":
        return path.read_bytes().endswith(bytes(1024))
    return path.stat().st_size > 0


@pytest.mark.parametrize("what", COMMANDS)
def test_a_full_disk_ends_a_command_in_a_line(home, what):
    arguments, size, named = COMMANDS[what]
    keep = home / "kept" / what.replace(" ", "_")
    keep.parent.mkdir(exist_ok=True)
    code, said, left = full_disk.run(home / "disk", size, arguments, keep)
    assert code == 2, said
    errors = [line for line in said.splitlines() if "error" in line]
    assert len(errors) == 1, said
    if what != "a tokenizer":  # the oldest tokenizers do not say which file they could not write
        assert f"disk/{named}" in errors[0]
    assert "no space left" in errors[0].lower()
    assert "Traceback" not in said
    files = [path for path in keep.rglob("*") if path.is_file() and not path.name.startswith((".", "lock"))]
    assert not [path for path in files if not whole(path)]
    assert not left
