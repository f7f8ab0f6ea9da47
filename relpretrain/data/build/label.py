"""`relpretrain data label`: from captions to scene graphs."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from relpretrain.data.build.label_ray import add_ray, check_ray, label_with_ray
from relpretrain.data.build.label_sample import PREDICATES, TOTALS, WITH_MODEL, Labelling, pieces_of
from relpretrain.data.build.output import Job, add_output, cores, plain_options, shards_in
from relpretrain.data.build.parts import Piece, merge_parts, write_parts
from relpretrain.data.build.tasks import Task, is_merging, parts_of, task_of
from relpretrain.data.shards.remote import is_remote
from relpretrain.errors import counted, fraction, positive
from relpretrain.progress import Meter
from relpretrain.scene_graph.parse import PARSERS
from relpretrain.scene_graph.tying import SYNONYMS, resolve_synonyms
from relpretrain.scene_graph.tying.captions import MIN_TIE
from relpretrain.showing import say
from relpretrain.sources.common.dropped import Dropped

_SHOWN = 12  # relations of the histogram on the terminal
_TOGETHER = 32  # samples whose captions are parsed together


def add_parser(commands: Any) -> None:
    """Add `label` to what `add_subparsers` returned."""
    label = commands.add_parser(
        "label",
        help="make scene graphs of the captions of shards",
        description="Read the captions of shards and write the shards anew, with a scene graph for each image: nouns "
        "are tied to its boxes where it has some, or are entities without a box, which VSG can use and MRC leaves "
        "out. One shard in, one shard out.",
    )
    label.add_argument("shards", nargs="+", help="tar files, folders, globs, brace patterns or addresses")
    label.add_argument("--parser", choices=list(PARSERS), default="lexicon", help="(default: %(default)s)")
    label.add_argument("--model", metavar="NAME_OR_FOLDER", help="of a parser that has one (default: its own)")
    label.add_argument(
        "--synonyms", choices=SYNONYMS, default="auto",
        help="how nouns are compared with labels: by a table of ours, by WordNet as well, or (auto) by that where nltk "
        "has its data",
    )  # fmt: skip
    label.add_argument(
        "--min-tie", type=fraction, default=MIN_TIE, metavar="P",
        help="how sure it must be which box a noun means, else it gets none (default: %(default)s)",
    )  # fmt: skip
    label.add_argument("--replace", action="store_true", help="leave out the relations that samples have; boxes stay")
    label.add_argument("--batch-size", type=positive, default=_TOGETHER, metavar="N",
                       help="samples whose captions are parsed together (default: %(default)s)")  # fmt: skip
    label.add_argument("--source", help="name for samples that carry none (default: their shard's)")
    add_output(label, sized=False)
    add_ray(label)
    label.set_defaults(run_data=run, workers=None)


def run(args: argparse.Namespace) -> None:
    """Carry the command out.

    Raises:
        ValueError: If an argument or what it names cannot be used.
        OSError: If a file cannot be read or written.
    """
    shards = shards_in(args)
    if not is_merging(args):
        check_ray(args)
    args.workers = args.workers or (1 if args.parser in WITH_MODEL else cores())
    meter, dropped = Meter(), Dropped()
    job = Job(
        items=iter(()),
        work=_nothing,
        dropped=dropped,
        meter=meter,
        source=args.source,
        options={},
        files=[Path(s) for s in shards if not is_remote(s)],
    )
    if is_merging(args):
        _merge(job, args)
        return
    if args.parser in WITH_MODEL:
        _check_model(args.model)
    options, synonyms = {"model": args.model} if args.model else {}, resolve_synonyms(args.synonyms)
    job.work = work = Labelling(args.parser, options, synonyms, args.min_tie, args.replace)
    resolved = {"parser": work.source, "synonyms": work.names.source}  # both tell at once what is missing
    job.options = plain_options(args, ("batch_size",)) | resolved
    task = task_of(args)
    if args.ray:
        label_with_ray(job, shards, task, args)
    else:
        write_parts(job, partial(_pieces, shards, args, meter), task or Task(0, 1), args, alone=task is None)
    if task is None:
        _merge(job, args)


def _check_model(name: str | None) -> None:
    """Ask the hub once whether it is there: its own client tries for most of a minute, and says so each time.

    Raises:
        ValueError: If a model is neither a folder nor on this machine, and the hub cannot be reached.
    """
    from huggingface_hub import try_to_load_from_cache

    from relpretrain.data.pipeline.tokenizer import hub_is_reachable
    from relpretrain.scene_graph.parse.factual_parser import MODEL

    name = name or MODEL
    try:
        here = Path(name).is_dir() or isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # no name that the hub could have
        raise ValueError(f"--model {name!r} is neither a folder nor the name of a model on the hub") from None
    if not here and not hub_is_reachable():
        raise ValueError(
            f"the model {name!r} is neither a folder nor on this machine, and huggingface.co cannot be reached: "
            f"download it where there is network (huggingface-cli download {name}), or name a folder by --model"
        )


def _merge(job: Job, args: argparse.Namespace) -> None:
    """Join what the tasks have done, and report."""
    job.options = parts_of(args.out, is_file=False).plan()["arguments"]["options"]
    tables = merge_parts(job, args)
    for line in report(tables.get(TOTALS, Counter()), tables.get(PREDICATES, Counter())):
        say(line)


def report(totals: Mapping[str, int], predicates: Counter[str]) -> list[str]:
    """What labelling has given, as lines of text.

    Args:
        totals: Sums over the captions, see `Labelled` and `Labelling`.
        predicates: New triplets by relation.
    """
    found = Counter(totals)
    captions, written = found["captions"], found["triplets_written"]
    read = found["triplets"]
    lines = [
        f"{counted(captions, 'caption')} of {counted(found['captioned'], 'image')}: {read:,} triplets read, "
        f"{read / max(captions, 1):.2f} a caption; {written:,} new, {found['triplets_boxed']:,} between two boxes"
    ]
    if found["placeable"]:
        share = 100 * found["tied"] / found["placeable"]
        lines.append(
            f"{found['tied']:,} of {found['placeable']:,} nouns of images with boxes are tied to one ({share:.1f} %)"
        )
    shown = ", ".join(f"{name} {count:,}" for name, count in predicates.most_common(_SHOWN))
    rest = len(predicates) - _SHOWN
    return [*lines, f"relations: {shown}" + (f", and {rest:,} other kinds" if rest > 0 else "")] if shown else lines


def _pieces(
    shards: Sequence[str], args: argparse.Namespace, meter: Meter, takes: Callable[[int], bool]
) -> Iterator[Piece]:
    """Samples, some at a time, of those shards that a task takes: a shard in, a shard out."""
    own = [part for part in range(len(shards)) if takes(part)]
    meter.begin("labelling", len(own))
    for part in own:
        yield from pieces_of(shards[part], part, args.batch_size, args.source)
        meter.advance()


def _nothing(item: Any) -> Any:
    raise AssertionError("nothing is left to do where parts are joined")
