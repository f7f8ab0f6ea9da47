"""Parameters sharded over two gloo processes: losses, gradients, updates and checkpoints equal those of one process."""

import dataclasses
import errno
import os
import re
from pathlib import Path
from unittest import mock

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

import relpretrain
from relpretrain.backbones import ALBEF, XVLM, encoders
from relpretrain.checkpoints.checkpoint import read
from relpretrain.checkpoints.sharded import SUPPORTED, are_shards, read_shards
from relpretrain.cli import main
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.errors import ConfigError
from relpretrain.objectives import BOX, ITC, ITM, MLM, MRC, VMA, VSG
from relpretrain.scene_graph import RelationVocabulary
from relpretrain.training import Optimizer, RelationModule
from relpretrain.training.sharding import begin_step, data_mesh, shard
from relpretrain.training.survival.checkpoint_io import CheckpointFiles
from tests import two_ranks
from tests.objectives.standin import StandIn, captions, regions
from tests.small_fit import small_fit
from tests.test_distributed import (
    images_on_rank_0,
    nothing_known_on_rank_0,
    share_of_captions,
    share_of_graphs,
)

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="this torch is too old to shard")

SIZES = {"vision_depth": 2, "text_layers": 1, "fusion_layers": 2, "image_size": 16, "patch_size": 8, "vocab_size": 128}
SHARES = (share_of_captions, share_of_graphs, images_on_rank_0, nothing_known_on_rank_0)
"""Steps, each after an update by the one before."""


def module(name):
    """Without ITM, whose negatives come from a process's own share."""
    torch.manual_seed(0)
    if name == "albef":
        backbone = ALBEF("tiny", momentum=0.9, queue_size=16, dropout=0.0, **SIZES)
    else:
        backbone = XVLM("tiny", dropout=0.0, **SIZES)
    objectives = {"itc": ITC(), "mlm": MLM(), "vsg": VSG(itm=0.0), "vma": VMA(itm=0.0)}
    objectives["mrc"] = MRC(RelationVocabulary(["on", "under"]))
    if name == "xvlm":
        objectives["box"] = BOX()
    return RelationModule(backbone, objectives, Optimizer(decay="constant", warmup_steps=0, lr=1e-3))


def share_of(make, rank, step):
    """A share's batch, with images of the model's size."""
    batch, whole = make(rank), make(None)
    images = torch.randn(len(whole.images), 3, 16, 16, generator=torch.Generator().manual_seed(step))
    own = [whole.image_ids.tolist().index(i) for i in batch.image_ids.tolist()]
    return dataclasses.replace(batch, images=images[own], step=step)


def full(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def train(trained, rank):
    """By step: the loss and all gradients; at the end all parameters."""
    optimizer = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], lr=0.1)
    found = []
    for step, make in enumerate(SHARES):
        loss = trained.training_step(share_of(make, rank, step))
        loss.backward()
        trained.on_before_optimizer_step(None)
        gradients = {name: full(p.grad).clone() for name, p in trained.named_parameters() if p.requires_grad}
        found.append((loss.detach(), gradients))
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():  # a validation, which leaves the model gathered
            trained.losses(share_of(make, rank, step), torch.Generator())
    begin_step(trained)
    _ = trained.backbone.temperature  # clamped, as at the beginning of a step
    return found, {name: full(value).clone() for name, value in trained.state_dict().items() if torch.is_tensor(value)}


class Steps(pl.LightningDataModule):
    """Epochs of captions and regions, with ITM."""

    def __init__(self, tokenizer):
        super().__init__()
        self.preprocess = Preprocess(load_tokenizer(tokenizer), 16)

    def train_dataloader(self):
        steps = enumerate((captions(), regions()))
        return DataLoader(
            [dataclasses.replace(b, images=torch.ones(len(b), 3, 16, 16), step=i) for i, b in steps], batch_size=None
        )


class Restored(pl.Callback):
    """Notes what a run begins with, as CPU tensors: weights, and the averages of gradients."""

    def on_train_start(self, trainer, pl_module):
        states = trainer.optimizers[0].state
        self.averages = {n: full(states[p]["exp_avg"]).clone() for n, p in pl_module.named_parameters() if p in states}
        self.weights = {n: full(p.detach()).clone() for n, p in pl_module.named_parameters()}


class Half(pl.Callback):
    """Leaves a checkpoint after two steps."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 2:
            trainer.save_checkpoint(f"{self.folder}/half")


def trainer(folder, steps, ranks=2, callbacks=(), sharded=None):
    sharded = ranks == 2 if sharded is None else sharded
    strategy = ModelParallelStrategy(data_parallel_size=ranks, tensor_parallel_size=1) if sharded else "auto"
    return pl.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=strategy,
        callbacks=list(callbacks),
        max_steps=steps,
        default_root_dir=folder,
        plugins=[LightningEnvironment()] if sharded else [CheckpointFiles()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        gradient_clip_val=1.0,
        logger=False,
    )


def on_a_rank(rank, folder):
    encoders.NARROW = 0  # texts of tiny models are packed, too
    results = {}
    mesh = init_device_mesh("cpu", (2,))
    for name in ("xvlm", "albef"):
        sharded = module(name)
        shard(sharded.backbone, sharded.objectives, mesh)
        results["whole"] = [n for n, p in sharded.named_parameters() if not isinstance(p, DTensor)]
        results[name] = train(sharded, rank)
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}
    # Three steps, with a checkpoint after two, from which a third goes on.
    for name, start, more in (("straight", None, [Half(folder)]), ("resumed", f"{folder}/half", [])):
        trained = with_itm()
        fit = trainer(folder, 3, callbacks=more)
        fit.fit(trained, Steps(folder), ckpt_path=start)
        fit.save_checkpoint(f"{folder}/{name}")
    results["state"] = {k: full(v) for k, v in trained.state_dict().items() if torch.is_tensor(v)}
    return results | {name: restored(f"{folder}/{name}", folder) for name in OF_ONE}


def restored(checkpoint, folder):
    """What two processes begin with that go on from a checkpoint."""
    noted = Restored()
    trainer(folder, 2, callbacks=[noted]).fit(with_itm(), Steps(folder), ckpt_path=checkpoint)
    return noted.weights, noted.averages


OF_ONE = ("alone.ckpt", "alone")
"""What one process wrote after a step: a file, and a folder of its only shard."""


def write_of_one(folder):
    """Write them; returns the averages of gradients of each, by the names of their parameters."""
    averages = {}
    for name in OF_ONE:
        fit = trainer(folder, 1, ranks=1, sharded=name == "alone")
        written = with_itm()
        fit.fit(written, Steps(folder))
        fit.save_checkpoint(folder / name)
        states = fit.optimizers[0].state
        averages[name] = {n: full(states[p]["exp_avg"]).clone() for n, p in written.named_parameters()}
    torch.distributed.destroy_process_group()
    return averages


def with_itm():
    trained = module("xvlm")
    trained.objectives["itm"] = ITM()
    return trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    write_wordpiece(["cat"], folder)
    averages = write_of_one(folder)
    return folder, two_ranks.run(on_a_rank, str(folder)), averages


@pytest.mark.parametrize("name", ["xvlm", "albef"])
def test_losses_gradients_and_updates_equal_one_process(trained, name):
    steps, state = train(module(name), None)
    ranks = trained[1]
    for number, (loss, gradients) in enumerate(steps):
        mean = sum(rank[name][0][number][0] for rank in ranks) / 2
        torch.testing.assert_close(mean, loss, rtol=1e-4, atol=1e-5)
        for key, gradient in gradients.items():
            torch.testing.assert_close(ranks[1][name][0][number][1][key], gradient, rtol=1e-3, atol=1e-5, msg=key)
    for key, value in state.items():
        torch.testing.assert_close(ranks[0][name][1][key], value, rtol=1e-3, atol=1e-5, msg=key)


def test_every_parameter_is_sharded(trained):
    assert [rank["whole"] for rank in trained[1]] == [[], []]


def test_a_sharded_run_goes_on_where_it_was(trained):
    straight, half, resumed = (read(trained[0] / name) for name in ("straight", "half", "resumed"))
    assert [content["global_step"] for content in (straight, half, resumed)] == [3, 2, 3]
    moved = False
    for name, value in straight["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, msg=name)
        moved |= not torch.equal(half["state_dict"][name], value)
    assert moved


@pytest.mark.parametrize("name", OF_ONE)
def test_two_processes_go_on_with_what_one_wrote(trained, name):
    folder, ranks, averages = trained[0], trained[1], trained[2][name]
    written = read(folder / name)["state_dict"]
    for rank in ranks:
        weights, found = rank[name]
        assert set(weights) == set(found) == set(averages)
        assert any(bool(value.any()) for value in found.values())
        for key in weights:
            torch.testing.assert_close(weights[key], written[key], rtol=0, atol=0, msg=key)
            torch.testing.assert_close(found[key], averages[key], rtol=0, atol=0, msg=key)


def test_one_process_goes_on_with_what_two_wrote(trained):
    folder, restored = trained[0], Restored()
    written = read_shards(folder / "half", optimizers=True)
    fit = trainer(folder, 3, ranks=1, callbacks=[restored])
    fit.fit(with_itm(), Steps(folder), ckpt_path=str(folder / "half"))
    assert fit.global_step == 3
    assert len(restored.weights) == len(restored.averages) > 20
    for name, value in restored.weights.items():
        torch.testing.assert_close(value, written["state_dict"][name], rtol=0, atol=0, msg=name)
        average = written["optimizer_states"][0]["state"][name]["exp_avg"]
        torch.testing.assert_close(restored.averages[name], average, rtol=0, atol=0, msg=name)
    assert any(bool(value.any()) for value in restored.averages.values())


def test_one_process_exports_what_two_wrote(trained):
    """Every tensor, in one safetensors file that loads again."""
    folder, ranks, _ = trained
    assert main(["weights", "export", str(folder / "resumed"), str(folder / "exported")]) == 0
    assert (folder / "exported" / "model.safetensors").is_file()
    model = relpretrain.load(folder / "exported").backbone
    for name, value in model.state_dict().items():
        for result in ranks:
            assert torch.equal(value, result["state"][f"backbone.{name}"])


@pytest.fixture
def one_process():
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def full_disk(content, file, *args, **options):
    """Takes all but the last file of a checkpoint."""
    if isinstance(file, Path) and file.name == "meta.pt":
        raise OSError(errno.ENOSPC, "No space left on device", str(file))
    SAVE(content, file, *args, **options)


SAVE = torch.save
SHARDED = ["--trainer.strategy=lightning.pytorch.strategies.ModelParallelStrategy"]
SHARDED += ["--trainer.strategy.data_parallel_size=1", "--trainer.strategy.tensor_parallel_size=1"]


def test_the_command_goes_on_with_a_folder_of_shards(tmp_path, monkeypatch, capsys, one_process):
    monkeypatch.chdir(tmp_path)
    fit = small_fit(tmp_path, "realbef", dict.fromkeys(("captions", "mrc", "vsg"), 4), steps=2)
    for switch in ("--model.compile=true", "--model.micro_batch=2"):
        assert fit(*SHARDED, switch, "--run=refused") == 2
        said = f"{switch[2:].partition('=')[0]}.* ModelParallelStrategy .*: leave out one of them"
        assert re.search(said, capsys.readouterr().err.replace("=true and", " "))
        assert not Path("refused/metrics.csv").exists()
    assert fit(*SHARDED) == 0
    last = Path("run/checkpoints/last.ckpt")
    assert are_shards(last)
    torch.distributed.destroy_process_group()
    assert fit() == 2  # another run's folder
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("lightning.fabric.strategies.model_parallel.torch.save", full_disk)
        assert fit(*SHARDED, "--ckpt_path=auto", "--trainer.max_steps=3") == 2
    assert "no space left" in capsys.readouterr().err
    assert read(last)["global_step"] == 2  # as it was
    torch.distributed.destroy_process_group()
    # Its settings lie beside it; another strategy comes on top.
    more = ["--trainer.strategy=auto", "--trainer.max_steps=3", "--run=alone"]
    assert main(["fit", "--ckpt_path", str(last), *more]) == 0
    assert read("alone/checkpoints/last.ckpt")["global_step"] == 3
    assert main(["fit", "-c", "run/config.yaml", "--ckpt_path=auto", "--trainer.max_steps=4"]) == 0
    assert read(last)["global_step"] == 4
    assert main(["weights", "export", str(last), "exported"]) == 0
    assert Path("exported/model.safetensors").is_file()


def test_what_cannot_be_sharded_is_refused():
    cut = {"tensor_parallel": mock.Mock(**{"size.return_value": 2})}
    with pytest.raises(ConfigError, match="data_parallel_size=4 and tensor_parallel_size=1"):
        data_mesh(mock.MagicMock(**{"__getitem__.side_effect": cut.get, "size.return_value": 4}))
    with pytest.raises(ConfigError, match="strategy=ddp"):
        shard(StandIn(), torch.nn.ModuleDict(), None)
