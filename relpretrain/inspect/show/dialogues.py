"""`relpretrain data dialogues`: conversations about relations across images, and a page to look at them."""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relpretrain.data.build.output import add_choice, add_workers
from relpretrain.data.shards.find import resolve_shards, tell_copies
from relpretrain.data.shards.writer import check_writable, write_atomically
from relpretrain.errors import counted, natural, positive

_KINDS = ("semantic", "geometric", "temporal", "single")
_FORMATS = ("llava", "messages")
_SIDE = 360  # pixels of the longer side of an image on the page
_TEMPLATE = Path(__file__).with_name("dialogues.html")


def add_subcommands(commands: Any) -> None:
    """Add `dialogues` to what `add_subparsers` returned."""
    about = "write conversations about what images share and where they differ, for trainers of large models"
    dialogues = commands.add_parser("dialogues", help=about)
    dialogues.add_argument(
        "shards", nargs="+", metavar="SHARDS", help="tar files, folders, globs, patterns or addresses"
    )
    dialogues.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="images go to FILE_images/")
    dialogues.add_argument(
        "--kinds", nargs="+", choices=_KINDS, default=list(_KINDS[:2]), metavar="KIND",
        help="semantic (two images), geometric (two views of one), temporal (two frames of a video), single (one "
        "image) (default: semantic geometric)",
    )  # fmt: skip
    dialogues.add_argument("--pairs", type=positive, default=1000, help="of each kind (default: %(default)s)")
    dialogues.add_argument("--seed", type=natural, default=0, help="of all random choices (default: %(default)s)")
    add_choice(dialogues, "--format", _FORMATS, "what the trainer reads")
    dialogues.add_argument("--turns", type=positive, default=4, help="questions at most (default: %(default)s)")
    dialogues.add_argument(
        "--shots", type=int, default=0, metavar="N", help="few-shot form: N questions of the same form come first"
    )
    dialogues.add_argument(
        "--frames", metavar="REGEX",
        help="finds (?P<video>...) and (?P<frame>...) in image ids, where records have no video and frame",
    )  # fmt: skip
    dialogues.add_argument(
        "--exhaustive", nargs="*", default=["synthetic"], metavar="SOURCE",
        help="sources that annotate all that an image shows; of others nothing is called absent (default: synthetic)",
    )  # fmt: skip
    dialogues.add_argument("--page", type=Path, metavar="PAGE.html", help="also write a page with some of them")
    dialogues.add_argument("--n", type=positive, default=12, help="conversations on the page (default: %(default)s)")
    add_workers(dialogues)
    dialogues.add_argument("--overwrite", action="store_true", help="replace FILE.json")
    dialogues.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> None:
    """Carry the command out.

    Raises:
        ValueError: If an argument or what it names cannot be used.
        OSError: If something cannot be read or written.
    """
    shards = resolve_shards(args.shards)
    tell_copies(shards)
    if args.out.suffix != ".json":
        raise ValueError(f"--out {args.out} should end in .json")
    if args.out.exists() and not args.overwrite:
        raise ValueError(f"--out {args.out} exists already; choose another name, or add --overwrite")
    if args.shots < 0:
        raise ValueError(f"--shots is {args.shots}, expected 0 or more")
    frames = _pattern(args.frames)
    check_writable(args.out.parent)
    args.out.parent.mkdir(parents=True, exist_ok=True)

    from relpretrain.dialogues.make import Settings, make_dialogues

    settings = Settings(
        tuple(dict.fromkeys(args.kinds)), args.pairs, args.seed, args.turns, args.shots, args.format, frames,
        tuple(args.exhaustive),
    )  # fmt: skip
    counts = make_dialogues(shards, args.out, settings, args.workers)
    for line in _told(counts):
        print(line)
    print(f"{counted(counts['conversations'], 'conversation')} in {args.out}")
    if args.page is not None:
        conversations = json.loads(args.out.read_text(encoding="utf-8"))
        args.page.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.page, page(_spread(conversations, args.n), args.out).encode())
        print(f"{min(args.n, len(conversations))} of them in {args.page}")


def page(conversations: Sequence[Mapping[str, Any]], place: Path) -> str:
    """A page of conversations with their images, as HTML.

    Args:
        conversations: In any of the formats.
        place: Their file; the names of images count from its folder.
    """
    from relpretrain.showing.html import render_template

    cards = [_card(entry, place.parent) for entry in conversations]
    jumps = [(f"d{number}", f"{card['id']}: {card['forms']}") for number, card in enumerate(cards, start=1)]
    return render_template(_TEMPLATE, title=f"Dialogues of {place.name}", cards=cards, jumps=jumps)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        found = re.compile(text)
    except re.error as error:
        raise ValueError(f"--frames {text!r} is no regular expression: {error}") from error
    if missing := {"video", "frame"} - found.groupindex.keys():
        raise ValueError(f"--frames {text!r} lacks (?P<{min(missing)}>...)")
    return found


def _told(counts: Counter[str]) -> list[str]:
    """A line for each kind, with its forms."""
    lines = []
    for kind in (kind for kind in _KINDS if counts[kind]):
        forms = {name.partition("/")[2]: n for name, n in sorted(counts.items()) if name.startswith(f"{kind}/")}
        listed = ", ".join(f"{count:,} {form}" for form, count in forms.items())
        lines.append(f"{kind}: {counted(counts[kind], 'conversation')}: {listed}")
    if left := counts["pairs without a question"]:
        lines.append(
            f"nothing could be asked of {counted(left, 'conversation')} that {'was' if left == 1 else 'were'} tried"
        )
    return lines


def _spread(conversations: Sequence[Any], number: int) -> list[Any]:
    """Some conversations, evenly over all."""
    places = {round(place * (len(conversations) - 1) / max(number - 1, 1)) for place in range(number)}
    return [conversations[place] for place in sorted(places) if place < len(conversations)]


def _card(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    if "messages" in entry:
        images, said = entry["images"], [(m["role"] == "user", m["content"]) for m in entry["messages"]]
    else:
        images = [entry["image"]] if isinstance(entry["image"], str) else entry["image"]
        said = [(turn["from"] == "human", turn["value"]) for turn in entry["conversations"]]
    shown, turns = iter(images), []
    for asks, text in said:
        marks = text.count("<image>\n")
        # `range` first: the other way round, zip would take one image too many before it stops.
        pictures = [{"name": name, "data": _data(folder / name)} for _, name in zip(range(marks), shown, strict=False)]
        turns.append({"asks": asks, "lines": text.replace("<image>\n", "").split("\n"), "pictures": pictures})
    return {"id": entry["id"], "kind": entry["kind"], "forms": ", ".join(dict.fromkeys(entry["forms"])), "turns": turns}


def _data(path: Path) -> str:
    from PIL import Image

    from relpretrain.pixels import decode

    image = decode(str(path))
    scale = _SIDE / max(image.size)
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
    image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)), kind)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
