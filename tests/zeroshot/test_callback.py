import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

import relpretrain
from relpretrain.backbones import XVLM
from relpretrain.cli import main
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer
from relpretrain.errors import ConfigError
from relpretrain.zeroshot import ZeroShot
from relpretrain.zeroshot import callback as callbacks
from relpretrain.zeroshot.evaluate import Ready
from relpretrain.zeroshot.tasks import TASKS, Item
from tests import two_ranks
from tests.zeroshot.helpers import write_benchmarks

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "quickstart.yaml"


def recipe(world, tmp_path, callbacks, steps=6):
    """The quickstart in small, with dropout and these callbacks."""
    content = yaml.safe_load(RECIPE.read_text().replace("runs/quickstart/data", str(world)))
    content["trainer"] |= {
        "max_steps": steps,
        "accelerator": "cpu",
        "val_check_interval": steps,
        "callbacks": callbacks,
    }
    content["trainer"]["log_every_n_steps"] = 1
    content["model"]["backbone"]["init_args"]["dropout"] = 0.1
    content["data"]["num_workers"] = 0
    for stream in [*content["data"]["streams"].values(), *content["data"]["validation"].values()]:
        stream["batch_size"] = 1
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def zero_shot(world, **options):
    given = {"data": str(world / "benchmarks"), "every_n_steps": 2, "items": 3, **options}
    return {"class_path": "relpretrain.zeroshot.ZeroShot", "init_args": given}


def checkpoint(monitor="zeroshot/vsr_dev", steps=2, mode="max", top=1):
    options = {"monitor": monitor, "mode": mode, "every_n_train_steps": steps, "save_top_k": top, "filename": "{step}"}
    return {"class_path": "ModelCheckpoint", "init_args": options}


def fit(world, tmp_path, name, callbacks, **options):
    path = recipe(world, tmp_path, callbacks, **options)
    assert main(["fit", "-c", str(path), "--run", name]) == 0
    return torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)


def test_a_recipe_trains_the_same_with_it_and_can_choose_by_it(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tasks = ["vsr", "valse", "graphs"]
    scored = fit(world, tmp_path, "with", [zero_shot(world, tasks=tasks), checkpoint(top=-1)])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("zero-shot at step")]
    assert [line.split(":")[0] for line in said] == [f"zero-shot at step {step}" for step in (2, 4, 6)]
    plain = fit(world, tmp_path, "without", [checkpoint(monitor=None)])
    assert scored["global_step"] == plain["global_step"] == 6
    for name, value in plain["state_dict"].items():
        assert torch.equal(value, scored["state_dict"][name]), name
    with open("with/metrics.csv") as stream:
        rows = [row for row in csv.DictReader(stream) if row["zeroshot/vsr_dev"]]
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    columns = {name for name, value in rows[0].items() if name.startswith("zeroshot/") and value}
    assert {"zeroshot/vsr_dev", "zeroshot/vsr_test", "zeroshot/valse", "zeroshot/vsr_dev/auroc"} <= columns
    assert "zeroshot/graphs_validation/masked_relation_words" in columns
    assert any(name.startswith("zeroshot/valse/") for name in columns)
    state = next(value for key, value in scored["callbacks"].items() if key.startswith("ModelCheckpoint"))
    assert float(state["best_model_score"]) == pytest.approx(max(float(row["zeroshot/vsr_dev"]) for row in rows))
    kept = {Path(path).stem: float(score) for path, score in state["best_k_models"].items()}
    assert kept == {f"step={row['step']}": pytest.approx(float(row["zeroshot/vsr_dev"])) for row in rows}


def test_its_figures_are_those_of_the_command(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(world, tmp_path, "run", [zero_shot(world, items=None), checkpoint(monitor=None)], steps=2)
    with open("run/metrics.csv") as stream:
        row = next(row for row in csv.DictReader(stream) if row["zeroshot/valse"])
    arguments = ["--checkpoint", "run/checkpoints/last.ckpt", "--data", str(world / "benchmarks"), "--out", "out"]
    assert main(["zeroshot", *arguments]) == 0
    for table in json.loads(Path("out/zero_shot.json").read_text())["tables"]:
        name = f"zeroshot/{'_'.join(filter(None, (table['task'], table['split'].rpartition('/')[2])))}"
        assert float(row[name]) == pytest.approx(table["rows"][0]["accuracy"])
        for category in table["rows"][1:]:
            assert float(row[f"{name}/{category['category']}"]) == pytest.approx(category["accuracy"])


def prepared(callback):
    callback._ready = dict(callback._prepare())
    return callback


def tiny(world, seed=0):
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(world / "tokenizer")
    backbone = XVLM(size="tiny", image_size=32, vocab_size=len(tokenizer))
    module = torch.nn.Module()
    module.backbone, module.objectives, module.device = backbone, torch.nn.ModuleDict(), torch.device("cpu")
    return module, Preprocess(tokenizer, image_size=32)


def look(rank, world):
    callback = prepared(ZeroShot(str(world / "benchmarks"), items=4))
    return callback.look(*tiny(world))


@pytest.mark.slow
def test_two_processes_learn_what_one_does(world):
    alone = look(0, world)
    assert len(alone) > 4
    assert two_ranks.run(look, world) == [alone, alone]


def test_processes_share_the_splits_and_gather_all_figures(world, monkeypatch):
    callback = prepared(ZeroShot(str(world / "benchmarks"), items=4))
    alone = callback.look(*tiny(world))
    shares = []

    def gather(into, mine):
        shares.append(mine)
        into[:] = [shares[0], shares[-1]]

    monkeypatch.setattr(callbacks, "is_distributed", lambda: True)
    monkeypatch.setattr(callbacks, "world_size", lambda: 2)
    monkeypatch.setattr(callbacks.dist, "all_gather_object", gather)
    for rank in (0, 1):
        monkeypatch.setattr(callbacks, "rank", lambda rank=rank: rank)
        gathered = callback.look(*tiny(world))
    assert not set(shares[0]) & set(shares[1])
    assert all(shares)
    assert gathered == alone


def test_modes_and_random_states_are_put_back(world):
    module, preprocess = tiny(world)
    module.backbone.vision.eval() if hasattr(module.backbone, "vision") else None
    modes = [part.training for part in module.modules()]
    assert any(modes)
    state = torch.get_rng_state()
    prepared(ZeroShot(str(world / "benchmarks"), items=2)).look(module, preprocess)
    assert [part.training for part in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def sampled(world, **options):
    ready = prepared(ZeroShot(str(world / "benchmarks"), **options))._ready
    return {name: [item.texts for item in part.items] for name, part in ready.items()}


def test_the_sample_is_seeded_and_of_each_split(world):
    some = sampled(world, items=5)
    assert list(some) == ["vsr_dev", "vsr_test", "valse"]
    assert [len(items) for items in some.values()] == [3, 5, 5]
    assert some == sampled(world, items=5) != sampled(world, items=5, seed=1)
    everything = sampled(world, items=None)
    assert all(set(items) <= set(everything[name]) for name, items in some.items())
    assert list(sampled(world, splits={"vsr": ["dev"]}, tasks=["vsr"])) == ["vsr_dev"]


def test_items_of_a_group_come_together():
    items = [Item("a.png", (str(n),), ({"id": n},), group=n // 2) for n in range(40)]
    callback = ZeroShot("data", items=5)
    chosen = callback._sample(Ready(TASKS["valse"], "", items, ()))
    groups = [item.group for item in chosen]
    assert len(chosen) == 10
    assert sorted(groups) == groups
    assert all(groups.count(group) == 2 for group in groups)


def test_mistakes_are_told_before_training(world, tmp_path):
    trainer = SimpleNamespace(precision="32-true", checkpoint_callbacks=[])

    def setup(checkpoint=None, **options):
        trainer.checkpoint_callbacks = [checkpoint] if checkpoint else []
        ZeroShot(**{"data": str(world / "benchmarks"), **options}).setup(trainer, None, "fit")

    setup(ModelCheckpoint(monitor="zeroshot/valse/relations", mode="max", every_n_train_steps=2000))
    with pytest.raises(
        ConfigError, match=r"'zeroshot/vsr_devv', which ZeroShot does not log; did you mean 'zeroshot/vs"
    ):
        setup(ModelCheckpoint(monitor="zeroshot/vsr_devv", mode="max"))
    with pytest.raises(ConfigError, match="higher is better, set mode: max"):
        setup(ModelCheckpoint(monitor="zeroshot/valse"))
    brittle = ZeroShot(data="anywhere")
    brittle._ready = {"hard_positives_relations": None}
    monitor = "zeroshot/hard_positives_relations/brittleness"
    brittle._check(ModelCheckpoint(monitor=monitor, mode="min"))
    with pytest.raises(ConfigError, match="lower is better, set mode: min"):
        brittle._check(ModelCheckpoint(monitor=monitor, mode="max"))
    with pytest.raises(
        ConfigError, match="saves every 1500 steps by 'zeroshot/valse', which is scored every 1000 only"
    ):
        setup(ModelCheckpoint(monitor="zeroshot/valse", mode="max", every_n_train_steps=1500))
    with pytest.raises(ConfigError, match="unknown task 'vlase'; did you mean 'valse'"):
        setup(tasks=["vlase"])
    with pytest.raises(ConfigError, match="there is no data folder or item file"):
        setup(data=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"images of vsr were not found \(red.png"):
        setup(data=str(write_benchmarks(tmp_path / "data")))
    with pytest.raises(ConfigError, match="must be at least 1, not 0, 32 and 200"):
        ZeroShot("data", every_n_steps=0)
    trainer.precision = "bf16-true"
    with pytest.raises(ConfigError, match="precision=bf16-true has no such weights"):
        setup()


def test_the_package_knows_no_other_name():
    assert relpretrain.zeroshot.ZeroShot is ZeroShot
    with pytest.raises(AttributeError, match="has no attribute 'Zero'"):
        _ = relpretrain.zeroshot.Zero
