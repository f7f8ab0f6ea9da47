"""Retrieval with long texts: Urban1k, DCI, DOCCI, IIW. Figures depend on how many tokens a model reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from relpretrain.reading import read_json, read_lines
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.rows import cell, find_file, image_cell, read_rows, text_cell
from relpretrain.zeroshot.tasks.common.source import Source
from relpretrain.zeroshot.tasks.retrieval.karpathy import Captions
from relpretrain.zeroshot.tasks.retrieval.retrieval import Retrieval

Read = Callable[[Path], Captions]
"""Reads the text of each image of a folder."""

_IMAGES = ("image", "image/key", "image_file", "image_path", "file_name", "filename")
_TEXTS = ("caption", "description", "IIW", "iiw", "text", "extra_caption")


class LongTexts(Retrieval):
    """Retrieval with one long text per image.

    Args:
        card: What a reader of the figures must know; it names the task.
        read: How its own files are read; rows of images and captions are, for all.
        k_test: Candidates to re-rank; no publication says.
    """

    def __init__(self, card: Card, read: Read, k_test: int = 128) -> None:
        super().__init__(card, k_test)
        self._read = read

    def with_k_test(self, k_test: int) -> LongTexts:
        """The same task with another number of candidates to re-rank."""
        return type(self)(self.card, self._read, k_test)

    def read(self, source: Source) -> dict[str, Captions]:
        """The texts of the images, one split."""
        return {"test": self._read(source.folder(self.name))}

    def missing_files(self, source: Source) -> tuple[str, ...]:
        """A note on texts that are empty."""
        empty = [item.image for items in self.items(source).values() for item in items if "" in item.texts]
        return (f"the text of {', '.join(empty[:3])} is empty, and scored as it stands",) if empty else ()


def _urban(folder: Path) -> Captions:
    """The first line of `caption/<n>.txt`, as the official code takes it, or FLAIR's annotations: one text is empty."""
    files = sorted((path for path in folder.rglob("caption/*.txt")), key=lambda path: (len(path.stem), path.stem))
    if not files:
        return _rows(folder, empty=True)
    captions = {}
    for path in files:
        first = next((line.strip() for line in read_lines(path)), "")
        captions[f"{(path.parent.parent / 'image').relative_to(folder)}/{path.stem}.jpg"] = [first]
    return captions


def _rows(folder: Path, empty: bool = False) -> Captions:
    """Rows of an image and its text, which may be empty where that is how it is published."""
    path = find_file(folder, ("annotations/annotations.json", "annotations.json", "*.json", "*.jsonl", "*.csv"),
                     "an image and its text in each row")  # fmt: skip
    return _captions(read_rows(path, "captions"), path, empty)


def _captions(rows: Any, path: Path, empty: bool = False) -> Captions:
    captions: Captions = {}
    for key, row in rows:
        where = f"Image {key} of {path}"
        image = image_cell(row, _IMAGES, where)
        text = "" if empty and cell(row, _TEXTS, where) == "" else text_cell(row, _TEXTS, where)
        image = image if Path(image).suffix else f"{image}.jpg"
        if image in captions:
            raise ValueError(f"{path} has a second text of the image {image}: one is expected, the whole description.")
        captions[image] = [" ".join(text.split())]
    return captions


def _docci(folder: Path) -> Captions:
    """The rows of the split test of `docci_descriptions.jsonlines`."""
    path = find_file(folder, ("docci_descriptions.jsonlines", "*.jsonlines", "*.jsonl", "*.json"), "the descriptions")
    rows = read_rows(path, "descriptions")
    rows = [(key, row) for key, row in rows if not isinstance(row, dict) or row.get("split", "test") == "test"]
    if not rows:
        raise ValueError(f"{path} holds no description of the split test.")
    return _captions(rows, path)


def _dci(folder: Path) -> Captions:
    """A JSON file per image with `image` and `extra_caption`, of which those without are left out; or rows."""
    files = sorted(folder.glob("annotations/*.json")) + sorted(folder.glob("complete/*.json"))
    if len(files) < 2:
        return _rows(folder)
    states = ((path.stem, read_json(path, "captions")) for path in files)
    kept = [(key, {"image": cell(s, ("image",), key), "caption": s["extra_caption"]}) for key, s in states
            if isinstance(s, dict) and str(s.get("extra_caption") or "").strip()]  # fmt: skip
    if not kept:
        raise ValueError(f"None of the {len(files)} annotations in {folder} has an 'extra_caption'.")
    return _captions(kept, folder)


def _card(task: str, title: str, files: tuple[str, ...], versions: tuple[Version, ...] = (), **rest: Any) -> Card:
    return Card(
        task=task,
        title=title,
        question="Which long text belongs to an image, and which image to a long text?",
        files=files,
        protocol=f"{task}-1: R@k among all texts and images, a tied right one ranks last among its equals",
        ties="the right one ranks last among its equals; shown is how many queries that decided",
        constant="0 %, as soon as there are more than 10 wrong candidates",
        comparable="R@1 both ways (TR@1, IR@1) of models that read as many tokens: the report says how many texts "
        "reach the "
        "limit, and equal beginnings tie",
        not_comparable="figures at another context length: CLIP reads 77 tokens, most published rows 248 or more; "
        "figures of "
        "1,000-image selections of the same data",
        versions=versions,
        **rest,
    )


URBAN1K = _card(
    "urban1k",
    "Urban1k retrieval",
    (
        "`caption/<n>.txt`, of which the first line is taken, and `image/<n>.jpg`; or FLAIR's "
        "`annotations/annotations.json`, in which the text of `592.jpg` is empty",
    ),
    (Version("2024", "test", {"images": 1000, "captions": 1000}),),
    paper="Zhang et al. (Long-CLIP), ECCV 2024, <https://arxiv.org/abs/2403.15378>.",
    licence="none stated; images of Visual Genome",
    source="<https://huggingface.co/datasets/BeichenZhang/Urban1k>",
    images="Visual Genome, shipped with the data",
)
DCI = _card(
    "dci",
    "DCI retrieval",
    (
        "`annotations/*.json`, one per image, of which those with an `extra_caption` are taken; or rows of image and "
        "caption",
    ),
    paper="Urbanek et al., CVPR 2024, <https://arxiv.org/abs/2312.08578>.",
    licence="CC BY-NC 4.0; images SA-1B's own licence",
    source="<https://github.com/facebookresearch/DCI>; images in `sa_000138.tar` of SA-1B",
    images="SA-1B",
)
DOCCI = _card(
    "docci",
    "DOCCI retrieval",
    ("`docci_descriptions.jsonlines`, of which the split test is taken", "`images/`"),
    (Version("2024", "test", {"images": 5000, "captions": 5000}),),
    paper="Onoe et al., ECCV 2024, <https://arxiv.org/abs/2404.19753>.",
    licence="CC BY 4.0",
    source="<https://google.github.io/docci/>",
    images="photos of the authors, one archive of 7.6 GB",
    downloads={
        "docci_descriptions.jsonlines": "https://storage.googleapis.com/docci/data/docci_descriptions.jsonlines"
    },
)
IIW = _card(
    "iiw",
    "IIW retrieval",
    ("rows of an image and its description (`image`, `IIW` or `caption`), JSON, JSON lines or CSV",),
    paper="Garg et al., EMNLP 2024, <https://arxiv.org/abs/2405.02793>.",
    licence="CC BY 4.0; images under their sources' terms",
    source="<https://github.com/google/imageinwords>",
    images="DOCCI, DCI and the authors' 400 photos, by the file",
)

LONG_TEXTS = (LongTexts(URBAN1K, _urban), LongTexts(DCI, _dci), LongTexts(DOCCI, _docci), LongTexts(IIW, _rows))
