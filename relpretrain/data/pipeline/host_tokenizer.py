"""The tokenizers of other codebases: BERT's of any kind, and those of CLIP and SigLIP, which have no [SEP]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relpretrain.data.pipeline.text import LONG, NO_WORD, TextEncoder, Tokens, beginnings
from relpretrain.data.pipeline.tokenizer import SPECIAL_TOKENS, find_tokenizer
from relpretrain.reading import mend
from relpretrain.types import IGNORE, Batch, GraphBatch, Pairs, TextBatch

_NO_LIMIT = 1_000_000  # Hugging Face's tokenizers without a limit state an absurd one


def text_encoder(tokenizer: Any, max_tokens: int, separator: bool | None = None) -> TextEncoder:
    """Encode texts as a host does.

    Args:
        tokenizer: A Hugging Face tokenizer, fast or not, the processor around one, or the name or folder of one; one of
            OpenCLIP.
        max_tokens: Limit of a text's length, special tokens included.
        separator: Whether a caption ends with [SEP]; None for what the tokenizer itself does. Without meaning for a
            tokenizer that has no [SEP]: there, texts are what the tokenizer makes of them, and triplets become the
            sentences of one text.

    Raises:
        ValueError: If there is no such tokenizer, or nothing is known of its kind.
    """
    if isinstance(tokenizer, str | Path):
        tokenizer = find_tokenizer(tokenizer)
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # inside OpenCLIP's wrapper, or a processor
    like_bert = all(getattr(inner, name, None) is not None for name in SPECIAL_TOKENS)
    if not like_bert or getattr(tokenizer, "strip_sep_token", False):
        return SentenceEncoder(WholeTokenizer(tokenizer), max_tokens)
    if separator is None:
        separator = not callable(inner) or inner("a")["input_ids"][-1] == inner.sep_token_id
    return TextEncoder(inner if getattr(inner, "is_fast", False) else PlainTokenizer(inner), max_tokens, separator)


class PlainTokenizer:
    """What `TextEncoder` asks of a fast tokenizer, of one of BERT's kind that is not fast.

    Args:
        tokenizer: The host's.

    Raises:
        ValueError: If it has no token that ends a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.cls_token_id = _first(tokenizer, "cls_token_id", "bos_token_id")
        self.sep_token_id = _first(tokenizer, "sep_token_id", "eos_token_id")
        self.pad_token_id = _first(tokenizer, "pad_token_id") or 0
        self.mask_token_id = _first(tokenizer, "mask_token_id")
        self.all_special_ids = list(getattr(tokenizer, "all_special_ids", []))
        if self.sep_token_id is None:
            raise ValueError(
                f"The tokenizer {type(tokenizer).__name__} has no token that ends a text (sep or eos_token_id): "
                "give a Hugging Face or OpenCLIP tokenizer."
            )

    def __len__(self) -> int:
        return len(self.tokenizer)

    def __call__(self, text: str, **options: Any) -> Encoding:
        """Encode a text without special tokens."""
        pieces = self.tokenizer.tokenize(text)
        return Encoding(self.tokenizer.convert_tokens_to_ids(pieces), _words(pieces))


class Encoding(dict[str, list[int]]):
    """Ids of a text, and the word of each."""

    def __init__(self, ids: list[int], words: list[int]) -> None:
        super().__init__(input_ids=ids)
        self.words = words

    def word_ids(self, batch_index: int = 0) -> list[int]:
        """Number of each token's word."""
        return self.words


class WholeTokenizer:
    """A host's tokenizer, called as the host calls it: what it writes around a text, and pads with, is its own.

    Args:
        tokenizer: One of Hugging Face or OpenCLIP, or a processor around one.

    Raises:
        ValueError: If it cannot be called.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not callable(tokenizer):
            raise ValueError(
                f"The tokenizer {type(tokenizer).__name__} has no token that ends a text and cannot be called with "
                "one: give a Hugging Face or OpenCLIP tokenizer."
            )
        inner = getattr(tokenizer, "tokenizer", tokenizer)
        self.fixed = hasattr(tokenizer, "context_length")  # OpenCLIP: rows of ids, always padded
        self.tokenizer = tokenizer if self.fixed else inner
        self.pad_token_id = _first(inner, "pad_token_id") or 0
        self.eos_token_id = _first(inner, "eos_token_id", "eot_token_id")
        self.sep_token_id = self.eos_token_id or 0  # between the triplets of a text, where it is identified
        self.mask_token_id = _first(inner, "mask_token_id")
        self.all_special_ids = list(getattr(inner, "all_special_ids", []))
        self.left = getattr(inner, "padding_side", "right") == "left"
        limit = tokenizer.context_length if self.fixed else getattr(inner, "model_max_length", None)
        self.limit = limit if limit is not None and limit < _NO_LIMIT else None
        self.size = len(inner) if hasattr(inner, "__len__") else int(inner.vocab_size)

    def __len__(self) -> int:
        return self.size

    def encode(self, text: str, limit: int) -> Tokens:
        """A text as the tokenizer writes it, without its padding, cut to a limit by the tokenizer itself."""
        if self.fixed:
            ids = self._real(self.tokenizer([text], context_length=limit)[0].tolist())
        else:
            encoding = self.tokenizer(text, truncation=True, max_length=limit)
            ids = list(encoding["input_ids"])
            if getattr(self.tokenizer, "is_fast", False):
                return Tokens(ids, [NO_WORD if word is None else word for word in encoding.word_ids(0)])
        special = {*self.all_special_ids, self.eos_token_id}
        return Tokens(ids, [NO_WORD if number in special else place for place, number in enumerate(ids)])

    def _real(self, row: list[int]) -> list[int]:
        """A padded row without its padding, of which one token ends the text where the two are the same."""
        row = row[::-1] if self.left else row
        length = len(row)
        while length and row[length - 1] == self.pad_token_id:
            length -= 1
        if self.pad_token_id == self.eos_token_id and not self.left:
            length = min(length + 1, len(row))
        row = row[:length]
        return row[::-1] if self.left else row


class SentenceEncoder(TextEncoder):
    """Texts of a tokenizer without [SEP]: what it writes for each, triplets as the sentences of one text."""

    tokenizer: WholeTokenizer

    def __init__(self, tokenizer: WholeTokenizer, max_tokens: int) -> None:
        limit = max_tokens if tokenizer.limit is None else min(max_tokens, tokenizer.limit)
        super().__init__(tokenizer, limit, separator=True)
        self._length = lru_cache(maxsize=16_384)(self._measure)

    def __reduce__(self) -> tuple[Any, ...]:
        return SentenceEncoder, (self.tokenizer, self.max_tokens)

    @property
    def padding(self) -> Padding:
        """How the tokenizer pads a batch to the limit."""
        return Padding(self.tokenizer.pad_token_id, self.max_tokens, self.tokenizer.left)

    def caption(self, text: str, ending: str = "") -> Tokens:
        """Encode a text as the tokenizer does, cut to the limit; an ending is kept, and words before it are cut."""
        if ending:
            words = text.split(" ")[: self.max_tokens]
            while words and self._measure(f"{' '.join(words)}{ending}") > self.max_tokens:
                words.pop()
            text = f"{' '.join(words)}{ending}"
        ids, numbers = self._tokens(text)
        return Tokens(list(ids), list(numbers))

    def triplets(self, texts: Sequence[str]) -> Tokens:
        """Encode triplets as "s1 r1 o1. s2 r2 o2. ...", in the given order; see `TextEncoder.triplets`."""
        if not self.fits(texts):
            raise ValueError(
                f"{len(texts)} triplets do not fit into {self.max_tokens} tokens: raise max_tokens or verbalise fewer."
            )
        return self.caption(" ".join(f"{text}." for text in texts))

    def triplet_length(self, text: str) -> int:
        """Tokens that a triplet adds to a text, its full stop included, wherever it stands."""
        length: Callable[[str], int] = self._length
        if len(text) > LONG:
            text, length = self._enough(text), self._measure  # not remembered
        first = length(f"{text}.") - self._length("")
        return max(first, length(f"a. {text}.") - self._length("a."))

    def fits(self, texts: Sequence[str]) -> bool:  # type: ignore[override]
        """Whether `triplets` of these texts stays within the limit."""
        return self._length("") + sum(map(self.triplet_length, texts)) <= self.max_tokens

    def _tokens(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._remembered(text) if len(text) <= LONG else self._tokenize(self._enough(text))

    def _enough(self, text: str) -> str:
        """A beginning of a long text that is beyond the limit, too."""
        for beginning in beginnings(text):
            if self._measure(beginning) > self.max_tokens:
                break
        return beginning

    def _tokenize(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        tokens = self.tokenizer.encode(mend(text), self.max_tokens)
        return tuple(tokens.ids), tuple(tokens.words)

    def _measure(self, text: str) -> int:
        """Tokens of a text, or one more than the limit."""
        return len(self.tokenizer.encode(mend(text), self.max_tokens + 1))


@dataclass(frozen=True)
class Padding:
    """Pads the texts of a batch as the host's tokenizer does: some models (SigLIP) attend to padding.

    Args:
        id: The padding token.
        length: Of all texts. Where every text of a batch has it, one more column shows the model what padding is.
        left: Whether padding comes first.
    """

    id: int
    length: int
    left: bool = False

    def __call__(self, batch: Batch) -> Batch:
        """The batch with padded texts."""
        batch = replace(batch, pairs=self._pairs(batch.pairs))
        if batch.foils is not None:
            batch = replace(batch, foils=replace(batch.foils, pairs=self._pairs(batch.foils.pairs)))
        if (units := batch.units) is not None:
            foils = replace(units.foils, pairs=self._pairs(units.foils.pairs))
            batch = replace(batch, units=replace(units, pairs=self._pairs(units.pairs), foils=foils))
        if not isinstance(batch, GraphBatch):
            return batch
        return replace(batch, entities=self._pairs(batch.entities))

    def _pairs(self, pairs: Pairs) -> Pairs:
        return replace(pairs, text=self.text(pairs.text))

    def text(self, text: TextBatch) -> TextBatch:
        """Pad texts (n, any length) that are padded on the right."""
        lengths = text.attention_mask.sum(dim=1, keepdim=True)
        width = max(self.length, int(lengths.max()) if len(lengths) else 0)
        width += bool(len(lengths)) and bool((lengths == width).all())
        place = torch.arange(width)
        mask = place >= width - lengths if self.left else place < lengths

        def padded(rows: Tensor | None, value: int) -> Tensor | None:
            return (
                None
                if rows is None
                else rows.new_full(mask.shape, value).masked_scatter_(mask, rows[text.attention_mask])
            )

        ids = padded(text.input_ids, self.id)
        assert ids is not None
        return TextBatch(ids, mask, padded(text.masked_input_ids, self.id), padded(text.labels, IGNORE)).located()


def _first(tokenizer: Any, *names: str) -> int | None:
    found = (getattr(tokenizer, name, None) for name in names)
    return next((int(number) for number in found if number is not None), None)


def _words(pieces: Sequence[str]) -> list[int]:
    """Word of each WordPiece: "##" goes on with the one before."""
    words: list[int] = []
    for piece in pieces:
        last = words[-1] if words else -1
        words.append(last if piece.startswith("##") and words else last + 1)
    return words
