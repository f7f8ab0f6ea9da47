"""Random hostile inputs for every reader: only documented errors may come out.

`python -m tests.fuzz 100000` runs so many inputs in all and prints how they ended; `tests/test_fuzz.py` runs a few.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from relpretrain.checkpoints import described
from relpretrain.data.pipeline.stages import parse, read_graph
from relpretrain.data.pipeline.text import TextEncoder
from relpretrain.data.pipeline.tokenizer import load_tokenizer, write_wordpiece
from relpretrain.data.shards import row_index
from relpretrain.data.shards.row_index import RawSample, ShardIndex, tables_of
from relpretrain.errors import BadSample, CheckpointError
from relpretrain.objectives.base import Objective
from relpretrain.scene_graph import Box, FlipRefused, GraphError, SceneGraph, verbalise
from relpretrain.scene_graph.mirror import mirror_relation
from relpretrain.scene_graph.parse import build_parser
from relpretrain.scene_graph.parse.graph_text import read_graph_text
from relpretrain.scene_graph.parse.placing import place_in
from relpretrain.sources.common.files import json_items, json_lines
from relpretrain.sources.common.tables import table_rows
from relpretrain.zeroshot.analysis.table import Row, Table
from relpretrain.zeroshot.command import main as zeroshot
from relpretrain.zeroshot.report.terminal import Report, read_report
from relpretrain.zeroshot.results.items import ItemResult, disagreements, read_items, write_items
from relpretrain.zeroshot.results.leaderboard import add_to_leaderboard, read_leaderboard, to_tables
from tests.data.small import write_shards

Random = np.random.Generator

_SCORES: list[dict[str, Any]] = [
    {"label": 1, "relation": "on", "score": 0.5, "image": "x.jpg"},
    {"instrument": "plurals", "type": "caption", "label": 1, "score": 0.5, "item": "a"},
    {"label": "1_c0_i0", "score": 0.5, "tag": "Object", "secondary_tag": "", "collapsed_tag": "Object"},
    {"task": "sugarcrepe", "category": "add_obj", "item": "1", "type": "caption", "score": 0.5, "label": 1},
    {"task": "predcls", "image": "1", "rank": 1, "free_rank": 1, "relation": "on", "triplets": 1},
    {"probe": "direction", "label": 1, "score": 0.5, "item": "1", "relation": "on", "image": "x"},
]

_WORDS = ["left", "right", "of", "the", "LEFT", "dog", "", " ", "\u2028", "\ud83d", "\x00", "\x1b[31m", "[/x]", "é"]
_TEXT = (
    "A man's two red-ish cats sitting on top side next to is are which his it them and , . ; of with by in a an held "
    "holding group very İ ﬁ ½ 3.5 -- \u2019s 's ' \" \u202e \u0627\u0644 \U0001f600\U0001f3fd 猫 \u0301"
)
_CAPTION = [*_WORDS, *_TEXT.split()]
_ODD: list[Any] = [
    None, True, -1, 0, 1e308, -0.0, math.nan, math.inf, 10**400, 1 << 63, "", "1", "\ud83d", [], {}, [[]], [None],
    {"label": 1}, "x" * 5000, b"bytes", (1, 2),
]  # fmt: skip
_KEYS = ["captions", "caption", "entities", "relations", "image_id", "key", "width", "height", "source", "x"]

_SHARES = {"scores": 0.05}
"""Of the inputs, where a reader takes its time: that one runs the whole command."""


def text(rng: Random) -> str:
    """A few words that readers may stumble over."""
    return "".join(_WORDS[i] + " " * int(rng.integers(2)) for i in rng.integers(len(_WORDS), size=rng.integers(1, 9)))


def caption(rng: Random) -> str:
    """Words of captions between marks, halves of characters, emoji and signs of right-to-left scripts, in any order."""
    return "".join(
        _CAPTION[i] + " " * int(rng.integers(2)) for i in rng.integers(len(_CAPTION), size=rng.integers(0, 30))
    )


def value(rng: Random, depth: int = 0) -> Any:
    """Anything that JSON, or Python's reading of it, can hold."""
    kind = rng.integers(6 if depth < 3 else 3)
    if kind == 0:
        return _ODD[rng.integers(len(_ODD))]
    if kind == 1:
        return text(rng)
    if kind == 2:
        return float(rng.normal(0, 100)) if rng.integers(2) else int(rng.integers(-3, 60))
    if kind == 3:
        return [value(rng, depth + 1) for _ in range(rng.integers(5))]
    return {_KEYS[rng.integers(len(_KEYS))]: value(rng, depth + 1) for _ in range(rng.integers(4))}


def record(rng: Random) -> dict[str, Any]:
    """A record of the sample format, a part of which is often something else."""

    def maybe(sound: Any) -> Any:
        return value(rng) if rng.random() < 0.02 else sound

    def entity() -> Any:
        x, y, w, h = rng.integers(0, 50, 4).tolist()
        box = maybe([maybe(x), maybe(y), maybe(min(x + w + 1, 100)), maybe(min(y + h + 1, 100))])
        return maybe({"label": maybe(text(rng)), "box": box, "attributes": maybe([maybe(text(rng))])})

    number = int(rng.integers(5))
    relations = [
        maybe({"subject": maybe(int(rng.integers(number + 1))), "relation": maybe(text(rng)), "object": maybe(0)})
        for _ in range(rng.integers(4))
    ]
    return {
        "image_id": maybe("1"), "width": maybe(100), "height": maybe(100), "captions": maybe([maybe(text(rng))]),
        "entities": maybe([entity() for _ in range(number)]), "relations": maybe(relations),
    }  # fmt: skip


def as_bytes(content: Any, rng: Random) -> bytes:
    """Its JSON, of which some bytes are sometimes others."""
    data = bytearray(json.dumps(content, default=str, ensure_ascii=bool(rng.integers(2))).encode("utf-8", "replace"))
    if rng.random() < 0.2 and data:
        for place in rng.integers(len(data), size=rng.integers(1, 4)).tolist():
            data[place] = rng.integers(256)
        data = data[: int(rng.integers(1, len(data) + 1))] if rng.random() < 0.3 else data
    return bytes(data)


class Targets:
    """The readers, each with the errors that it documents.

    Args:
        folder: For files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        empty = folder / "empty.tar"
        empty.write_bytes(b"\0" * 10240)
        self.parser = build_parser("lexicon")
        self.index = ShardIndex.of(str(empty))
        words = load_tokenizer(write_wordpiece(["a", "red", "cat"], folder / "words"))
        self.encoders = [TextEncoder(words, 12), TextEncoder(words, 40, clean=True)]
        write_shards(folder / "shards", 3, 3)
        self.shard = folder / "shards" / "s-000000.tar"
        ShardIndex.of(str(self.shard))
        rows = (Row("overall", 2, 1, 0.1, 0.9), Row("on", 2, 1, 0.1, 0.9))
        self.sound = Report((Table("vsr", "s", "vsr-1", rows),), (), {"a": "b"}).to_json()
        self.table = tables_of(self.shard)[0].read_bytes()
        self.all: dict[str, tuple[Callable[[Random], object], tuple[type[Exception], ...]]] = {
            "record": (self._record, (BadSample,)),
            "graph": (self._graph, (GraphError,)),
            "mirror": (lambda rng: mirror_relation(text(rng)), (FlipRefused,)),
            "tar": (self._tar, (ValueError, OSError)),
            "table": (self._table, (ValueError,)),
            "json lines": (self._json_lines, (ValueError,)),
            "json items": (self._json_items, (ValueError,)),
            "descriptor": (self._descriptor, (CheckpointError, TypeError, ValueError)),
            "tokens": (self._tokens, ()),
            "caption": (self._caption, ()),
            "graph text": (lambda rng: place_in(caption(rng), read_graph_text("(" + caption(rng) + ")"), 0.5), ()),
            "row table": (self._row_table, (OSError,)),
            "scores": (self._scores, (ValueError,)),
            "items": (self._items, (ValueError,)),
            "leaderboard": (self._leaderboard, (ValueError,)),
            "report": (self._report, (ValueError,)),
        }

    def run(self, name: str, rng: Random) -> str:
        """Run one input; returns how it ended.

        Raises:
            Exception: What the reader does not document.
        """
        target, documented = self.all[name]
        try:
            target(rng)
        except documented as error:
            json.dumps(str(error))  # can be shown
            return type(error).__name__
        return "read"

    def _record(self, rng: Random) -> None:
        txt = None if rng.integers(2) else as_bytes(text(rng), rng)
        content = parse(RawSample("key", b"", as_bytes(record(rng), rng), txt), "data", self.index)
        assert all(caption.encode() for caption in content.captions)  # no lone surrogate goes on
        read_graph(content, 100, 100)

    def _graph(self, rng: Random) -> None:
        graph = SceneGraph.from_json(record(rng), 100, 100)
        for text_ in verbalise(graph, 3, rng):
            assert text_.strip()
        cropped, _ = graph.crop(Box(10, 10, 80, 90))
        SceneGraph.from_json(graph.to_json(), 100, 100)
        for one in (graph, cropped.resize(0.5, 2.0)):
            try:
                one.flip(100)
            except FlipRefused:
                continue

    def _tar(self, rng: Random) -> None:
        buffer = io.BytesIO()
        form = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)[rng.integers(3)]
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for _ in range(rng.integers(1, 5)):
                name = ["a", "b/c", "../d", "x" * 150, "é", "a.b"][rng.integers(6)]
                info = tarfile.TarInfo(f"{name}.{['jpg', 'json', 'txt', 'JPG', 'cls'][rng.integers(5)]}")
                data = as_bytes(record(rng), rng)
                info.size = len(data)
                info.type = tarfile.REGTYPE if rng.random() < 0.9 else (b"1", b"2", b"3", b"5", b"6")[rng.integers(5)]
                tar.addfile(info, io.BytesIO(data))
        shard = bytearray(buffer.getvalue())
        for place in rng.integers(min(len(shard), 2048), size=rng.integers(4)).tolist():
            shard[place] = rng.integers(256)
        path = self.folder / "fuzzed.tar"
        path.write_bytes(shard[: int(rng.integers(1, len(shard) + 1))] if rng.random() < 0.3 else shard)
        for sidecar in self.folder.glob(".fuzzed*"):
            sidecar.unlink()
        index = ShardIndex.of(str(path))
        for row in range(len(index)):
            index.read(row)

    def _file(self, rng: Random, name: str, lines: int) -> Path:
        path = self.folder / name
        path.write_bytes(b"\n".join(as_bytes(record(rng), rng) for _ in range(lines)))
        return path

    def _table(self, rng: Random) -> None:
        delimiter = "\t" if rng.integers(2) else ","
        rows = [delimiter.join(text(rng) for _ in range(rng.integers(1, 4))) for _ in range(rng.integers(5))]
        path = self.folder / "table.csv"
        data = bytearray("\n".join([delimiter.join(("image", "caption")), *rows]).encode("utf-8", "replace"))
        for place in rng.integers(len(data), size=rng.integers(4)).tolist():
            data[place] = (0x22, 0x0A, 0x0D, 0x00, 0xFF)[rng.integers(5)]
        path.write_bytes(data)
        dropped: Counter[str] = Counter()
        list(table_rows(path, "captions", dropped, columns=["image"], delimiter=delimiter))

    def _json_lines(self, rng: Random) -> None:
        list(json_lines(self._file(rng, "lines.jsonl", 3), "records"))

    def _json_items(self, rng: Random) -> None:
        path = self.folder / "items.json"
        path.write_bytes(as_bytes([record(rng) for _ in range(3)], rng))
        list(json_items(path, "records", "item"))

    def _descriptor(self, rng: Random) -> None:
        names = [
            "MRC",
            "__main__.main",
            "os.system",
            "relpretrain.__main__.main",
            "relpretrain.objectives.MRC",
            text(rng),
        ]
        path = names[rng.integers(len(names))] if rng.random() < 0.8 else value(rng)
        described.build({"class_path": path, "init_args": value(rng)}, Objective)

    def _tokens(self, rng: Random) -> None:
        encoder = self.encoders[rng.integers(2)]
        long = text(rng) * int(rng.integers(1, 4000))
        tokens = encoder.caption(long)
        assert len(tokens.ids) == len(tokens.words) <= encoder.max_tokens
        encoder.fits([long, text(rng)])

    def _caption(self, rng: Random) -> None:
        said = caption(rng)
        (parsed,) = self.parser.parse([said])
        for place in [e.span for e in parsed.entities] + [r.span for r in parsed.relations]:
            assert place is None or said[slice(*place)].strip()

    def _row_table(self, rng: Random) -> None:
        table = bytearray(self.table)
        for place in rng.integers(len(table), size=rng.integers(1, 5)).tolist():
            table[place] = rng.integers(256)
        path = tables_of(self.shard)[0]
        path.unlink(missing_ok=True)  # else what is mapped would change
        row_index._mapped.cache_clear()
        path.write_bytes(table[: int(rng.integers(1, len(table) + 1))] if rng.random() < 0.2 else table)
        index = ShardIndex.of(str(self.shard))
        for row in range(len(index)):
            assert index.keys[row].isprintable() or index.keys[row]
            index.read(row)

    def _scores(self, rng: Random) -> None:
        lines = [_SCORES[rng.integers(len(_SCORES))]] * 2 if rng.random() < 0.9 else [{}, {}]
        path = self.folder / "scores.jsonl"
        written = [
            {**line, "id": number, **({name: value(rng)} if rng.random() < 0.3 else {})}
            for number, line in enumerate(lines)
            for name in [[*line, "id", "task"][rng.integers(len(line) + 2)]]
        ]
        path.write_bytes(b"\n".join(as_bytes(line, rng) for line in written))
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = zeroshot(["--scores", str(path), "--out", str(self.folder / "out")], "relpretrain zeroshot")
        if code:
            raise ValueError(said.getvalue())

    def _items(self, rng: Random) -> None:
        odd = [text(rng).replace("\ud83d", "x").replace("\0", "\ufffd") for _ in range(6)]
        results = [ItemResult("vsr", *odd[:4], tuple(odd[:2]), tuple(odd[2:4]), (0.5,), True, odd[4])] * 2
        path = self.folder / "items.csv"
        write_items(path, results)
        assert read_items(path) == results
        path.write_bytes(changed(path.read_bytes(), rng))
        disagreements(read_items(path), results)

    def _leaderboard(self, rng: Random) -> None:
        path = self.folder / "board.csv"
        head = "model,task,split,category,protocol,version,n,value,low,high,source"
        cells = ["5", "50", "", "nan", "1e999", "-1", "=1", "1" * 5000, "\u0663", "0x1"]
        often = 2 if rng.random() < 0.8 else len(cells)
        rows = [
            ",".join(
                [
                    "m",
                    "vsr",
                    "s",
                    "overall",
                    "vsr-1",
                    text(rng).replace(",", ""),
                    *(cells[i] for i in rng.integers(often, size=4)),
                ]
            )
            for _ in range(3)
        ]
        path.write_bytes(changed("\n".join([head, *rows]).encode("utf-8", "replace"), rng))
        to_tables(read_leaderboard(path))
        add_to_leaderboard(path, read_leaderboard(path))

    def _report(self, rng: Random) -> None:
        state = json.loads(self.sound)
        table = state["tables"][0]
        row = table["rows"][0]
        for part in (row, table):
            if rng.random() < 0.4:
                part[[*part][rng.integers(len(part))]] = value(rng)
        path = self.folder / "zero_shot.json"
        path.write_bytes(as_bytes(state, rng))
        report = read_report(path)
        report.to_markdown()


def changed(content: bytes, rng: Random) -> bytes:
    """Bytes of which some are sometimes others."""
    data = bytearray(content)
    for place in rng.integers(len(data), size=rng.integers(3)).tolist():
        data[place] = rng.integers(256)
    return bytes(data)


def run(number: int, seed: int = 0) -> dict[str, Counter[str]]:
    """Run so many inputs, shared out among the readers; returns how they ended, by reader."""
    ends: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        targets = Targets(Path(folder))
        for name in targets.all:
            ends[name] = Counter()
            for i in range(int(number * _SHARES.get(name, 1) / sum(_SHARES.get(other, 1) for other in targets.all))):
                try:
                    ends[name][targets.run(name, np.random.default_rng([seed, i]))] += 1
                except Exception as error:
                    raise AssertionError(f"{name}, seed {[seed, i]}: {type(error).__name__}: {error!s:.200}") from error
    return ends


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int, nargs="?", default=100_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name, ends in run(args.number, args.seed).items():
        print(f"{name}: {sum(ends.values()):,} inputs, " + ", ".join(f"{n:,} {end}" for end, n in ends.most_common()))


if __name__ == "__main__":
    main()
