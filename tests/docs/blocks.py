"""The code blocks of a page, and what runs them as a reader would."""

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relpretrain.cli import lightning_main, main

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced block: its language, its text, and the comment on the line before it ("" without one)."""

    language: str
    text: str
    note: str

    @property
    def left_out(self) -> str:
        """Why it is not run; "" for one that is."""
        return self.note.removeprefix("not run: ") if self.note.startswith("not run: ") else ""


def blocks(page: Path) -> list[Block]:
    """All blocks of a page."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["language"], m["text"], m["note"] or "") for m in found]


def commands(text: str) -> Iterator[list[str]]:
    """Words of each command of a shell block; comments are left out, and lines that go on are joined."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


class Reader:
    """Types a page along in a folder of its own.

    Args:
        folder: The working directory; the caller has changed to it.
        additions: Further arguments that make a command small, by the words that it begins with.
        replaced: What stands in the place of a text of the page, such as a name that would be downloaded.
    """

    def __init__(self, folder: Path, additions: Mapping[str, Sequence[str]], replaced: Mapping[str, str]) -> None:
        self.folder, self.additions, self.replaced = folder, additions, replaced
        self.names: dict[str, Any] = {}
        self.printed = ""

    def read(self, page: Path) -> None:
        """Run all blocks in their order; what an output block shows must have been printed by the one before it."""
        for block in blocks(page):
            text = block.text
            for old, new in self.replaced.items():
                text = text.replace(old, new)
            if block.left_out:
                continue
            if block.note.startswith("file: "):
                (self.folder / block.note.removeprefix("file: ")).write_text(text)
            elif block.note == "output":
                assert text.strip() in self.printed
            elif block.language in ("bash", "python"):
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    if block.language == "python":
                        exec(compile(text, str(page), "exec"), self.names)
                    else:
                        for words in commands(text):
                            self.run(words)
                self.printed = printed.getvalue()

    def run(self, words: Sequence[str]) -> None:
        """Run a command in this process."""
        line = " ".join(words)
        words = [*words, *(word for start, more in self.additions.items() if line.startswith(start) for word in more)]
        if words[:2] == ["python", "-m"]:
            code = importlib.import_module(f"{words[2]}.__main__").main(words[3:])
        else:
            assert words[0] in ("relpretrain", "lightning"), f"no test can run {line!r}"
            code = (main if words[0] == "relpretrain" else lightning_main)(words[1:])
        assert not code, f"{line} ended with {code}"
