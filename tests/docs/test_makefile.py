"""`make help` is the list of the Makefile's targets."""

import re
import shutil
import subprocess

import pytest

from tests.docs.blocks import ROOT


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_and_make_help_list_every_target():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()
    for words in (["make", "help"], ["make"]):
        told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        assert [line.split()[1] for line in told] == targets[1:]
        assert all(len(line) <= 110 and len(line.split()) > 3 for line in told)
