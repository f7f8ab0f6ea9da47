"""Tokenizers: loaded of a folder, a vocabulary or the hub, and small ones written."""

from __future__ import annotations

import os
import ssl
import string
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import BertWordPieceTokenizer
from tokenizers import Tokenizer as BackendTokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from relpretrain.distributed import is_first_process
from relpretrain.reading import read_lines
from relpretrain.showing import say

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def load_tokenizer(name_or_folder: str | Path) -> Any:
    """Load a fast tokenizer that has [CLS], [SEP], [MASK] and [PAD] tokens.

    Args:
        name_or_folder: A name on the Hugging Face hub, such as "bert-base-uncased", or a folder. In a folder with
            nothing but a `vocab.txt` it is read as an uncased WordPiece vocabulary.

    Raises:
        ValueError: If there is no such tokenizer, the hub cannot be reached, or the tokenizer lacks what is needed.
    """
    tokenizer = find_tokenizer(name_or_folder)
    missing = [token for name, token in SPECIAL_TOKENS.items() if getattr(tokenizer, name) is None]
    if not tokenizer.is_fast or missing:
        what = f"has no token for {', '.join(missing)}" if missing else "has no fast version"
        raise ValueError(f"The tokenizer {str(name_or_folder)!r} {what}. Use one of BERT's kind.")
    return tokenizer


def find_tokenizer(name_or_folder: str | Path) -> Any:
    """Load a tokenizer of any kind; see `load_tokenizer`.

    Raises:
        ValueError: If there is none, or the hub cannot be reached.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return _from_folder(folder)
    if _is_path(str(name_or_folder)):
        raise ValueError(
            f"There is no tokenizer folder {str(name_or_folder)!r}. Give a folder with tokenizer.json or vocab.txt "
            "(generated shards come with one in tokenizer/), or a hub name such as 'bert-base-uncased'."
        )
    return _from_hub(str(name_or_folder))


def _is_path(name: str) -> bool:
    """Whether something that does not exist was meant as a path, so that the hub need not be asked."""
    parent = Path(name).parent
    return name.startswith((".", "/", "~", "\\")) or name.count("/") > 1 or (parent != Path(".") and parent.is_dir())


def _from_folder(folder: Path) -> Any:
    if not (folder / "tokenizer.json").is_file() and (folder / "vocab.txt").is_file():
        configured = (folder / "tokenizer_config.json").is_file() or (folder / "config.json").is_file()
        if not configured:
            return _from_vocabulary(folder / "vocab.txt")
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"The folder {str(folder)!r} holds no tokenizer that can be read ({_first_line(error)}). "
            "It should hold tokenizer.json (with tokenizer_config.json) or vocab.txt."
        ) from error


def _from_vocabulary(path: Path) -> Any:
    lines = [line.rstrip() for line in read_lines(path)]
    missing = [token for token in SPECIAL_TOKENS.values() if token not in lines]
    if missing:
        raise ValueError(f"The vocabulary {str(path)!r} lacks {', '.join(missing)}. Add a line for each.")
    backend = BertWordPieceTokenizer({token: number for number, token in enumerate(lines)}, lowercase=True)
    return rebuild_tokenizer(backend.to_str(), SPECIAL_TOKENS)


def rebuild_tokenizer(backend: str, special_tokens: dict[str, str]) -> Any:
    """Make a fast tokenizer of its JSON string and its special tokens by name."""
    return PreTrainedTokenizerFast(tokenizer_object=BackendTokenizer.from_str(backend), **special_tokens)


def _from_hub(name: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(
            name, local_files_only=True, trust_remote_code=False
        )  # what was downloaded before
    except (OSError, ValueError, KeyError):
        pass
    remedy = "Give the name of a tokenizer on the hub, or a folder with tokenizer.json or vocab.txt."
    if not hub_is_reachable():
        raise ValueError(
            f"The tokenizer {name!r} is neither a folder nor in the local cache, and huggingface.co cannot be reached. "
            "Give a folder with tokenizer.json or vocab.txt, or download the tokenizer beforehand."
        )
    say_download("tokenizer", name)
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"The tokenizer {name!r} cannot be loaded ({_first_line(error)}). {remedy}") from error


def hub_is_reachable() -> bool:
    """Ask the hub once: its own client takes most of a minute to give up."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    request = urllib.request.Request(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False


def say_download(what: str, name: str) -> None:
    """Say once, for all processes, what is fetched from the hub: it may take minutes."""
    if is_first_process():
        say(f"Downloading the {what} {name!r} from {os.environ.get('HF_ENDPOINT', 'huggingface.co')}.", error=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def write_wordpiece(words: Iterable[str], folder: str | Path) -> Path:
    """Write a small uncased WordPiece tokenizer that `load_tokenizer` reads.

    Besides the words it holds single letters, digits and punctuation, so that no English text is unknown to it.

    Args:
        words: Its words; texts of several words are split at white space.
        folder: Where to write its `vocab.txt`; made if absent.

    Returns:
        The folder.
    """
    letters = string.ascii_lowercase + string.digits
    whole = sorted({word for text in words for word in text.lower().split()})
    vocabulary = [*SPECIAL_TOKENS.values(), *string.punctuation, *letters, *(f"##{c}" for c in letters), *whole]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)) + "\n", encoding="utf-8")
    return folder
