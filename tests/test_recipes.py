"""Every recipe is parsed and run for a few steps, made small, on generated images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import relpretrain
from relpretrain.cli import main
from relpretrain.objectives.text_foil import PRESETS
from relpretrain.synthetic import generate

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("**/*.yaml"))
OF_FOILS = [path for path in RECIPES if path.stem.startswith("foils_")]
"""Alike but for their objectives, which are looked at there."""
STEPS = {"albef": 2, "albef_official": 2, "xvlm": 4, "xvlm_official": 6, "realbef": 8, "rex_vlm": 16}
"""Steps that the recipes of full size are run for."""
KINDS = {"captions": "captions", "regions": "regions", "graphs": "graphs"}


def test_all_recipes_are_found():
    assert [path.stem for path in RECIPES] == [
        *("ablation_cpu", "ablation_gpu", "albef", "albef_official"),
        *("finetune", "foils_ce_clip", "foils_counter_curate", "foils_cs_clip", "foils_fsc_clip"),
        *("foils_mosaiclip", "foils_negclip", "foils_sgvl", "foils_tsvlc"),
        *("quickstart", "realbef", "rex_vlm", "tagger", "xvlm", "xvlm_official"),
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    few = {"images_captions": 24, "images_regions": 24, "images_graphs": 24, "images_validation": 12}
    return generate(tmp_path_factory.mktemp("world") / "data", **few, items_vsr=3, items_valse=2)


def overrides(recipe, world, batch_size=4):
    """Point every stream at the generated shards."""
    found = [f"--data.tokenizer={world / 'tokenizer'}", "--data.num_workers=0", "--trainer.accelerator=cpu"]
    content = yaml.safe_load(recipe.read_text())
    for name in {"mrc", "tagger"} & content["model"]["objectives"].keys():
        found.append(f"--model.objectives.{name}.init_args.vocabulary={world / 'relations.json'}")
    if content["model"].get("weights"):
        found.append("--model.weights=null")
    for group in ("streams", "validation"):
        for name, stream in content["data"].get(group, {}).items():
            folder = "validation" if group == "validation" else KINDS[stream["kind"]]
            found.append(f"--data.{group}.{name}.datasets={json.dumps({'world': str(world / folder)})}")
            found.append(f"--data.{group}.{name}.batch_size={batch_size}")
    return found


SMALL = ["--model.backbone.size=tiny", "--model.backbone.image_size=32", "--data.image_size=32"]
SCRATCH = ["--model.backbone.pretrained_image=null", "--model.backbone.pretrained_text=null"]


def test_a_recipe_prints_its_settings(capsys):
    recipe = next(path for path in RECIPES if path.stem == "rex_vlm")
    assert main(["fit", "-c", str(recipe), "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert set(printed["data"]["streams"]) == set(yaml.safe_load(recipe.read_text())["data"]["streams"])
    assert printed["run"] == "runs/rex_vlm"


def test_every_preset_of_foils_has_a_recipe():
    objectives = {
        path.stem.removeprefix("foils_"): yaml.safe_load(path.read_text())["model"]["objectives"] for path in OF_FOILS
    }
    for name in PRESETS:
        assert objectives[name]["foils"] == {"class_path": "TextFoil", "init_args": {"preset": name}}
        in_place_of_itc = "itc_columns" in PRESETS[name]["sites"]
        assert ("itc" in objectives[name]) == (not in_place_of_itc), name


TRAINED = [path for path in RECIPES if path.stem not in ("foils_tsvlc", "foils_fsc_clip")]
"""These two are `foils_negclip` and `foils_sgvl` with other presets and numbers, which the test above reads."""
DRAWN = {"ablation_cpu": 10} | dict.fromkeys((path.stem for path in OF_FOILS), 3)
"""Steps after which each stream was drawn; 6 of the others."""


@pytest.mark.parametrize("recipe", TRAINED, ids=lambda path: path.stem)
def test_recipe_trains_and_its_checkpoint_loads(recipe, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(recipe.read_text())
    assert content["run"] == f"runs/{recipe.stem}"
    number = DRAWN.get(recipe.stem, 6)
    steps = [f"--trainer.max_steps={number}", "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=5"]
    steps += [f"--data.streams.{name}.ratio=1" for name in content["data"]["streams"]]  # or a rare one may not run
    options = [*overrides(recipe, world), *SMALL, *SCRATCH, *steps, "--run", "run"]
    assert main(["fit", "-c", str(recipe), *options]) == 0
    loaded = relpretrain.load("run/checkpoints/last.ckpt")
    assert list(loaded.objectives) == list(content["model"]["objectives"])
    assert (loaded.vocabulary is None) == ({"mrc", "tagger"}.isdisjoint(loaded.objectives))
    kept = yaml.safe_load(Path("run/config.yaml").read_text())
    assert set(kept["data"]["streams"]) == set(content["data"]["streams"])
    seed = content["seed_everything"]
    assert Path("run/data.txt").read_text().startswith(f"Data plan, seed {seed}: {number} batches")
    header = Path("run/metrics.csv").read_text().splitlines()[0]
    for stream in content["data"]["streams"]:
        assert f"train/{stream}_loss" in header, f"{stream} did not run in {number} steps"


def test_interrupted_training_goes_on_where_it_was(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = next(path for path in RECIPES if path.stem == "rex_vlm")
    options = [*overrides(recipe, world), *SMALL, *SCRATCH, "--model.backbone.dropout=0.1"]
    options += ["--model.optimizer.warmup_steps=3", "--model.optimizer.decay=constant"]
    whole, half = ("--run", "whole", "--trainer.max_steps=6"), ("--run", "half", "--trainer.max_steps=3")
    assert main(["fit", "-c", str(recipe), *options, *whole]) == 0
    assert main(["fit", "-c", str(recipe), *options, *half]) == 0
    rest = ["--trainer.max_steps=6", "--ckpt_path", "half/checkpoints/last.ckpt"]
    assert main(["fit", "-c", str(recipe), *options, "--run", "rest", *rest]) == 0
    a, b = (torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("whole", "rest"))
    assert a["global_step"] == b["global_step"] == 6
    for name, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][name]), name


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [path for path in RECIPES if path.stem in STEPS], ids=lambda path: path.stem)
def test_full_size_takes_two_steps_of_each_stream(recipe, tmp_path):
    """The command of the recipes' headers, under 16 GiB."""
    few = {"images_captions": 16, "images_regions": 16, "images_graphs": 16, "images_validation": 4}
    world = generate(tmp_path / "data", image_size=224, **few, items_vsr=3, items_valse=2)
    steps = STEPS[recipe.stem]
    options = [*overrides(recipe, world, batch_size=2), *SCRATCH, f"--trainer.max_steps={steps}", "--run", "run"]
    options += ["--trainer.log_every_n_steps=1", "--trainer.enable_checkpointing=false", "--trainer.callbacks=null"]
    code = "import resource, sys; from relpretrain.cli import main; code = main(sys.argv[1:]); "
    code += "print('GIB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20); sys.exit(code)"
    command = [sys.executable, "-c", code, "fit", "-c", str(recipe), *options]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split("GIB")[1]) < 16
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    for stream in yaml.safe_load(recipe.read_text())["data"]["streams"]:
        column = rows[0].split(",").index(f"train/{stream}_loss")
        assert sum(bool(row.split(",")[column]) for row in rows[1:]) >= 2, stream


def test_two_processes_train_on_mixed_batches_and_end(world, tmp_path):
    recipe = next(path for path in RECIPES if path.stem == "quickstart")
    options = [*overrides(recipe, world), "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_steps=6"]
    options += ["--trainer.log_every_n_steps=1", "--trainer.val_check_interval=4", "--data.validation_batches=1"]
    streams = yaml.safe_load(recipe.read_text())["data"]["streams"]
    options += [*(f"--data.streams.{name}.ratio=1" for name in streams), "--run", "run"]  # each is drawn in six steps
    command = [sys.executable, "-m", "relpretrain", "fit", "-c", str(recipe), *options]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert relpretrain.load(tmp_path / "run" / "checkpoints" / "last.ckpt").vocabulary is not None
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/captions_loss", "train/regions_loss", "train/graphs_loss", "val/mrc"} <= set(header)
