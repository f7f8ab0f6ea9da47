"""The patches in docs/patches are taken by `git apply`, and say what docs/existing_codebases.md says."""

import re
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "existing_codebases.md").read_text()
SECTIONS = {
    "albef": "ALBEF",
    "lavis": "LAVIS",
    "openclip": "OpenCLIP",
    "torchmultimodal": "torchmultimodal",
    "xvlm": "X-VLM",
}
HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@.*$", re.MULTILINE)


def files(patch):
    """By path: what a patch says of a file, as (line of the old file, rows) of each hunk."""
    for part in re.split(r"^diff --git ", patch, flags=re.MULTILINE)[1:]:
        path = re.search(r"^--- a/(.+)$", part, re.MULTILINE)[1]
        pieces = HUNK.split(part)[1:]
        yield path, [(int(line), rows.splitlines()[1:]) for line, rows in zip(pieces[::2], pieces[1::2], strict=True)]


def before_and_after(hunks):
    """A file to which the hunks apply, with lines of their own number between them, and what becomes of it."""
    old, new = [], []
    for line, rows in hunks:
        filling = [f"line {number}" for number in range(len(old) + 1, line)]
        old, new = old + filling, new + filling
        rows = [row for row in rows if not row.startswith("\\")]
        old += [row[1:] for row in rows if not row.startswith("+")]
        new += [row[1:] for row in rows if not row.startswith("-")]
    return old, new


@pytest.mark.parametrize("name", SECTIONS)
def test_git_applies_it(name, tmp_path):
    patch = DOCS / "patches" / f"{name}.patch"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    expected = {}
    for path, hunks in files(patch.read_text()):
        old, expected[path] = before_and_after(hunks)
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        cut = any(row.startswith("\\") for _, rows in hunks for row in rows)
        file.write_text("\n".join(old) + ("" if cut else "\n"))
    command = ["git", "apply", "--whitespace=error", "--verbose", str(patch)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "offset" not in done.stderr
    for path, lines in expected.items():
        assert (tmp_path / path).read_text().splitlines() == lines


def changes(rows):
    return sorted(row.rstrip() for row in rows if row[:1] in "+-" and row[1:].strip())


@pytest.mark.parametrize(("name", "title"), SECTIONS.items())
def test_it_changes_what_the_page_says(name, title):
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    assert f"(patches/{name}.patch)" in section
    told = [row for diff in re.findall(r"```diff\n(.*?)```", section, re.DOTALL) for row in diff.splitlines()]
    found = [
        row for _, hunks in files((DOCS / "patches" / f"{name}.patch").read_text()) for _, rows in hunks for row in rows
    ]
    if title == "X-VLM":  # "the same three lines as for ALBEF"
        section = PAGE.split("\n## ALBEF\n")[1].split("\n## ")[0]
        told += re.findall(r"```diff\n(.*?)```", section, re.DOTALL)[1].splitlines()
    assert changes(found) == changes(told)
