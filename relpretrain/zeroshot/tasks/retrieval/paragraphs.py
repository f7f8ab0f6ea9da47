"""Stanford Paragraphs (Krause et al., CVPR 2017): which paragraph belongs to an image, and which image to it?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from relpretrain.reading import read_json
from relpretrain.zeroshot.tasks.common.base import Item
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.source import Source, require, require_texts
from relpretrain.zeroshot.tasks.retrieval.karpathy import SPLITS, Captions
from relpretrain.zeroshot.tasks.retrieval.retrieval import Retrieval

CARD = Card(
    task="paragraphs",
    title="Stanford Paragraphs retrieval",
    question="Which paragraph belongs to an image, and which image to a paragraph?",
    paper="Krause et al., CVPR 2017, <https://arxiv.org/abs/1611.06607>.",
    licence="CC BY 4.0, as Visual Genome",
    files=("`paragraphs_v1.json`", "`test_split.json`, `val_split.json`"),
    source="<https://cs.stanford.edu/people/ranjaykrishna/im2p/index.html>",
    images="Visual Genome (`VG_100K`, `VG_100K_2`)",
    protocol="paragraphs-1: R@k, the first paragraph of an image, a tied right one ranks last among its equals",
    ties="the right one ranks last among its equals; shown is how many queries that decided",
    constant="0 %, as soon as there are more than 10 wrong candidates",
    comparable="TR@k and IR@k on the test images with the same text length, which the report states",
    not_comparable="other text lengths (`--max-tokens`), which cut the paragraphs: the lengths and the numbers of "
    "re-ranked candidates behind published figures are not stated",
    versions=(
        Version("v1", "test", {"images": 2489, "captions": 2489}),
        Version("v1", "val", {"images": 2487, "captions": 2487}),
    ),
)


class Paragraphs(Retrieval):
    """Retrieval among paragraphs, one per image; later paragraphs of an image are left out.

    Args:
        card: What a reader of the figures must know.
        k_test: Candidates to re-rank. The paper does not say how many it takes, nor whether it does.
    """

    def __init__(self, card: Card = CARD, k_test: int = 128) -> None:
        super().__init__(card, k_test)

    def read(self, source: Source) -> dict[str, Captions]:
        """The first paragraph of each image of the splits that have a list of ids."""
        folder = source.folder(self.name)
        paragraphs = _paragraphs(folder)
        splits: dict[str, Captions] = {}
        for split in SPLITS:
            path = folder / f"{split}_split.json"
            if not path.is_file():
                continue
            listed = read_json(path, "annotations")
            if not isinstance(listed, list) or not all(isinstance(i, int | str) for i in listed):
                raise ValueError(f"{path} is not a list of image ids.")
            ids = list(dict.fromkeys(listed))
            lost = [i for i in ids if i not in paragraphs]
            if lost:
                raise ValueError(
                    f"{len(lost)} of the {len(ids)} images of {path} have no paragraph (first: {lost[0]})."
                )
            splits[split] = {paragraphs[i][0][0]: [paragraphs[i][0][1]] for i in ids}
        if not splits:
            raise ValueError(f"{folder} holds no list of images ({', '.join(f'{s}_split.json' for s in SPLITS)}).")
        return splits

    def locate(self, items: Sequence[Item], source: Source) -> tuple[list[Item], tuple[str, ...]]:
        """Find the images, and say how many paragraphs are left out."""
        found, notes = super().locate(items, source)
        if source.is_item_file:
            return found, notes
        names = {item.image for item in items}
        further = sum(len(p) - 1 for p in _paragraphs(source.folder(self.name)).values() if p[0][0] in names)
        return found, (*notes, f"further paragraphs of an image left out: {further}")


def _paragraphs(folder: Path) -> dict[int | str, list[tuple[str, str]]]:
    """(File name of the image, paragraph) by id, in the order of the file.

    Names are those in the addresses: some ids differ from them.
    """
    path = folder / "paragraphs_v1.json"
    if not path.is_file():
        raise ValueError(f"There is no {path}, which holds the paragraphs.")
    paragraphs: dict[int | str, list[tuple[str, str]]] = {}
    records = read_json(path, "annotations")
    if not isinstance(records, list):
        raise ValueError(f"{path} is not a list of paragraphs.")
    for number, record in enumerate(records):
        require(record, ("image_id", "url", "paragraph"), f"Paragraph {number} of {path}")
        require_texts(record, ("url", "paragraph"), f"Paragraph {number} of {path}")
        if not isinstance(record["image_id"], int | str):
            raise ValueError(f"Paragraph {number} of {path}: 'image_id' is a number, not {record['image_id']!r:.80}.")
        name = "/".join(urlsplit(record["url"]).path.split("/")[-2:])
        paragraphs.setdefault(record["image_id"], []).append((name, " ".join(record["paragraph"].split())))
    return paragraphs
