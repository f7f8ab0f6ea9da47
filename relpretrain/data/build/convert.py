"""`relpretrain data convert`: from images and annotations, as they are published, to shards."""

from __future__ import annotations

import argparse
import io
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from relpretrain.data.build.convert_sources import SOURCES, add_source_options, source_arguments
from relpretrain.data.build.output import Job, Outcome, PackedSample, add_choice, add_output, plain_options, write
from relpretrain.data.build.parts import blocks, merge_parts, write_parts
from relpretrain.data.build.tasks import is_merging, task_of
from relpretrain.data.sampling.exclusion import Exclusion, phash
from relpretrain.pixels import BROKEN, open_image
from relpretrain.progress import Meter
from relpretrain.sources import Annotation, Later, Rules, check
from relpretrain.sources.common.annotation import load_aliases
from relpretrain.sources.common.dropped import Dropped

HASH_SIDE = 64
"""Pixels to which a JPEG may be reduced while decoding it for its perceptual hash."""


def add_parser(commands: Any) -> None:
    """Add `convert` to what `add_subparsers` returned."""
    convert = commands.add_parser("convert", help="turn a data set's images and annotations into shards")
    kinds = convert.add_subparsers(dest="source_kind", required=True, metavar="SOURCE")
    for name, source in SOURCES.items():
        parser = kinds.add_parser(name, help=source.help, description=source.help)
        add_source_options(parser, source)
        parser.add_argument("--source", default=name, help="name that the samples carry (default: %(default)s)")
        names = parser.add_argument_group("names and triplets")
        names.add_argument(
            "--object-aliases", type=Path, metavar="FILE", help="lines of a label and its other spellings"
        )
        names.add_argument("--relation-aliases", type=Path, metavar="FILE", help="the same for relations")
        add_choice(names, "--duplicates", ("drop", "keep"), "triplets that repeat another of their image")
        add_choice(
            names, "--inverses", ("keep", "drop"), "triplets that say another of their image the other way round"
        )
        parser.add_argument("--exclude", type=Path, metavar="FILE", help="list of images to leave out (data audit)")
        add_output(parser)
        parser.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> None:
    """Carry the command out.

    Raises:
        ValueError: If an argument or what it names cannot be used.
        OSError: If a file cannot be read or written.
    """
    source = SOURCES[args.source_kind]
    arguments = source_arguments(source, args)
    rules = Rules(
        load_aliases(args.object_aliases) if args.object_aliases else {},
        load_aliases(args.relation_aliases) if args.relation_aliases else {},
        args.duplicates,
        args.inverses,
    )
    exclusion = Exclusion.load(args.exclude) if args.exclude else None
    named = (args.object_aliases, args.relation_aliases, args.exclude, *arguments.values())
    files = [path for value in named for path in (value if isinstance(value, list) else [value])]
    dropped = Dropped()
    meter = Meter()
    job = Job(
        items=source.read(**arguments, dropped=dropped, meter=meter),
        work=Conversion(args.source, rules, exclusion),
        dropped=dropped,
        meter=meter,
        source=args.source,
        options=plain_options(args),
        files=[path for path in files if isinstance(path, Path) and not path.is_dir()],
    )
    if is_merging(args):
        merge_parts(job, args)
    elif (task := task_of(args)) is not None:
        write_parts(job, partial(blocks, job.items, args.samples_per_shard), task, args)
    else:
        write(job, args)


@dataclass
class Conversion:
    """Makes samples of annotations.

    Args:
        source: Name that the samples carry.
        rules: What is done to names and triplets.
        exclusion: Images to leave out.
    """

    source: str
    rules: Rules
    exclusion: Exclusion | None = None

    def __call__(self, found: Annotation | Later) -> Outcome:
        """Check an annotation and read its image; None if it is left out."""
        dropped = Dropped()
        annotation = found.now(dropped) if isinstance(found, Later) else found
        sample = self._sample(annotation, dropped)
        dropped.place(str(annotation.image) if isinstance(annotation.image, Path) else annotation.image_id)
        return sample, dropped

    def _sample(self, annotation: Annotation, dropped: Counter[str]) -> PackedSample | None:
        if reason := self._listed(annotation):
            dropped[reason] += 1
            return None
        checked = check(annotation, self.source, self.rules, dropped)
        if checked is None:
            return None
        image = annotation.image
        try:
            content = image if isinstance(image, bytes) else image.read_bytes()
            reason = self._alike(annotation.image_id, content)
        except BROKEN:
            reason = "unreadable_image"
        if reason:
            dropped[reason] += 1
            return None
        return PackedSample(annotation.image_id, content, checked.extension, checked.record)

    def _listed(self, annotation: Annotation) -> str | None:
        if self.exclusion is None:
            return None
        stems = (annotation.image.stem,) if isinstance(annotation.image, Path) else ()
        names = dict.fromkeys((annotation.image_id, *stems, *annotation.other_ids))
        return next((reason for name in names if (reason := self.exclusion.reason(name))), None)

    def _alike(self, image_id: str, content: bytes) -> str | None:
        if self.exclusion is None or not self.exclusion.phashes:
            return None
        with open_image(io.BytesIO(content)) as image:
            image.draft("RGB", (HASH_SIDE, HASH_SIDE))
            return self.exclusion.reason(image_id, phash(image))
