"""`relpretrain data label --ray`: CPUs read and write shards, actors hold the parser, Ray Data moves what is between.

A row is a shard. Only captions and what is parsed of them go through Ray; images are read where the shard is written.
"""

from __future__ import annotations

import argparse
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from relpretrain.data.build.label_sample import WITH_MODEL, Labelling, pieces_of, texts_read
from relpretrain.data.build.output import Job
from relpretrain.data.build.parts import PartEnd, make_parts, share_parts
from relpretrain.data.build.tasks import Parts, Task
from relpretrain.data.shards.remote import is_remote
from relpretrain.errors import ConfigError, positive
from relpretrain.progress import StageProgress
from relpretrain.scene_graph.parse import Parser

Row = dict[str, Any]
"""A shard on its way: "shard", its number "part", "content" (pickled), "error" (empty if all is well)."""


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Add the options of Ray to `relpretrain data label`."""
    group = parser.add_argument_group("several GPUs or machines, by Ray Data (the extra `ray`)")
    group.add_argument(
        "--ray", action="store_true",
        help="parse in Ray actors, read and write in Ray tasks: in the cluster that RAY_ADDRESS or `ray start` names, "
        "else on this machine; the shards are the same",
    )  # fmt: skip
    group.add_argument("--actors", type=positive, metavar="N",
                       help="actors, each with a parser (default: as many as the GPUs serve, 1 without)")  # fmt: skip
    group.add_argument(
        "--gpus-per-actor", type=gpu_share, metavar="G",
        help="GPUs of an actor; 0.5: two share one (default: 1 for a parser with a large model where there are GPUs, "
        "else 0)",
    )  # fmt: skip


def check_ray(args: argparse.Namespace) -> None:
    """Check the options of Ray.

    Raises:
        ConfigError: If they do not go together, or Ray Data is not installed.
    """
    if not args.ray:
        if args.actors is not None or args.gpus_per_actor is not None:
            raise ConfigError("--actors and --gpus-per-actor are for work with Ray: add --ray")
        return
    if args.workers is not None:
        raise ConfigError("--workers is for work without Ray, which has --actors: leave out one of --workers and --ray")
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'--ray needs Ray Data ({error}): pip install "relpretrain[ray]"') from None


def label_with_ray(job: Job, shards: Sequence[str], task: Task | None, args: argparse.Namespace) -> None:
    """Do the shards of a task with Ray Data.

    Args:
        job: Where they come from; its work is a `Labelling`.
        shards: All shards, paths or addresses.
        task: Which task this is; None for all of the work.
        args: The options of the command.

    Raises:
        ConfigError: If the cluster lacks GPUs.
        ValueError: If a shard cannot be labelled; names it. Those that are done stay so.
        OSError: If Ray fails, or the folder cannot be written to.
    """
    source = job.options["parser"]
    work = cast(Labelling, job.work)
    vars(work).pop("built", None)  # it told its version; the actors have their own

    def make(parts: Parts, wants: Callable[[int], bool]) -> None:
        own = [part for part in range(len(shards)) if wants(part)]
        job.meter.begin("labelling", len(own))
        if not own:
            return
        rows = [{"shard": _absolute(shards[part]), "part": part, "content": b"", "error": ""} for part in own]
        reading = {"work": work, "together": args.batch_size, "source": args.source}
        writing = {**reading, "parsed_by": source, "folder": str(parts.folder.resolve())}
        count = 0
        with StageProgress(job.meter) as progress, _cluster() as ray:
            actors, gpus = _resources(args, ray.cluster_resources().get("GPU", 0))
            labelled = (
                ray.data.from_items(rows, override_num_blocks=len(rows))
                .map(read_captions_of, fn_kwargs=reading, num_cpus=1)
                .map(
                    Parsing, fn_constructor_args=(work,), compute=ray.data.ActorPoolStrategy(size=actors),
                    num_cpus=0, num_gpus=gpus,  # no core, so that there is always one for tasks
                )
                .map(write_shard, fn_kwargs=writing, num_cpus=1)
            )  # fmt: skip
            for row in labelled.iter_rows():
                if row["error"]:
                    raise ValueError(row["error"])
                count += pickle.loads(row["content"])
                job.meter.advance()
                progress.count(count)

    share_parts(job, make, task or Task(0, 1), args, alone=task is None)


def _guarded(stage: Callable[..., Any]) -> Callable[..., Row]:
    """A stage whose errors become the row's, with the shard's name: those of Ray are pages long, and name none."""

    def guarded(row: Row, *args: Any, **options: Any) -> Row:
        if row["error"]:
            return row
        try:
            return {**row, "content": pickle.dumps(stage(row, *args, **options))}
        except Exception as error:
            told = str(error)
            if not isinstance(error, (ValueError, OSError)):
                traceback.print_exc()
                told = f"{type(error).__name__}: {error}"
            return {**row, "content": b"", "error": told if row["shard"] in told else f"{row['shard']}: {told}"}

    return guarded


def read_captions_of(row: Row, work: Labelling, together: int, source: str | None) -> Row:
    """The captions of a shard, as lists of those that are parsed together."""

    def read(row: Row) -> list[list[str]]:
        pieces = pieces_of(row["shard"], row["part"], together, source)
        return [texts_read(work.read(piece.item)) for piece in pieces if not isinstance(piece.item, PartEnd)]

    return _guarded(read)(row)


class Parsing:
    """Holds a parser, and parses the captions of shards.

    Args:
        work: Knows the parser.
    """

    def __init__(self, work: Labelling) -> None:
        self.parser: Parser = work.built

    def __call__(self, row: Row) -> Row:
        """Parse the captions of a shard."""
        return _guarded(lambda row: [self.parser.parse(texts) for texts in pickle.loads(row["content"])])(row)


def write_shard(row: Row, work: Labelling, together: int, source: str | None, parsed_by: str, folder: str) -> Row:
    """Write a shard of which the captions are parsed; returns how many samples were read.

    It is made in a folder of its own: what is left of a run that was killed, and Ray's second try after a machine was
    lost, may write the same shard at the same time.
    """

    def write(row: Row) -> int:
        parsed = iter(pickle.loads(row["content"]))
        pieces = pieces_of(row["shard"], row["part"], together, source)
        with TemporaryDirectory(prefix=".ray-", dir=folder) as own:
            made, parts = Parts(Path(own)), Parts(Path(folder))
            finish = lambda items: work.finish(items, work.read(items), next(parsed), parsed_by)  # noqa: E731
            count = max(make_parts(made, finish, pieces), default=0)
            for ending in (".tar", ".json"):  # a part is there when its .json is
                if (place := made.place(row["part"], ending)).exists():
                    place.replace(parts.place(row["part"], ending))
        return count

    return _guarded(write)(row)


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected; one that is started here ends with the work.

    Raises:
        OSError: If Ray fails, such as when an actor dies.
    """
    import ray
    import ray.data

    started = not ray.is_initialized()
    try:
        if started:
            ray.init(logging_level="WARNING")
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = False  # there is one already
        yield ray
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).split("\n") if line.strip()]
        raise OSError(f"Ray gave up: {lines[-1].strip() if lines else type(error).__name__}") from error
    finally:
        if started:
            ray.shutdown()


def _resources(args: argparse.Namespace, there: float) -> tuple[int, float]:
    """Number of actors, and GPUs of each.

    Raises:
        ConfigError: If there are fewer GPUs; Ray would wait for them.
    """
    gpus = args.gpus_per_actor
    if gpus is None:
        gpus = 1.0 if there and args.parser in WITH_MODEL else 0.0
    actors = args.actors or (max(1, int(there / gpus)) if gpus else 1)
    if actors * gpus > there:
        raise ConfigError(
            f"--actors {actors} with --gpus-per-actor {gpus:g} take {actors * gpus:g} GPUs, and Ray has {there:g}: "
            "take fewer, or --gpus-per-actor 0"
        )
    return actors, gpus


def _absolute(shard: str) -> str:
    return shard if is_remote(shard) else str(Path(shard).resolve())


def gpu_share(text: str) -> float:
    """A share of a GPU, or a whole number of them: an argparse type.

    Raises:
        argparse.ArgumentTypeError: If it is neither.
    """
    value = float(text)
    if not 0 <= value < float("inf") or (value > 1 and value != int(value)):
        raise argparse.ArgumentTypeError(f"must be a share of a GPU or a whole number of them, got {text}")
    return value
