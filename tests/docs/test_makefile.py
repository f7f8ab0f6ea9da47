"""`make help` is the list of the Makefile's targets."""

import os
import re
import shutil
import subprocess

import pytest

from tests.docs.blocks import ROOT


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_and_make_help_list_every_target():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()
    # as if no other make had begun this one, such as that of `make test`
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    for asked in (["help"], []):
        words = ["make", "--no-print-directory", *asked]
        done = subprocess.run(words, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
        told = done.stdout.splitlines()
        assert [line.split()[1] for line in told] == targets[1:]
        assert all(len(line) <= 110 and len(line.split()) > 3 for line in told)
