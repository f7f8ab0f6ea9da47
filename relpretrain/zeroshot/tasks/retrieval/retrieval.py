"""Retrieval on COCO and Flickr30K: which captions belong to an image, and which image to a caption?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relpretrain.zeroshot.analysis.table import Row, Table, make_macro_row, make_share_row
from relpretrain.zeroshot.tasks.common.base import Item, Outcome, PairTask, show
from relpretrain.zeroshot.tasks.common.card import Card, Version
from relpretrain.zeroshot.tasks.common.source import Record, Source, refuse_twice, require, select_splits
from relpretrain.zeroshot.tasks.retrieval.karpathy import Captions, image_lists, read_captions, read_listed

if TYPE_CHECKING:
    from relpretrain.types import PairScorer
    from relpretrain.zeroshot.tasks.retrieval.ranking import Ranks

RECALLS = (1, 5, 10)
"""The k of R@k."""

_DIRECTIONS = {"TR": "text", "IR": "image"}  # what is looked for


@dataclass(frozen=True)
class _Photos(Sequence[Any]):
    """Images that are read on access."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: Any) -> Any:
        return show(self.paths[number])


class Retrieval(PairTask):
    """Recall among the first k: of at least one caption of an image (TR@k), and of a caption's image (IR@k).

    Candidates are ranked by cosine. Where a scorer also looks at image and text together, the best `k_test` are ranked
    again by its match logit, and that is the headline; the cosines' own figures stand in a second table.

    Args:
        card: What a reader of the figures must know; it names the task.
        k_test: Candidates to re-rank; officially 256 on COCO and 128 on Flickr30K.
    """

    several = True

    def __init__(self, card: Card, k_test: int) -> None:
        self.name = card.task
        self.card = card
        self.protocol = card.protocol
        self.k_test = k_test

    def with_k_test(self, k_test: int) -> Retrieval:
        """The same task with another number of candidates to re-rank."""
        return type(self)(self.card, k_test)

    def items(self, source: Source) -> dict[str, list[Item]]:
        """The images with their captions, by split (see `karpathy.read_captions`)."""
        if source.is_item_file:
            splits = {"items": read_listed(source.listed_items(self.name), str(source.path))}
        else:
            splits = self.read(source)
        return select_splits({name: _items(self.name, listed) for name, listed in splits.items()}, source.splits)

    def read(self, source: Source) -> dict[str, Captions]:
        """The captions of the images by split."""
        return read_captions(source.folder(self.name))

    def images(self, source: Source) -> dict[str, list[str]]:
        """The images by split; lists of images are enough, without captions."""
        lists = {} if source.is_item_file else image_lists(source.folder(self.name))
        return {split: list(images.values()) for split, images in lists.items()} or super().images(source)

    def score(self, scorer: PairScorer, items: Sequence[Item], done: list[Record] | None = None) -> list[Record]:
        """Ranks, a line for each caption: that of its image for it, and that of the best caption of its image.

        There is no rank before all are scored, so that nothing is `done` early.
        """
        from relpretrain.zeroshot.scorers import EmbeddingScorer
        from relpretrain.zeroshot.tasks.common.shares import texts_at_limit
        from relpretrain.zeroshot.tasks.retrieval.ranking import Ranks, retrieve

        if not isinstance(scorer, EmbeddingScorer):
            raise ValueError(f"Task {self.name!r} ranks by embeddings, which {type(scorer).__name__} does not have.")
        texts = [text for item in items for text in item.texts]
        owner = [number for number, item in enumerate(items) for _ in item.texts]
        found = retrieve(scorer, _Photos([item.image for item in items]), texts, owner, self.k_test)
        columns: dict[str, list[int]] = {}
        for prefix, to_texts, to_images in (("cosine_", *found[:2]), ("", *found[2:4])):
            if to_texts is not None and to_images is not None:
                columns |= _columns(f"{prefix}text", Ranks(*(values[owner] for values in to_texts)))
                columns |= _columns(f"{prefix}image", to_images)
        if found.reranked_texts is not None:
            columns["k_test"] = [self.k_test] * len(texts)
        records = [record for item in items for record in item.records]
        long = texts_at_limit(scorer)
        ends = [{"at_limit": True} if text in long else {} for text in texts]
        return [r | {k: values[i] for k, values in columns.items()} | ends[i] for i, r in enumerate(records)]

    def outcomes(self, records: Sequence[Record]) -> dict[Any, Outcome]:
        """Whether the right one was among the first k, by (recall, image) or (recall, image, caption)."""
        prefix = self._prefixes(records)[0]
        found: dict[Any, Outcome] = {}
        for name, direction, k in _recalls():
            for record in records:
                caption = () if direction == "text" else (record["caption"],)
                key = (name, record["id"], *caption)
                found.setdefault(key, Outcome(name, _within(record[f"{prefix}{direction}_rank"], k)))
        return found

    def summarise(self, records: Sequence[Record], split: str = "") -> Table:
        """The headline: with re-ranking, if that was done."""
        return self.tables(records, split)[0]

    def tables(self, records: Sequence[Record], split: str = "") -> tuple[Table, ...]:
        """Recalls and their mean with re-ranking, if that was done, and by cosines alone."""
        tables: list[Table] = []
        for prefix in self._prefixes(records):
            way = "by cosines" if prefix else f"the best {records[0]['k_test']} by cosine re-ranked by match logit"
            title = " ".join(filter(None, (split, "without re-ranking" if prefix and tables else "")))
            rows = (_mean_recall(records, prefix), *_rows(records, prefix))
            tables.append(Table(self.name, title, f"{self.protocol}; {way}", rows))
        return tuple(tables)

    def count(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Number of images and of captions."""
        return {"images": len({record["id"] for record in records}), "captions": len(records)}

    def _prefixes(self, records: Sequence[Record]) -> tuple[str, ...]:
        """Beginnings of the names of the ranks that records hold, the headline's first."""
        ranks = ("cosine_text_rank", "cosine_text_tied", "cosine_image_rank", "cosine_image_tied")
        for record in records:
            require(record, ("id", "caption", *ranks), f"A {self.card.title} record")
        refuse_twice([(record["id"], record["caption"]) for record in records], f"{self.card.title} caption")
        return ("", "cosine_") if all("k_test" in record for record in records) else ("cosine_",)


def _items(task: str, captions: Captions) -> list[Item]:
    items = []
    for number, (image, texts) in enumerate(captions.items()):
        shared = {"task": task, "id": number, "image": image}
        records = tuple({"label": f"{number}_{i}"} | shared | {"caption": i} for i in range(len(texts)))
        items.append(Item(image, tuple(texts), records))
    return items


def _columns(prefix: str, ranks: Ranks) -> dict[str, list[int]]:
    return {f"{prefix}_rank": ranks.rank.tolist(), f"{prefix}_tied": ranks.tied.tolist()}


def _recalls() -> list[tuple[str, str, int]]:
    """Name, what is looked for, and k of each recall."""
    return [(f"{name}@{k}", direction, k) for name, direction in _DIRECTIONS.items() for k in RECALLS]


def _within(rank: int, k: int) -> bool:
    return 0 < rank <= k


def _queries(records: Sequence[Record], direction: str) -> Sequence[Record]:
    """A record per query: the captions themselves look for images; the first caption of an image stands for it."""
    return list({r["id"]: r for r in reversed(records)}.values()) if direction == "text" else records


def _rows(records: Sequence[Record], prefix: str) -> list[Row]:
    """A row for each recall; captions of one image are a cluster."""
    rows = []
    for name, direction, k in _recalls():
        asked = _queries(records, direction)
        ranks, tied = ([r[f"{prefix}{direction}_{what}"] for r in asked] for what in ("rank", "tied"))
        found = [_within(rank, k) for rank in ranks]
        # A tie matters where the right one would be found if it went first among its equals.
        ties = sum(rank > k >= rank - equal > 0 for rank, equal in zip(ranks, tied, strict=True))
        missed = {} if prefix else {"missed": sum(rank == 0 for rank in ranks) / len(ranks)}
        rows.append(make_share_row(name, found, [r["id"] for r in asked], ties=ties, **missed))
    return rows


def _mean_recall(records: Sequence[Record], prefix: str) -> Row:
    """The mean of the six recalls, of which an image has some with its captions."""
    parts = []
    for _, direction, k in _recalls():
        asked = _queries(records, direction)
        parts.append(([_within(r[f"{prefix}{direction}_rank"], k) for r in asked], [r["id"] for r in asked]))
    images = len(_queries(records, "text"))
    return replace(make_macro_row("r_mean", parts), n=images, correct=0)


def _card(task: str, title: str, files: tuple[str, ...], versions: tuple[Version, ...], **rest: Any) -> Card:
    return Card(
        task=task,
        title=title,
        question="Which captions belong to an image, and which image to a caption?",
        files=files,
        protocol="retrieval-1: R@k, a tied right one ranks last among its equals, missed if not re-ranked",
        ties="the right one ranks last among its equals; shown is how many queries that decided",
        constant="0 %, as soon as there are more than 10 wrong candidates",
        versions=versions,
        **rest,
    )


_SPLITS = "https://cs.stanford.edu/people/karpathy/deepimagesent/"
_NOT_COMPARABLE = (
    "figures of fine-tuned models, of 1,000-image folds, of other text lengths (ALBEF 30 tokens, X-VLM 40: "
    "`--max-tokens`), and of official code where scores tie: its order among equals is arbitrary"
)

COCO = _card(
    "coco_retrieval",
    "COCO retrieval",
    (
        "`coco_test.json`, `coco_val.json` of ALBEF and BLIP; or Karpathy's `dataset_coco.json`; or COCO's "
        "`captions_*.json` with `karpathy_test_images.txt`, `karpathy_val_images.txt`",
    ),
    (
        Version("Karpathy", "test", {"images": 5000, "captions": 25010}),
        Version("Karpathy", "val", {"images": 5000, "captions": 25010}),
    ),
    paper="Lin et al., ECCV 2014; split of Karpathy and Fei-Fei, CVPR 2015, <https://arxiv.org/abs/1412.2306>.",
    licence="captions CC BY 4.0; photos under the licences of their Flickr users",
    source=_SPLITS,
    images="COCO val2014",
    comparable="zero-shot TR@k and IR@k on the 5,000 test images, re-ranked with `--k-test 256`, the default",
    not_comparable=_NOT_COMPARABLE,
)

FLICKR30K = _card(
    "flickr30k_retrieval",
    "Flickr30K retrieval",
    ("`flickr30k_test.json`, `flickr30k_val.json` of ALBEF and BLIP; or Karpathy's `dataset_flickr30k.json`",),
    (
        Version("Karpathy", "test", {"images": 1000, "captions": 5000}),
        Version("Karpathy", "val", {"images": 1014, "captions": 5070}),
    ),
    paper="Young et al., TACL 2014; split of Karpathy and Fei-Fei, CVPR 2015, <https://arxiv.org/abs/1412.2306>.",
    licence="research only; photos under the licences of their Flickr users",
    source=_SPLITS,
    images="Flickr30K",
    comparable="zero-shot TR@k and IR@k on the 1,000 test images, re-ranked with `--k-test 128`, the default",
    not_comparable=_NOT_COMPARABLE,
)
