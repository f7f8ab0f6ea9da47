"""Training from a recipe: Lightning's command line, our defaults, all mistakes told before anything is built."""

from __future__ import annotations

import contextlib
import logging
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.distributed import is_first_process
from relpretrain.errors import ConfigError
from relpretrain.recipe_files import recipe_paths
from relpretrain.showing import say
from relpretrain.showing.help import ExampleFormatter, example
from relpretrain.training.callbacks import LastCheckpoint
from relpretrain.training.command.arguments import (
    DEFAULT_RUN,
    asks,
    going_on,
    merged_settings,
    recipes_first,
    with_recipes,
)
from relpretrain.training.command.loggers import loggers
from relpretrain.training.command.recipe_checks import mistakes, read_recipe
from relpretrain.training.command.resumed import check_resumed, finished
from relpretrain.training.command.resuming import (
    METRICS,
    OF_ONE_CALL,
    SETTINGS,
    checkpoint_file,
    differences,
    named_checkpoint,
    rows_up_to,
    settings_of,
    with_settings,
)
from relpretrain.training.command.run_folder import CHECKPOINTS, LAST, RunFolder, refuse
from relpretrain.training.command.unended import ended
from relpretrain.training.data_record import DataRecord
from relpretrain.training.header import RunHeader, Threads, quiet_devices
from relpretrain.training.module import RelationModule
from relpretrain.training.precision import check_precision
from relpretrain.training.progress import ProgressLine
from relpretrain.training.survival.checkpoint_io import CheckpointFiles
from relpretrain.training.survival.peers import Peers
from relpretrain.training.survival.preemption import Preemption
from relpretrain.version import __version__
from relpretrain.writing import aside

EXAMPLES = {
    "fit": ("relpretrain fit -c quickstart --run=runs/first --trainer.max_steps=200",),
    "validate": ("relpretrain validate -c runs/first/config.yaml --ckpt_path=runs/first/checkpoints/last.ckpt",),
    "test": ("relpretrain test -c RECIPE --ckpt_path=runs/first/checkpoints/last.ckpt",),
    "predict": ("relpretrain predict -c RECIPE --ckpt_path=runs/first/checkpoints/last.ckpt",),
}
"""What the help of a command ends with."""

TRAINER_DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,  # the batch schedule already knows rank and world size
    "check_val_every_n_epoch": None,  # validation is counted in steps
}


def run(arguments: list[str]) -> RelationCLI:
    """Run `fit`, `validate`, `test` or `predict` with its arguments.

    Raises:
        ConfigError: If the recipe or an argument is wrong, before training starts; one line for each mistake.
        CheckpointError: If the checkpoint to go on from is none, or has another relation vocabulary.
    """
    given = arguments[1:]
    command, *rest = with_recipes(arguments)
    rest, new = going_on(command, recipes_first(rest))
    if (checkpoint := named_checkpoint(rest)) is not None:
        checkpoints.read(checkpoint)  # before all else: its run's settings may be what is to be checked
    arguments = [command, *with_settings(rest, recipe_paths(rest))]
    _check_recipes(arguments[1:])
    if new is not None:
        refuse(new)
    _quiet()
    return RelationCLI(
        command,
        given,
        RelationModule,
        RelationDataModule,
        save_config_callback=_SaveSettings,
        save_config_kwargs={"save_to_log_dir": False},
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=0,
        parser_class=_Parser,
        parser_kwargs={
            "prog": "relpretrain",
            "default_env": False,
            "version": __version__,
            "formatter_class": _Help,  # which those of the commands take over
            command: {"epilog": example(*EXAMPLES[command])},
        },
        auto_configure_optimizers=False,
        args=arguments,
    )


class _Help(ExampleFormatter, DefaultHelpFormatter):  # type: ignore[misc]  # jsonargparse is not followed
    """The help of jsonargparse, with an example at its end."""


class _Parser(LightningArgumentParser):
    """Says what is wrong in one line, without the usage; takes options by their full names only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        raise ConfigError(" ".join(message.split())) from ex


class _SaveSettings(SaveConfigCallback):
    """Keeps the settings in the run's folder, without what a run from the same settings must not do again."""

    def __init__(self, parser: Any, config: Any, **options: Any) -> None:
        config = config.clone()
        config["ckpt_path"], config["overwrite"] = None, False
        super().__init__(parser, config, **options)

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Write them."""
        with aside(Path(self.config["run"]) / SETTINGS) as file:
            file.write(self.parser.dump(self.config, skip_none=False).encode())


class RelationCLI(LightningCLI):
    """LightningCLI with one seed for all, precision by hardware, and checks of the checkpoint to go on from.

    Args:
        command: "fit", "validate", "test" or "predict".
        given: Its arguments, as they were given.
        arguments: Those of LightningCLI.
        options: Likewise.
    """

    def __init__(self, command: str, given: Sequence[str], *arguments: Any, **options: Any) -> None:
        self._command, self._given = command, given
        super().__init__(*arguments, **options)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning asks the object
        """The one that was asked for: the parsers of the others would be made for nothing."""
        return {self._command: super().subcommands()[self._command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's folder, and let one seed rule initialisation, data, dropout and negatives."""
        parser.add_argument("--run", default=DEFAULT_RUN, help="Folder of the run: metrics, settings, checkpoints.")
        parser.add_argument("--overwrite", action="store_true", help="Take the place of a run in the same folder.")
        parser.add_argument("--threads", type=int | None, default=None, help="Threads of torch; by the model's size.")
        for target in ("model.seed", "data.seed"):
            parser.link_arguments("seed_everything", target, compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without Lightning's warning about arguments handed over."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Read the checkpoint early. The recipe says what the model is; Lightning would let the checkpoint say it."""
        path = self._get(self.config, "ckpt_path") if self.config.get("subcommand") else None
        self.checkpoint = checkpoint_file(path)
        self.resumed, self.resumed_step = None, 0
        if self.checkpoint is not None:
            self.resumed = checkpoints.read(self.checkpoint)
            self.resumed_step = int(self.resumed.get("global_step", 0))
            self._say_differences(self.checkpoint)

    def _say_differences(self, checkpoint: Path) -> None:
        settings = settings_of(checkpoint)
        if settings is None:
            return
        command = self.config["subcommand"]
        given = yaml.safe_load(self._parser(command).dump(self.config[command], skip_none=False))
        now = {key: value for key, value in given.items() if key not in OF_ONE_CALL}
        before = {key: value for key, value in read_recipe(settings).items() if key in now}
        rank_zero_info(f"From {checkpoint}, step {self.resumed_step}, with the settings of {settings}")
        for line in differences(before, now):
            rank_zero_info(f"  {line}")

    def _get(self, config: Any, key: str, default: Any = None) -> Any:
        command = self.config.get("subcommand") if hasattr(self, "config") else None
        return config.get(str(command), config).get(key, default)

    def instantiate_classes(self) -> None:
        """Build everything; without any weights to start from, where a checkpoint has them all."""
        self._as_given = self.config
        if self.resumed is not None:
            self.config = _without_weights(self.config)
        super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Keep the run in its folder, choose the precision where the recipe leaves it open, show the progress.

        Raises:
            CheckpointError: If the checkpoint to go on from does not fit the model.
        """
        self.config = self._as_given
        if self.resumed is not None and self.checkpoint is not None:
            check_resumed(self.resumed, self.checkpoint, self.model, fits=self.subcommand == "fit")
            self.resumed = None  # its tensors: the trainer reads them itself
        given = self._get(self.config_init, "trainer")
        folder = Path(self._get(self.config_init, "run"))
        fits = self.subcommand == "fit"
        passing = bool(given.get("fast_dev_run"))
        lasting = fits and not passing
        steps = None
        if lasting and self.checkpoint is not None:
            steps = self._steps(given)
            self._end_if_finished(self.checkpoint, folder, steps, given)
        if not fits:
            self._warn_of_new_weights()
        if lasting and is_first_process():
            held = RunFolder(folder, bool(self._get(self.config_init, "overwrite")))
        if fits:  # shards may be indexed for it, for hours: not before it is known that the run can begin
            kwargs["max_steps"] = self._steps(given) if steps is None else steps
        if not fits:
            self.save_config_callback = None  # the folder keeps the settings, and the metrics, of training
        if given.get("precision") is None:
            kwargs["precision"] = precision(given.get("accelerator", "auto"))
        else:
            check_precision(given["precision"])  # Lightning's own check asks for packages first
        home = folder if fits else folder / self.subcommand
        # A pass for trial logs nothing, and must leave alone what a run has logged.
        kwargs["logger"] = not passing and loggers(given.get("logger"), home, self._earlier())
        if given.get("default_root_dir") is None:
            kwargs["default_root_dir"] = folder
        callbacks = given.get("callbacks") or []
        callbacks = list(callbacks) if isinstance(callbacks, list) else [callbacks]
        if passing:  # Lightning would save `last.ckpt` at the end even so, in the place of the run's
            callbacks = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(folder / CHECKPOINTS)
        if lasting:
            go_on = f"relpretrain fit --run={shlex.quote(str(folder))} --ckpt_path=auto"
            callbacks += [LastCheckpoint(folder / CHECKPOINTS, folder), Preemption(folder / CHECKPOINTS / LAST, go_on)]
            callbacks += [Peers(), DataRecord(folder)]
            callbacks += [held] if is_first_process() else []
        if given.get("enable_progress_bar") is not False:
            callbacks.append(ProgressLine())
        if given.get("enable_model_summary") is not False:
            callbacks.append(RunHeader(folder if lasting else None, self._get(self.config_init, "seed_everything")))
            kwargs["enable_model_summary"] = False  # Lightning's own
        # A run that is kept has its plan in a file, which the header names.
        self.datamodule.announces = not lasting or given.get("enable_model_summary") is False
        callbacks.append(Threads(self._get(self.config_init, "threads")))
        trainer = super().instantiate_trainer(callbacks=callbacks, **kwargs)
        if trainer.strategy._checkpoint_io is None:  # a strategy that has files of its own refuses to be asked
            with contextlib.suppress(MisconfigurationException):
                trainer.strategy.checkpoint_io = CheckpointFiles()
        return trainer

    def _steps(self, given: Any) -> int:
        """The steps of the whole run: the recipe's, or fewer where the data's rule ends it before."""
        most = int(given["max_steps"])
        if given.get("overfit_batches"):
            return most
        steps = self.datamodule.optimizer_steps(given["accumulate_grad_batches"], self.model.objectives)
        return most if steps is None or 0 <= most <= steps else int(steps)

    def _end_if_finished(self, checkpoint: Path, folder: Path, steps: int, given: Any) -> None:
        """Say so and end, where the checkpoint to go on from is of the last step.

        Nothing is written, but for the `last.ckpt` of a run that was killed before its end.
        """
        done = self.resumed_step
        if not 0 <= steps <= done:
            return
        lines = finished(checkpoint, done, steps, folder, self._given, self.datamodule.stop)
        if is_first_process():
            lines += ended(checkpoint, done, folder, given, bool(self.datamodule.validation))
            say("\n".join(lines))
        raise SystemExit(0)

    def _warn_of_new_weights(self) -> None:
        """Warn where the weights that are looked at are no run's."""
        if self._get(self.config, "ckpt_path") is not None or self._get(self.config, "model")["weights"] is not None:
            return
        rank_zero_warn(
            f"{self.subcommand} without --ckpt_path looks at an untrained model, with the weights that a run of this "
            "recipe begins with: name a checkpoint, or take the newest one of the run by --ckpt_path=auto"
        )

    def _earlier(self) -> list[dict[str, float]]:
        """What the run that is gone on with had logged up to its checkpoint."""
        settings = settings_of(self.checkpoint) if self.checkpoint is not None and self.subcommand == "fit" else None
        if settings is None:
            return []
        metrics = settings.with_name(METRICS)
        try:
            return rows_up_to(metrics, self.resumed_step)
        except ValueError as error:
            rank_zero_warn(f"{metrics} is no table of numbers ({error}): metrics begin anew at the checkpoint's step")
            return []

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        found: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        if "weights_only" in found and found["weights_only"] is None:
            found["weights_only"] = True  # Lightning's own default runs what a checkpoint holds
        return found


def precision(accelerator: str) -> str:
    """Choose "bf16-mixed" where the hardware has it, else "32-true"."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def parameters(cls: type[Any]) -> tuple[str, ...]:
    """Names of a class's constructor arguments, those that it passes on included."""
    parser = ArgumentParser(exit_on_error=False)
    added = parser.add_class_arguments(cls, "x", fail_untyped=False)
    return tuple(dict.fromkeys(name.split(".")[1] for name in added if "." in name))


def _without_weights(config: Any) -> Any:
    """The same settings, with nothing that would be downloaded or loaded only to be overwritten by a checkpoint."""
    config = config.clone()
    model = config[config["subcommand"]]["model"]
    model["weights"] = None
    arguments = model["backbone"].get("init_args", {})
    for name in [name for name in vars(arguments) if name.startswith("pretrained_")]:
        arguments[name] = None
    return config


def _quiet() -> None:
    """Leave out what Lightning says that no user can act on."""
    # Lightning 2.6 on torch 2.11 and newer; nothing of ours.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    # `loggers` has put them aside.
    warnings.filterwarnings("ignore", message=r".*Experiment logs directory .* exists and is not empty.*")
    # Nor does a checkpoint come in the way of a run that was asked to go on, or to take another's place.
    warnings.filterwarnings("ignore", message=r".*Checkpoint directory .* exists and is not empty.*")
    # The datamodule's own state resumes the data, whatever the loader.
    warnings.filterwarnings("ignore", message=r".*your dataloader is not resumable.*")
    # `MetricBuffer` has taken the means over all processes before they are logged.
    warnings.filterwarnings("ignore", message=r".*It is recommended to use `self.log.*sync_dist=True.*")
    # A run without validation streams.
    warnings.filterwarnings("ignore", message=r".*Total length of `list` across ranks is zero.*")
    # The batches are laid out by the module, whoever loads them.
    warnings.filterwarnings("ignore", message=r".*overridden `on_before_batch_transfer` in `LightningModule`.*")
    quiet_devices()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in str(record.msg))


def _check_recipes(arguments: list[str]) -> None:
    merged = merged_settings(arguments)
    files = not asks(arguments)
    if recipe_paths(arguments) and (found := mistakes(merged, RelationModule, RelationDataModule, parameters, files)):
        raise ConfigError(found)
