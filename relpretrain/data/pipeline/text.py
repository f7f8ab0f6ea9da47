"""Texts to token ids: captions, verbalised graphs, and whole words masked for MLM."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch

from relpretrain.identity import number_of_bytes
from relpretrain.reading import mend
from relpretrain.types import IGNORE, TextBatch

MAX_WORDS = 40
"""Of a cleaned text: `max_tokens` of the published zero-shot protocol, which counts words."""

LONG = 1 << 13
"""Characters of a text from which a beginning is tried first: of ten million, forty words are wanted."""

_LONGEST = 1 << 16
"""Characters of a text that are read, whatever it has: spaces alone, or a word without end."""

_WORD = 200
"""Characters in which a word ends, or counts as endless: WordPiece knows none of more than a hundred."""

_SPACE = re.compile(r"\s")

NO_WORD = -1
"""Word number of a special token."""

Masked = tuple[list[int], list[int]]
"""The ids of a text with words masked, and the labels: original ids where masked and -100 elsewhere."""


@dataclass(frozen=True)
class Tokens:
    """A tokenised text.

    Args:
        ids: Token ids.
        words: Number of the word that each token belongs to, -1 for special tokens.
    """

    ids: list[int]
    words: list[int]

    def __len__(self) -> int:
        return len(self.ids)


class TextEncoder:
    """Turns captions and triplets into tokens; remembers recent texts, which small data sets repeat.

    Args:
        tokenizer: A fast tokenizer, see `load_tokenizer`.
        max_tokens: Limit of a text's length, special tokens included.
        separator: Whether a caption ends with [SEP]. The official ALBEF and X-VLM weights were trained without.
        clean: Whether texts are cleaned as these were (`clean_caption`).
    """

    def __init__(self, tokenizer: Any, max_tokens: int, separator: bool = True, clean: bool = False) -> None:
        if max_tokens < 3:
            raise ValueError(f"max_tokens is {max_tokens}, but [CLS], one token and [SEP] need 3.")
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.separator = separator
        self.clean = clean
        self._remembered = lru_cache(maxsize=16_384)(self._tokenize)

    def __reduce__(self) -> tuple[Any, ...]:
        return TextEncoder, (self.tokenizer, self.max_tokens, self.separator, self.clean)

    def caption(self, text: str, ending: str = "") -> Tokens:
        """Encode a text as [CLS] X [SEP] (without [SEP] if so set), cut to the limit.

        Args:
            text: The text.
            ending: What is said after it, and kept whole where the text has to be cut.
        """
        ids, words = self._tokens(text)
        last_ids, last_words = self._tokens(ending) if ending else ((), ())
        room = self.max_tokens - 1 - self.separator
        kept = max(0, room - len(last_ids))
        first = 1 + max(words[:kept], default=NO_WORD)  # number of the ending's first word
        last_words = tuple(w if w == NO_WORD else first + w for w in last_words)
        return self._wrap([*ids[:kept], *last_ids][:room], [*words[:kept], *last_words][:room], self.separator)

    def triplets(self, texts: Sequence[str]) -> Tokens:
        """Encode triplets as [CLS] s1 r1 o1 [SEP] s2 r2 o2 [SEP] ..., in the given order.

        Raises:
            ValueError: If they do not fit the limit; choose as many as `fits` allows.
        """
        ids: list[int] = []
        words: list[int] = []
        first, separator = 0, self._ends[1]
        for text in texts:
            own_ids, own_words = self._tokens(text)
            ids += own_ids
            ids.append(separator)
            words += [w if w == NO_WORD else first + w for w in own_words]
            words.append(NO_WORD)
            first = max(words, default=NO_WORD) + 1
        if len(ids) + 1 > self.max_tokens:
            raise ValueError(
                f"{len(texts)} triplets take {len(ids) + 1} tokens, but the limit is {self.max_tokens}. "
                "Raise max_tokens or verbalise fewer relations."
            )
        return self._wrap(ids, words, separator=False)

    def ids(self, text: str) -> tuple[int, ...]:
        """The token ids of a text, as in `triplets`."""
        return self._tokens(text)[0]

    def triplet_length(self, text: str) -> int:
        """Tokens that a triplet adds to a text, its [SEP] included."""
        return len(self._tokens(text)[0]) + 1

    def fits(self, texts: Iterable[str]) -> bool:
        """Whether `triplets` of these texts stays within the limit."""
        return 1 + sum(map(self.triplet_length, texts)) <= self.max_tokens

    def _wrap(self, ids: list[int], words: list[int], separator: bool) -> Tokens:
        first, last = self._ends
        if separator:
            return Tokens([first, *ids, last], [NO_WORD, *words, NO_WORD])
        return Tokens([first, *ids], [NO_WORD, *words])

    @cached_property
    def _ends(self) -> tuple[int, int]:
        """The ids of [CLS] and [SEP], which Hugging Face's tokenizers look up anew each time."""
        return self.tokenizer.cls_token_id, self.tokenizer.sep_token_id

    def _tokens(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids and words of a text; of one beyond all limits, those of a beginning that is beyond them, too."""
        if len(text) <= LONG:
            return self._remembered(text)
        for beginning in beginnings(clean_caption(text) if self.clean else text):
            ids, words = self._encode(beginning)
            if len(ids) > self.max_tokens and words[self.max_tokens - 1] != words[-1]:  # the last word may be cut
                break
        return ids, words

    def _tokenize(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._encode(clean_caption(text) if self.clean else text)

    def _encode(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        encoding = self.tokenizer(
            mend(text),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        words = (NO_WORD if w is None else w for w in encoding.word_ids(0))
        return tuple(encoding["input_ids"]), tuple(words)


@lru_cache(maxsize=8)
def _masking(tokenizer: Any) -> tuple[int, np.ndarray]:
    """The id of [MASK], and all ids that are not special."""
    return tokenizer.mask_token_id, np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)


def mask_words(tokens: Tokens, fraction: float, rng: np.random.Generator, tokenizer: Any) -> Masked:
    """Mask whole words for MLM.

    Words are taken in random order until they hold about `fraction` of the tokens (special ones aside); a text with a
    word gets at least one masked. Of the tokens chosen 80 % become [MASK], 10 % another token that is not special, and
    10 % stay, each drawn on its own as in BERT's whole-word masking.

    Args:
        tokens: The text.
        fraction: Share of the tokens to mask; 0 masks nothing.
        rng: Where the choices are drawn from.
        tokenizer: Whose [MASK] and vocabulary are used.

    Returns:
        The ids with words masked, and the labels.
    """
    masked, labels = list(tokens.ids), [IGNORE] * len(tokens)
    places: dict[int, list[int]] = {}
    for place, word in enumerate(tokens.words):
        if word != NO_WORD:
            places.setdefault(word, []).append(place)
    if not places or fraction <= 0:
        return masked, labels
    words = list(places.values())
    order = rng.permutation(len(words)).tolist()
    # The random half token on either side makes the share come out right on average, whatever the rounding.
    wanted = fraction * sum(map(len, words)) + rng.random() - 0.5
    chosen = list(words[order[0]])
    for number in order[1:]:
        if len(chosen) + len(words[number]) / 2 > wanted:
            break
        chosen += words[number]
    mask_id, ordinary = _masking(tokenizer)
    for place, action in zip(chosen, rng.random(len(chosen)).tolist(), strict=True):
        labels[place] = tokens.ids[place]
        if action < 0.8:
            masked[place] = mask_id
        elif action < 0.9:
            masked[place] = int(ordinary[rng.integers(len(ordinary))])
    return masked, labels


def collate_texts(tokens: Sequence[Tokens], pad_id: int, masked: Sequence[Masked] | None = None) -> TextBatch:
    """Pad texts on the right to the longest one.

    Args:
        tokens: The n texts.
        pad_id: Id of the padding token.
        masked: What `mask_words` gave for each of them, or None where nothing is masked.
    """
    lengths = torch.tensor([len(t) for t in tokens], dtype=torch.long)
    longest = max(map(len, tokens), default=1)
    ids = _padded([t.ids for t in tokens], longest, pad_id)
    mask = torch.arange(longest) < lengths[:, None]
    if masked is None:
        return TextBatch(ids, mask)
    masked_input_ids = _padded([m[0] for m in masked], longest, pad_id)
    return TextBatch(ids, mask, masked_input_ids, _padded([m[1] for m in masked], longest, IGNORE)).located()


def _padded(rows: Sequence[list[int]], length: int, value: int) -> torch.Tensor:
    padded = [row + [value] * (length - len(row)) for row in rows]
    return torch.from_numpy(np.array(padded, np.int64).reshape(len(rows), length))


def text_identity(text: str) -> int:
    """Give a text a stable 63-bit number; texts that differ only in case or white space share it."""
    return _number(" ".join(text.lower().split()).encode())


def token_identity(ids: Sequence[int]) -> int:
    """Give a text a stable 63-bit number by its token ids, before any is masked: what a model sees of it.

    Texts that cleaning, lower case, the limit of tokens or unknown words make equal share it, and so are no negatives
    of each other.
    """
    return _number(np.asarray(ids, "<i4").tobytes())


def _number(content: bytes) -> int:
    return number_of_bytes(content)


def clean_caption(text: str, max_words: int = MAX_WORDS) -> str:
    """Clean a caption as the official ALBEF and X-VLM code does (its `pre_caption`).

    Lower case, without punctuation, hyphens and slashes as spaces, at most `max_words` words. What has no word left
    becomes an empty string.
    """
    words: list[str] = []
    for beginning in beginnings(text):
        words = _cleaned(beginning).split(" ")
        if len(words) >= max_words:
            break
    return " ".join(words[:max_words])


def _cleaned(text: str) -> str:
    text = re.sub(r"[,.'!?\"()*#:;~]", "", text.lower())
    text = text.replace("-", " ").replace("/", " ").replace("<person>", "person")
    return re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")


def beginnings(text: str) -> Iterator[str]:
    """Longer and longer beginnings of a long text, each of whole words where it has any, up to `_LONGEST` characters.

    A word that is cut is long enough to be no word of WordPiece, as the whole of it is.
    """
    length = LONG
    while length < min(len(text), _LONGEST):
        space = _SPACE.search(text, length, length + _WORD)
        yield text[: space.start() if space else length + _WORD]
        length *= 2
    yield text[:_LONGEST]
