"""The command line: training, data and zero-shot, each loaded only when it is called."""

from __future__ import annotations

import errno
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

from relpretrain.errors import (
    CheckpointError,
    ConfigError,
    NotFinite,
    PeerLost,
    TooManyBadSamples,
    WorkerError,
    check_checkpoint,
    suggest,
)
from relpretrain.showing import say
from relpretrain.version import __version__

_FULL = "No space left on device"
_LONGEST = 5000  # characters of an error line

HELP = """relpretrain: vision-language pretraining with visual relations

usage: relpretrain COMMAND ...

training (from a recipe; every setting can be overridden, as --trainer.max_steps=1000)
  fit        train                              relpretrain fit -c quickstart
  validate   losses on validation data          relpretrain validate -c RECIPE --ckpt_path=CHECKPOINT
  test, predict   Lightning's own, for your modules' test and predict steps
  recipes    list, show or copy the recipes that come with the package
  report     loss curves and tables of a run    relpretrain report RUN --out DIR

data and evaluation
  data       convert annotations to shards, pack them anew, label captions, check and look at shards, compare them with
             benchmarks, fetch benchmarks       relpretrain data synthetic world
  zeroshot   score a checkpoint on benchmarks, compare scores (--list names the benchmarks)
  explain    show where a model looks, for words, relations and foils, as a page with figures
  weights    list official checkpoints, convert them and back, export a folder for the Hugging Face hub

  completion    what a shell needs to complete these commands: bash, zsh or fish

`relpretrain COMMAND --help` explains a command, with an example; `relpretrain --version` names the version.
`lightning fit -c RECIPE` and `python -m relpretrain fit -c RECIPE` are the same as `relpretrain fit -c RECIPE`.
Set RELPRETRAIN_DEBUG=1 to see where an error comes from.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0, or 2 after a mistake, told in one line each; 143 for a run that was told to stop and saved (SIGTERM, SIGUSR1),
    130 for Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        print(f"relpretrain {__version__}")
        return 0
    command, *rest = arguments
    try:
        if command not in COMMANDS:
            raise ConfigError(f"unknown command {command!r}{suggest(command, COMMANDS)}")
        return COMMANDS[command](command, rest)
    except KeyboardInterrupt:
        return 130
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's word for it
            return 130
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        lines = user_message(error)
        if lines is None or os.environ.get("RELPRETRAIN_DEBUG") == "1":
            raise
        for line in lines:
            say(f"relpretrain: error: {line if len(line) <= _LONGEST else line[:_LONGEST] + '...'}", error=True)
        return 2


LIGHTNING_HELP = """\
`lightning fit|validate|test|predict` are relpretrain's (see `relpretrain --help`); all else is Lightning's:
"""


def lightning_main(argv: Sequence[str] | None = None) -> int:
    """The `lightning` command, which this package installs: training is ours, all else as without this package."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in TRAINING:
        return main(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(LIGHTNING_HELP, flush=True)
    try:
        original = _original_lightning()
    except ImportError as error:
        print(f"relpretrain: error: lightning's own commands cannot be loaded: {error}", file=sys.stderr)
        return 1
    before = sys.argv
    sys.argv = ["lightning", *arguments]
    try:
        return int(original() or 0)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = before


def _original_lightning() -> Callable[[], int | None]:
    """What `lightning` is without this package: another distribution's command, else that of Lightning Fabric.

    Raises:
        ImportError: If it cannot be loaded, as where click is not installed.
    """
    from importlib.metadata import entry_points  # takes longer than all else that `--help` needs

    own = f"{__name__}:{lightning_main.__name__}"
    for script in entry_points(group="console_scripts", name="lightning"):
        if script.value != own:
            return cast("Callable[[], int | None]", script.load())
    from lightning.fabric.cli import _main  # the `fabric` command; absent where click is not installed

    return partial(_main, prog_name="lightning")  # click would say "python -m ..." where it is run so


def user_message(error: BaseException) -> list[str] | None:
    """The lines that tell a user what to change, or None where the error is not a user's.

    A user's mistakes are the errors of our own checks: a ValueError raised inside relpretrain, a file that is missing
    or may not be used, and what the parser of the command line says.
    """
    text = str(error)
    if text.startswith("Caught ") and "Original Traceback" in text:  # from a data worker
        last = [line for line in text.splitlines() if line.strip()][-1]
        kind, _, message = last.partition(": ")
        return [message] if kind.rpartition(".")[2].endswith("Error") and _ours(error, text) else None
    if isinstance(error.__cause__, PeerLost):
        return [" ".join(str(error.__cause__).split())]
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return [f"{error.filename} does not exist"]
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return [f"{error.filename}: {error.strerror.lower()}"]
    if (full := _no_space(error)) is not None:
        return [full]
    if isinstance(error, ConfigError):
        return [" ".join(problem.split()) for problem in error.problems]
    own = isinstance(error, (CheckpointError, NotFinite, TooManyBadSamples, WorkerError))
    if own or type(error).__name__ == "MisconfigurationException":
        return [" ".join(text.split())]
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker"):  # raised by torch wherever we are
        from relpretrain.data.workers import died

        return [str(died(f"{text} {error.__cause__}"))]
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        said = ". ".join(" ".join(text.split()).split(". ")[:2])
        return [f"{said}: take smaller batches; training computes one in parts by --model.micro_batch=N"]
    if isinstance(error, ImportError) and error.name is not None and not error.name.startswith("relpretrain"):
        return [f"{text}: install the missing package"]
    if isinstance(error, ModuleNotFoundError) and error.name is None:  # Lightning's word on an optional package
        return [" ".join(text.split())]
    if isinstance(error, (ValueError, OSError)) and _ours(error, ""):
        return [" ".join(text.split())]
    return None


def _no_space(error: BaseException) -> str | None:
    """The line about a full disk, whoever says so: few name the file, and torch has errors of its own for it."""
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    if _FULL not in text and not (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return None
    if "torch_" in text or "shm" in text:
        from relpretrain.data.workers import died

        return str(died(f"shm {text}"))
    return "a file cannot be written, for there is no space left: make room and run the command again"


def _ours(error: BaseException, worker_text: str) -> bool:
    """Whether the error was raised by a line of this package."""
    home = str(Path(__file__).parent)
    if worker_text:
        frames = [line for line in worker_text.splitlines() if line.strip().startswith('File "')]
        return bool(frames) and home in frames[-1]
    frames_here = traceback.extract_tb(error.__traceback__)
    return bool(frames_here) and frames_here[-1].filename.startswith(home)


@contextmanager
def _much_imported() -> Iterator[None]:
    """Import torch and Lightning without the garbage collector, which would look at all they make again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # modules stay for good
        if enabled:
            gc.enable()


def _train(command: str, arguments: list[str]) -> int:
    from relpretrain.recipe_files import check_recipe, find_recipe, recipe_paths
    from relpretrain.training.command.resuming import named_checkpoint

    for path in recipe_paths(arguments):
        check_recipe(find_recipe(path))
    if (checkpoint := named_checkpoint(arguments)) is not None:
        check_checkpoint(checkpoint)

    with _much_imported():
        from relpretrain.training.command.cli import run

    run([command, *arguments])
    return 0


def _parsed(command: str, arguments: list[str]) -> int:
    from relpretrain.terminal.parsers import OWN

    parser = OWN[command]()
    args = parser.parse_args(arguments)
    args.words = arguments
    return int(parser.run(args) or 0)


def _zeroshot(command: str, arguments: list[str]) -> int:
    from relpretrain.zeroshot.command import main as zeroshot

    return int(zeroshot(arguments, "relpretrain zeroshot", _much_imported) or 0)


TRAINING = ("fit", "validate", "test", "predict")
COMMANDS: dict[str, Callable[[str, list[str]], int]] = {
    **dict.fromkeys(TRAINING, _train),
    **dict.fromkeys(("recipes", "data", "report", "explain", "weights", "completion"), _parsed),
    "zeroshot": _zeroshot,
}
