"""Graphs that a parser has made of captions, trained on as a user types it: `data label`, then the paper's model."""

import json
from pathlib import Path

import pytest

from relpretrain.cli import main
from tests.test_real_photos import ROOT, _falls, _files, _logged

STEPS = 60
TINY = ["size=tiny", "image_size=64", "patch_size=16", "dropout=0", "pretrained_image=null", "pretrained_text=null"]


def _overrides(realdata):
    """Streams of graphs alone: VSG on photos with and without boxes, MRC on those with a pair of them."""
    graphs = {
        "kind": "graphs", "datasets": {"coco": "data/coco-graphs", "cc12m": "data/cc12m-graphs"}, "batch_size": 12,
        "objectives": ["vsg"], "max_tokens": 112, "confidence_weights": True, "min_confidence": 0.3,
    }  # fmt: skip
    pairs = graphs | {"datasets": {"coco": "data/coco-graphs"}, "objectives": ["mrc"]}
    vocabulary = {"vocabulary": "data/coco-graphs/relations.json"}
    objectives = {"vsg": {"class_path": "VSG"}, "mrc": {"class_path": "MRC", "init_args": vocabulary}}
    backbone = [f"--model.backbone.{option}" for option in TINY]
    return [
        *backbone,
        f"--data.streams={json.dumps({'vsg': graphs, 'mrc': pairs})}",
        f"--model.objectives={json.dumps(objectives)}",
        "--model.optimizer.lr=2e-3",
        "--model.optimizer.warmup_steps=5",
        "--data.image_size=64",
        "--data.num_workers=0",
        f"--data.tokenizer={realdata / 'bert'}",
        "--trainer.accelerator=cpu",
        f"--trainer.max_steps={STEPS}",
        "--trainer.log_every_n_steps=1",
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_graphs_of_captions_train(realdata, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(tmp_path / "cache"))
    before = _files(realdata)
    coco, web = realdata / "coco_mini", realdata / "webdataset/cc12m-train-0000.tar"
    files = ["--captions", coco / "annotations/captions_train2017.json"]
    files += ["--instances", coco / "annotations/instances_train2017.json"]
    convert = ["--images", coco / "train2017", *files, "--out", "data/coco"]
    assert main(["data", "convert", "coco", *map(str, convert)]) == 0
    assert main(["data", "label", "data/coco", "--out", "data/coco-graphs"]) == 0
    assert main(["data", "label", str(web), "--out", "data/cc12m-graphs"]) == 0
    listed = json.loads(Path("data/coco-graphs/index.json").read_text())["shards"][0]["eligible"]
    assert listed["captions"] == 80
    assert 10 < listed["boxed_graphs"] < listed["graphs"]

    recipe = str(ROOT / "recipes/rex_vlm.yaml")
    assert main(["fit", "-c", recipe, "--run", "runs/labelled", *_overrides(realdata)]) == 0
    printed = capsys.readouterr().out
    never = listed["captions"] - listed["boxed_graphs"]
    assert f"never drawn: {never} without a relation between two boxes" in printed
    logged = _logged(Path("runs/labelled/metrics.csv"))
    values = {name: [value for _, value in pairs] for name, pairs in logged.items()}
    for name in ("vsg_itc", "vsg_itm", "vsg_mlm", "mrc", "vsg_loss", "mrc_loss"):
        assert len(values[name]) >= 20
        assert _falls(values[name]), f"{name} does not fall: {values[name]}"
    assert _files(realdata) == before, "the data was written to"
