"""The tokenizers of other codebases: BERT's of any kind, and those of CLIP and SigLIP, which have no [SEP]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relpretrain.data.text import NO_WORD, SPECIAL_TOKENS, TextEncoder, Tokens, load_tokenizer


def text_encoder(tokenizer: Any, max_tokens: int, separator: bool = True) -> TextEncoder:
    """Encode texts as a host does.

    Args:
        tokenizer: A Hugging Face tokenizer, fast or not, or the name or folder of one; one of OpenCLIP.
        max_tokens: Limit of a text's length, special tokens included.
        separator: Whether a caption ends with [SEP]. Without meaning for a tokenizer that has no [SEP]: there, texts
            have the tokenizer's own begin and end, and triplets become the sentences of one text.

    Raises:
        ValueError: If there is no such tokenizer, or nothing is known of its kind.
    """
    if isinstance(tokenizer, str | Path):
        tokenizer = load_tokenizer(tokenizer)
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # OpenCLIP's wrapper around Hugging Face's
    like_bert = all(getattr(tokenizer, name, None) is not None for name in SPECIAL_TOKENS)
    if like_bert and getattr(tokenizer, "is_fast", False):
        return TextEncoder(tokenizer, max_tokens, separator)
    plain = PlainTokenizer(tokenizer)
    return TextEncoder(plain, max_tokens, separator) if like_bert else SentenceEncoder(plain, max_tokens)


class PlainTokenizer:
    """What `TextEncoder` asks of a fast tokenizer, of one that is not fast or has no masked words.

    Args:
        tokenizer: The host's.

    Raises:
        ValueError: If it has no token that ends a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.cls_token_id = _first(tokenizer, "cls_token_id", "bos_token_id", "sot_token_id")
        self.sep_token_id = _first(tokenizer, "sep_token_id", "eos_token_id", "eot_token_id")
        self.pad_token_id = _first(tokenizer, "pad_token_id") or 0
        self.mask_token_id = _first(tokenizer, "mask_token_id")
        self.all_special_ids = list(getattr(tokenizer, "all_special_ids", []))
        if self.sep_token_id is None:
            raise ValueError(
                f"The tokenizer {type(tokenizer).__name__} has no token that ends a text (sep, eos or eot_token_id): "
                "give a Hugging Face or OpenCLIP tokenizer."
            )

    def __len__(self) -> int:
        return len(self.tokenizer) if hasattr(self.tokenizer, "__len__") else int(self.tokenizer.vocab_size)

    def __call__(self, text: str, **options: Any) -> Encoding:
        """Encode a text without special tokens."""
        if hasattr(self.tokenizer, "tokenize"):
            pieces = self.tokenizer.tokenize(text)
            return Encoding(self.tokenizer.convert_tokens_to_ids(pieces), _words(pieces))
        ids = self.tokenizer.encode(text)
        return Encoding(list(ids), list(range(len(ids))))


class Encoding(dict[str, list[int]]):
    """Ids of a text, and the word of each."""

    def __init__(self, ids: list[int], words: list[int]) -> None:
        super().__init__(input_ids=ids)
        self.words = words

    def word_ids(self, batch_index: int = 0) -> list[int]:
        """Number of each token's word."""
        return self.words


class SentenceEncoder(TextEncoder):
    """Texts of a tokenizer without [SEP]: `begin X end`, triplets as the sentences of one text."""

    def __init__(self, tokenizer: PlainTokenizer, max_tokens: int) -> None:
        super().__init__(tokenizer, max_tokens, separator=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return SentenceEncoder, (self.tokenizer, self.max_tokens)

    def triplets(self, texts: Sequence[str]) -> Tokens:
        """Encode triplets as "s1 r1 o1. s2 r2 o2. ...", in the given order; see `TextEncoder.triplets`."""
        if not self.fits(texts):
            raise ValueError(
                f"{len(texts)} triplets do not fit into {self.max_tokens} tokens: raise max_tokens or verbalise fewer."
            )
        return self.caption(" ".join(f"{text}." for text in texts))

    def triplet_length(self, text: str) -> int:
        """Tokens that a triplet adds to a text, its full stop included."""
        return len(self._tokens(f"{text}.")[0])

    def fits(self, texts: Sequence[str]) -> bool:  # type: ignore[override]
        """Whether `triplets` of these texts stays within the limit."""
        return 2 + sum(map(self.triplet_length, texts)) <= self.max_tokens

    def _wrap(self, ids: list[int], words: list[int], separator: bool) -> Tokens:
        begin = [] if self.tokenizer.cls_token_id is None else [self.tokenizer.cls_token_id]
        around = [NO_WORD for _ in begin]
        return Tokens([*begin, *ids, self.tokenizer.sep_token_id], [*around, *words, NO_WORD])


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
