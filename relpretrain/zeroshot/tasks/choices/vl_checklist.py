"""VL-CheckList (Zhao et al., EMNLP 2022): does a text with an object, attribute or relation score above a false one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relpretrain.reading import read_json
from relpretrain.zeroshot.analysis.rules import TEXT
from relpretrain.zeroshot.analysis.table import Part, Table, make_macro_row
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.grid import Grid, GridTask, Puzzle, clusters
from relpretrain.zeroshot.tasks.common.source import Record, Source, list_of_texts, select_splits

FIRST = 1000
"""Items of each corpus that the official sample configuration takes."""

_SIZES = {
    "relation/vg_spatial": (30650, "1ffc442c1ecf6564"),
    "relation/vg_action": (12733, "cfb171318af7a4b8"),
    "relation/swig_action": (25150, "bd8def99313a7485"),
    "attribute/vg_action": (1892, "daa14a2066f3f1e2"),
    "attribute/vg_color": (11569, "c59360aa79f11e39"),
    "attribute/vg_material": (2470, "5fb9a0db76374fb9"),
    "attribute/vg_size": (2695, "5c800c0c2204bc7e"),
    "attribute/vg_state": (941, "704a7c94cc9298fd"),
    "attribute/vaw_action": (3039, "dc9873411a2b4e75"),
    "attribute/vaw_material": (11835, "3924385f322359ee"),
    "attribute/vaw_size": (15321, "9fa965eab144f215"),
    "attribute/vaw_state": (4939, "40e2820d8d4bdbc1"),
}
_TYPES = ("object", "attribute", "relation")

CARD = Card(
    task="vl_checklist",
    title="VL-CheckList",
    question="Does a text with an object, attribute or relation of the image score above a false one?",
    paper="Zhao et al., EMNLP 2022 demo, <https://arxiv.org/abs/2207.00221>.",
    licence="paper CC BY 4.0, no licence file; images under the terms of Visual Genome, SWiG and HAKE",
    files=(
        "the folders `Object`, `Attribute`, `Relation` with their JSON files; or `vg_spatial.json`, `vg_action.json`, "
        "`swig_action.json` alone, which are taken for relations",
    ),
    source="the folder `data` of <https://github.com/om-ai-lab/VL-CheckList>",
    images="Visual Genome (`VG_100K`, `VG_100K_2`), SWiG, HAKE",
    protocol="vl_checklist-1: p(POS) > p(NEG) of the first text of each, ties wrong, a split per corpus",
    ties="wrong; items whose two texts are the same are counted, and can only be wrong",
    constant="0 %",
    comparable='two figures have the same name: over all items, and over the first 1,000 of each corpus ("first '
    '1,000"), '
    "which the official sample configuration takes; papers rarely say which",
    not_comparable="the official `itm` figures, which decide at 0.5; means over corpora that papers choose "
    "differently; "
    "here the mean of the corpora that were scored stands beside them, by type",
    versions=tuple(Version("6f8d6a3", name, {"": n}, found) for name, (n, found) in _SIZES.items()),
)


class VLCheckList(GridTask):
    """Pairwise accuracy over all items and over the first 1,000, a split per corpus."""

    card = CARD
    rules = (TEXT,)
    shape = (2, 1)

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """The items of each JSON file below DIR/vl_checklist."""
        folder = source.folder(self.name)
        files = {name: path for path in sorted(folder.rglob("*.json")) if (name := corpus(path.relative_to(folder)))}
        if not files:
            raise ValueError(f"{folder} holds no corpus of VL-CheckList: expected Relation/vg/spatial.json or the "
            "like. "
                             "`relpretrain data fetch vl_checklist` says where they come from.")  # fmt: skip
        chosen = select_splits({name: [path] for name, path in files.items()}, source.splits)
        splits = {name: _puzzles(name, path) for name, (path,) in chosen.items()}
        return {name: puzzles for name, puzzles in splits.items() if puzzles}  # three published files are empty lists

    @staticmethod
    def split_of(records: Sequence[Record]) -> str:
        """The corpus."""
        return str(records[0]["corpus"])

    def remarks(self, records: Sequence[Record], grids: Sequence[Grid]) -> tuple[str, ...]:
        """How many items have two equal texts."""
        equal = sum(bool(grid.record.get("equal")) for grid in grids)
        return (f"{equal} of {len(grids):,} items have two equal texts, and are wrong whatever a model says",)

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """All items, and the first 1,000."""
        main = replace(super().tables(records, split)[0], split=split or str(records[0].get("corpus", "")))
        grids = [grid for grid in self.grids(records) if _number(grid.key) < FIRST]
        rows = tuple(self.by_category(TEXT, grids, clusters(grids, records), [], named=False))
        note = "the convention of the official sample configuration (MAX_NUM 2000: half of it)"
        return main, Table(self.name, f"{main.split} first 1,000", self.protocol, rows, (note,))

    def across(self, parts: Mapping[str, Sequence[Record]]) -> tuple[Table, ...]:
        """The plain means of the corpora, by type and over all, both ways."""
        tables = []
        for title, limit in (("means", None), ("means first 1,000", FIRST)):
            found: dict[str, list[Part]] = {}
            for split, records in parts.items():
                grids = [g for g in self.grids(records) if limit is None or _number(g.key) < limit]
                found.setdefault(split.partition("/")[0], []).append((self.answers(TEXT, grids).correct,
                                                                      clusters(grids, records)))  # fmt: skip
            kinds = [(f"{name}: mean of {len(found[name])} corpora", found[name]) for name in _TYPES if name in found]
            rows = [make_macro_row(f"mean of {len(parts)} corpora", [p for some in found.values() for p in some])]
            rows += [make_macro_row(name, some) for name, some in kinds]
            tables.append(Table(self.name, title, self.protocol, tuple(rows), ("of the corpora that were scored",)))
        return tuple(tables)


def corpus(path: Path) -> str:
    """The name of a corpus: "relation/vg_spatial" of Relation/vg/spatial.json and vg_spatial.json; "" if none."""
    parts = list(path.with_suffix("").parts)
    kind = next((part.lower() for part in parts[:-1] if part.lower() in _TYPES), "")
    below = parts[[part.lower() for part in parts].index(kind) + 1 :] if kind else parts[-1:]
    name = "_".join(below) if len(below) < 3 else below[-1]
    if not kind:
        kind = "relation" if f"relation/{name}" in _SIZES else ""
    return f"{kind}/{name}" if kind else ""


def _puzzles(split: str, path: Path) -> list[Puzzle]:
    rows = read_json(path, "items")
    if not isinstance(rows, list):
        raise ValueError(f"{path} holds no items: expected a list of [image, {{POS, NEG}}].")
    return [_puzzle(split, n, row, f"VL-CheckList item {n} of {path}") for n, row in enumerate(rows)]


def _puzzle(split: str, number: int, row: Any, where: str) -> Puzzle:
    if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict)):
        raise ValueError(f"{where} must be [image, {{POS, NEG}}], not {str(row)[:80]!r}.")
    texts = []
    for name in ("POS", "NEG"):
        listed = list_of_texts(row[1].get(name), f"{where}: {name!r}")
        if not listed or not listed[0].strip():
            raise ValueError(f"{where}: {name!r} holds no text.")
        texts.append(listed[0])
    more = {"corpus": split} | ({"equal": True} if texts[0] == texts[1] else {})
    return Puzzle(f"{split}/{number}", tuple(texts), (row[0],), more=more)


def _number(key: str) -> int:
    return int(str(key).rpartition("/")[2])
