"""`relpretrain data join`: texts, boxes and graphs of others onto shards, a shard in and a shard out."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from relpretrain.data.build.name_join import NameJoin
from relpretrain.data.build.output import Job, add_choice, add_output, plain_options, shards_in
from relpretrain.data.build.pack import locate
from relpretrain.data.build.parts import PartEnd, Piece, merge_parts, write_parts
from relpretrain.data.build.tasks import Task, is_merging, task_of
from relpretrain.data.join.formats import FORMATS, ON, annotated
from relpretrain.data.join.joining import Joining
from relpretrain.data.join.records import Choice
from relpretrain.data.join.rows import annotation_files
from relpretrain.data.shards.remote import is_remote
from relpretrain.errors import counted
from relpretrain.progress import Meter
from relpretrain.reading import read_json
from relpretrain.showing import say
from relpretrain.sources.common.dropped import Dropped, note

JOINED = "joined"
"""Entry of an `index.json` that lists what was joined, with its licence."""


def add_parser(commands: Any) -> None:
    """Add `join` to what `add_subparsers` returned."""
    about = "join published captions, boxes and graphs onto shards, by address, key or image id"
    join = commands.add_parser(
        "join", help=about, description=f"{about.capitalize()}.", formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="formats:\n" + "\n".join(f"  {name:<11}{kind.help}" for name, kind in FORMATS.items()),
    )  # fmt: skip
    join.add_argument("shards", nargs="+", help="tar files, folders, globs, brace patterns or addresses")
    join.add_argument(
        "--annotations", nargs="+", type=Path, required=True, metavar="FILE", help="files, or folders of files"
    )
    join.add_argument("--format", choices=tuple(FORMATS), required=True, help="what they are (below)")
    add_choice(join, "--on", ON, "what names an image in both")
    join.add_argument("--licence", help="of the annotations, where the format does not tell it")
    taken = join.add_argument_group("what is taken of them")
    taken.add_argument(
        "--captions", nargs="+", default=[], metavar="COLUMN",
        help="columns with texts; of GBC, labels of descriptions (default: all of the format; of GBC original, short "
        "and detail)",
    )  # fmt: skip
    taken.add_argument("--sentences", action="store_true", help="cut texts into their sentences")
    add_choice(taken, "--regions", ("name", "description"), "what entities of GBC are called")
    taken.add_argument("--min-score", type=float, default=0.0, metavar="P", help="smallest detection score of a box")
    where = "whether joined captions come after a sample's own or take their place"
    add_choice(join, "--join-captions", ("add", "replace"), where)
    where = "whether a joined graph takes the place of a sample's own or is added to it"
    add_choice(join, "--join-graphs", ("replace", "add"), where)
    add_choice(join, "--unmatched", ("keep", "drop"), "samples without annotation")
    add_output(join, sized=False)
    join.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> None:
    """Carry the command out.

    Raises:
        ValueError: If an argument or what it names cannot be used.
        OSError: If a file cannot be read or written.
    """
    shards = shards_in(args)
    files = annotation_files(args.annotations)
    folders = {Path(shard).resolve().parent for shard in shards if not is_remote(shard)}
    about: dict[str, Any] = {JOINED: [*_joined_before(folders), _licence(args, files)]}
    dropped, meter = Dropped(), Meter()
    job = Job(
        items=iter(()),
        work=Joining(args.join_captions, args.join_graphs),
        dropped=dropped,
        meter=meter,
        source=None,
        options=plain_options(args),
        files=[*(Path(shard) for shard in shards if not is_remote(shard)), *files],
        about=about,
    )
    task = task_of(args)
    if not is_merging(args):
        pieces = partial(_pieces, shards, files, args, dropped, meter)
        write_parts(job, pieces, task or Task(0, 1), args, alone=task is None)
    if task is None:
        matches = Matches(files, args, Counter(), meter)
        merge_parts(job, args, matches)
        for line in (matches.summary(), *_told(about[JOINED])):
            say(line)


class Matches(NameJoin):
    """Annotations by the names of their images, and how many found their samples.

    Args:
        files: Where they are read.
        args: The options of the command.
        dropped: Counts what was left out in reading.
        meter: Told how far reading has got.
    """

    def __init__(self, files: Sequence[Path], args: argparse.Namespace, dropped: Counter[str], meter: Meter) -> None:
        choice = Choice(tuple(args.captions), args.sentences, args.regions, args.min_score)
        found = annotated(files, args.format, args.on, choice, dropped, meter)
        super().__init__(found, args.annotations[0], args.on, ("--annotations", "--on"))
        self.met = []
        self.samples = 0  # that have an annotation
        self.names = 0  # of annotations that have a sample

    def recall(self, name: str, image: int) -> bool:
        """Meet a name that a part has met; see `NameJoin.recall`."""
        before = super().recall(name, image)
        self.samples += 1
        self.names += not before
        return before

    def note_unmet(self, dropped: Counter[str]) -> None:
        """Count annotations that no sample had, and what came again on either side."""
        super().note_unmet(dropped)
        pieces, names = self.counts()
        dropped["repeated_annotation"] += pieces - names
        dropped["repeated_sample"] += self.samples - self.names

    def summary(self) -> str:
        """What matched, on both sides."""
        pieces, names = self.counts()
        return (
            f"{counted(self.samples, 'sample')} joined; {self.names:,} of {counted(names, 'annotated name')} met a "
            f"sample, in {counted(pieces, 'annotation')}"
        )


def _pieces(
    shards: Sequence[str],
    files: Sequence[Path],
    args: argparse.Namespace,
    dropped: Counter[str],
    meter: Meter,
    takes: Callable[[int], bool],
) -> Iterator[Piece]:
    """The samples of the shards that are wanted, each with its annotations."""
    own = [part for part in range(len(shards)) if takes(part)]
    matches = Matches(files, args, dropped, meter)
    matches.check((name for _, name in locate(shards, Counter(), Meter(), join_by=args.on)))
    meter.begin("joining", len(own))
    for part in own:
        left_out = Dropped()
        for located, name in locate([shards[part]], left_out, Meter(), join_by=args.on):
            joined = matches.find(located, name)
            if not joined:
                reason = "sample_without_annotation" if args.unmatched == "drop" else "nothing_to_join"
                note(left_out, reason, f"{located.path.name}/{located.key}, which has the {args.on} {name!r}")
            if joined or args.unmatched == "keep":
                yield Piece(part, located._replace(joined=joined))
        yield Piece(part, PartEnd(left_out, matches.take_met()))
        meter.advance()


def _licence(args: argparse.Namespace, files: Sequence[Path]) -> dict[str, Any]:
    """What an `index.json` says of annotations: their format, names and licence."""
    names = [path.name for path in files[:3]] + (["..."] if len(files) > 3 else [])
    return {"format": args.format, "files": names, "licence": args.licence or FORMATS[args.format].licence}


def _joined_before(folders: set[Path]) -> list[Any]:
    """What was joined to the shards that are read, as their manifests have it."""
    found: list[Any] = []
    for index in sorted(folder / "index.json" for folder in folders):
        content = read_json(index, "the list of shards") if index.exists() else {}
        listed = content.get(JOINED) if isinstance(content, dict) else None
        found += [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return found


def _told(joined: Sequence[dict[str, Any]]) -> list[str]:
    said = dict.fromkeys(f"licence of {entry.get('format')}: {entry.get('licence')}" for entry in joined)
    return list(said)
