"""SPEC (Peng et al., CVPR 2024): size, position, existence and count, from image to text and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relpretrain.zeroshot.analysis.rules import IMAGE, TEXT, Rule
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.grid import GridTask, Puzzle
from relpretrain.zeroshot.tasks.common.rows import cell, read_rows
from relpretrain.zeroshot.tasks.common.source import Record, Source, list_of_texts, select_splits

SIZES = {
    "absolute_size": 1500,
    "relative_size": 1500,
    "absolute_spatial": 4500,
    "relative_spatial": 2000,
    "existence": 1000,
    "count": 4500,
}
FILES = {"i2t": "image2text.json", "t2i": "text2image.json"}

CARD = Card(
    task="spec",
    title="SPEC",
    question="Which text belongs to an image, and which image to a text, that differ in size, position, existence or "
    "count?",
    paper="Peng et al., CVPR 2024, <https://arxiv.org/abs/2312.00081>.",
    licence="no licence file; see the repository",
    files=tuple(f"`{name}/image2text.json`, `{name}/text2image.json` and its images" for name in SIZES),
    source="<https://github.com/wjpoom/SPEC> (its `data.zip` on the Hugging Face hub)",
    images="generated, shipped with the data",
    protocol="spec-1: the best of the keys, ties wrong; mean over the six sets",
    ties="wrong; in the official code the first of the best wins",
    constant="0 %",
    comparable="accuracies by set and their plain mean, from image to text (i2t) and from text to image (t2i)",
    not_comparable="figures over all items, in which the sets with most options weigh most",
    versions=tuple(Version("2024", split, SIZES) for split in FILES),
)


class SPEC(GridTask):
    """Accuracy by set and their mean, a split per direction."""

    card = CARD
    mean = "mean of the sets"
    categories = tuple(SIZES)

    def puzzles(self, source: Source) -> dict[str, list[Puzzle]]:
        """The queries of all sets below DIR/spec."""
        folder = source.folder(self.name)
        splits: dict[str, list[Puzzle]] = {}
        for split, file in FILES.items():
            for name in SIZES:
                for path in sorted(folder.rglob(f"{name}/{file}"))[:1]:
                    home = path.parent.relative_to(folder)
                    read = [_puzzle(split, home, key, row, path) for key, row in read_rows(path, "queries")]
                    splits.setdefault(split, []).extend(read)
        if not splits:
            raise ValueError(f"{folder} holds no set of SPEC: expected folders such as count with image2text.json. "
                             "`relpretrain data fetch spec` says where they come from.")  # fmt: skip
        return select_splits(splits, source.splits)

    def rules_of(self, records: Sequence[Record]) -> tuple[Rule, ...]:
        """A choice among texts, or among images."""
        return (IMAGE,) if records[0].get("direction") == "t2i" else (TEXT,)


def _puzzle(split: str, home: Path, key: str, row: Any, path: Path) -> Puzzle:
    """The puzzle of a row of a set in the folder `home`, by which its images are named."""
    name, where = home.name, f"Query {key} of {path}"
    query, keys = cell(row, ("query",), where), list_of_texts(cell(row, ("keys",), where), f"{where}: 'keys'")
    if not keys:
        raise ValueError(f"{where}: 'keys' is empty.")
    label = cell(row, ("label",), where)
    if not isinstance(label, int) or not 0 <= label < len(keys):
        raise ValueError(f"{where}: 'label' is the number of a key, 0 to {len(keys) - 1}, not {label!r}.")
    if not isinstance(query, str):
        raise ValueError(f"{where}: 'query' must be a text or the path of an image, not {query!r}.")
    ordered = (keys[label], *keys[:label], *keys[label + 1 :])
    texts, images = (ordered, (query,)) if split == "i2t" else ((query,), ordered)
    named = tuple((home.parent if i.startswith(f"{name}/") else home).joinpath(i).as_posix() for i in images)
    return Puzzle(f"{split}/{name}/{key}", texts, named, name, more={"direction": split})
