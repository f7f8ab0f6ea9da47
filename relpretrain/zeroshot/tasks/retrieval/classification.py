"""Zero-shot classification as of ImageNet: which class name, put into templates, is nearest to an image?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relpretrain.reading import read_json, read_lines
from relpretrain.sources.common.folders import files_below
from relpretrain.zeroshot.analysis.table import Table, make_macro_row, make_share_row
from relpretrain.zeroshot.tasks.common.base import Item, Outcome, PairTask, show
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.source import (
    Record,
    Source,
    refuse_twice,
    require,
    require_numbers,
    select_splits,
)

if TYPE_CHECKING:
    from torch import Tensor

    from relpretrain.types import PairScorer

TEMPLATES = ("a photo of a {}.",)
"""What is used where a folder names no templates."""

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")

CARD = Card(
    task="classification",
    title="Zero-shot classification",
    question="Which class name, put into templates, is nearest to the image? The guard against forgetting.",
    paper="Radford et al., ICML 2021, <https://arxiv.org/abs/2103.00020>; ImageNet: Russakovsky et al., IJCV 2015.",
    licence="of the data set, such as ImageNet's (research, after registration)",
    files=(
        "a folder per data set, such as `imagenet/`, with `classes.txt` (a name a line) or `classes.json` (a list, or "
        "the "
        "name of each folder)",
        "`templates.txt` or `templates.json`, each with `{}` for the name; without, `a photo of a {}.` alone",
        "`images/<class folder>/...`, the folders in the order of their names, or as `classes.json` names them",
    ),
    source="the data set's own site; class names and templates of CLIP's repository, <https://github.com/openai/CLIP> "
    "(`notebooks/Prompt_Engineering_for_ImageNet.ipynb`)",
    images="of the data set",
    protocol="classification-1: cosine with the mean of a class's unit vectors over the templates, scaled to length "
    "1; a "
    "tied right class ranks last among its equals",
    ties="the right class ranks last among its equals; shown is how many images that decided",
    constant="0 %, as soon as there are more than 5 classes (top-1: more than 1)",
    comparable="top-1 with the same class names and templates, whose number the table says",
    not_comparable="figures with other names or templates: CLIP's 80 templates are worth several points on ImageNet; "
    "figures of models by their matching head, which are not computed here",
    versions=(Version("ILSVRC 2012 validation", "imagenet", {"": 50000}),),
)


@dataclass(frozen=True)
class _Classes:
    """What a data set asks.

    Args:
        names: The classes.
        templates: Texts with {} for the name.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...]


class Classification(PairTask):
    """Top-1, top-5 and the mean over the classes, a split per data set."""

    name = "classification"
    card = CARD
    protocol = CARD.protocol
    several = True

    def items(self, source: Source) -> dict[str, list[Item]]:
        """An item per image, with the prompts of all classes: one tuple that the items of a data set share."""
        if source.is_item_file:
            raise ValueError(f"Task {self.name!r} reads a folder per data set; {source.path} is a file.")
        root = source.folder(self.name)
        folders = [path for path in sorted(root.iterdir()) if path.is_dir() and _lists(path, "classes")]
        folders = [root] if not folders and _lists(root, "classes") else folders
        if not folders:
            raise ValueError(f"{root} holds no data set: expected a folder such as imagenet with classes.txt, "
                             "templates.txt and images/<class>/.")  # fmt: skip
        return select_splits({folder.name: _items(folder, root) for folder in folders}, source.splits)

    def score(self, scorer: PairScorer, items: Sequence[Item], done: list[Record] | None = None) -> list[Record]:
        """The rank of each image's class, and the best one."""
        import torch.nn.functional as F

        from relpretrain.zeroshot.analysis.decisions import require_finite
        from relpretrain.zeroshot.scorers import EmbeddingScorer
        from relpretrain.zeroshot.scorers.memory import fitting
        from relpretrain.zeroshot.tasks.common.shares import embed_texts, spread
        from relpretrain.zeroshot.tasks.retrieval.ranking import CHUNK

        if not isinstance(scorer, EmbeddingScorer):
            raise ValueError(f"Task {self.name!r} ranks by embeddings, which {type(scorer).__name__} does not have.")
        classes = int(items[0].records[0]["classes"])
        vectors = embed_texts(scorer, items[0].texts)  # class by class, template by template
        means = F.normalize(vectors.reshape(classes, -1, vectors.shape[1]).mean(dim=1), dim=-1)

        def classify(some: Sequence[Item]) -> list[Record]:
            features = fitting(scorer, partial(scorer.encode_images, [show(item.image) for item in some]))
            images = scorer.embed_images(features).cpu().double()
            require_finite(images.flatten(), "image embeddings")
            return _ranked(some, (images @ means.T).float())

        return spread([items[start : start + CHUNK] for start in range(0, len(items), CHUNK)], classify, done)

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether the class was among the first 1 and 5, by (figure, image)."""
        found = {}
        for k in (1, 5):
            for record in self._checked(records):
                found[f"top-{k}", record["id"]] = Outcome(f"top-{k}", record["rank"] <= k)
        return found

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """Top-1, top-5, and the mean of top-1 over the classes."""
        first = self._checked(records)[0]
        rows = []
        for k in (1, 5):
            ties = sum(r["rank"] > k >= r["rank"] - r["tied"] for r in records)
            right = [r["rank"] <= k for r in records]
            rows.append(make_share_row(f"top-{k}", right, ties=ties, chance=min(1.0, k / first["classes"])))
        by_class: dict[int, list[bool]] = {}
        for record in records:
            by_class.setdefault(record["class"], []).append(record["rank"] == 1)
        rows.append(make_macro_row("mean over classes", [(right, None) for right in by_class.values()]))
        note = f"{first['classes']:,} classes, {first['templates']} templates a class"
        return Table(self.name, split or str(first["set"]), self.protocol, tuple(rows), (note,))

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of images."""
        return {"": len({record["id"] for record in records})}

    @staticmethod
    def _checked(records: Sequence[Record]) -> Sequence[Record]:
        for record in records:
            require(record, ("id", "set", "templates"), "A classification record")
            require_numbers(record, ("class", "classes", "rank", "tied"), "A classification record")
        refuse_twice([record["id"] for record in records], "Image of a classification")
        return records


def _ranked(items: Sequence[Item], cosines: Tensor) -> list[Record]:
    """The lines of images with these cosines, (images, classes)."""
    import torch

    from relpretrain.zeroshot.tasks.retrieval.ranking import best_right

    truth = torch.tensor([item.records[0]["class"] for item in items])
    ranks = best_right(cosines, torch.arange(cosines.shape[1]) == truth[:, None])
    rows = zip(items, ranks.rank.tolist(), ranks.tied.tolist(), cosines.argmax(dim=1).tolist(), strict=True)
    return [item.records[0] | {"rank": rank, "tied": tied, "best": best} for item, rank, tied, best in rows]


def _lists(folder: Path, what: str) -> Path | None:
    return next((path for end in (".json", ".txt") if (path := folder / f"{what}{end}").is_file()), None)


def _items(folder: Path, root: Path) -> list[Item]:
    """An item per image; all share the tuple of prompts, class by class."""
    places = _places(folder)
    classes = _read_classes(folder, places)
    prompts = tuple(template.replace("{}", name) for name in classes.names for template in classes.templates)
    items = []
    for label, place in enumerate(places):
        for path in sorted(p for p in files_below(place) if p.suffix.lower() in _ENDINGS):
            name = str(path.relative_to(root))
            shared = {"task": "classification", "set": folder.name, "id": name, "class": label}
            numbers = {"classes": len(classes.names), "templates": len(classes.templates)}
            items.append(Item(name, prompts, ({"label": name} | shared | numbers,)))
    if not items:
        raise ValueError(f"{folder / 'images'} holds no images: expected images/<class>/<name>.jpg.")
    return items


def _places(folder: Path) -> list[Path]:
    home = next((path for name in ("images", "val", "test") if (path := folder / name).is_dir()), None)
    if home is None:
        raise ValueError(f"{folder} holds no folder images with a folder per class.")
    places = sorted(path for path in home.iterdir() if path.is_dir())
    return sorted(places, key=lambda p: int(p.name)) if all(p.name.isdecimal() for p in places) else places


def _read_classes(folder: Path, places: Sequence[Path]) -> _Classes:
    path = _lists(folder, "classes")
    assert path is not None
    names = _listed(path)
    if isinstance(names, dict):
        if lost := [place.name for place in places if place.name not in names]:
            raise ValueError(f"{path} names no class for {len(lost)} of {len(places)} folders, first {lost[0]}.")
        names = [names[place.name] for place in places]
    if len(names) != len(places) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(
            f"{path} must hold a name for each of the {len(places)} folders of images; it has {len(names)}."
        )
    found = _lists(folder, "templates")
    templates = tuple(_listed(found)) if found else TEMPLATES
    if not templates or not all(isinstance(text, str) and "{}" in text for text in templates):
        raise ValueError(f"{found} must hold texts with {{}} for the name of the class.")
    return _Classes(tuple(names), templates)


def _listed(path: Path) -> Any:
    """The list, or the object, of a file."""
    if path.suffix == ".txt":
        return [line.strip() for line in read_lines(path) if line.strip()]
    state = read_json(path, path.stem)
    if not isinstance(state, list | dict):
        raise ValueError(f"{path} must be a list or an object.")
    return state
