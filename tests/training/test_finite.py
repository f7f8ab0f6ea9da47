import math
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from relpretrain.cli import user_message
from relpretrain.errors import NotFinite
from relpretrain.training.survival.finite import MOST_SKIPPED, FiniteGuard
from relpretrain.types import ObjectiveOutput
from tests.training.standin import Batches, batch, module


class Broken(Batches):
    """Batches of which some have images that are not finite."""

    def __init__(self, bad, value=math.nan, **options):
        super().__init__(**options)
        self.bad, self.value = bad, value

    def __getitem__(self, index):
        made = batch(index, self.kind)
        keys = tuple(f"world/shard-{index}/k{n}" for n in range(len(made)))
        images = torch.full_like(made.images, self.value) if index in self.bad else made.images
        return replace(made, images=images, keys=keys)


def fit(tmp_path, trained, data, steps=4, callbacks=(), **options):
    trainer = Trainer(accelerator="cpu", max_steps=steps, logger=False, enable_progress_bar=False,
                      enable_model_summary=False, default_root_dir=tmp_path, callbacks=list(callbacks),
                      enable_checkpointing=bool(callbacks), **options)  # fmt: skip
    trainer.fit(trained, torch.utils.data.DataLoader(data, batch_size=None))
    return trainer


def weights(trained):
    return {name: value.clone() for name, value in trained.state_dict().items()}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_optimizer(tmp_path, value):
    trained = module()
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=1)
    with pytest.raises(NotFinite) as raised:
        fit(tmp_path, trained, Broken({2}, value, kind="captions"), callbacks=[saver])
    (line,) = user_message(raised.value)
    assert line.startswith("step 2 (stream 'captions', samples world/shard-2/k0, world/shard-2/k1, ")
    assert "the loss of itc" in line
    assert "model.not_finite=skip" in line
    assert all(parameter.isfinite().all() for parameter in trained.parameters())
    (kept,) = tmp_path.glob("*.ckpt")
    good = torch.load(kept, weights_only=True)
    assert good["global_step"] == 2
    assert all(good["state_dict"][name].equal(value) for name, value in trained.state_dict().items())


def test_a_gradient_that_is_not_finite_is_named(tmp_path):
    trained = module()
    name, parameter = next((n, p) for n, p in trained.named_parameters() if n.startswith("backbone"))
    parameter.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NotFinite, match=rf"step 0 .*the gradient of {name} is not finite"):
        fit(tmp_path, trained, Broken(set(), kind="captions"))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_skipped_step_changes_nothing(tmp_path, accumulate):
    """A run whose second step is bad moves its weights as one that never saw these batches."""
    bad = {1} if accumulate == 1 else {3}
    trained = module(lr=1e-2, decay="constant", warmup_steps=0)
    trained.guard = FiniteGuard("skip")
    seen = []
    original = trained.on_before_optimizer_step

    def watched(optimizer):
        original(optimizer)
        seen.append(weights(trained))

    trained.on_before_optimizer_step = watched
    with pytest.warns(UserWarning, match="this step is skipped"):
        fit(tmp_path, trained, Broken(bad, kind="captions"), steps=3, accumulate_grad_batches=accumulate)
    assert trained.guard.skipped == 1
    before, after = seen[1], seen[2]  # around the bad step
    assert all(before[name].equal(after[name]) for name in before)
    assert not all(seen[0][name].equal(before[name]) for name in before)
    assert all(value.isfinite().all() for value in weights(trained).values())


def test_weights_that_are_not_finite_stop_a_run_that_skips(tmp_path):
    trained = module()
    trained.guard = FiniteGuard("skip")
    with torch.no_grad():
        next(p for n, p in trained.named_parameters() if n.startswith("backbone")).fill_(math.nan)
    with (
        pytest.warns(UserWarning, match="this step is skipped"),
        pytest.raises(NotFinite, match=f"as were the {MOST_SKIPPED} steps before"),
    ):
        fit(tmp_path, trained, Broken(set(), kind="captions"), steps=50)


def test_under_a_scaler_infinite_gradients_are_its_own_to_skip():
    guard = FiniteGuard()
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, math.inf])
    guard.note(batch(0), torch.tensor(1.0), {})
    assert guard.passes([("x", parameter)], scaled=True)
    guard.note(batch(1), torch.tensor(math.nan), {"itc": ObjectiveOutput(torch.tensor(math.nan), {}, 1)})
    with pytest.raises(NotFinite, match=r"step 1 .*the loss of itc"):
        guard.passes([("x", parameter)], scaled=True)


def test_a_verdict_on_its_way_is_heard_before_anything_is_saved(tmp_path):
    """As on a GPU, where it comes a step later."""
    trained = module()
    trainer = fit(tmp_path, trained, Broken(set(), kind="captions"), steps=1)

    class Arrived:
        def synchronize(self):
            pass

    trained.guard.note(batch(7, "captions"), torch.tensor(math.nan), {})
    trained.guard._pending = torch.tensor(1.0), Arrived(), trained.guard._noted
    with pytest.raises(NotFinite, match=r"step 7 .*the sum of the losses is not finite"):
        trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert not (tmp_path / "x.ckpt").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_nothing_is_saved_after_a_bad_step(tmp_path):
    trained = module()
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=1)
    trainer = Trainer(accelerator="gpu", devices=1, max_steps=5, logger=False, enable_progress_bar=False,
                      enable_model_summary=False, default_root_dir=tmp_path, callbacks=[saver])  # fmt: skip
    data = torch.utils.data.DataLoader(Broken({2}, kind="captions"), batch_size=None)
    with pytest.raises(NotFinite, match=r"step 2 .*the loss of itc"):
        trainer.fit(trained, data)
    (kept,) = tmp_path.glob("*.ckpt")
    assert torch.load(kept, weights_only=True)["global_step"] == 2
