"""`relpretrain data fetch`: where a benchmark's files come from, under which licence; fetches what may be fetched."""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import textwrap
import urllib.request
from collections import Counter
from pathlib import Path

from relpretrain.errors import counted, suggest
from relpretrain.writing import aside, write_text
from relpretrain.zeroshot.results.versions import version_note, version_of_items
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.common.base import PairTask
from relpretrain.zeroshot.tasks.common.rows import read_rows

_PATIENCE = 60  # seconds without an answer
_WIDTH = 110  # characters of a line


def run(args: argparse.Namespace) -> int:
    """Tell, and fetch.

    Raises:
        ValueError: If a task is unknown, or a file cannot be had.
    """
    for name in args.tasks:
        if name not in TASKS:
            raise ValueError(f"Unknown task {name!r}{suggest(name, TASKS)}")
    if not args.tasks and args.unpack is None:
        if args.data is not None:
            raise ValueError("--data needs a TASK whose files are fetched; without one, `data fetch` lists all tasks.")
        print(overview())
    for name in args.tasks:
        print(told(name))
        if args.data is not None:
            print(fetch(name, args.data))
    if args.unpack is not None:
        print(unpack(args.unpack))
    return 0


def overview() -> str:
    """A few words per task: whether its files are fetched, and the licence of its texts and images."""
    width = max(map(len, TASKS))
    lines = []
    for name, task in TASKS.items():
        number = len(task.card.downloads)
        head = f"{name:{width}}  {counted(number, 'file') if number else 'by hand':8}  "
        lines += textwrap.wrap(task.card.licence, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
    lines += ["", "`relpretrain data fetch TASK` says more; with --data DIR it fetches the files counted here."]
    return "\n".join(lines)


def told(name: str) -> str:
    """What to know of a task's files before fetching them."""
    card = TASKS[name].card
    size = f"{counted(len(card.downloads), 'file')} with --data DIR" if card.downloads else "nothing: get it from there"
    said = [("from", card.source), ("licence", card.licence), ("images", card.images)]
    said += [("" if n else "files", file) for n, file in enumerate(card.files)]
    lines = [f"{card.title} ({name})"]
    for what, text in (*said, ("fetched", size)):
        head = f"  {f'{what}:' if what else '':9}"
        wrapper = textwrap.TextWrapper(_WIDTH, head, " " * len(head), break_long_words=False, break_on_hyphens=False)
        lines += wrapper.wrap(text)
    return "\n".join(lines)


def fetch(name: str, data: Path) -> str:
    """Fetch the files of a task that anybody may fetch, and say which version they are.

    Raises:
        ValueError: If one cannot be had.
    """
    card, folder = TASKS[name].card, data / name
    if not card.downloads:
        return f"  nothing of {name} may be fetched without its authors' terms: put its files into {folder}"
    fetched = [path for path, address in card.downloads.items() if _fetch(folder / path, address)]
    left = len(card.downloads) - len(fetched)
    said = [f"  fetched {counted(len(fetched), 'file')} into {folder}" + (f", {left} were there" if left else "")]
    task = TASKS[name]
    if isinstance(task, PairTask):
        try:
            for split, items in task.items(Source(data, allow_missing=True)).items():
                n = sum(task.count([r for item in items for r in item.records]).values())
                version = version_note(task, split, version_of_items(task, split, items), n)
                said.append(f"  {f'{name} {split}'.strip()}: {n:,} items, {version}")
        except ValueError as error:
            said.append(f"  not complete yet: {error}")
    return "\n".join(said)


def _fetch(path: Path, address: str) -> bool:
    """Fetch a file unless it is there; whether it was fetched."""
    if path.is_file():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE) as stream, part.open("wb") as file:
            shutil.copyfileobj(stream, file)
            wanted = stream.headers.get("Content-Length")
        if wanted is not None and part.stat().st_size != int(wanted):
            raise OSError(f"{part.stat().st_size:,} of {int(wanted):,} bytes came")
        if part.stat().st_size == 0 or _is_page(part):
            raise OSError("a web page came, or nothing")
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"{address} cannot be fetched ({error}): put the file into {path} by hand.") from error
    finally:
        part.unlink(missing_ok=True)
    return True


def _is_page(path: Path) -> bool:
    """Whether a file is HTML, as servers send it that ask for a login."""
    with path.open("rb") as file:
        return file.read(64).lstrip().lower().startswith((b"<html", b"<!doctype html"))


def unpack(folder: Path) -> str:
    """Write the images that lie inside Parquet or Arrow files into `images/`, the rows with their names as JSON lines.

    Where some files are of a split called test, the others are left alone.

    Raises:
        ValueError: If there is no Parquet file.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".parquet", ".arrow"))
    files = [path for path in files if "test" in str(path.relative_to(folder))] or files
    if not files:
        raise ValueError(f"{folder} holds no Parquet or Arrow file to unpack.")
    lines, images = [], 0
    stems = Counter(file.stem for file in files)
    for file in files:
        # Configurations of a data set have files of one name in folders of their own.
        parts = file.relative_to(folder).with_suffix("").parts if stems[file.stem] > 1 else (file.stem,)
        for key, row in read_rows(file, "rows"):
            for column, cell in row.items():
                if isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes):
                    ending = Path(cell.get("path") or "").suffix or _ending(cell["bytes"])
                    name = f"{'_'.join(parts)}_{key}_{column}{ending}".replace("/", "_").replace("\\", "_")
                    with aside(folder / "images" / name, durable=False) as image:
                        image.write(cell["bytes"])
                    row[column] = name
                    images += 1
            lines.append(json.dumps(row, default=str))
    out = folder / "test.jsonl"
    write_text(out, "\n".join(lines) + "\n")
    return f"  {out}: {counted(len(lines), 'row')}, {counted(images, 'image')} in {folder / 'images'}"


def _ending(data: bytes) -> str:
    return ".png" if data.startswith(b"\x89PNG") else ".jpg"
