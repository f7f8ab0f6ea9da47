"""`relpretrain data fetch`: where a benchmark's files come from, under which licence; fetches what may be fetched."""

from __future__ import annotations

import argparse
import json
import shutil
import urllib.request
from pathlib import Path

from relpretrain.errors import counted, suggest
from relpretrain.writing import aside, write_text
from relpretrain.zeroshot.results.versions import version_note, version_of_items
from relpretrain.zeroshot.tasks import TASKS, Source
from relpretrain.zeroshot.tasks.common.base import PairTask
from relpretrain.zeroshot.tasks.common.rows import read_rows

_PATIENCE = 60  # seconds without an answer


def run(args: argparse.Namespace) -> int:
    """Tell, and fetch.

    Raises:
        ValueError: If a task is unknown, or a file cannot be had.
    """
    for name in args.tasks:
        if name not in TASKS:
            raise ValueError(f"Unknown task {name!r}{suggest(name, TASKS)}")
    for name in args.tasks:
        print(told(name))
        if args.data is not None:
            print(fetch(name, args.data))
    if args.unpack is not None:
        print(unpack(args.unpack))
    return 0


def told(name: str) -> str:
    """What to know of a task's files before fetching them."""
    card = TASKS[name].card
    lines = [
        f"{card.title} ({name})",
        f"  from:    {card.source}",
        f"  licence: {card.licence}",
        f"  images:  {card.images}",
        *(f"  {'files:  ' if not n else '        '} {file}" for n, file in enumerate(card.files)),
    ]
    size = f"{counted(len(card.downloads), 'file')} with --data DIR" if card.downloads else "nothing: get it from there"
    return "\n".join([*lines, f"  fetched: {size}"])


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
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ValueError(f"{address} cannot be fetched ({error}): put the file into {path} by hand.") from error
    return True


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
    for file in files:
        for key, row in read_rows(file, "rows"):
            for column, cell in row.items():
                if isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes):
                    ending = Path(cell.get("path") or "").suffix or _ending(cell["bytes"])
                    name = f"{file.stem}_{key}_{column}{ending}".replace("/", "_").replace("\\", "_")
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
