import csv
import dataclasses

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from relpretrain.backbones import ALBEF
from relpretrain.errors import CheckpointError, ConfigError
from relpretrain.objectives import ITC, ITM, MLM, VSG, RelationUnits, TextFoil
from relpretrain.training import Optimizer, RelationModule
from tests.objectives.standin import with_foils, with_units
from tests.training.standin import batch, loader, module


def fit(tmp_path, model, steps, batches=None, ckpt_path=None, **options):
    options = {"logger": False, "enable_checkpointing": False, **options}
    trainer = pl.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        max_steps=steps,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=options.pop("log_every_n_steps", 3),
        **options,
    )
    trainer.fit(model, batches or loader(), ckpt_path=ckpt_path)
    return trainer


def test_the_losses_of_a_step_are_those_the_batch_names():
    model = module()
    loss = model.training_step(batch(0))
    outputs = model.last[1]
    assert set(outputs) == {"itc", "itm", "mlm"}
    assert float(loss) == pytest.approx(sum(float(output.loss) for output in outputs.values()))
    model.training_step(dataclasses.replace(batch(2), objectives=()))  # none named: all that consume its type
    assert set(model.last[1]) == {"vsg", "mrc"}


def test_a_step_repeats_itself_whatever_was_drawn_before():
    model = module()
    first = float(model.training_step(batch(0)))
    torch.rand(7)
    assert float(model.training_step(batch(0))) == first
    assert float(model.training_step(dataclasses.replace(batch(0), step=30))) != first  # other dropout


def test_images_are_encoded_once_per_step():
    model = module()
    model.backbone.image_calls.clear()
    model.training_step(batch(2))  # VSG and MRC on one graph batch
    assert model.backbone.image_calls == [2]


@pytest.mark.parametrize(
    ("step", "names", "message"),
    [(0, ("itcc",), "'itcc'.*did you mean 'itc'"), (0, ("mrc",), "CaptionBatch.*'mrc'.*does not consume")],
)
def test_objectives_that_do_not_fit_a_batch_are_refused(step, names, message):
    with pytest.raises(ConfigError, match=message):
        module().training_step(dataclasses.replace(batch(step), objectives=names))


def test_every_loss_falls(tmp_path):
    model = module(decay="constant")
    start = [float(model.training_step(batch(step))) for step in range(3)]
    trainer = fit(tmp_path, model, 90, loader(stop=3))
    assert trainer.global_step == 90
    end = [float(model.training_step(batch(step))) for step in range(3)]
    assert all(after < 0.8 * before for before, after in zip(start, end, strict=True)), (start, end)


def test_idle_parameters_see_a_zero_gradient(tmp_path):
    """As in one optimizer over everything: decay and moments go on where a step leaves a head alone."""
    model = module(weight_decay=0.5)
    before = model.objectives["mrc"].head[0].weight.detach().clone()
    fit(tmp_path, model, 1, loader(kind="captions"))
    after = model.objectives["mrc"].head[0].weight
    assert torch.allclose(after, before * (1 - 0.5 * 0.01 / 2))  # only the decay, at the first warm-up step's rate


def rows(path):
    with open(next(path.rglob("metrics.csv"))) as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def test_only_what_happened_is_logged(tmp_path):
    fit(tmp_path, module(), 3, loader(kind="captions"), logger=CSVLogger(tmp_path), log_every_n_steps=1)
    logged = {name for row in rows(tmp_path) for name in row}
    assert {"train/loss", "train/captions_loss", "train/itc", "train/itm", "train/mlm"} <= logged
    assert {"train/images_per_second", "lr", "train/temperature"} <= logged
    assert not [name for name in logged if "vsg" in name or "mrc" in name or "box" in name or "graphs" in name]


def test_a_window_logs_the_streams_that_ran_in_it(tmp_path):
    fit(tmp_path, module(), 4, logger=CSVLogger(tmp_path), log_every_n_steps=2)
    first, second = rows(tmp_path)
    assert first["step"] == "2"
    assert "train/itc" in first
    assert not [name for name in first if "mrc" in name]
    assert {"train/mrc", "train/mrc_accuracy", "train/vsg_itm", "train/graphs_loss", "train/itc"} <= set(second)
    assert "train/box_l1" not in second
    assert float(first["lr"]) == pytest.approx(1e-2)


def test_validation_logs_means_and_changes_nothing(tmp_path):
    model = module()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    (metrics,) = trainer.validate(model, loader(stop=3), verbose=False)
    assert {"val/itc", "val/box_l1", "val/vsg_mlm", "val/mrc", "val/mrc_accuracy", "val/loss"} <= set(metrics)
    assert trainer.validate(model, loader(stop=3), verbose=False) == [metrics]


def test_resuming_equals_going_on(tmp_path):
    whole = module()
    fit(tmp_path, whole, 8)
    save = ModelCheckpoint(tmp_path / "kept", save_last=True, every_n_train_steps=5)
    half = module()
    trainer = fit(tmp_path, half, 8, loader(stop=5), max_epochs=1, callbacks=[save], enable_checkpointing=True)
    assert trainer.global_step == 5
    torch.rand(3)
    rest = module(seed=0)
    # The stand-in loader does not know where it was; the second one starts at step 5.
    fit(tmp_path, rest, 8, loader(start=5), ckpt_path=tmp_path / "kept" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


def test_another_relation_vocabulary_is_refused_before_training(tmp_path):
    trainer = fit(tmp_path, module(), 1)
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    with pytest.raises(CheckpointError, match=r"has 3 relations, this model's has 2.*1: 'under' / 'above'"):
        fit(tmp_path, module(names=("on", "above")), 2, ckpt_path=tmp_path / "c.ckpt")


def test_lightning_rebuilds_a_module_made_by_hand(tmp_path):
    model = module()
    fit(tmp_path, model, 2).save_checkpoint(tmp_path / "c.ckpt")
    again = RelationModule.load_from_checkpoint(tmp_path / "c.ckpt")
    assert again.optimizer == model.optimizer
    assert list(again.objectives) == list(model.objectives)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_schedule_needs_the_number_of_steps(tmp_path):
    with pytest.raises(ConfigError, match=r"max_steps=-1.*'linear'"):
        fit(tmp_path, module(), -1, max_epochs=1)


def test_accumulated_batches_count_as_one_step(tmp_path):
    model = module()
    trainer = fit(tmp_path, model, 2, accumulate_grad_batches=3, gradient_clip_val=1.0)
    assert trainer.global_step == 2
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 2


def test_a_teacher_follows_before_a_step_and_learns_captions_after_it():
    backbone = ALBEF("tiny", image_size=4, patch_size=2, vocab_size=20, momentum=0.5, queue_size=16, dropout=0.0)
    model = RelationModule(backbone, {"itc": ITC(), "vsg": VSG()})
    name, taught = next(iter(backbone.teacher.model.named_parameters()))
    with torch.no_grad():
        dict(backbone.named_parameters())[name].add_(1.0)
    before = taught.clone()
    model.training_step(dataclasses.replace(batch(0), objectives=("itc",)))
    model.on_before_optimizer_step(None)
    assert torch.allclose(taught, before + 0.5)
    queue = backbone.teacher.queue
    assert int(queue.pointer) == 5
    assert queue.text_ids[:5].tolist() == batch(0).pairs.text_keys.tolist()
    model.training_step(dataclasses.replace(batch(2), objectives=("vsg",)))
    model.on_before_optimizer_step(None)
    assert int(queue.pointer) == 5  # graphs are no captions


def test_foils_do_not_enter_the_queue():
    """Its length, its place and its contents are those of a run without foils."""
    queues = []
    for extra in ((), ("foils", "units")):
        torch.manual_seed(0)
        backbone = ALBEF("tiny", image_size=4, patch_size=2, vocab_size=20, momentum=0.5, queue_size=16, dropout=0.0)
        model = RelationModule(backbone, {"itc": ITC(), "foils": TextFoil(preset="negclip"), "units": RelationUnits()})
        for step in (0, 3):
            made = with_units(with_foils(batch(step)))
            model.training_step(dataclasses.replace(made, objectives=("itc", *extra)))
            model.on_before_optimizer_step(None)
        queues.append(backbone.teacher.queue.state_dict())
    plain, with_them = queues
    assert plain.keys() == with_them.keys()
    assert all(torch.equal(plain[name], with_them[name]) for name in plain)
    assert int(backbone.teacher.queue.pointer) == 10


def test_each_loss_is_tied_to_all_parameters_where_it_is_computed():
    """So that on a process with nothing for it the backward pass, with its collectives, has the same order."""
    model = module()
    _, outputs = model.losses(batch(2), torch.Generator())
    assert set(outputs) == {"vsg", "mrc"}
    for output in outputs.values():
        tied = {getattr(function, "variable", None) for function, _ in output.loss.grad_fn.next_functions}
        assert tied >= set(model.parameters())


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_teacher_moves_once_an_optimizer_step(accumulate, tmp_path):
    backbone = ALBEF("tiny", image_size=4, patch_size=2, vocab_size=20, momentum=0.5, queue_size=60, dropout=0.0)
    model = RelationModule(backbone, {"itc": ITC(), "itm": ITM(), "mlm": MLM()}, Optimizer(warmup_steps=0))
    taught, wanted, queued = next(iter(backbone.teacher.model.parameters())), [], []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            if index % accumulate == 0:
                student = next(iter(module.backbone.parameters()))
                wanted.append((taught + student).detach() / 2)

        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            queued.append(int(backbone.teacher.queue.pointer))
            assert torch.allclose(taught, wanted[-1], atol=1e-7)

    fit(tmp_path, model, 2, loader(kind="captions"), accumulate_grad_batches=accumulate, callbacks=[Watch()])
    assert backbone.teacher.updates == 2
    assert not torch.equal(wanted[0], wanted[1])
    # All batches of a step see the same queue, and enter it together.
    assert queued == [0] * (accumulate - 1) + [5 * accumulate] * accumulate + [10 * accumulate]
